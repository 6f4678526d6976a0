"""`lth.Supermask` and `lth.SparseTraining` for tf_keras.

    tf_keras_supermask, tf_keras_sparse_training
      -> tf_keras_wrapper: the optimizer -> tf_keras_host: the model and the wrapped optimizer

What a step computes is in the package `sparse_training`, here with `tensorflow_ops`.
"""
