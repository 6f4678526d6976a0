"""Builds a model again, with smaller layers that lack the channels that are not needed."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.masks import Array
from lth_keras.deployment.compaction import channels
from lth_keras.deployment.compaction.channels import (
    Analysis,
    Channelwise,
    Flags,
    Linear,
    Opaque,
    Operation,
    Places,
)
from lth_keras.deployment.compaction.gather_layer import GatherFeatures
from lth_keras.deployment.compaction.model_graph import Graph

layers = keras.layers
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The replacement of a layer in the new model.

    Attributes:
      layer: the new layer, or the old one if nothing changes.
      weights: attribute -> value of the new layer's weights, assigned when it is built.
      positions: the positions of its input that it reads, through a GatherFeatures before it; None
        if it reads all.
    """

    layer: Any
    weights: dict[str, Array] = dataclasses.field(default_factory=dict)
    positions: "Places | None" = None


def part(layer: Any, operation: Operation, found: Analysis, gather_inputs: bool) -> Part:
    """Makes the replacement of a layer.

    Args:
      layer: a layer of the model that was analysed.
      operation: the layer's operation on channels.
      found: the analysis.
      gather_inputs: whether a GatherFeatures may be inserted before it.
    """
    if isinstance(operation, Opaque):
        return Part(layer)
    if isinstance(operation, Channelwise):
        return Part(_again(layer, **_resized(layer, operation, found)),
                    _channelwise_weights(layer, operation, found))
    # `there`: channels that exist in the new model; `rows`: those that this layer will read.
    there = found.kept[operation.source]
    rows, positions = there, None
    if gather_inputs:
        rows = there & ~unread(operation, found)
        if not rows.any():
            rows[np.flatnonzero(there)[0]] = True
        if (rows != there).any():
            positions = np.flatnonzero(rows[there])
    weights = _linear_weights(layer, operation, found, rows)
    size = {"units" if isinstance(layer, layers.Dense) else "filters":
            int(found.kept[operation.target].sum())}
    return Part(_again(layer, **size, use_bias="bias" in weights), weights, positions)


def unread(operation: Linear, found: Analysis) -> Flags:
    """Returns which input channels a linear operation does not read, with constants in its bias."""
    return ~channels.inputs(operation, found.constants[operation.source],
                            found.live[operation.target])


def _again(layer: Any, **changes: Any) -> Any:
    # A layer's config stores the shape of its input, which may have fewer channels now.
    config = {**layer.get_config(), **changes}
    config.pop("batch_input_shape", None)
    return type(layer).from_config(config)


def _resized(layer: Any, operation: Channelwise, found: Analysis) -> dict[str, Any]:
    # The arguments of a layer that count or name channels, whose numbers have changed.
    if isinstance(layer, GatherFeatures):
        there = np.cumsum(found.kept[operation.sources[0]]) - 1
        return {"positions": there[operation.origins[0]][found.kept[operation.target]].tolist()}
    if not isinstance(layer, layers.Reshape) or layer.target_shape[-1] == -1:
        return {}
    size = int(found.kept[operation.target].sum())
    return {"target_shape": (*layer.target_shape[:-1], size)}


def _channelwise_weights(layer: Any, operation: Channelwise, found: Analysis) -> dict[str, Array]:
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


def _linear_weights(layer: Any, operation: Linear, found: Analysis,
                    rows: Flags) -> dict[str, Array]:
    columns = found.kept[operation.target]
    constants, live = found.constants[operation.source], found.live[operation.target]
    kernel, bias = channels.folded(operation, constants, live)
    weights: dict[str, Array] = {}
    if isinstance(layer, _SEPARABLE):
        # Its kernel is a product of two weights, so the folded kernel cannot be stored; zeros can.
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
    # A layer without a bias gets one if constants were added to it.
    if layer.use_bias or bias[columns].any():
        weights["bias"] = bias[columns]
    return weights


def rebuilt(model: Any, graph: Graph, parts: list[Part]) -> Any:
    """Builds a model with the graph of another, and other layers in it.

    Args:
      model: a Sequential or functional model.
      graph: its graph.
      parts: the replacement of each node's layer.
    """
    if isinstance(model, keras.Sequential):
        new = _sequential(model, graph, parts)
    else:
        new = _functional(model, graph, parts)
    # Layers have their weights only now that they have been called.
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
            new.add(_gather(model, piece))
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
                args = [_gather(model, piece)(args[0]), *args[1:]]
            made = piece.layer(*args, **tf.nest.map_structure(new, node.call_kwargs))
        olds, news = tf.nest.flatten(node.outputs), tf.nest.flatten(made)
        tensors.update((id(old), tensor) for old, tensor in zip(olds, news, strict=True))
    return keras.Model(tf.nest.map_structure(new, model._nested_inputs),
                       tf.nest.map_structure(new, model._nested_outputs), name=model.name)


def _gather(model: Any, piece: Part) -> Any:
    # Names of layers must be unique: underscores are added until the name is free.
    assert piece.positions is not None
    name, taken = f"{piece.layer.name}_inputs", {layer.name for layer in model.layers}
    while name in taken:
        name += "_"
    return GatherFeatures(piece.positions.tolist(), name=name, dtype=piece.layer._dtype_policy)
