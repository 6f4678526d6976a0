"""The layers and graphs of Keras 3, on any backend, for `graph`."""

import contextlib
import importlib
from typing import Any

import keras
import numpy as np

from lth_keras.core.masks import Array
from lth_keras.graph.layer_kind import LayerKind, Node
from lth_keras.keras3.weights import is_graph

_NAMES = ("linear", "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "softplus", "softsign",
          "elu", "celu", "selu", "gelu", "silu", "mish", "exponential", "hard_sigmoid", "hard_silu",
          "hard_tanh", "squareplus", "log_sigmoid", "soft_shrink", "hard_shrink", "tanh_shrink",
          "sparse_plus", "sparse_sigmoid")


class Keras3Layers(LayerKind):
    """The layers of Keras 3."""

    keras, tree = keras, keras.tree
    elementwise = frozenset(getattr(module, name) for module in (keras.activations, keras.ops)
                            for name in _NAMES if hasattr(module, name))
    obeys_false = False
    frozen_as_wholes = False

    def is_graph(self, model: Any) -> bool:
        return functional(model) is not None

    def has_own_call(self, model: Any) -> bool:
        return type(model).call not in (keras.Sequential.call,
                                        keras.src.models.functional.Functional.call)

    def structure(self, model: Any) -> tuple[Any, Any]:
        graph = functional(model)
        return graph._inputs_struct, graph._outputs_struct

    def nodes(self, model: Any) -> list[Node]:
        by_depth = functional(model)._nodes_by_depth
        return [_described(node) for depth in sorted(by_depth, reverse=True)
                for node in by_depth[depth]]

    def config(self, layer: Any) -> dict[str, Any]:
        return dict(layer.get_config())

    def assign(self, variable: Any, value: Array) -> None:
        variable.assign(value.astype(np.dtype(variable.dtype)))

    def known_as(self, layer: Any) -> str:
        kind, name = type(layer), type(layer).__name__
        if getattr(keras.layers, name, None) is kind:
            return name
        ops = keras.src.ops
        own = any(getattr(module, name, None) is kind for module in (ops.numpy, ops.nn, ops.core))
        return f"ops.{name}" if own else ""

    def held(self, layer: Any, weight: str) -> Any:
        # What tf_keras calls the depthwise_kernel of a DepthwiseConv2D is its kernel here.
        if isinstance(layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)):
            weight = {"depthwise_kernel": "kernel", "kernel": ""}.get(weight, weight)
        found = getattr(layer, weight, None)
        floating = isinstance(found, keras.Variable) and "float" in str(found.dtype)
        return found if floating else None

    def array(self, variable: Any) -> Array:
        found: Array = np.array(keras.ops.convert_to_numpy(variable))  # Of torch it is a view.
        return found

    def tensor(self, values: Array) -> Any:
        # Without 64 bits JAX warns about each array that has them.
        width = "float32" if keras.backend.backend() == "jax" else "float64"
        return keras.ops.convert_to_tensor(np.asarray(values, width))

    def infer(self, model: Any, inputs: Any) -> list[Array]:
        torch = keras.backend.backend() == "torch"
        records_none = importlib.import_module("torch").no_grad() if torch \
            else contextlib.nullcontext()
        # What a call assigns stays in the scope: statistics, states and seeds.
        with records_none, keras.StatelessScope():
            return [self.array(value)
                    for value in keras.tree.flatten(model(inputs, training=False))]


def functional(model: Any) -> Any:
    """The graph of a Sequential or functional model; None if there is none, or not yet."""
    if isinstance(model, keras.Sequential):
        return model._functional
    return model if is_graph(model) else None


def _described(node: Any) -> Node:
    arguments = node.arguments
    inputs = list(arguments.keras_tensors)
    return Node(node.operation, tuple(arguments.args), dict(arguments.kwargs), inputs,
                list(node.outputs), node.is_input,
                any(getattr(tensor, "_keras_mask", None) is not None for tensor in inputs))


LAYERS = Keras3Layers()
