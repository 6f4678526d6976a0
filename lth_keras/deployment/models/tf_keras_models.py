"""The models of tf_keras, with or without pruning wrappers, for an export."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras.src.engine import compile_utils

from lth_keras.core.masks import Array, Arrays
from lth_keras.deployment.models.gather_layer import GatherFeatures
from lth_keras.deployment.models.model_kind import (
    attributes_set,
    ModelKind,
    packed,
    Spec,
)
from lth_keras.deployment.models.optimizer_variables import OptimizerState, slots_by_kind
from lth_keras.keras2 import optimizer_state, precision
from lth_keras.keras2.graph import TfKerasLayers
from lth_keras.keras2.masking import weight_names
from lth_keras.keras2.masking.weight_names import (
    check_keras2,
    is_graph,
    masked,
    stored_in,
    variables_among,
    wrappers,
)
from lth_keras.keras2.masking.wrap import strip_pruning


class TfKeras(TfKerasLayers, ModelKind):
    """The models of tf_keras."""

    title, runtime, backend = "tf_keras", "keras", "tensorflow"
    unrolls = False  # TF Lite has fused kernels for them.

    def check(self, model: Any) -> None:
        check_keras2(model)

    def masks(self, model: Any) -> Arrays:
        return {name: item.mask.numpy() for name, item in masked(model).items()}

    def is_wrapped(self, model: Any) -> bool:
        return any(wrappers(model))

    def bare(self, model: Any) -> Any:
        return strip_pruning(model)

    def named_weights(self, model: Any) -> dict[str, Any]:
        return weight_names.named_weights(model)

    def optimizer_state(self, model: Any) -> "OptimizerState | None":
        if getattr(model, "optimizer", None) is None:
            return None
        optimizer_state.build(model)
        parts = optimizer_state.chain(model.optimizer)
        stepping = parts[-1]
        # Under mixed precision a weight is seen through a cast.
        names = {id(stored_in(variable)): name
                 for name, variable in self.named_weights(model).items()}
        slots = slots_by_kind(stepping, {names.get(id(stored_in(weight))): weight
                                         for weight in model.trainable_variables},
                              optimizer_state.slots_of)
        others = [variable for part in parts for variable in optimizer_state.variables_of(part)]
        mixes = {*optimizer_state.fresh_slots(stepping)} - optimizer_state.slots_by_weight(stepping)
        return OptimizerState.of(parts, slots, others, [stepping] if mixes else [])

    # What it takes, returns and computes.

    def is_called(self, model: Any) -> bool:
        return bool(is_graph(model) and model.inputs) or model.save_spec() is not None

    def call(self, model: Any, example: Any) -> None:
        model(tf.nest.map_structure(_cast, example), training=False)

    def ends(self, model: Any) -> "tuple[Any, list[Spec], Any] | None":
        if is_graph(model) and model.inputs:
            takes = _named(model._nested_inputs, model.input_names,
                           compile_utils.create_pseudo_input_names)
            specs = [_spec(tensor, tensor.name.split(":")[0]) for tensor in model.inputs]
            return takes, specs, _named(model._nested_outputs, model.output_names,
                                        compile_utils.create_pseudo_output_names)
        given = model.save_spec()
        if given is None:
            return None
        (nested, *_), _ = given
        takes = _named(nested, None, compile_utils.create_pseudo_input_names)
        # autograph=False, since autograph leaves generated files in the temporary folder.
        function = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
        returned = function.get_concrete_function(nested).structured_outputs
        return takes, [_spec(each, each.name) for each in tf.nest.flatten(nested)], _named(
            returned, None, compile_utils.create_pseudo_output_names)

    def predict(self, model: Any, given: Any, batch: int) -> list[Any]:
        return list(tf.nest.flatten(model.predict(given, batch_size=batch, verbose=0)))

    def loss(self, loss: Any, targets: Array, outputs: Array) -> Array:
        # As fit gives them to a loss: numbers of the outputs' own type.
        wanted = tf.constant(targets)
        if wanted.dtype.is_floating:
            wanted = tf.cast(wanted, tf.float32)
        return np.asarray(loss(wanted, tf.constant(outputs, tf.float32)))

    # In float32.

    def precision(self, model: Any) -> "str | None":
        return precision.other(model)

    def in_float32(self, model: Any) -> contextlib.AbstractContextManager[Any]:
        return precision.in_float32(model)

    # What a file by TensorFlow needs.

    def stored(self, model: Any) -> list[Any]:
        return [stored_in(variable) for variable in variables_among(model.variables)]

    def loops(self, model: Any) -> list[Any]:
        return [layer for layer in self.layers(model)
                if isinstance(layer, keras.layers.RNN) and not layer.unroll]

    @contextlib.contextmanager
    def unrolled(self, model: Any) -> Iterator[None]:
        # Keras' fused kernels are loops too.
        changed = {"unroll": True, "_could_use_gpu_kernel": False}
        with attributes_set(self.loops(model), changed):
            yield

    def token_inputs(self, model: Any) -> list[str]:
        if not is_graph(model):
            return []
        users: dict[int, list[Any]] = {}
        for layer in model.layers:
            for node in layer.inbound_nodes:
                for tensor in () if node.is_input else tf.nest.flatten(node.keras_inputs):
                    users.setdefault(id(tensor), []).append(layer)
        return [tensor.name for tensor in model.inputs if all(
            isinstance(layer, keras.layers.Embedding) for layer in users.get(id(tensor), [None]))]

    # Its graph, layers and weights.

    def gather(self, tensor: Any, positions: list[int], name: str, like: Any) -> Any:
        return self.gather_layer(positions, name, like)(tensor)

    def gather_layer(self, positions: list[int], name: str, like: Any) -> Any:
        return GatherFeatures(positions, name=name, dtype=like._dtype_policy)


def _named(nested: Any, of_layers: "list[str] | None", numbered: Any) -> Any:
    # Keras goes by the names of layers, but in a dict and in a deeper structure.
    flat = not tf.nest.is_nested(nested) or (
        isinstance(nested, (list, tuple)) and not any(map(tf.nest.is_nested, nested)))
    names = of_layers if of_layers is not None and flat else numbered(nested)
    return packed(tf.nest.map_structure(lambda _: None, nested), names)


def _spec(tensor: Any, name: str) -> Spec:
    return Spec(tuple(tensor.shape), tensor.dtype.name, name)


def _cast(example: Array) -> Any:
    # As fit casts what NumPy makes of Python's numbers.
    return tf.constant(example.astype(keras.backend.floatx())
                       if example.dtype == np.float64 else example)


KIND = TfKeras()
