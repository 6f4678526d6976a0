"""Reads the graph of a model: its calls in order, each as an operation on channels."""

import collections
import dataclasses
from typing import Any

from lth_keras.deployment.compaction import layer_channels
from lth_keras.deployment.compaction.channels import Linear, Opaque, Operation
from lth_keras.deployment.compaction.layer_channels import Call
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.model_kind import ModelKind, Node


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The calls of layers in a model.

    Attributes:
      nodes: one for each input, and for each call that an output depends on, each after those that
        it reads.
      operations: the operation of each node, and one more at the end that needs the outputs.
      places: id of a tensor -> its index.
      widths: the number of channels of each tensor; 1 if it is not known.
      outputs: the indices of the model's outputs.
      left: layer name -> why its channels are kept, for layers whose operation is not known.
    """

    nodes: list[Node]
    operations: list[Operation]
    places: dict[int, int]
    widths: list[int]
    outputs: tuple[int, ...]
    left: dict[str, str]


def read(model: Any) -> Graph:
    """Reads the graph of a built Sequential or functional model.

    Example:
      >>> import tf_keras as keras
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
      >>> read(model).widths
      [4, 3]
    """
    kind = kind_of(model)
    nodes = kind.nodes(model)
    places: dict[int, int] = {}
    widths: list[int] = []
    for node in nodes:
        for tensor in node.outputs:
            places[id(tensor)] = len(places)
            widths.append(max(1, _shape(tensor)[1]))
    outputs = tuple(places[id(tensor)] for tensor in kind.tree.flatten(kind.structure(model)[1]))
    calls = collections.Counter(id(node.layer) for node in nodes)
    found: list[Operation] = []
    left: dict[str, str] = {}
    for node in nodes:
        operation = _operation(kind, node, places, calls[id(node.layer)] > 1)
        if isinstance(operation, str):
            sources = tuple(places[id(tensor)] for tensor in node.inputs)
            targets = tuple(places[id(tensor)] for tensor in node.outputs)
            if not (node.is_input or (_is_softmax(kind, node.layer)
                                      and set(targets) <= set(outputs))):
                left[node.layer.name] = operation
            operation = Opaque(sources, targets)
        elif isinstance(operation, Linear) and operation.activation is None \
                and operation.target not in outputs:
            left[node.layer.name] = "its activation is not known to work elementwise"
        found.append(operation)
    return Graph(nodes, [*found, Opaque(outputs, ())], places, widths, outputs, left)


def _operation(kind: ModelKind, node: Node, places: dict[int, int],
               shared: bool) -> "Operation | str":
    layer = node.layer
    known = kind.known_as(layer) in layer_channels.READERS
    reasons = {
        "it is an input": node.is_input,
        "it is a model of its own": isinstance(layer, kind.keras.Model),
        "it is called more than once": shared and (
            bool(getattr(layer, "weights", None))
            or kind.known_as(layer) in ("Reshape", "GatherFeatures")),
        # Further arguments may change what a layer does, as training=True does.
        "it is called with more than its input": known and not _is_plain(kind, node),
        "it has more than one output": len(node.outputs) > 1,
        "its input has a mask": node.masked,
    }
    for reason, holds in reasons.items():
        if holds:
            return reason
    # A smaller layer is made from the config of the old one.
    if known and isinstance(layer, kind.keras.layers.Layer) and not _remakeable(layer):
        return "it cannot be made from its get_config (perhaps a function is not registered)"
    sources = tuple(places[id(tensor)] for tensor in node.inputs)
    return layer_channels.read(Call(layer, sources, places[id(node.outputs[0])],
                                    tuple(_shape(tensor) for tensor in node.inputs),
                                    _shape(node.outputs[0])))


def _is_plain(kind: ModelKind, node: Node) -> bool:
    # A layer takes its inputs as one argument, an operation of Keras 3 each as one of its own.
    layer = isinstance(node.layer, kind.keras.layers.Layer)
    return len(node.args) == (1 if layer else len(node.inputs)) \
        and not any(node.kwargs.values()) \
        and len(kind.tree.flatten(node.args)) == len(node.inputs)


def _remakeable(layer: Any) -> bool:
    try:
        type(layer).from_config(layer.get_config())
    except Exception:  # A user's function, initializer or regularizer may raise anything.
        return False
    return True


def _shape(tensor: Any) -> tuple[int, int]:
    # TensorFlow's shapes have no length where the number of axes is not known.
    rank = len(tensor.shape) if getattr(tensor.shape, "rank", 1) is not None else 0
    return rank, (tensor.shape[-1] or 0) if rank > 1 else 0


def _is_softmax(kind: ModelKind, layer: Any) -> bool:
    return isinstance(layer, kind.keras.layers.Softmax) \
        or getattr(layer, "activation", None) is kind.keras.activations.softmax
