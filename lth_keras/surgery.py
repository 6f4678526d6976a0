"""Surgery: a model built again without the channels that it does not need."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras import channels
from lth_keras.channels import Analysis, Barrier, Flags, Operation, Places, Sum, Tied
from lth_keras.errors import LotteryError
from lth_keras.graph import Graph
from lth_keras.masks import Array

layers = keras.layers
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


@keras.saving.register_keras_serializable("lth_keras")
class Take(layers.Layer):
    """Takes some of the features of its input: positions on the last axis.

    Args:
      positions: which, in the order in which they are given on, each >= 0; at least one.

    Raises:
      LotteryError: if there is none, or one is no such number.

    Example:
      >>> Take([0, 2])(np.array([[5.0, 6.0, 7.0]])).numpy()
      array([[5., 7.]], dtype=float32)
    """

    def __init__(self, positions: Sequence[int], **options: Any):
        super().__init__(**options)
        if not positions or any(isinstance(place, bool) or place != int(place) or place < 0
                                for place in positions):
            raise LotteryError("Take needs positions, each a whole number >= 0. "
                               f"Received: {str(positions):.100}.")
        self.positions = [int(place) for place in positions]

    def call(self, inputs: Any) -> tf.Tensor:
        """The features at the positions."""
        return tf.gather(inputs, tf.constant(self.positions, tf.int32), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments that it was made with."""
        return {**super().get_config(), "positions": list(self.positions)}


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """What stands for a layer in the model that is built again.

    Attributes:
      layer: the new layer, or the old one where nothing changes.
      weights: attribute -> value of the new layer's weights, set when it is built.
      positions: of its input that it reads alone, by a Take before it; None if all.
    """

    layer: Any
    weights: dict[str, Array] = dataclasses.field(default_factory=dict)
    positions: "Places | None" = None


def part(layer: Any, operation: Operation, found: Analysis, take_inputs: bool) -> Part:
    """What is to stand for a layer.

    Args:
      layer: of the model that was analysed.
      operation: what it does.
      found: the analysis.
      take_inputs: whether it may read a part of its input by a Take.
    """
    if isinstance(operation, Barrier):
        return Part(layer)
    if isinstance(operation, Tied):
        return Part(_again(layer, **_resized(layer, operation, found)),
                    _tied_weights(layer, operation, found))
    there = found.kept[operation.source]
    rows, positions = there, None
    if take_inputs and (unread(operation, found) & there).any():
        rows = there & ~unread(operation, found)
        if not rows.any():
            rows[np.flatnonzero(there)[0]] = True
        positions = np.flatnonzero(rows[there])
    weights = _sum_weights(layer, operation, found, rows)
    size = {"units" if isinstance(layer, layers.Dense) else "filters":
            int(found.kept[operation.target].sum())}
    return Part(_again(layer, **size, use_bias="bias" in weights), weights, positions)


def unread(operation: Sum, found: Analysis) -> Flags:
    """Which input channels of a sum need not be there for its own sake."""
    return ~channels.inputs(operation, found.constants[operation.source],
                            found.live[operation.target])


def _again(layer: Any, **changes: Any) -> Any:
    config = {**layer.get_config(), **changes}
    config.pop("batch_input_shape", None)
    return type(layer).from_config(config)


def _resized(layer: Any, operation: Tied, found: Analysis) -> dict[str, Any]:
    if not isinstance(layer, layers.Reshape) or layer.target_shape[-1] == -1:
        return {}
    size = int(found.kept[operation.target].sum())
    return {"target_shape": (*layer.target_shape[:-1], size)}


def _tied_weights(layer: Any, operation: Tied, found: Analysis) -> dict[str, Array]:
    kept = found.kept[operation.target]
    if isinstance(layer, _DEPTHWISE):
        kernel = np.asarray(layer.depthwise_kernel)[..., found.kept[operation.sources[0]], :]
        bias = {"bias": np.asarray(layer.bias)[kept]} if layer.use_bias else {}
        return {"depthwise_kernel": kernel, **bias}
    if isinstance(layer, layers.PReLU):
        alpha = np.asarray(layer.alpha)
        return {"alpha": alpha[..., kept] if alpha.shape[-1] == len(kept) else alpha}
    if isinstance(layer, layers.BatchNormalization):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        return {name: np.asarray(getattr(layer, name))[kept] for name in names
                if getattr(layer, name) is not None}
    return {}


def _sum_weights(layer: Any, operation: Sum, found: Analysis, rows: Flags) -> dict[str, Array]:
    columns = found.kept[operation.target]
    constants, live = found.constants[operation.source], found.live[operation.target]
    kernel, bias = channels.folded(operation, constants, live)
    weights: dict[str, Array] = {}
    if isinstance(layer, _SEPARABLE):
        depthwise = np.array(layer.depthwise_kernel)
        depthwise[..., unread(operation, found), :] = 0
        pointwise = np.array(layer.pointwise_kernel)
        pointwise[..., ~live] = 0
        weights["depthwise_kernel"] = depthwise[..., rows, :]
        weights["pointwise_kernel"] = \
            pointwise[..., np.repeat(rows, layer.depth_multiplier), :][..., columns]
    else:
        shape = (*getattr(layer, "kernel_size", ()), rows.sum(), columns.sum())
        weights["kernel"] = kernel[:, rows][:, :, columns].reshape(shape)
    if layer.use_bias or bias[columns].any():
        weights["bias"] = bias[columns]
    return weights


def rebuilt(model: Any, graph: Graph, parts: list[Part]) -> Any:
    """A model of other layers with the graph of one.

    Args:
      model: a Sequential or functional model.
      graph: its graph.
      parts: what stands for the layer of each of its nodes.
    """
    if isinstance(model, keras.Sequential):
        new = _sequential(model, graph, parts)
    else:
        new = _functional(model, graph, parts)
    for piece in parts:
        for name, value in piece.weights.items():
            variable = getattr(piece.layer, name)
            variable.assign(value.astype(variable.dtype.as_numpy_dtype))
    return new


def _sequential(model: Any, graph: Graph, parts: list[Part]) -> Any:
    new = keras.Sequential(name=model.name)
    for node, piece in zip(graph.nodes, parts, strict=True):
        if node.is_input:
            new.add(layers.InputLayer.from_config(node.layer.get_config()))
            continue
        if piece.positions is not None:
            new.add(_take(piece))
        new.add(piece.layer)
    return new


def _functional(model: Any, graph: Graph, parts: list[Part]) -> Any:
    tensors: dict[int, Any] = {}

    def new(value: Any) -> Any:
        return tensors.get(id(value), value)

    for node, piece in zip(graph.nodes, parts, strict=True):
        if node.is_input:
            made = layers.InputLayer.from_config(node.layer.get_config()).output
        else:
            args = tf.nest.map_structure(new, node.call_args)
            if piece.positions is not None:
                args = [_take(piece)(args[0]), *args[1:]]
            made = piece.layer(*args, **tf.nest.map_structure(new, node.call_kwargs))
        olds, news = tf.nest.flatten(node.outputs), tf.nest.flatten(made)
        tensors.update((id(old), tensor) for old, tensor in zip(olds, news, strict=True))
    return keras.Model(tf.nest.map_structure(new, model._nested_inputs),
                       tf.nest.map_structure(new, model._nested_outputs), name=model.name)


def _take(piece: Part) -> Any:
    assert piece.positions is not None
    return Take(piece.positions.tolist(), name=f"{piece.layer.name}_inputs",
                dtype=piece.layer._dtype_policy)
