"""`lth.Supermask` for tf_keras.

    tf_keras_supermask -> tf_keras_wrapper: the optimizer -> tf_keras_host: model, wrapped optimizer

What a step computes is in the package `sparse_training`, here with `tensorflow_ops`.
"""
