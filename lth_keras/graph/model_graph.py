"""Reads the graph of a model: its calls in order, each as operations on channels."""

import collections
import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.graph import registry
from lth_keras.graph.call import Call
from lth_keras.graph.kinds import kind_of
from lth_keras.graph.layer_kind import LayerKind, Node
from lth_keras.graph.operations import (
    Channelwise,
    Held,
    Linear,
    Opaque,
    Operation,
    Places,
    Tied,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The calls of layers in a model, those within models in it too.

    Attributes:
      nodes: one for each input, and for each call that an output depends on, each after those that
        it reads.
      calls: the operations of each node.
      places: id of a tensor -> its index. What a model within the model takes and returns are
        two tensors each, of one index.
      widths: the number of channels of each tensor, also of tensors within a layer; 1 if it is not
        known.
      outputs: the indices of the model's outputs.
      left: layer name -> why its channels are kept, for layers whose operation is not known.
    """

    nodes: list[Node]
    calls: list[list[Operation]]
    places: dict[int, int]
    widths: list[int]
    outputs: tuple[int, ...]
    left: dict[str, str]

    @property
    def operations(self) -> list[Operation]:
        """All operations, each after those whose outputs it reads; the last needs the outputs."""
        return [*(each for call in self.calls for each in call), Opaque(self.outputs, ())]


def read(model: Any) -> Graph:
    """Reads the graph of a built Sequential or functional model.

    Example:
      >>> import tf_keras as keras
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
      >>> read(model).widths
      [4, 3]
    """
    kind = kind_of(model)
    nodes, same = _inlined(kind, kind.nodes(model))
    tensors = [tensor for node in nodes for tensor in node.outputs]
    places = {id(tensor): place for place, tensor in enumerate(tensors)}
    for tensor, other in same:
        places[id(tensor)] = places[id(other)]
    outputs = tuple(places[id(tensor)] for tensor in kind.tree.flatten(kind.structure(model)[1]))
    reader = _Reader(kind, nodes, places, [max(1, _shape(tensor)[1]) for tensor in tensors],
                     set(outputs))
    calls = [reader.read(node) for node in nodes]
    return Graph(nodes, calls, places, reader.widths, outputs, reader.left)


def _inlined(kind: LayerKind, nodes: Sequence[Node]) -> tuple[list[Node], list[tuple[Any, Any]]]:
    # The calls within models in the place of these models' calls, and which tensors are the same:
    # each with one that comes before it.
    calls = collections.Counter(id(node.layer) for node in nodes)
    taken = collections.Counter(node.layer.name for node in nodes)
    found: list[Node] = []
    same: list[tuple[Any, Any]] = []
    for node in nodes:
        inner = node.layer
        if not (kind.is_graph(inner) and not kind.has_own_call(inner) and calls[id(inner)] == 1
                and len(node.args) == 1 and not _is_given(node.kwargs)):
            found.append(node)
            continue
        within, more = _inlined(kind, kind.nodes(inner))
        inputs, outputs = (kind.tree.flatten(form) for form in kind.structure(inner))
        names = collections.Counter(each.layer.name for each in within if not each.is_input)
        if len(inputs) != len(node.inputs) or names.keys() & taken.keys():
            found.append(node)  # Two layers of one model cannot have one name.
            continue
        taken += names
        same += [*zip(inputs, node.inputs, strict=True), *more,
                 *zip(node.outputs, outputs, strict=True)]
        found += [each for each in within if not each.is_input]
    return found, same


class _Reader:
    # Reads one node after another; layers that are called again are tied to their first call.

    def __init__(self, kind: LayerKind, nodes: list[Node], places: dict[int, int],
                 widths: list[int], outputs: set[int]):
        self.widths = widths
        self.left: dict[str, str] = {}
        self._kind, self._places, self._outputs = kind, places, outputs
        self._calls = collections.Counter(id(node.layer) for node in nodes)
        self._first: dict[int, list[Operation]] = {}

    def read(self, node: Node) -> list[Operation]:
        found = self._operations(node)
        layer = node.layer
        if isinstance(found, str):
            targets = self._indices(node.outputs)
            if not (node.is_input or (_is_softmax(self._kind, layer)
                                      and self._outputs.issuperset(targets))):
                self.left[layer.name] = found
            return [Opaque(self._indices(node.inputs), targets)]
        for operation in found:
            if isinstance(operation, Linear) and operation.activation is None \
                    and operation.target not in self._outputs:
                self.left[layer.name] = "its activation is not known to work elementwise"
        if self._calls[id(layer)] > 1:
            found = [_without_folding(operation) for operation in found]
            found += _tied_calls(self._first.setdefault(id(layer), found), found, self.widths)
        return found

    def _operations(self, node: Node) -> "list[Operation] | str":
        kind, layer = self._kind, node.layer
        name = kind.known_as(layer)
        known = name in registry.READERS
        reasons = {
            "it is an input": node.is_input,
            "it is a model of its own": isinstance(layer, kind.keras.Model),
            # Its new shape may be another in each call.
            "it is called more than once": self._calls[id(layer)] > 1
            and name in ("Reshape", "GatherFeatures"),
            # Further arguments may change what a layer does, as training=True does.
            "it is called with more than its input": known and not _is_plain(kind, node, name),
            "it has more than one output": len(node.outputs) > 1,
            "its input has a mask": node.masked,
        }
        for reason, holds in reasons.items():
            if holds:
                return reason
        # A smaller layer is made from the config of the old one.
        if known and isinstance(layer, kind.keras.layers.Layer) and not _remakeable(layer):
            return "it cannot be made from its get_config (perhaps a function is not registered)"
        return registry.read(Call(
            layer, self._indices(node.inputs), self._places[id(node.outputs[0])],
            tuple(_shape(tensor) for tensor in node.inputs), _shape(node.outputs[0]), self._more,
            lambda value, **options: _again(kind, node, value, options)))

    def _indices(self, tensors: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self._places[id(tensor)] for tensor in tensors)

    def _more(self, width: int) -> int:
        self.widths.append(width)
        return len(self.widths) - 1


def _holds(operations: Sequence[Operation]) -> Iterator[Held]:
    for operation in operations:
        if isinstance(operation, (Linear, Channelwise)):
            yield from operation.holds


def _without_folding(operation: Operation) -> Operation:
    # Its bias is added in every call, and a constant may be another in each.
    return dataclasses.replace(operation, folds=False, merges=False) \
        if isinstance(operation, Linear) else operation


def _tied_calls(first: Sequence[Operation], other: Sequence[Operation],
                widths: Sequence[int]) -> list[Tied]:
    # What a weight holds in one call goes with what it holds in another.
    return [Tied((one.tensor, again.tensor), (_channels(one, widths), _channels(again, widths)))
            for one, again in zip(_holds(first), _holds(other), strict=True)
            if one.tensor != again.tensor]


def _channels(held: Held, widths: Sequence[int]) -> Places:
    return np.arange(widths[held.tensor]) if held.channels is None else held.channels


def _is_plain(kind: LayerKind, node: Node, name: str) -> bool:
    # A layer takes its inputs as one argument, an operation of Keras 3 each as one of its own, as
    # attention does.
    if name == "MultiHeadAttention":
        given = [*node.args, *(node.kwargs[key] for key in ("value", "key")
                               if node.kwargs.get(key) is not None)]
        return list(map(id, given)) == list(map(id, node.inputs)) and all(
            value is None or key in ("value", "key", "use_causal_mask", "training")
            for key, value in node.kwargs.items()) and node.kwargs.get("training") is None
    if name in registry.OF_NUMBERS and len(node.inputs) == 1:
        given = [*node.args, *node.kwargs.values()]
        return sum(value is node.inputs[0] for value in given) == 1 and all(
            value is node.inputs[0] or value is None or np.ndim(value) == 0 for value in given)
    layer = isinstance(node.layer, kind.keras.layers.Layer) and not name.startswith("ops.")
    return len(node.args) == (1 if layer else len(node.inputs)) \
        and not _is_given(node.kwargs) \
        and len(kind.tree.flatten(node.args)) == len(node.inputs)


def _is_given(kwargs: Mapping[str, Any]) -> bool:
    # A mask in Keras 3 is a symbolic tensor, which is neither true nor false.
    return any(hasattr(value, "shape") or bool(value) for value in kwargs.values())


def _again(kind: LayerKind, node: Node, value: Any, options: Mapping[str, Any]) -> Any:
    # The same call with another value for its one tensor.
    def other(given: Any) -> Any:
        return value if given is node.inputs[0] else given
    args, kwargs = kind.tree.map_structure(other, (node.args, node.kwargs))
    return node.layer(*args, **{**kwargs, **options})


def _remakeable(layer: Any) -> bool:
    # Keras draws the seeds of a new layer's initializers: layers made later must get theirs.
    drawn = random.getstate()
    try:
        type(layer).from_config(layer.get_config())
    except Exception:  # A user's function, initializer or regularizer may raise anything.
        return False
    finally:
        random.setstate(drawn)
    return True


def _shape(tensor: Any) -> tuple[int, int]:
    # TensorFlow's shapes have no length where the number of axes is not known.
    rank = len(tensor.shape) if getattr(tensor.shape, "rank", 1) is not None else 0
    return rank, (tensor.shape[-1] or 0) if rank > 1 else 0


def _is_softmax(kind: LayerKind, layer: Any) -> bool:
    return isinstance(layer, kind.keras.layers.Softmax) \
        or getattr(layer, "activation", None) is kind.keras.activations.softmax
