"""The networks of `lth run` on tf_keras: wrapped by tfmot's wrappers, in a compiled loop.

Read in this order:

1. `models`: builds, compiles and initialises networks.
2. `optimizers`: the optimizer and its learning-rate schedule.
3. `program`: many steps as one compiled program; `data_feed` feeds it examples, `augmentation`
   changes them.
4. `evaluator`: the test error of given weights.
5. `trainer`: one training, with early stopping found afterwards, and divergence;
   `sparse_trainer`: one that finds its masks.
6. `engine`: what a worker process asks for.

This package imports `keras2`, `search`, `sparse_training`, `core`, `files`, and of `experiments`
only `training`, `config` and `results`.
"""
