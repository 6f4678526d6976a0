"""Describes each kind of Keras layer as an operation on channels (`channels`).

To support another kind of layer, write a reader, which is a function from a `Call` to an operation
or to the reason why there is none, and add it to READERS.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.deployment.compaction.channels import Channelwise, Floats, Linear, Operation
from lth_keras.deployment.compaction.gather_layer import GatherFeatures

layers = keras.layers
_ELEMENTWISE = {
    getattr(keras.activations, name) for name in (
        "linear", "relu", "sigmoid", "tanh", "softplus", "softsign", "elu", "selu", "gelu",
        "swish", "mish", "exponential", "hard_sigmoid")
} | {tf.nn.relu, tf.nn.relu6, tf.nn.leaky_relu, tf.nn.elu, tf.nn.selu, tf.nn.gelu, tf.nn.silu,
     tf.nn.softplus, tf.nn.softsign, tf.nn.sigmoid, tf.nn.tanh, tf.sigmoid, tf.tanh, tf.identity}


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


def read(call: Call) -> "Operation | str":
    """Returns the operation of a call, or the reason why it is not known.

    Example:
      >>> dense = layers.Dense(2)
      >>> dense.build((None, 3))
      >>> read(Call(dense, (0,), 1, ((2, 3),), (2, 2))).kernel.shape
      (1, 3, 2)
      >>> read(Call(layers.Softmax(), (0,), 1, ((2, 3),), (2, 3)))
      'what a Softmax does to each channel is not known here'
    """
    layer = call.layer
    reader = READERS.get(type(layer))  # By exact type: a subclass may do anything.
    if reader is None:
        return f"what a {type(layer).__name__} does to each channel is not known here"
    if getattr(layer, "data_format", None) == "channels_first":
        return "its channels are not on the last axis"
    if any(rank < 2 or not width for rank, width in (*call.shapes, call.shape)):
        return "the number of its channels is not known"
    return reader(call)


def elementwise(activation: Any) -> bool:
    """Returns whether an activation is known to work on each element separately.

    Example:
      >>> elementwise(keras.activations.relu), elementwise(keras.activations.softmax)
      (True, False)
    """
    return activation in _ELEMENTWISE if callable(activation) else activation is None


def _activation(layer: Any) -> "Callable[[Floats], Floats] | None":
    if not elementwise(layer.activation):
        return None
    return lambda values: np.asarray(layer.activation(tf.constant(values, tf.float64)))


def _bias(layer: Any, size: int) -> Floats:
    return np.asarray(layer.bias, np.float64) if layer.use_bias else np.zeros(size)


def _dense(call: Call) -> Operation:
    layer = call.layer
    kernel = np.asarray(layer.kernel)[None]
    return Linear(call.sources[0], call.target, kernel, _bias(layer, kernel.shape[-1]),
                  _activation(layer), padded=False)


def _convolution(call: Call) -> "Operation | str":
    layer = call.layer
    # With groups, an output reads the channels of its group only.
    if layer.groups > 1:
        return "it convolves groups of channels"
    kernel = np.asarray(layer.kernel).reshape(-1, *layer.kernel.shape[-2:])
    return Linear(call.sources[0], call.target, kernel, _bias(layer, kernel.shape[-1]),
                  _activation(layer), padded=_padded(layer))


def _padded(layer: Any) -> bool:
    # "same" and "causal" padding read zeros beyond the border, unless the kernel is 1x1.
    return bool(layer.padding != "valid" and max(layer.kernel_size) > 1)


def _separable(call: Call) -> Operation:
    # A depthwise and a pointwise convolution compute the same as one convolution with the product
    # of their kernels.
    layer = call.layer
    depthwise = np.asarray(layer.depthwise_kernel, np.float64)
    depthwise = depthwise.reshape(-1, *depthwise.shape[-2:])
    _, channels, multiplier = depthwise.shape
    pointwise = np.asarray(layer.pointwise_kernel, np.float64).reshape(channels, multiplier, -1)
    kernel = np.einsum("pim,imo->pio", depthwise, pointwise)
    return Linear(call.sources[0], call.target, kernel, _bias(layer, kernel.shape[-1]),
                  _activation(layer), padded=_padded(layer), merges=False)


def _depthwise(call: Call) -> "Operation | str":
    # Each output channel reads one input channel; depth_multiplier outputs read the same one.
    layer = call.layer
    activation = _activation(layer)
    if activation is None:
        return "its activation is not known to work elementwise"
    outputs = call.shape[1]
    kernel = np.asarray(layer.depthwise_kernel, np.float64).reshape(-1, outputs)
    bias, total, unread = _bias(layer, kernel.shape[1]), kernel.sum(axis=0), ~kernel.any(axis=0)
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
        answer = call.layer(tf.constant(asked), **options)
        found = np.reshape(tf.cast(answer, tf.float64), (-1, len(value)))[0]
        return np.where(unknown, np.nan, found)
    return dataclasses.replace(_same(call), constants=constants)


def _activated(call: Call) -> "Operation | str":
    if elementwise(call.layer.activation):
        return _by_value(call)
    return "its activation is not known to work elementwise"


def _normalised(call: Call) -> "Operation | str":
    layer = call.layer
    if list(layer.axis) != [call.shape[0] - 1]:
        return "its channels are not on the last axis"
    if layer.renorm or getattr(layer, "virtual_batch_size", None):
        return "it renormalises or has virtual batches"
    # A channel with gamma = 0 is constant, whatever its input is.
    varies = np.asarray(layer.gamma) != 0 if layer.scale else True
    return _by_value(call, varies, training=False)


def _rescaled(call: Call) -> "Operation | str":
    plain = np.ndim(call.layer.scale) == 0 and np.ndim(call.layer.offset) == 0
    return _by_value(call) if plain else "it has a scale for each channel"


def _prelu(call: Call) -> Operation:
    alpha = np.asarray(call.layer.alpha, np.float64)
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


READERS: "dict[type, Callable[[Call], Operation | str]]" = {
    layers.Dense: _dense,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise),
    layers.BatchNormalization: _normalised,
    layers.Activation: _activated,
    **dict.fromkeys((layers.ReLU, layers.LeakyReLU, layers.ELU, layers.ThresholdedReLU),
                    _by_value),
    layers.PReLU: _prelu,
    layers.Rescaling: _rescaled,
    **dict.fromkeys((layers.Dropout, layers.AlphaDropout), _dropout),
    **dict.fromkeys((getattr(layers, name) for name in (
        "Identity", "ActivityRegularization", "GaussianNoise", "GaussianDropout", "Flatten",
        "RepeatVector", *(f"{kind}{axes}D" for axes in (1, 2, 3) for kind in (
            "SpatialDropout", "MaxPooling", "AveragePooling", "GlobalMaxPooling",
            "GlobalAveragePooling", "Cropping")))), _same),
    **dict.fromkeys((layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D), _upsampling),
    **dict.fromkeys((layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D), _padding),
    GatherFeatures: _gathered,
    layers.Reshape: _reshape,
    layers.Permute: _permute,
    layers.Add: _merge(lambda values: np.sum(values, axis=0)),
    layers.Subtract: _merge(lambda values: values[0] - values[1]),
    layers.Multiply: _merge(_product),
    layers.Average: _merge(lambda values: np.mean(values, axis=0)),
    layers.Maximum: _merge(lambda values: np.max(values, axis=0)),
    layers.Minimum: _merge(lambda values: np.min(values, axis=0)),
    layers.Concatenate: _concatenated,
}
