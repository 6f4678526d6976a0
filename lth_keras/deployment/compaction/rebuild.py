"""Builds a model again, with smaller layers that lack the channels that are not needed."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.deployment.compaction import channels
from lth_keras.deployment.compaction.channels import Analysis
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.graph.layer_kind import Node
from lth_keras.graph.model_graph import Graph
from lth_keras.graph.operations import (
    Channelwise,
    Flags,
    Held,
    Linear,
    Opaque,
    Operation,
    Places,
    Tied,
)

_SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
# The argument of a layer that counts what it makes.
_SIZES = {"Dense": "units", "LSTM": "units", "GRU": "units", "SimpleRNN": "units",
          "Embedding": "output_dim"}


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


def part(layer: Any, operations: Sequence[Operation], found: Analysis,
         gather_inputs: bool) -> Part:
    """Makes the replacement of a layer.

    Args:
      layer: a layer of the model that was analysed.
      operations: the layer's operations on channels.
      found: the analysis.
      gather_inputs: whether its inputs may be gathered before it.
    """
    first = operations[0]
    if len(operations) == 1 and isinstance(first, Linear) and first.folds:
        return _folded(layer, first, found, gather_inputs)
    if isinstance(operations[-1], Opaque):
        return Part(layer)
    weights = _sliced(layer, operations, found)
    return Part(_again(layer, **_resized(layer, operations, found)), weights)


def unread(operation: Linear, found: Analysis) -> Flags:
    """Returns which input channels a linear operation does not read, with constants in its bias."""
    return ~channels.inputs(operation, found.constants[operation.source],
                            found.live[operation.target])


def _folded(layer: Any, operation: Linear, found: Analysis, gather_inputs: bool) -> Part:
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
    changes = {**_resized(layer, [operation], found), "use_bias": "bias" in weights}
    if kind_of(layer).known_as(layer) == "EinsumDense":
        del changes["use_bias"]
        if "bias" in weights and layer.bias_axes is None:
            changes["bias_axes"] = layer.equation[-1]
    return Part(_again(layer, **changes), weights, positions)


def _again(layer: Any, **changes: Any) -> Any:
    kind = kind_of(layer)
    if kind.known_as(layer).startswith("ops."):
        return layer  # An operation, such as that of x + y, is of any size.
    return type(layer).from_config({**kind.config(layer), **changes})


def _resized(layer: Any, operations: Sequence[Operation], found: Analysis) -> dict[str, Any]:
    # The arguments of a layer that count or name channels, whose numbers have changed.
    name, last = kind_of(layer).known_as(layer), operations[-1]
    assert not isinstance(last, Opaque)
    target = last.tensors[1] if isinstance(last, Tied) else last.target
    size = int(found.kept[target].sum())
    if name == "GatherFeatures":
        assert isinstance(last, Channelwise)
        there = np.cumsum(found.kept[last.sources[0]]) - 1
        return {"positions": there[last.origins[0]][found.kept[target]].tolist()}
    if name == "Reshape":
        fixed = layer.target_shape[-1] != -1
        return {"target_shape": (*layer.target_shape[:-1], size)} if fixed else {}
    if name == "MultiHeadAttention":
        heads = next(each for each in operations if isinstance(each, Linear)).target
        return {"num_heads": int(found.kept[heads].sum())} | (
            {} if layer._output_shape is None else {"output_shape": size})
    linear = next((each for each in operations if isinstance(each, Linear)), None)
    if linear is None:
        return {}
    if name == "EinsumDense":
        return {"output_shape": (*np.atleast_1d(layer.partial_output_shape)[:-1].tolist(), size)}
    return {_SIZES.get(name, "filters"): int(found.kept[linear.target].sum())}


def _sliced(layer: Any, operations: Sequence[Operation], found: Analysis) -> dict[str, Array]:
    # The weights without the indices of channels that are gone.
    kind, kept = kind_of(layer), dict[str, Array]()
    for operation in operations:
        for held in getattr(operation, "holds", ()):
            value = kept.get(held.weight, kind.weight(layer, held.weight))
            if value is not None:
                kept[held.weight] = np.compress(_there(held, found), value, held.axis)
    return kept


def _there(held: Held, found: Analysis) -> Flags:
    there = found.kept[held.tensor]
    return there if held.channels is None else there[held.channels]


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
        kernel = kernel[:, rows][:, :, columns]
        if kind.known_as(layer).endswith("Transpose"):
            kernel = np.swapaxes(kernel, 1, 2)
        weights["kernel"] = kernel.reshape(*getattr(layer, "kernel_size", ()), *kernel.shape[1:])
    # A layer without a bias gets one if constants were added to it.
    if kind.weight(layer, "bias") is not None or bias[columns].any():
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
    # A functional model within a Sequential one may branch.
    line = all([graph.places[id(tensor)] for tensor in node.inputs]
               == [graph.places[id(tensor)] for tensor in before.outputs]
               for before, node in itertools.pairwise(graph.nodes))
    plain &= line and isinstance(model, kind.keras.Sequential)
    new = (_sequential if plain else _functional)(model, graph, parts)
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
    tensors: dict[int, Any] = {}  # By their index in the graph.

    def new(value: Any) -> Any:
        return tensors.get(graph.places.get(id(value), -1), value)

    for node, piece in zip(graph.nodes, parts, strict=True):
        if node.is_input:
            made = _input(node).output
        else:
            args = kind.tree.map_structure(new, node.args)
            if piece.positions is not None:
                args = [kind.gather(args[0], piece.positions.tolist(), _free_name(model, piece),
                                    piece.layer), *args[1:]]
            made = piece.layer(*args, **kind.tree.map_structure(new, node.kwargs))
        tensors.update((graph.places[id(old)], tensor) for old, tensor in zip(
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
