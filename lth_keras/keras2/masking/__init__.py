"""Masks in a tf_keras model: how a pruned weight stays exactly zero in training.

A layer is wrapped in tfmot's `PruneLowMagnitude`, with one change: tfmot assigns weight <- weight x
mask in every forward pass; here the wrapped layer is lent the masked weight for its call, so that
the gradient of a pruned weight is zero and no optimizer moves it.

Read in this order:

1. `weight_names`: every weight under a name that a rebuilt model repeats ("dense/kernel").
2. `layer_selection`: which weights are pruned by default, and `include=`, `exclude=`.
3. `masked_weights`: the masked weight, its masked gradient, and the constraint that keeps zeros.
4. `masked_layer`: the wrapper, `MaskedLayer`.
5. `layer_view`: what a model's own code sees when it reads a wrapped layer's weight.
6. `wrap`: `lth.prune_low_magnitude` and `lth.strip_pruning`; it puts the wrappers in by
   `wrap_weights`, which builds a Sequential or functional model anew and changes a subclassed one
   in place (`replace_layers`), after checking that all of its weights can be found
   (`subclass_checks`).
7. `saving`: wrapped models of a user's own class in .keras files.
8. `schedule`: `lth.LotteryTicketSchedule`, when a round ends, as tfmot's callbacks ask for it.
"""
