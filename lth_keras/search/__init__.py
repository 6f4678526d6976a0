"""A search for winning tickets on one model, which prunes and rewinds it level by level.

    model -> Network -> train -> search: score, prune, rewind -> (again) -> tickets

Read in this order:

1. `network`: what a search needs of a model; each Keras has its own (`keras2`, `keras3`).
2. `layer_tree`: names such as "dense/kernel" that stay the same whenever a model is built, and in
   either Keras; `layer_selection`: which weights are pruned by default, and `include=`, `exclude=`.
3. `search`: `lth.Search`, which prunes and rewinds one model level by level, called by a training
   loop of your own.
4. `training_checks`: that the model is trained by what the search rewinds and masks.
5. `scoring`: data for criteria that need a gradient of the loss.
6. `rounds`: how many rounds a search in `fit` has, how long they are, how much each prunes;
   `target`: what a network may cost at most, at which a search ends.
7. `fit`: `lth.LotteryTicketCallback`, the whole search in one `model.fit`, which can be resumed
   from a workdir.
8. `sparse_models`: `lth.keep_sparse`, for sparse models that train on.
9. `model_identity`: what makes a model the same in another process.
10. `contents`: every optimizer and variable that a model holds; `verification`: `lth.verify`, which
    trains a model for a few steps in four ways and names what a search would leave out.

This package imports `core` and `files`; it never imports an engine or Keras, but finds the engine
of a model by the model's class.
"""
