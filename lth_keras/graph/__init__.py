"""The graph of a model: what each layer does to channels, and which channels belong together.

A channel is an index on the last axis of a tensor: a filter of a convolution, a unit of a dense
layer.  A pruned filter leaves no trace only if everything that hangs on it goes too: its bias, the
scale and shift of its normalisation, and the weights of the next layers that read it; and where
outputs are added, the filters of all layers that are added.

Read in this order:

1. `operations`: the few kinds of operations on channels, and which channels are tied together.
2. `layer_kind`: the protocol between this package and a Keras: what a layer is and holds.
3. `kinds`: finds what knows the Keras of a model.
4. `call`: a call of a layer, as readers see it.
5. `readers`: describes each kind of layer that works on each channel separately.
6. `linear_readers`: describes each kind of layer whose outputs are weighted sums of channels.
7. `registry`: the readers by the name of Keras' class.
8. `model_graph`: reads a model as a list of operations.
9. `rebuild`: builds a model again with smaller layers.
10. `coupling`: the groups of channels that can be pruned, each with all weights that hang on it.
11. `unit_activations`: what filters give to the layers that read them, over given examples.

This package imports `core` and `files`, and no Keras: the engines say what their Keras does.
"""
