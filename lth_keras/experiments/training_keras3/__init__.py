"""The networks of `lth run` on Keras 3, on any of its backends; nothing here needs TensorFlow.

Networks stay as they are; masks lie in the optimizer (`keras3.gradient_masks`).  On JAX, the steps
between two validations are one compiled program, in which several networks may be trained at the
same time: replicates, and branches of one level.

Read in this order:

1. `models`: builds and initialises networks; `optimizers`, `augmentation`.
2. `network_states`: the state of a network in training, as arrays: weights, slots, masks, seeds.
3. `jax_program`: trains and evaluates several networks as one program of JAX.
   `jax_devices` decides how many.
4. `stepwise_program`: the same for one network, step by step, on TensorFlow and torch.
5. `trainer`: trainings of equal length, side by side, from weights to results;
   `sparse_trainer`: those that find their masks.
6. `evaluator`: the test error of given weights.
7. `engine`: what a worker process asks for.

This package imports `keras3`, `sparse_training`, `search`, `core`, `files`, and of `experiments`
only `training`, `config` and `results`.
"""
