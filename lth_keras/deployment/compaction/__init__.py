"""The smaller network that computes the same: `lth.compact`.

A unit all of whose incoming weights are pruned is a constant, and a unit that nothing reads makes
no difference: both can be removed from the model, exactly.

Read in this order:

1. `channels`: the algebra: which channels are live, constant or unread, on arrays alone.
2. `layer_channels`: what each kind of Keras layer does to channels, in these terms.
3. `model_graph`: a model's layers as such operations.
4. `rebuild`: the smaller layers, and the model made of them; `gather_layer` picks features where
   a layer reads only part of its input.
5. `compact`: the whole, and the sentence that says what could not be removed and why.
"""
