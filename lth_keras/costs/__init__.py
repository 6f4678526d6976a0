"""What a model costs: parameters, multiply-adds and activations, by layer and in all.

    model -> layer_calls: one call -> layer_costs: by type of layer -> model_rows -> profile

Read in this order:

1. `layer_calls`: which layer is called on what, and the shapes of what it returns.
2. `products`: the multiply-adds of two tensors by their shapes; `layer_costs`: those of a call, by
   the type of its layer: which kernel is used how often; `attention_costs`: those of attention.
3. `model_rows`: a row a layer, dense and pruned; `profile`: `lth.profile`, the table.
4. `example_shapes`: what a model is called with.

This package imports `core`, `files` and `search`.  The engines call the model: `keras2.model_run`,
`keras3.model_run`.
"""
