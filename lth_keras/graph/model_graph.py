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
    nodes = _needed(nodes, places, outputs)
    reader = _Reader(kind, nodes, places, [max(1, _shape(tensor)[1]) for tensor in tensors],
                     set(outputs))
    return Graph(nodes, reader.calls(), places, reader.widths, outputs, reader.left)


def _needed(nodes: Sequence[Node], places: Mapping[int, int],
            outputs: Sequence[int]) -> list[Node]:
    # An output of a model within the model may be read by nothing.
    needed, found = {*outputs}, list[Node]()
    for node in reversed(nodes):
        if node.is_input or needed & {places[id(tensor)] for tensor in node.outputs}:
            needed |= {places[id(tensor)] for tensor in node.inputs}
            found.append(node)
    return found[::-1]


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
                and len(node.args) == 1 and not _is_given(node.kwargs)
                and _takes(kind, inner, node) and not _holds_still(kind, inner)):
            found.append(node)
            continue
        within, more = _inlined(kind, kind.nodes(inner))
        inputs, outputs = (kind.tree.flatten(form) for form in kind.structure(inner))
        names = collections.Counter(each.layer.name for each in within if not each.is_input)
        if names.keys() & taken.keys():
            found.append(node)  # Two layers of one model cannot have one name.
            continue
        taken += names
        same += [*zip(inputs, node.inputs, strict=True), *more,
                 *zip(node.outputs, outputs, strict=True)]
        found += [kind.called_in(node, each) for each in within if not each.is_input]
    return found, same


def _holds_still(kind: LayerKind, inner: Any) -> bool:
    # Whether layers of a model within the model would train if they were the whole model's own.
    return kind.frozen_as_wholes and not inner.trainable and any(
        layer.trainable_weights for layer in inner.layers)


def _takes(kind: LayerKind, inner: Any, node: Node) -> bool:
    # Whether what a model within the model is given is what it takes, one for one: Keras finds
    # inputs by the keys of a dict, adds an axis that is missing, and casts.
    form, given = kind.structure(inner)[0], node.args[0]
    keys = [{*each} if isinstance(each, Mapping) else None for each in (form, given)]
    inputs = kind.tree.flatten(form)
    return keys[0] == keys[1] and len(inputs) == len(node.inputs) and all(
        len(one.shape) == len(other.shape) and one.dtype == other.dtype
        for one, other in zip(inputs, node.inputs, strict=True))


class _Reader:
    # Reads all nodes; layers that are called again are tied to their first call.

    def __init__(self, kind: LayerKind, nodes: list[Node], places: dict[int, int],
                 widths: list[int], outputs: set[int]):
        self.widths = widths
        self.left: dict[str, str] = {}
        self._kind, self._places, self._outputs = kind, places, outputs
        self._nodes = nodes
        self._calls = collections.Counter(id(node.layer) for node in nodes)
        self._first: dict[int, list[Operation]] = {}

    def calls(self) -> list[list[Operation]]:
        found = [self._operations(node) for node in self._nodes]
        shared = _shared(self._kind, self._nodes, found)
        return [self._read(node, shared.get(id(node.layer), each) if isinstance(each, list)
                           else each) for node, each in zip(self._nodes, found, strict=True)]

    def _read(self, node: Node, found: "list[Operation] | str") -> list[Operation]:
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
        if known and isinstance(layer, kind.keras.layers.Layer) and not _remakeable(kind, layer):
            return "it cannot be made from its get_config (perhaps a function is not registered)"
        found = registry.read(Call(
            layer, self._indices(node.inputs), self._places[id(node.outputs[0])],
            tuple(_shape(tensor) for tensor in node.inputs), _shape(node.outputs[0]), self._more,
            lambda value, **options: _again(kind, node, value, options)))
        if isinstance(found, list):
            held = {id(kind.variable(layer, each.weight)) for each in _holds(found)}
            if not held.issuperset(_variables(kind, layer)):
                return "it has weights whose channels are not known"
        return found

    def _indices(self, tensors: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self._places[id(tensor)] for tensor in tensors)

    def _more(self, width: int) -> int:
        self.widths.append(width)
        return len(self.widths) - 1


def _shared(kind: LayerKind, nodes: Sequence[Node],
            found: "Sequence[list[Operation] | str]") -> dict[int, str]:
    # Layers of known operations with a variable that another layer has too, and why they stay as
    # they are: a smaller layer has variables of its own.  So does a layer of which one call is
    # not known.
    unknown: dict[int, str] = {}  # Variable -> who reads it in a way that is not known.
    holders: dict[int, dict[int, Any]] = {}  # Variable -> the layers that have it.
    for node, operations in zip(nodes, found, strict=True):
        for variable in _variables(kind, node.layer):
            holders.setdefault(variable, {})[id(node.layer)] = node.layer
        if isinstance(operations, str):
            given = kind.tree.flatten((node.args, node.kwargs))
            unknown.update(dict.fromkeys(
                (*_variables(kind, node.layer), *map(id, given)), node.layer.name))
    reasons: dict[int, str] = {}
    for variable, layers in holders.items():
        for key, layer in layers.items():
            others = [other.name for other in layers.values() if other is not layer]
            reader = others[0] if others else unknown.get(variable)
            if reader is not None:
                reasons.setdefault(key, "it is called in another way too" if reader == layer.name
                                   else f"it shares a weight with {reader}")
    return reasons


def _variables(kind: LayerKind, layer: Any) -> list[int]:
    # The ids of the floating-point weights of a layer; operations have none, and the vocabulary
    # that tf_keras lists among a lookup's weights has no type.
    return [id(variable) for variable in getattr(layer, "weights", ())
            if "float" in str(getattr(variable, "dtype", ""))]


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
    if name.startswith("ops."):  # tf_keras gives x + y as (x, y), and its copy as (x, y=y).
        given = [value for value in (*node.args, *node.kwargs.values()) if value is not None]
        return list(map(id, given)) == list(map(id, node.inputs))
    return len(node.args) == 1 and not _is_given(node.kwargs) \
        and len(kind.tree.flatten(node.args)) == len(node.inputs)


def _is_given(value: Any) -> bool:
    # Keras 3 gives a mask, a symbolic tensor that is neither true nor false, or a list of None.
    if isinstance(value, Mapping):
        return any(map(_is_given, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_is_given, value))
    return hasattr(value, "shape") or bool(value)


def _again(kind: LayerKind, node: Node, value: Any, options: Mapping[str, Any]) -> Any:
    # The same call with another value for its one tensor.
    arithmetic = kind.known_as(node.layer) in registry.OF_NUMBERS

    def other(given: Any) -> Any:
        if given is node.inputs[0]:
            return value
        # TensorFlow makes a tensor of another type than this value's of the number in 2 * x.
        number = arithmetic and given is not None and np.ndim(given) == 0 \
            and not isinstance(given, str)
        return kind.tensor(np.asarray(given, np.float64)) if number else given
    args, kwargs = kind.tree.map_structure(other, (node.args, node.kwargs))
    return node.layer(*args, **{**kwargs, **options})


def _remakeable(kind: LayerKind, layer: Any) -> bool:
    # Keras draws the seeds of a new layer's initializers: layers made later must get theirs.
    drawn = random.getstate()
    try:
        made = type(layer).from_config(layer.get_config())
        return all(_same_function(kind, getattr(layer, name, None), getattr(made, name, None))
                   for name in ("activation", "recurrent_activation"))
    except Exception:  # A user's function, initializer or regularizer may raise anything.
        return False
    finally:
        random.setstate(drawn)


def _same_function(kind: LayerKind, one: Any, other: Any) -> bool:
    # By values: keras.ops.gelu has the name of keras.activations.gelu, which is another function.
    if one is other or one not in kind.elementwise:
        return True
    probe = kind.tensor(np.linspace(-4, 4, 33))
    return np.array_equal(kind.array(one(probe)), kind.array(other(probe)))


def _shape(tensor: Any) -> tuple[int, int]:
    # TensorFlow's shapes have no length where the number of axes is not known.
    rank = len(tensor.shape) if getattr(tensor.shape, "rank", 1) is not None else 0
    return rank, (tensor.shape[-1] or 0) if rank > 1 else 0


def _is_softmax(kind: LayerKind, layer: Any) -> bool:
    return isinstance(layer, kind.keras.layers.Softmax) \
        or getattr(layer, "activation", None) is kind.keras.activations.softmax
