"""Describes each kind of layer that works on each channel separately.

A reader is a function from a `Call` to an operation, to several, or to the reason why there is
none.  Both Kerases are read by the same readers: what differs between them is asked of the call's
`kind`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.graph.call import Call, elementwise
from lth_keras.graph.operations import Channelwise, Floats, Held, Opaque, Operation, Tied

Read = Channelwise | str  # An operation, or the reason why there is none.
MIXES = "its activation is not known to work elementwise"
NORMALISATION = ("gamma", "beta", "moving_mean", "moving_variance")


def reaches_beyond(layer: Any) -> bool:
    """Whether a convolution reads zeros beyond the border: "same" or "causal", unless it is 1x1."""
    return bool(layer.padding != "valid" and max(layer.kernel_size) > 1)


def depthwise(call: Call) -> Read:
    """A depthwise convolution: depth_multiplier outputs read the same input channel."""
    layer = call.layer
    activation = call.activation()
    if activation is None:
        return MIXES
    outputs = call.shape[1]
    whole = call.weight("depthwise_kernel")
    kernel = whole.reshape(-1, outputs)
    bias, total, unread = call.bias(outputs), kernel.sum(axis=0), ~kernel.any(axis=0)
    origin = np.arange(outputs) // layer.depth_multiplier

    def constants(values: list[Floats]) -> Floats:
        value = values[0][origin]
        if reaches_beyond(layer):
            value = np.where(value == 0, value, np.nan)
        value = np.where(unread, 0.0, value)
        found = activation(np.nan_to_num(value) * total + bias)
        return np.where(np.isnan(value), np.nan, found)
    return Channelwise(call.sources, call.target, (origin,), constants, (
        call.inputs("depthwise_kernel", whole.ndim - 2), call.outputs("bias", 0)))


def same(call: Call) -> Channelwise:
    """A layer whose every output value is a value, or a mean of values, of one channel."""
    origin = np.arange(call.shape[1]) % call.shapes[0][1]
    return Channelwise(call.sources, call.target, (origin,), lambda values: values[0][origin])


def gathered(call: Call) -> Channelwise:
    """Features that are selected by their positions."""
    origin = np.asarray(call.layer.positions)
    return Channelwise(call.sources, call.target, (origin,), lambda values: values[0][origin])


def dropout(call: Call) -> Read:
    """Dropout, unless its noise_shape has the number of channels, which a smaller layer has not."""
    noise = getattr(call.layer, "noise_shape", None)
    return same(call) if noise is None or noise[-1] in (None, 1) else "its noise_shape is fixed"


def reshape(call: Call) -> "Read | Tied":
    """A reshape that keeps the channels on the last axis, or moves others to it or away from it."""
    before, after = call.shapes[0][1], call.shape[1]
    if after % before == 0:
        return same(call)
    if before % after == 0:
        # A unit for each place of an image: those of one channel of the image go together.
        units = np.arange(before)
        return Tied((call.sources[0], call.target), (units, units % after))
    return "it divides its channels"


def permute(call: Call) -> Read:
    """A permutation of other axes than that of the channels."""
    return same(call) if call.layer.dims[-1] == len(call.layer.dims) else "it moves its channels"


def padding(call: Call) -> Channelwise:
    """Zero padding, which makes every constant but 0 vary between the border and the inside."""
    def constants(values: list[Floats]) -> Floats:
        return np.where(values[0] == 0, 0.0, np.nan)
    return dataclasses.replace(same(call), constants=constants)


def upsampling(call: Call) -> Read:
    """Upsampling by values that are there, or between them."""
    kind = getattr(call.layer, "interpolation", "nearest")
    return by_value(call) if kind in ("nearest", "bilinear") else f"it interpolates by {kind}"


def by_value(call: Call, varies: Any = True, **options: Any) -> Channelwise:
    """A layer that is called on the constants itself, with 0 for the channels that vary."""
    def constants(values: list[Floats]) -> Floats:
        value, = values
        unknown = np.isnan(value) & varies
        asked = np.where(np.isnan(value), 0.0, value).reshape([1] * (call.shape[0] - 1) + [-1])
        answer = call.kind.array((call.again or call.layer)(call.kind.tensor(asked), **options))
        found = np.reshape(answer.astype(np.float64), (-1, len(value)))[0]
        return np.where(unknown, np.nan, found)
    return dataclasses.replace(same(call), constants=constants)


def activated(call: Call) -> Read:
    """An activation on each element."""
    return by_value(call) if elementwise(call.kind, call.layer.activation) else MIXES


def normalised(call: Call) -> Read:
    """Batch normalisation, with fixed statistics."""
    layer = call.layer
    if [axis % call.shape[0] for axis in np.atleast_1d(layer.axis)] != [call.shape[0] - 1]:
        return "its channels are not on the last axis"
    if getattr(layer, "renorm", False) or getattr(layer, "virtual_batch_size", None):
        return "it renormalises or has virtual batches"
    # A channel with gamma = 0 is constant, whatever its input is.
    gamma = call.weight("gamma")
    varies = True if gamma is None else gamma != 0
    return dataclasses.replace(by_value(call, varies, training=False), holds=tuple(
        call.outputs(weight, 0) for weight in NORMALISATION))


def rescaled(call: Call) -> Read:
    """A scale and an offset that are the same for all channels."""
    plain = np.ndim(call.layer.scale) == 0 and np.ndim(call.layer.offset) == 0
    return by_value(call) if plain else "it has a scale for each channel"


def prelu(call: Call) -> "list[Operation]":
    """A leaky activation with a slope for each channel, or one for all."""
    whole = call.weight("alpha")
    alpha = whole.reshape(-1, whole.shape[-1])
    slope = np.where((alpha == alpha[0]).all(axis=0), alpha[0], np.nan)

    def constants(values: list[Floats]) -> Floats:
        return np.where(values[0] >= 0, values[0], values[0] * slope)
    if len(slope) == call.shape[1] > 1:
        return [dataclasses.replace(same(call), constants=constants,
                                    holds=(call.outputs("alpha", whole.ndim - 1),))]
    only = call.more(len(slope))  # It is of none of the channels, and stays.
    return [Opaque((), (only,)), dataclasses.replace(
        same(call), constants=constants, holds=(Held("alpha", whole.ndim - 1, only),))]


def merge(combine: Callable[[list[Floats]], Floats]) -> Callable[[Call], Read]:
    """The reader of a layer that combines the same channel of all its inputs."""
    def reader(call: Call) -> Read:
        if len(call.sources) == 1:
            return by_value(call)  # Of a tensor and a number.
        if set(call.shapes) != {call.shape}:
            return "its inputs have different numbers of axes or channels"
        origin = np.arange(call.shape[1])
        return Channelwise(call.sources, call.target, (origin,) * len(call.sources), combine)
    return reader


def divided(call: Call) -> Read:
    """A division by a number."""
    if len(call.sources) > 1:
        return "it divides tensors"
    found = by_value(call)
    of_zeros = found.constants([np.zeros(call.shape[1])])
    return found if np.isfinite(of_zeros).all() else "it divides by a tensor"


def product(values: list[Floats]) -> Floats:
    """The product of constants; that of 0 and a channel that varies (NaN) is 0."""
    return np.where(np.any([value == 0 for value in values], axis=0), 0.0, np.prod(values, axis=0))


def concatenated(call: Call) -> Read:
    """The channels of all inputs, one input after the other."""
    if call.layer.axis not in (-1, call.shape[0] - 1):
        return "its channels are not on the axis that it joins"
    origins, start = [], 0
    for _, width in call.shapes:
        origin = np.full(call.shape[1], -1)
        origin[start:start + width] = np.arange(width)
        origins.append(origin)
        start += width
    return Channelwise(call.sources, call.target, tuple(origins), np.concatenate)


