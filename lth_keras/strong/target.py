"""Reads a trained model as a chain of steps that a random network can compute.

A step is a dense layer or a convolution, with the batch normalization after it folded into it; or a
layer without weights that makes no number larger, such as Flatten or a pooling.  What is none of
these is refused by its name.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.graph.kinds import kind_of
from lth_keras.graph.layer_kind import LayerKind, Node
from lth_keras.strong.subset_sums import Floats

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
# They give numbers that they are given, their means, or zeros; in inference.
WITHOUT_WEIGHTS = frozenset({
    "Flatten", "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    *(f"{what}{rank}D" for rank in (1, 2, 3) for what in (
        "SpatialDropout", "MaxPooling", "AveragePooling", "GlobalMaxPooling",
        "GlobalAveragePooling", "ZeroPadding", "Cropping"))})


@dataclasses.dataclass(frozen=True)
class Activation:
    """What is known of an activation that makes no two numbers differ by more than they did.

    Of softmax that holds for the largest difference of all channels, which it at least halves.

    Attributes:
      nonnegative: whether it never gives a negative number; if it may, it keeps the sign.
      largest: from how large its inputs may be to how large its outputs may be.
      mixes: whether an output depends on all channels.
    """

    nonnegative: bool
    largest: Callable[[Floats], Floats]
    mixes: bool = False


def _same(sizes: Floats) -> Floats:
    return sizes


ACTIVATIONS = {
    "linear": Activation(False, _same), "relu": Activation(True, _same),
    "tanh": Activation(False, lambda sizes: np.minimum(sizes, 1)),
    "softsign": Activation(False, lambda sizes: np.minimum(sizes, 1)),
    "sigmoid": Activation(True, np.ones_like),
    "softmax": Activation(True, np.ones_like, mixes=True),
    "softplus": Activation(True, lambda sizes: sizes + np.log(2)),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A layer of the target, and what is computed with it.

    Attributes:
      layer: the layer.
      activation: what follows it, one of ACTIVATIONS.
      size: how many channels its output has.
      kernel: its weights, shape (*taps, inputs, outputs); None of a layer without weights.
      bias: its biases, or None.
    """

    layer: Any
    activation: str
    size: int
    kernel: "Floats | None" = None
    bias: "Floats | None" = None


def read(model: Any) -> list[Step]:
    """Reads a model as steps, each of the output of the one before.

    Raises:
      LotteryError: if it is no chain of such layers; the message names the layer.

    Example:
      >>> import tf_keras as keras
      >>> model = keras.Sequential([
      ...     keras.layers.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, use_bias=False, name="c"),
      ...     keras.layers.BatchNormalization(), keras.layers.ReLU(),
      ...     keras.layers.Flatten(name="f"), keras.layers.Dense(3, name="d")])
      >>> [(step.layer.name, step.activation, step.bias is None) for step in read(model)]
      [('c', 'relu', False), ('f', 'linear', True), ('d', 'linear', False)]
    """
    kind = kind_of(model)
    steps: list[Step] = []
    for node in _chain(model, kind):
        name = kind.known_as(node.layer)
        if name == "Dense" or name in CONVOLUTIONS:
            steps.append(_weighted(node, name, kind))
        elif name == "BatchNormalization":
            if not steps or steps[-1].kernel is None or steps[-1].activation != "linear":
                raise _refused(node.layer, "right after a Dense or convolution without activation, "
                               "into which it can be folded")
            steps[-1] = _folded(steps[-1], node, kind)
        elif name in ("Activation", "ReLU", "Softmax"):
            activation = _activation(node.layer, name, kind)
            if steps and steps[-1].activation == "linear":
                steps[-1] = dataclasses.replace(steps[-1], activation=activation)
            else:
                raise _refused(node.layer, "after a layer that has no other activation")
        elif name in WITHOUT_WEIGHTS:
            _check_channels(node.layer)
            steps.append(Step(node.layer, "linear", int(node.outputs[0].shape[-1])))
        else:
            raise _refused(node.layer, "one of Dense, convolutions, BatchNormalization, "
                           f"activations, {', '.join(sorted(WITHOUT_WEIGHTS))}")
    for step in steps:
        _check_centre(step)
        if not all(np.isfinite(array).all() for array in (step.kernel, step.bias)
                   if array is not None):
            raise _refused(step.layer, "of finite weights")
    if all(step.kernel is None for step in steps):
        raise LotteryError("A model to embed must have a Dense layer or a convolution. Received: "
                           f"{model.name!r} without any.")
    return steps


def _chain(model: Any, kind: LayerKind) -> list[Node]:
    # The calls of a model after its input, each of what the one before returns.
    if not getattr(model, "built", False) or not kind.is_graph(model) or kind.has_own_call(model):
        raise LotteryError(
            "A model to embed must be Sequential or functional, and built. Received: "
            f"{model.name!r} of {type(model).__qualname__}. Start it with an Input layer, and "
            "write what it computes as layers.")
    first, *others = kind.nodes(model)
    before = first
    for node in others:
        if node.is_input or [id(tensor) for tensor in node.inputs] != [
                id(tensor) for tensor in before.outputs]:
            raise _refused(node.layer, "called on all of the output of the layer before it: "
                           "a model to embed must be one chain of layers")
        if sum(node.layer is other.layer for other in others) > 1:
            raise _refused(node.layer, "called once")
        before = node
    outputs = kind.tree.flatten(kind.structure(model)[1])
    if [id(tensor) for tensor in outputs] != [id(tensor) for tensor in before.outputs]:
        raise LotteryError(
            "A model to embed must have one output, that of its last layer. Received: "
            f"{model.name!r} with {len(outputs)} outputs, and {before.layer.name!r} for its last "
            "layer. Embed a model of one of them.")
    return others


def _weighted(node: Node, name: str, kind: LayerKind) -> Step:
    layer, kernel = node.layer, kind.weight(node.layer, "kernel")
    assert kernel is not None
    _check_channels(layer)
    if name in CONVOLUTIONS and layer.groups != 1:
        raise _refused(layer, f"of one group, not {layer.groups}")
    activation = _name_of(layer.activation, kind)
    if activation not in ACTIVATIONS:
        raise _refused(layer, f"with one of the activations {', '.join(ACTIVATIONS)}; not "
                       f"{activation}")
    bias = kind.weight(layer, "bias")
    return Step(layer, activation, kernel.shape[-1], _floats(kernel),
                None if bias is None else _floats(bias))


def _check_centre(step: Step) -> None:
    # The bias is read there: in padding it would be 0.
    layer = step.layer
    padding = getattr(layer, "padding", None) if step.bias is not None else None
    uneven = padding == "same" and any(size % 2 == 0 and dilation > 1 for size, dilation in zip(
        layer.kernel_size, layer.dilation_rate, strict=True))
    if padding == "causal" or uneven:
        raise _refused(layer, "without bias, or have its centre outside of its padding (valid; or "
                       "same, of odd size or not dilated)")


def _folded(step: Step, node: Node, kind: LayerKind) -> Step:
    assert step.kernel is not None
    layer = node.layer
    if np.atleast_1d(layer.axis).tolist() not in ([-1], [len(node.outputs[0].shape) - 1]):
        raise _refused(layer, "of the last axis")

    def value(name: str, default: float) -> Floats:
        found = kind.weight(layer, name)
        return np.full(step.size, default) if found is None else _floats(found)
    factor = value("gamma", 1) / np.sqrt(value("moving_variance", 1) + layer.epsilon)
    bias = np.zeros(step.size) if step.bias is None else step.bias
    return dataclasses.replace(
        step, kernel=step.kernel * factor,
        bias=(bias - value("moving_mean", 0)) * factor + value("beta", 0))


def _activation(layer: Any, name: str, kind: LayerKind) -> str:
    if name == "Activation":
        found = _name_of(layer.activation, kind)
    else:
        config = kind.config(layer)
        plain = {"max_value": (None,), "negative_slope": (0, None), "threshold": (0, None),
                 "axis": (-1,)}
        if any(config.get(option, values[0]) not in values for option, values in plain.items()):
            raise _refused(layer, "without max_value, negative_slope, threshold and axis")
        found = name.lower()
    if found not in ACTIVATIONS:
        raise _refused(layer, f"one of the activations {', '.join(ACTIVATIONS)}; not {found}")
    return found


def _name_of(activation: Any, kind: LayerKind) -> str:
    return next((name for name in ACTIVATIONS
                 if activation is getattr(kind.keras.activations, name)), str(
        getattr(activation, "__name__", activation)))


def _check_channels(layer: Any) -> None:
    if getattr(layer, "data_format", None) == "channels_first":
        raise _refused(layer, "of data_format=channels_last")


def _floats(values: Array) -> Floats:
    return np.asarray(values, np.float64)


def _refused(layer: Any, rule: str) -> LotteryError:
    return LotteryError(f"A layer of a model to embed must be {rule}. Received: "
                        f"{getattr(layer, 'name', layer)!r}, a {type(layer).__name__}.")
