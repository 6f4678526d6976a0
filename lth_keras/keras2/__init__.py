"""Finds tickets in tf_keras (Keras 2) models, with the wrappers of tensorflow-model-optimization.

Read in this order:

1. `inspection`: what of a model is its network's, and whether anything prunes it;
   `masking`: the layer wrapper that holds a mask and keeps pruned weights at zero; which layers
   are wrapped; how wrapped models are saved, loaded and stripped.
2. `rewinding`: captures and restores the model at step k: weights, optimizer slots, step counts,
   batch-norm statistics.
3. `random_generators`: finds what a model's layers draw from, and which cannot be seeded.
4. `contents`, `optimizer_state`: every optimizer, state and variable that a model holds.
5. `loss_gradient`: the mean gradient of a model's loss, for criteria that need it; `precision`:
   runs a model of another precision (mixed_float16, float64) in float32.
6. `engine`: a wrapped model as `search.network.Network`; `apply_ticket`: `lth.Ticket.apply`.
7. `data_order`: what `lottery.order` makes of tf.data.
8. `verification`: what `lth.verify` needs of a wrapped model; `model_run`: what `lth.profile` does;
   `graph`: what the package `graph` needs; `initial`: what `lth.prune_at_init` does;
   `sparse_training`: the optimizers that find masks while a model trains.

This package imports `core`, `files`, `graph`, `search`, `initial`, `sparse_training` and `costs`;
never `experiments`, nor the engine of another Keras.
"""
