"""Builds a model again, with smaller layers that lack the channels that are not needed."""

import dataclasses
from typing import Any

import numpy as np

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
from lth_keras.deployment.compaction.model_graph import Graph
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.model_kind import Node

_SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The replacement of a layer in the new model.

    Attributes:
      layer: the new layer, or the old one if nothing changes.
      weights: tf_keras' name -> value of the new layer's weights, assigned when it is built.
      positions: the positions of its input that it reads, which are gathered before it; None if it
        reads all.
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
      gather_inputs: whether its inputs may be gathered before it.
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
    size = {"units" if kind_of(layer).known_as(layer) == "Dense" else "filters":
            int(found.kept[operation.target].sum())}
    return Part(_again(layer, **size, use_bias="bias" in weights), weights, positions)


def unread(operation: Linear, found: Analysis) -> Flags:
    """Returns which input channels a linear operation does not read, with constants in its bias."""
    return ~channels.inputs(operation, found.constants[operation.source],
                            found.live[operation.target])


def _again(layer: Any, **changes: Any) -> Any:
    kind = kind_of(layer)
    if not isinstance(layer, kind.keras.layers.Layer):
        return layer  # An operation, such as that of x + y, is of any size.
    return type(layer).from_config({**kind.config(layer), **changes})


def _resized(layer: Any, operation: Channelwise, found: Analysis) -> dict[str, Any]:
    # The arguments of a layer that count or name channels, whose numbers have changed.
    name = kind_of(layer).known_as(layer)
    if name == "GatherFeatures":
        there = np.cumsum(found.kept[operation.sources[0]]) - 1
        return {"positions": there[operation.origins[0]][found.kept[operation.target]].tolist()}
    if name != "Reshape" or layer.target_shape[-1] == -1:
        return {}
    size = int(found.kept[operation.target].sum())
    return {"target_shape": (*layer.target_shape[:-1], size)}


def _channelwise_weights(layer: Any, operation: Channelwise, found: Analysis) -> dict[str, Array]:
    kept, kind = found.kept[operation.target], kind_of(layer)
    name = kind.known_as(layer)
    if name in _DEPTHWISE:
        kernel, bias = kind.weight(layer, "depthwise_kernel"), kind.weight(layer, "bias")
        assert kernel is not None
        return {"depthwise_kernel": kernel[..., found.kept[operation.sources[0]], :],
                **({} if bias is None else {"bias": bias[kept]})}
    if name == "PReLU":
        alpha = kind.weight(layer, "alpha")
        assert alpha is not None
        return {"alpha": alpha[..., kept] if alpha.shape[-1] == len(kept) else alpha}
    if name == "BatchNormalization":
        held = {each: kind.weight(layer, each)
                for each in ("gamma", "beta", "moving_mean", "moving_variance")}
        return {each: value[kept] for each, value in held.items() if value is not None}
    return {}


def _linear_weights(layer: Any, operation: Linear, found: Analysis,
                    rows: Flags) -> dict[str, Array]:
    columns = found.kept[operation.target]
    constants, live = found.constants[operation.source], found.live[operation.target]
    kernel, bias = channels.folded(operation, constants, live)
    weights: dict[str, Array] = {}
    kind = kind_of(layer)
    if kind.known_as(layer) in _SEPARABLE:
        # Its kernel is a product of two weights, so the folded kernel cannot be stored; zeros can.
        depthwise = np.array(kind.weight(layer, "depthwise_kernel"))
        depthwise[..., unread(operation, found), :] = 0
        pointwise = np.array(kind.weight(layer, "pointwise_kernel"))
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
    kind = kind_of(model)
    gathers = [piece for piece in parts if piece.positions is not None]
    plain = not gathers or kind.gather_layer([0], "any", gathers[0].layer) is not None
    new = (_sequential if plain and isinstance(model, kind.keras.Sequential) else _functional)(
        model, graph, parts)
    # Layers have their weights only now that they have been called.
    for piece in parts:
        for name, value in piece.weights.items():
            kind.assign(kind.variable(piece.layer, name), value)
    return new


def _sequential(model: Any, graph: Graph, parts: list[Part]) -> Any:
    kind = kind_of(model)
    new = kind.keras.Sequential(name=model.name)
    for node, piece in zip(graph.nodes, parts, strict=True):
        if node.is_input:
            new.add(_input(node))
            continue
        if piece.positions is not None:
            new.add(kind.gather_layer(piece.positions.tolist(), _free_name(model, piece),
                                      piece.layer))
        new.add(piece.layer)
    return new


def _functional(model: Any, graph: Graph, parts: list[Part]) -> Any:
    kind = kind_of(model)
    tensors: dict[int, Any] = {}

    def new(value: Any) -> Any:
        return tensors.get(id(value), value)

    for node, piece in zip(graph.nodes, parts, strict=True):
        if node.is_input:
            made = _input(node).output
        else:
            args = kind.tree.map_structure(new, node.args)
            if piece.positions is not None:
                args = [kind.gather(args[0], piece.positions.tolist(), _free_name(model, piece),
                                    piece.layer), *args[1:]]
            made = piece.layer(*args, **kind.tree.map_structure(new, node.kwargs))
        tensors.update((id(old), tensor) for old, tensor in zip(
            node.outputs, kind.tree.flatten(made), strict=True))
    inputs, outputs = (kind.tree.map_structure(new, form) for form in kind.structure(model))
    return kind.keras.Model(inputs, outputs, name=model.name)


def _input(node: Node) -> Any:
    return type(node.layer).from_config(node.layer.get_config())


def _free_name(model: Any, piece: Part) -> str:
    # Names of layers must be unique: underscores are added until the name is free.
    name, taken = f"{piece.layer.name}_inputs", {layer.name for layer in model.layers}
    while name in taken:
        name += "_"
    return name
