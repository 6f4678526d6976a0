"""The readers of layers, by the name of Keras' own class.

To support another kind of layer, write a reader and add it to READERS: a function from a
`call.Call` to an operation, to several, or to the reason why there is none.  An operation of Keras
3, such as that of x + y, has "ops." before its name.  Not every layer is in both Kerases.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.graph import linear_readers, readers
from lth_keras.graph.call import Call
from lth_keras.graph.operations import Operation

# Operations that may be of a tensor and a number, such as x + 3.
OF_NUMBERS = ("ops.Add", "ops.Subtract", "ops.Multiply", "ops.TrueDivide", "ops.Divide")

# Layers and operations that combine several tensors.
_OF_SEVERAL = ("MultiHeadAttention", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum",
               "Concatenate", *OF_NUMBERS, "ops.Maximum", "ops.Minimum")

Reader = Callable[[Call], Any]

READERS: dict[str, Reader] = {
    "Dense": linear_readers.dense,
    "EinsumDense": linear_readers.einsum,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), linear_readers.convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
                    linear_readers.transposed),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), linear_readers.separable),
    "SimpleRNN": linear_readers.recurrent(1),
    "GRU": linear_readers.recurrent(3),
    "LSTM": linear_readers.recurrent(4),
    "MultiHeadAttention": linear_readers.attention,
    "Embedding": linear_readers.embedding,
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), readers.depthwise),
    "BatchNormalization": readers.normalised,
    "Activation": readers.activated,
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU"), readers.by_value),
    **dict.fromkeys((f"ops.{name}" for name in (
        "Relu", "Relu6", "LeakyRelu", "Sigmoid", "Softplus", "Softsign", "Silu", "Elu", "Selu",
        "Gelu", "HardSigmoid", "HardSilu", "Tanh")), readers.by_value),
    "PReLU": readers.prelu,
    "Rescaling": readers.rescaled,
    **dict.fromkeys(("Dropout", "AlphaDropout"), readers.dropout),
    **dict.fromkeys((
        "Identity", "ActivityRegularization", "GaussianNoise", "GaussianDropout", "Flatten",
        "RepeatVector", *(f"{kind}{axes}D" for axes in (1, 2, 3) for kind in (
            "SpatialDropout", "MaxPooling", "AveragePooling", "GlobalMaxPooling",
            "GlobalAveragePooling", "Cropping"))), readers.same),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D", "UpSampling3D"), readers.upsampling),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"), readers.padding),
    "GatherFeatures": readers.gathered,
    "Reshape": readers.reshape,
    "Permute": readers.permute,
    **dict.fromkeys(("Add", "ops.Add"), readers.merge(lambda values: np.sum(values, axis=0))),
    **dict.fromkeys(("Subtract", "ops.Subtract"),
                    readers.merge(lambda values: values[0] - values[1])),
    **dict.fromkeys(("Multiply", "ops.Multiply"), readers.merge(readers.product)),
    **dict.fromkeys(("ops.TrueDivide", "ops.Divide"), readers.divided),
    "Average": readers.merge(lambda values: np.mean(values, axis=0)),
    **dict.fromkeys(("Maximum", "ops.Maximum"),
                    readers.merge(lambda values: np.max(values, axis=0))),
    **dict.fromkeys(("Minimum", "ops.Minimum"),
                    readers.merge(lambda values: np.min(values, axis=0))),
    "Concatenate": readers.concatenated,
}


def read(call: Call) -> "list[Operation] | str":
    """Returns the operations of a call, or the reason why they are not known.

    Example:
      >>> import keras
      >>> dense = keras.layers.Dense(2)
      >>> dense.build((None, 3))
      >>> read(Call(dense, (0,), 1, ((2, 3),), (2, 2)))[0].kernel.shape
      (1, 3, 2)
      >>> read(Call(keras.layers.Softmax(), (0,), 1, ((2, 3),), (2, 3)))
      'what a Softmax does to each channel is not known here'
    """
    layer = call.layer
    reader = READERS.get(call.kind.known_as(layer))  # A subclass may do anything.
    if reader is None:
        return f"what a {type(layer).__name__} does to each channel is not known here"
    if len(call.sources) > 1 and call.kind.known_as(layer) not in _OF_SEVERAL:
        return "it is called on several tensors, such as a first state"
    if getattr(layer, "data_format", None) == "channels_first":
        return "its channels are not on the last axis"
    read_by_channel = () if reader is linear_readers.embedding else call.shapes
    if any(rank < 2 or not width for rank, width in (*read_by_channel, call.shape)):
        return "the number of its channels is not known"
    found = reader(call)
    if isinstance(found, str):
        return found
    return list(found) if isinstance(found, (list, tuple)) else [found]
