"""Wraps layers of tf_keras models so that pruned weights stay exactly zero in training.

The wrapper is tfmot's `PruneLowMagnitude` with one change.  tfmot assigns weight <- weight x mask
in every forward pass.  Here, the layer's attribute is replaced by the masked weight in its call,
so the gradient of a pruned weight is zero and no optimizer moves it.

Read in this order:

1. `weight_names`: the weights of a model by name, and those that have masks.
2. `masked_weights`: the masked weight, its masked gradient, and the constraint that keeps zeros.
3. `masked_layer`: the wrapper, `MaskedLayer`.
4. `layer_view`: what a model's own code gets when it reads a wrapped layer's weight.
5. `wrap`: `lth.prune_low_magnitude` and `lth.strip_pruning`. `wrap_weights` inserts the wrappers:
   it makes a new Sequential or functional model, and changes a subclassed one in place
   (`replace_layers`), after checking that all its weights can be found (`subclass_checks`).
6. `saving`: saves and loads wrapped models of a user's own class in .keras files.
7. `schedule`: `lth.LotteryTicketSchedule`, which says when rounds end, also for tfmot's callbacks.
"""
