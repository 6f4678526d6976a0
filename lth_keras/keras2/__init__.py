"""Finds tickets in tf_keras (Keras 2) models, with the wrappers of tensorflow-model-optimization.

    model -> masking/wrap -> train -> search: score, prune, rewind -> (again) -> ticket

Read in this order:

1. `inspection`: what of a model is its network's, and whether anything prunes it;
   `masking`: the layer wrapper that holds a mask and keeps pruned weights at zero; which layers
   are wrapped; how wrapped models are saved, loaded and stripped.
2. `rewinding`: captures and restores the model at step k: weights, optimizer slots, step counts,
   batch-norm statistics.
3. `random_generators`: finds what a model's layers draw from, and which cannot be seeded.
4. `search`: `lth.Search`, which prunes and rewinds one model level by level, called by a training
   loop of your own.
5. `apply_ticket`: `lth.Ticket.apply` for tf_keras models.
6. `fit`: `lth.LotteryTicketCallback`, the whole search in one `model.fit`, which can be resumed
   from a workdir.
7. `verification`: `lth.verify`, which trains a model for a few steps in four ways and names what a
   search would leave out.
8. `contents`, `optimizer_state`: every optimizer, state and variable that a model holds;
   `training_checks`: that a model is trained by what its search rewinds.
9. `precision`: runs a model of another precision (mixed_float16, float64) in float32.
10. `loss_gradient`: the mean gradient of a model's loss, for criteria that need it.

This package imports `core` and `files`; never `experiments`, nor the engine of another Keras.
"""
