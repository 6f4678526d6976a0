"""Describes each kind of Keras layer as an operation on channels (`channels`).

To support another kind of layer, write a reader, which is a function from a `Call` to an operation
or to the reason why there is none, and add it to READERS.  Both Kerases are read by the same
readers: what differs between them is asked of the call's `kind`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.deployment.compaction.channels import Channelwise, Floats, Linear, Operation
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.model_kind import ModelKind


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer in a model's graph.

    Attributes:
      layer: the layer.
      sources: the indices of the tensors that it is called on.
      target: the index of the tensor that it makes.
      shapes: (number of axes, number of channels) of each source; 0 if unknown.
      shape: (number of axes, number of channels) of the target; 0 if unknown.
    """

    layer: Any
    sources: tuple[int, ...]
    target: int
    shapes: tuple[tuple[int, int], ...]
    shape: tuple[int, int]

    @property
    def kind(self) -> ModelKind:
        """What knows the layer's Keras."""
        return kind_of(self.layer)

    def weight(self, name: str) -> Any:
        """A weight of the layer by tf_keras' name of it, float64; None if the layer has none."""
        value = self.kind.weight(self.layer, name)
        return None if value is None else value.astype(np.float64)


def read(call: Call) -> "Operation | str":
    """Returns the operation of a call, or the reason why it is not known.

    Example:
      >>> import keras
      >>> dense = keras.layers.Dense(2)
      >>> dense.build((None, 3))
      >>> read(Call(dense, (0,), 1, ((2, 3),), (2, 2))).kernel.shape
      (1, 3, 2)
      >>> read(Call(keras.layers.Softmax(), (0,), 1, ((2, 3),), (2, 3)))
      'what a Softmax does to each channel is not known here'
    """
    layer = call.layer
    reader = READERS.get(call.kind.known_as(layer))  # A subclass may do anything.
    if reader is None:
        return f"what a {type(layer).__name__} does to each channel is not known here"
    if getattr(layer, "data_format", None) == "channels_first":
        return "its channels are not on the last axis"
    if any(rank < 2 or not width for rank, width in (*call.shapes, call.shape)):
        return "the number of its channels is not known"
    return reader(call)


def elementwise(kind: ModelKind, activation: Any) -> bool:
    """Returns whether an activation is known to work on each element separately.

    Example:
      >>> import keras
      >>> kind = kind_of(keras.layers.Layer())
      >>> [elementwise(kind, getattr(keras.activations, name)) for name in ("relu", "softmax")]
      [True, False]
    """
    return activation in kind.elementwise if callable(activation) else activation is None


def _activation(call: Call) -> "Callable[[Floats], Floats] | None":
    kind, activation = call.kind, call.layer.activation
    if not elementwise(kind, activation):
        return None
    if activation is None:
        return lambda values: values
    return lambda values: np.asarray(kind.array(activation(kind.tensor(values))), np.float64)


def _bias(call: Call, size: int) -> Floats:
    bias = call.weight("bias")
    return np.zeros(size) if bias is None else np.asarray(bias)


_ADAPTED = "its kernel is not a weight of floating-point numbers alone"  # LoRA, or quantised.


def _dense(call: Call) -> "Operation | str":
    kernel = call.kind.weight(call.layer, "kernel")
    if kernel is None:
        return _ADAPTED
    return Linear(call.sources[0], call.target, kernel[None], _bias(call, kernel.shape[-1]),
                  _activation(call), padded=False)


def _convolution(call: Call) -> "Operation | str":
    layer = call.layer
    # With groups, an output reads the channels of its group only.
    if layer.groups > 1:
        return "it convolves groups of channels"
    kernel = call.kind.weight(layer, "kernel")
    if kernel is None:
        return _ADAPTED
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    return Linear(call.sources[0], call.target, kernel, _bias(call, kernel.shape[-1]),
                  _activation(call), padded=_padded(layer))


def _padded(layer: Any) -> bool:
    # "same" and "causal" padding read zeros beyond the border, unless the kernel is 1x1.
    return bool(layer.padding != "valid" and max(layer.kernel_size) > 1)


def _separable(call: Call) -> Operation:
    # A depthwise and a pointwise convolution compute the same as one convolution with the product
    # of their kernels.
    depthwise = call.weight("depthwise_kernel")
    depthwise = depthwise.reshape(-1, *depthwise.shape[-2:])
    _, channels, multiplier = depthwise.shape
    pointwise = call.weight("pointwise_kernel").reshape(channels, multiplier, -1)
    kernel = np.einsum("pim,imo->pio", depthwise, pointwise)
    return Linear(call.sources[0], call.target, kernel, _bias(call, kernel.shape[-1]),
                  _activation(call), padded=_padded(call.layer), merges=False)


def _depthwise(call: Call) -> "Operation | str":
    # Each output channel reads one input channel; depth_multiplier outputs read the same one.
    layer = call.layer
    activation = _activation(call)
    if activation is None:
        return "its activation is not known to work elementwise"
    outputs = call.shape[1]
    kernel = call.weight("depthwise_kernel").reshape(-1, outputs)
    bias, total, unread = _bias(call, kernel.shape[1]), kernel.sum(axis=0), ~kernel.any(axis=0)
    origin = np.arange(outputs) // layer.depth_multiplier

    def constants(values: list[Floats]) -> Floats:
        value = values[0][origin]
        if _padded(layer):
            value = np.where(value == 0, value, np.nan)
        value = np.where(unread, 0.0, value)
        found = activation(np.nan_to_num(value) * total + bias)
        return np.where(np.isnan(value), np.nan, found)
    return Channelwise(call.sources, call.target, (origin,), constants)


def _same(call: Call) -> Channelwise:
    # For layers whose every output value is a value, or a mean of values, of one channel.
    origin = np.arange(call.shape[1]) % call.shapes[0][1]
    return Channelwise(call.sources, call.target, (origin,), lambda values: values[0][origin])


def _gathered(call: Call) -> Operation:
    origin = np.asarray(call.layer.positions)
    return Channelwise(call.sources, call.target, (origin,), lambda values: values[0][origin])


def _dropout(call: Call) -> "Operation | str":
    # A noise_shape with the number of channels would not fit the smaller layer.
    noise = getattr(call.layer, "noise_shape", None)
    return _same(call) if noise is None or noise[-1] in (None, 1) else "its noise_shape is fixed"


def _reshape(call: Call) -> "Operation | str":
    return "it divides its channels" if call.shape[1] % call.shapes[0][1] else _same(call)


def _permute(call: Call) -> "Operation | str":
    return _same(call) if call.layer.dims[-1] == len(call.layer.dims) else "it moves its channels"


def _padding(call: Call) -> Operation:
    def constants(values: list[Floats]) -> Floats:
        # Zero padding makes every other constant vary between the border and the inside.
        return np.where(values[0] == 0, 0.0, np.nan)
    return dataclasses.replace(_same(call), constants=constants)


def _upsampling(call: Call) -> "Operation | str":
    kind = getattr(call.layer, "interpolation", "nearest")
    return _by_value(call) if kind in ("nearest", "bilinear") else f"it interpolates by {kind}"


def _by_value(call: Call, varies: Any = True, **options: Any) -> Operation:
    # The layer itself is called on the constants, with 0 in place of the channels that vary.
    def constants(values: list[Floats]) -> Floats:
        value, = values
        unknown = np.isnan(value) & varies
        asked = np.where(np.isnan(value), 0.0, value).reshape([1] * (call.shape[0] - 1) + [-1])
        answer = call.kind.array(call.layer(call.kind.tensor(asked), **options))
        found = np.reshape(answer.astype(np.float64), (-1, len(value)))[0]
        return np.where(unknown, np.nan, found)
    return dataclasses.replace(_same(call), constants=constants)


def _activated(call: Call) -> "Operation | str":
    if elementwise(call.kind, call.layer.activation):
        return _by_value(call)
    return "its activation is not known to work elementwise"


def _normalised(call: Call) -> "Operation | str":
    layer = call.layer
    if [axis % call.shape[0] for axis in np.atleast_1d(layer.axis)] != [call.shape[0] - 1]:
        return "its channels are not on the last axis"
    if getattr(layer, "renorm", False) or getattr(layer, "virtual_batch_size", None):
        return "it renormalises or has virtual batches"
    # A channel with gamma = 0 is constant, whatever its input is.
    gamma = call.weight("gamma")
    varies = True if gamma is None else gamma != 0
    return _by_value(call, varies, training=False)


def _rescaled(call: Call) -> "Operation | str":
    plain = np.ndim(call.layer.scale) == 0 and np.ndim(call.layer.offset) == 0
    return _by_value(call) if plain else "it has a scale for each channel"


def _prelu(call: Call) -> Operation:
    alpha = call.weight("alpha")
    alpha = alpha.reshape(-1, alpha.shape[-1])
    slope = np.where((alpha == alpha[0]).all(axis=0), alpha[0], np.nan)

    def constants(values: list[Floats]) -> Floats:
        return np.where(values[0] >= 0, values[0], values[0] * slope)
    return dataclasses.replace(_same(call), constants=constants)


def _merge(combine: Callable[[list[Floats]], Floats]) -> "Callable[[Call], Operation | str]":
    def reader(call: Call) -> "Operation | str":
        if set(call.shapes) != {call.shape}:
            return "its inputs have different numbers of axes or channels"
        origin = np.arange(call.shape[1])
        return Channelwise(call.sources, call.target, (origin,) * len(call.sources), combine)
    return reader


def _product(values: list[Floats]) -> Floats:
    # 0 times a channel that varies is 0, but 0 * NaN would be NaN.
    return np.where(np.any([value == 0 for value in values], axis=0), 0.0, np.prod(values, axis=0))


def _concatenated(call: Call) -> "Operation | str":
    if call.layer.axis not in (-1, call.shape[0] - 1):
        return "its channels are not on the axis that it joins"
    origins, start = [], 0
    for _, width in call.shapes:
        origin = np.full(call.shape[1], -1)
        origin[start:start + width] = np.arange(width)
        origins.append(origin)
        start += width
    return Channelwise(call.sources, call.target, tuple(origins), np.concatenate)


# By the name of Keras' own class; an operation of Keras 3, such as that of x + y, by "ops." before
# it.  Not every layer is in both Kerases.
READERS: "dict[str, Callable[[Call], Operation | str]]" = {
    "Dense": _dense,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    "BatchNormalization": _normalised,
    "Activation": _activated,
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU"), _by_value),
    **dict.fromkeys((f"ops.{name}" for name in (
        "Relu", "Relu6", "LeakyRelu", "Sigmoid", "Softplus", "Softsign", "Silu", "Elu", "Selu",
        "Gelu", "HardSigmoid", "HardSilu", "Tanh")), _by_value),
    "PReLU": _prelu,
    "Rescaling": _rescaled,
    **dict.fromkeys(("Dropout", "AlphaDropout"), _dropout),
    **dict.fromkeys((
        "Identity", "ActivityRegularization", "GaussianNoise", "GaussianDropout", "Flatten",
        "RepeatVector", *(f"{kind}{axes}D" for axes in (1, 2, 3) for kind in (
            "SpatialDropout", "MaxPooling", "AveragePooling", "GlobalMaxPooling",
            "GlobalAveragePooling", "Cropping"))), _same),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D", "UpSampling3D"), _upsampling),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"), _padding),
    "GatherFeatures": _gathered,
    "Reshape": _reshape,
    "Permute": _permute,
    **dict.fromkeys(("Add", "ops.Add"), _merge(lambda values: np.sum(values, axis=0))),
    **dict.fromkeys(("Subtract", "ops.Subtract"), _merge(lambda values: values[0] - values[1])),
    **dict.fromkeys(("Multiply", "ops.Multiply"), _merge(_product)),
    "Average": _merge(lambda values: np.mean(values, axis=0)),
    **dict.fromkeys(("Maximum", "ops.Maximum"), _merge(lambda values: np.max(values, axis=0))),
    **dict.fromkeys(("Minimum", "ops.Minimum"), _merge(lambda values: np.min(values, axis=0))),
    "Concatenate": _concatenated,
}
