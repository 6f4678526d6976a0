"""The layers and graphs of tf_keras, with or without pruning wrappers, for `graph`."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine.functional import Functional
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from lth_keras.core.masks import Array
from lth_keras.graph.layer_kind import LayerKind, Node
from lth_keras.keras2.masking.weight_names import is_graph, variables_among, Wrapper

_ELEMENTWISE = {
    getattr(keras.activations, name) for name in (
        "linear", "relu", "sigmoid", "tanh", "softplus", "softsign", "elu", "selu", "gelu",
        "swish", "mish", "exponential", "hard_sigmoid")
} | {tf.nn.relu, tf.nn.relu6, tf.nn.leaky_relu, tf.nn.elu, tf.nn.selu, tf.nn.gelu, tf.nn.silu,
     tf.nn.softplus, tf.nn.softsign, tf.nn.sigmoid, tf.nn.tanh, tf.sigmoid, tf.tanh, tf.identity}

# TensorFlow's operations on symbolic tensors -> Keras 3's names of them.
_OPERATIONS = {"__operators__.add": "ops.Add", "math.add": "ops.Add",
               "math.subtract": "ops.Subtract", "math.multiply": "ops.Multiply",
               "math.truediv": "ops.TrueDivide", "math.divide": "ops.Divide",
               "math.maximum": "ops.Maximum", "math.minimum": "ops.Minimum",
               "math.negative": "ops.Negative", "clip_by_value": "ops.Clip",
               "cast": "ops.Cast", "nn.bias_add": "ops.BiasAdd",
               "nn.relu": "ops.Relu", "nn.relu6": "ops.Relu6", "nn.silu": "ops.Silu",
               "nn.softmax": "ops.Softmax", "nn.log_softmax": "ops.LogSoftmax",
               "nn.elu": "ops.Elu", "nn.selu": "ops.Selu", "nn.leaky_relu": "ops.LeakyRelu",
               "nn.softsign": "ops.Softsign", "math.softplus": "ops.Softplus",
               "math.exp": "ops.Exp",
               "nn.gelu": "ops.Gelu", "math.sigmoid": "ops.Sigmoid", "math.tanh": "ops.Tanh"}


class TfKerasLayers(LayerKind):
    """The layers of tf_keras."""

    keras, tree = keras, tf.nest
    elementwise = frozenset(_ELEMENTWISE)
    obeys_false = True
    frozen_as_wholes = True

    def is_graph(self, model: Any) -> bool:
        return is_graph(model)

    def has_own_call(self, model: Any) -> bool:
        return type(model).call not in (keras.Sequential.call, Functional.call)

    def structure(self, model: Any) -> tuple[Any, Any]:
        return model._nested_inputs, model._nested_outputs

    def nodes(self, model: Any) -> list[Node]:
        # Without nodes that only a loss or metric reads (add_loss): no output depends on them.
        waiting = [_node_of(tensor) for tensor in tf.nest.flatten((model.outputs, model.inputs))]
        needed: set[int] = set()
        while waiting:
            node = waiting.pop()
            if id(node) not in needed:
                needed.add(id(node))
                waiting += node.parent_nodes
        depths = sorted(model._nodes_by_depth, reverse=True)
        return [_described(node) for depth in depths for node in model._nodes_by_depth[depth]
                if id(node) in needed]

    def called_in(self, outer: Node, node: Node) -> Node:
        # base(x, training=False) tells all layers within, as long as they are told nothing else.
        training = outer.kwargs.get("training")
        told = node.kwargs.get("training") is not None or training is None
        if told or not getattr(node.layer, "_expects_training_arg", False):
            return node
        return dataclasses.replace(node, kwargs={**node.kwargs, "training": training})

    def config(self, layer: Any) -> dict[str, Any]:
        config = dict(layer.get_config())
        config.pop("batch_input_shape", None)
        return config

    def assign(self, variable: Any, value: Array) -> None:
        variable.assign(value.astype(variable.dtype.as_numpy_dtype))

    def known_as(self, layer: Any) -> str:
        kind, name = type(layer), type(layer).__name__
        if kind is TFOpLambda:
            return _OPERATIONS.get(layer.symbol, "")
        # This package's own layers have its name for their module.
        own = getattr(keras.layers, name, None) is kind or kind.__module__ == "lth_keras"
        return name if own else ""

    def held(self, layer: Any, weight: str) -> Any:
        found = getattr(layer, weight, None)
        return found if isinstance(found, tf.Variable) and found.dtype.is_floating else None

    def array(self, variable: Any) -> Array:
        return np.asarray(variable)

    def tensor(self, values: Array) -> Any:
        return tf.constant(values, tf.float64)

    def infer(self, model: Any, inputs: Any) -> list[Array]:
        kept = [(variable, variable.numpy())
                for variable in variables_among(model.non_trainable_variables)]
        found = [np.asarray(value) for value in tf.nest.flatten(model(inputs, training=False))]
        for variable, value in kept:  # The state of a recurrent layer that keeps one.
            variable.assign(value)
        return found


def _node_of(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.layer._inbound_nodes[history.node_index]


def _described(node: Any) -> Node:
    inputs, layer = list(node.keras_inputs), node.layer
    bare = layer.layer if isinstance(layer, Wrapper) else layer
    return Node(bare, tuple(node.call_args), dict(node.call_kwargs), inputs,
                tf.nest.flatten(node.outputs), node.is_input,
                any(getattr(tensor, "_keras_mask", None) is not None for tensor in inputs))


LAYERS = TfKerasLayers()
