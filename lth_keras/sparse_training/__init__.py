"""Masks that are found while a model trains, without rewinding: `lth.Supermask`,
`lth.SparseTraining`.

    gradient for the effective weight -> the wrapped optimizer -> scores or weights -> masks

The optimizer masks the model: its variables always hold the effective weights, which are zero where
they are not kept.  So the gradient that any training step computes for a variable is the dense one
for the effective weight, and nothing in the forward pass changes.

Read in this order:

1. `supermask`: `lth.Supermask`, which trains scores; `sparse_training`: `lth.SparseTraining`, which
   trains weights; `sparse_optimizer`: what both have in common.
2. `supermask_methods`, `mask_moves`: what their methods compute in a step, of one weight.
3. `largest`: the k largest of an array, exactly and without a sort; `draws`: random numbers of a
   step.
4. `array_ops`: the operations that these need, so that each is written once for NumPy, TensorFlow,
   JAX and torch.
5. `starts`: counts, scores and masks to begin with; `schedules`: when masks move, and by how much.
6. `host`: what is needed of a model and of the wrapped optimizer.

This package imports `core`, `files`, `graph` and `initial`, and no Keras; the optimizers of each
are in `keras2.sparse_training` and `keras3.sparse_training`.
"""
