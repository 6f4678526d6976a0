"""Reads the graph of a tf_keras model: its calls in order, each as an operation on channels."""

import collections
import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.deployment.compaction import layer_channels
from lth_keras.deployment.compaction.channels import Linear, Opaque, Operation
from lth_keras.deployment.compaction.gather_layer import GatherFeatures
from lth_keras.deployment.compaction.layer_channels import Call


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The calls of layers in a model.

    Attributes:
      nodes: Keras' nodes: one for each input, and for each call that an output depends on, each
        after those that it reads.
      operations: the operation of each node, and one more at the end that needs the outputs.
      places: id of a tensor -> its index.
      widths: the number of channels of each tensor; 1 if it is not known.
      outputs: the indices of the model's outputs.
      left: layer name -> why its channels are kept, for layers whose operation is not known.
    """

    nodes: list[Any]
    operations: list[Operation]
    places: dict[int, int]
    widths: list[int]
    outputs: tuple[int, ...]
    left: dict[str, str]


def read(model: Any) -> Graph:
    """Reads the graph of a built Sequential or functional model.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
      >>> read(model).widths
      [4, 3]
    """
    nodes = _needed(model)
    places: dict[int, int] = {}
    widths: list[int] = []
    for node in nodes:
        for tensor in tf.nest.flatten(node.outputs):
            places[id(tensor)] = len(places)
            widths.append(max(1, _shape(tensor)[1]))
    outputs = tuple(places[id(tensor)] for tensor in tf.nest.flatten(model.outputs))
    calls = collections.Counter(id(node.layer) for node in nodes)
    found: list[Operation] = []
    left: dict[str, str] = {}
    for node in nodes:
        operation = _operation(node, places, calls[id(node.layer)] > 1)
        if isinstance(operation, str):
            sources = tuple(places[id(tensor)] for tensor in node.keras_inputs)
            targets = tuple(places[id(tensor)] for tensor in tf.nest.flatten(node.outputs))
            if not (node.is_input or (_is_softmax(node.layer) and set(targets) <= set(outputs))):
                left[node.layer.name] = operation
            operation = Opaque(sources, targets)
        elif isinstance(operation, Linear) and operation.activation is None \
                and operation.target not in outputs:
            left[node.layer.name] = "its activation is not known to work elementwise"
        found.append(operation)
    return Graph(nodes, [*found, Opaque(outputs, ())], places, widths, outputs, left)


def _needed(model: Any) -> list[Any]:
    # Without nodes that only a loss or metric reads (add_loss): no output depends on them.
    waiting = [_node_of(tensor) for tensor in tf.nest.flatten((model.outputs, model.inputs))]
    needed: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) not in needed:
            needed.add(id(node))
            waiting += node.parent_nodes
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth]
            if id(node) in needed]


def _node_of(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.layer._inbound_nodes[history.node_index]


def _operation(node: Any, places: dict[int, int], shared: bool) -> "Operation | str":
    layer, made = node.layer, tf.nest.flatten(node.outputs)
    # Further arguments may change what a layer does, as training=True does.
    more = type(layer) in layer_channels.READERS and not (
        len(node.call_args) == 1 and not any(node.call_kwargs.values())
        and len(tf.nest.flatten(node.call_args)) == len(node.keras_inputs))
    reasons = {
        "it is an input": node.is_input,
        "it is a model of its own": isinstance(layer, keras.Model),
        "it is called more than once":
            shared and (layer.weights or isinstance(layer, (keras.layers.Reshape, GatherFeatures))),
        "it is called with more than its input": more,
        "it has more than one output": len(made) > 1,
        "its input has a mask": any(getattr(tensor, "_keras_mask", None) is not None
                                    for tensor in node.keras_inputs),
    }
    for reason, holds in reasons.items():
        if holds:
            return reason
    # A smaller layer is made from the config of the old one.
    if type(layer) in layer_channels.READERS and not _remakeable(layer):
        return "it cannot be made from its get_config (perhaps a function is not registered)"
    sources = tuple(places[id(tensor)] for tensor in node.keras_inputs)
    return layer_channels.read(Call(layer, sources, places[id(made[0])],
                                tuple(_shape(tensor) for tensor in node.keras_inputs),
                                _shape(made[0])))


def _remakeable(layer: Any) -> bool:
    try:
        type(layer).from_config(layer.get_config())
    except Exception:  # A user's function, initializer or regularizer may raise anything.
        return False
    return True


def _shape(tensor: Any) -> tuple[int, int]:
    rank = tensor.shape.rank or 0
    return rank, (tensor.shape[-1] or 0) if rank > 1 else 0


def _is_softmax(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Softmax) \
        or getattr(layer, "activation", None) is keras.activations.softmax
