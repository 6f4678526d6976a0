"""Finds tickets in Keras 3 models, on the TensorFlow, JAX and torch backends.

    model -> weights: what is prunable -> gradient_masks: in its optimizer -> engine -> search

Nothing is wrapped: the masks are in the optimizer, and the model stays the user's own.

Read in this order:

1. `weights`: the weights of a model by the names that tf_keras gives them, and which are prunable;
   `assigned`: how they are assigned.
2. `gradient_masks`: gradients of pruned weights become zero where an optimizer takes them in; an
   optimizer that has no masks is told by the constraint of a weight.
3. `model_masks`: the masks of a model, in all its optimizers, also when it is compiled again.
4. `held`: the optimizers and variables that a model holds, also where Keras does not track them;
   `optimizer_state`: all that a training changes beside weights.
5. `data_order`: what `lottery.order` makes where TensorFlow is not installed.
6. `loss_gradient`: the gradient of the loss over given data, which some criteria need.
7. `engine`: a model as `search.network.Network`; `lth.Ticket.apply` and `lth.keep_sparse`.
8. `verification`: what `lth.verify` needs of a model; `model_run`: what `lth.profile` does;
   `graph`: what the package `graph` needs; `initial`: what `lth.prune_at_init` does;
   `sparse_training`: the optimizers that find masks while a model trains.

This package imports `core`, `files`, `graph`, `search`, `initial`, `sparse_training` and `costs`;
never `experiments`, nor the engine of another Keras.  What it computes goes through Keras,
on whatever backend that has; only gradients of a loss need the backend itself.
"""
