"""Builds a model again, with smaller layers in the place of its own.

The layers keep their names, and the model its inputs, outputs and graph.  Models within the model
are taken apart: their layers become its own.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.graph.kinds import kind_of
from lth_keras.graph.layer_kind import Node
from lth_keras.graph.model_graph import Graph
from lth_keras.graph.operations import Channelwise, Flags, Held, Linear, Opaque, Operation, Tied

# The argument of a layer that counts what it makes; of convolutions it is filters.
_SIZES = {"Dense": "units", "LSTM": "units", "GRU": "units", "SimpleRNN": "units",
          "Embedding": "output_dim"}


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """The replacement of a layer in the new model.

    Attributes:
      layer: the new layer, or the old one if nothing changes.
      weights: tf_keras' name -> value of the new layer's weights, assigned when it is built.
      before: a layer or function that is applied to its input before it, or None.
    """

    layer: Any
    weights: dict[str, Array] = dataclasses.field(default_factory=dict)
    before: "Callable[[Any], Any] | None" = None


def part(layer: Any, operations: Sequence[Operation], kept: Sequence[Flags]) -> Part:
    """Makes the replacement of a layer: the same with fewer channels.

    Args:
      layer: a layer of a model.
      operations: what it does, as `model_graph.read` says.
      kept: of each tensor of the graph, which channels stay.
    """
    if isinstance(operations[-1], Opaque):
        return Part(layer)
    return Part(again(layer, **resized(layer, operations, kept)), _sliced(layer, operations, kept))


def again(layer: Any, **changes: Any) -> Any:
    """Makes a layer again, with other arguments."""
    kind = kind_of(layer)
    if kind.known_as(layer).startswith("ops."):
        return layer  # An operation, such as that of x + y, is of any size.
    config = {name: "zeros" if _is_of_one_shape(value) else value
              for name, value in {**kind.config(layer), **changes}.items()}
    if "query_shape" in config:  # tf_keras would build the attention for the old shapes.
        return type(layer)(**{name: value for name, value in config.items()
                              if name not in ("query_shape", "key_shape", "value_shape")})
    made = type(layer).from_config(config)
    kind.keep_penalty(layer, made)
    return made


def _is_of_one_shape(value: Any) -> bool:
    # An initializer with an array, such as of pretrained embeddings.  Weights are assigned anyway.
    return isinstance(value, Mapping) and value.get("class_name") == "Constant" \
        and not isinstance(value["config"]["value"], (int, float))


def resized(layer: Any, operations: Sequence[Operation],
            kept: Sequence[Flags]) -> dict[str, Any]:
    """The arguments of a layer that count or name channels, whose numbers have changed.

    Args:
      layer: a layer of a model.
      operations: what it does.
      kept: of each tensor of the graph, which channels stay.
    """
    name, last = kind_of(layer).known_as(layer), operations[-1]
    assert not isinstance(last, Opaque)
    target = last.tensors[1] if isinstance(last, Tied) else last.target
    size = int(kept[target].sum())
    if name == "GatherFeatures":
        assert isinstance(last, Channelwise)
        moved = np.cumsum(kept[last.sources[0]]) - 1
        return {"positions": moved[last.origins[0]][kept[target]].tolist()}
    if name == "Reshape":
        fixed = layer.target_shape[-1] != -1
        return {"target_shape": (*layer.target_shape[:-1], size)} if fixed else {}
    if name == "MultiHeadAttention":
        heads = next(each for each in operations if isinstance(each, Linear)).target
        # By default as many as the query has, which may lose others.
        return {"num_heads": int(kept[heads].sum()), "output_shape": size}
    linear = next((each for each in operations if isinstance(each, Linear)), None)
    if linear is None:
        return {}
    if name == "EinsumDense":
        return {"output_shape": (*np.atleast_1d(layer.partial_output_shape)[:-1].tolist(), size)}
    return {_SIZES.get(name, "filters"): int(kept[linear.target].sum())}


def _sliced(layer: Any, operations: Sequence[Operation],
            kept: Sequence[Flags]) -> dict[str, Array]:
    # The weights without the indices of channels that are gone.
    kind, found = kind_of(layer), dict[str, Array]()
    for operation in operations:
        for held in getattr(operation, "holds", ()):
            value = found.get(held.weight, kind.weight(layer, held.weight))
            if value is not None:
                found[held.weight] = np.compress(there(held, kept), value, held.axis)
    return found


def there(held: Held, kept: Sequence[Flags]) -> Flags:
    """Which indices of a weight's axis stay."""
    channels = kept[held.tensor]
    return channels if held.channels is None else channels[held.channels]


def rebuilt(model: Any, graph: Graph, parts: list[Part]) -> Any:
    """Builds a model with the graph of another, and other layers in it.

    Args:
      model: a Sequential or functional model.
      graph: its graph.
      parts: the replacement of each node's layer.
    """
    kind = kind_of(model)
    # A functional model within a Sequential one may branch.
    line = all([graph.places[id(tensor)] for tensor in node.inputs]
               == [graph.places[id(tensor)] for tensor in before.outputs]
               for before, node in itertools.pairwise(graph.nodes))
    plain = line and isinstance(model, kind.keras.Sequential) and all(
        piece.before is None or isinstance(piece.before, kind.keras.layers.Layer)
        for piece in parts) and all(map(_is_plain, graph.nodes))
    new = (_sequential if plain else _functional)(model, graph, parts)
    # Layers have their weights only now that they have been called.
    for node, piece in zip(graph.nodes, parts, strict=True):
        for name, value in piece.weights.items():
            variable, old = (kind.variable(layer, name) for layer in (piece.layer, node.layer))
            kind.assign(variable, value)
            if old is not None and variable.trainable != old.trainable:
                variable.trainable = old.trainable  # In Keras 3 a weight may be frozen by itself.
    new._trainable = model.trainable  # The model's own setter would tell its layers the same.
    return new


def _is_plain(node: Node) -> bool:
    # Whether a Sequential model can make the call: of a layer, on its input alone.
    if node.is_input:
        return True
    kind, layer = kind_of(node.layer), node.layer
    operation = not isinstance(layer, kind.keras.layers.Layer) \
        or kind.known_as(layer).startswith("ops.")
    return not operation and len(node.args) == 1 and node.args[0] is node.inputs[0] and all(
        value is None or (value is False and not kind.obeys_false)
        for value in node.kwargs.values())


def _sequential(model: Any, graph: Graph, parts: list[Part]) -> Any:
    kind = kind_of(model)
    new = kind.keras.Sequential(name=model.name)
    for node, piece in zip(graph.nodes, parts, strict=True):
        if node.is_input:
            new.add(_input(piece))
            continue
        if piece.before is not None:
            new.add(piece.before)
        new.add(piece.layer)
    return new


def _functional(model: Any, graph: Graph, parts: list[Part]) -> Any:
    kind = kind_of(model)
    tensors: dict[int, Any] = {}  # By their index in the graph.

    def new(value: Any) -> Any:
        return tensors.get(graph.places.get(id(value), -1), value)

    for node, piece in zip(graph.nodes, parts, strict=True):
        if node.is_input:
            made = _input(piece).output
        else:
            args = kind.tree.map_structure(new, node.args)
            if piece.before is not None:
                args = [piece.before(args[0]), *args[1:]]
            made = piece.layer(*args, **kind.tree.map_structure(new, node.kwargs))
        tensors.update((graph.places[id(old)], tensor) for old, tensor in zip(
            node.outputs, kind.tree.flatten(made), strict=True))
    inputs, outputs = (kind.tree.map_structure(new, form) for form in kind.structure(model))
    return kind.keras.Model(inputs, outputs, name=model.name)


def _input(piece: Part) -> Any:
    return type(piece.layer).from_config(piece.layer.get_config())
