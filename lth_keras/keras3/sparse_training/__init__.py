"""`lth.Supermask` and `lth.SparseTraining` for Keras 3, on the TensorFlow, JAX and torch backends.

    keras3_supermask, keras3_sparse_training
      -> keras3_wrapper: the optimizer -> keras3_host: the model and the wrapped optimizer

What a step computes is in the package `sparse_training`, here with `keras_ops`.
"""
