"""The models of Keras 3, on any backend, for an export."""

import contextlib
import importlib.metadata
import itertools
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.deployment.models.model_kind import (
    attributes_set,
    ModelKind,
    packed,
    paths,
    Spec,
)
from lth_keras.deployment.models.optimizer_variables import OptimizerState, slots_by_kind
from lth_keras.errors import LotteryError
from lth_keras.keras3 import optimizer_state, weights
from lth_keras.keras3.gradient_masks import mixes_elements
from lth_keras.keras3.graph import functional, Keras3Layers
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.weights import check_keras3

# As for tf_keras (`keras2.precision`): float16 has 11 bits of mantissa, bfloat16 8.
_COARSEST_FIRST = ("bfloat16", "float16", "float64")
_NOT_OWN = ("keras", "torch", "builtins", "abc")
# What a subclassed model was called on: Keras keeps the shapes, but not the types.
_TAKEN: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


class Keras3(Keras3Layers, ModelKind):
    """The models of Keras 3."""

    title, runtime = "Keras 3", "keras3"
    unrolls = True  # Its loops have no kernel in TF Lite.
    @property
    def backend(self) -> str:
        return str(keras.backend.backend())

    def check(self, model: Any) -> None:
        check_keras3(model)

    def versions(self) -> dict[str, str]:
        return {name: importlib.metadata.version(name) for name in ("keras", self.backend)}

    def loading(self, model: Any) -> dict[str, Any]:
        return {"backend": self.backend, "modules": own_modules(model)}

    def masks(self, model: Any) -> Arrays:
        found = ModelMasks.of(model)
        return dict(found.read()) if found else {}

    def is_wrapped(self, model: Any) -> bool:
        return False

    def bare(self, model: Any) -> Any:
        return model

    def named_weights(self, model: Any) -> dict[str, Any]:
        return weights.named_weights(model)

    def optimizer_state(self, model: Any) -> "OptimizerState | None":
        if getattr(model, "optimizer", None) is None:
            return None
        optimizer_state.build(model)
        parts = list(optimizer_state.chain(model.optimizer))
        names = {id(variable): name for name, variable in self.named_weights(model).items()}
        weights_ = {names.get(id(weight)): weight for weight in model.trainable_variables}
        held = ModelMasks.of(model)
        masks = held.variables if held else frozenset()
        slots, mixing = dict[str, dict[str, Any]](), []
        for part in optimizer_state.stepping(model):
            slots |= slots_by_kind(part, weights_, optimizer_state.slots_of)
            if mixes_elements(part) or {*optimizer_state.fresh_slots(part)} \
                    - optimizer_state.slots_by_weight(part):
                mixing.append(part)
        others = [variable for part in parts for variable in part._variables
                  if id(variable) not in masks]
        return OptimizerState.of(parts, slots, others, mixing)

    # What it takes, returns and computes.

    def is_called(self, model: Any) -> bool:
        return functional(model) is not None or model in _TAKEN

    def call(self, model: Any, example: Any) -> None:
        # As fit casts what NumPy makes of Python's numbers.
        given = keras.tree.map_structure(
            lambda part: part.astype(keras.config.floatx()) if part.dtype == np.float64 else part,
            example)
        model(keras.tree.map_structure(keras.ops.convert_to_tensor, given), training=False)
        if functional(model) is None:
            self.remember(model, keras.tree.map_structure(
                lambda part: Spec((None, *part.shape[1:]), str(part.dtype)), given))

    def remember(self, model: Any, taken: Any) -> None:
        """Notes what a subclassed model takes: specs in its structure."""
        _TAKEN[model] = taken

    def ends(self, model: Any) -> "tuple[Any, list[Spec], Any] | None":
        graph = functional(model)
        if graph is not None:
            inputs = [_spec(tensor, tensor._keras_history.operation.name)
                      for tensor in graph.inputs]
            return (_named(graph._inputs_struct, [spec.name for spec in inputs], "input"), inputs,
                    _named(graph._outputs_struct, _unique(graph.output_names), "output"))
        taken = _TAKEN.get(model) or _from_build(model)
        if taken is None:
            return None
        symbolic = keras.tree.map_structure(
            lambda spec: keras.KerasTensor(spec.shape, spec.dtype), taken)
        returned = keras.src.backend.compute_output_spec(
            lambda inputs: model(inputs, training=False), symbolic)
        return (_named(taken, None, "input"), keras.tree.flatten(taken),
                _named(returned, None, "output"))

    def predict(self, model: Any, given: Any, batch: int) -> list[Any]:
        given = keras.tree.map_structure(  # It takes no strings of NumPy.
            lambda part: keras.ops.convert_to_tensor(part) if part.dtype.kind == "U" else part,
            given)
        return [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(
            model.predict(given, batch_size=batch, verbose=0))]

    def loss(self, loss: Any, targets: Array, outputs: Array) -> Array:
        if np.issubdtype(targets.dtype, np.floating):
            targets = targets.astype(np.float32)
        found: Array = keras.ops.convert_to_numpy(loss(
            keras.ops.convert_to_tensor(targets),
            keras.ops.convert_to_tensor(outputs.astype(np.float32))))
        return found

    # In float32.

    def precision(self, model: Any) -> "str | None":
        found = {layer.compute_dtype for layer in self.layers(model)}
        return next((name for name in _COARSEST_FIRST if name in found), None)

    @contextlib.contextmanager
    def in_float32(self, model: Any) -> Iterator[Any]:
        # A layer takes its precision from its policy in each call.
        layers = [layer for layer in self.layers(model) if layer.compute_dtype in _COARSEST_FIRST]
        others = any(layer.variable_dtype != "float32" for layer in layers)
        # `predict` keeps its compiled function, which has the precision of its first call.
        compiled, model.predict_function = getattr(model, "predict_function", None), None
        policies = [layer._dtype_policy for layer in layers]
        try:
            for layer in layers:
                layer._dtype_policy = keras.dtype_policies.DTypePolicy("float32")
            # Mixed precision has float32 weights, which are used as they are.
            yield self._copied(model) if others else model
        finally:
            for layer, policy in zip(layers, policies, strict=True):
                layer._dtype_policy = policy
            model.predict_function = compiled

    def _copied(self, model: Any) -> Any:
        if not self.is_graph(model):
            raise LotteryError("A subclassed model must have float32 weights to be converted. "
                               f"Received: {model.name}, with weights of another precision. Build "
                               "it again in float32, and give it these weights by set_weights.")
        return self.copy(model)

    def copy(self, model: Any) -> Any:
        copy = super().copy(model)
        if copy is not model:
            for theirs, ours in zip(self.layers(model), self.layers(copy), strict=True):
                _adapted(theirs, ours)
        return copy

    # What a file by TensorFlow needs.

    def stored(self, model: Any) -> list[Any]:
        return [variable.value for variable in model.variables]

    def loops(self, model: Any) -> list[Any]:
        return [layer for layer in self.layers(model)
                if isinstance(layer, keras.layers.RNN) and not layer.unroll]

    @contextlib.contextmanager
    def unrolled(self, model: Any) -> Iterator[None]:
        with attributes_set(self.loops(model), {"unroll": True, "use_cudnn": False}):
            yield

    def token_inputs(self, model: Any) -> list[str]:
        graph = functional(model)
        if graph is None:
            return []
        readers: dict[int, list[Any]] = {}
        for node in self.nodes(model):
            for tensor in node.inputs:
                readers.setdefault(id(tensor), []).append(node.layer)
        return [tensor._keras_history.operation.name for tensor in graph.inputs if all(
            isinstance(layer, keras.layers.Embedding)
            for layer in readers.get(id(tensor), [None]))]

    # Its graph, layers and weights.

    def gather(self, tensor: Any, positions: list[int], name: str, like: Any) -> Any:
        # An operation of Keras, so that the file loads without this package.
        return keras.ops.take(tensor, positions, axis=-1)

    def gather_layer(self, positions: list[int], name: str, like: Any) -> Any:
        return None


def _adapted(theirs: Any, ours: Any) -> None:
    # What a layer has learnt by `adapt`, which is not in its config.
    if isinstance(ours, keras.layers.Normalization):
        ours.finalize_state()  # It computes from constants that are made of its weights.
    if hasattr(theirs, "save_assets"):  # A vocabulary is not among the weights either.
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_assets(folder)
            ours.load_assets(folder)


def own_modules(model: Any) -> list[str]:
    """The modules of the classes in a model that are not Keras' own, but for the script itself."""
    found = dict.fromkeys(kind.__module__ for layer in model._flatten_layers()
                          for kind in type(layer).__mro__
                          if kind.__module__.partition(".")[0] not in _NOT_OWN)
    return [name for name in found if name != "__main__"]


def _spec(tensor: Any, name: str) -> Spec:
    # A Sequential model without an Input has that of its first batch: any other number works too.
    return Spec((None, *tensor.shape[1:]), keras.backend.standardize_dtype(tensor.dtype), name)


def _from_build(model: Any) -> Any:
    # What Keras keeps of a subclassed model that was called: shapes. Its type is that of most.
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes or not getattr(model, "_called", False) or len(shapes) > 1:
        return None

    def specs(form: Any) -> Any:
        if isinstance(form, dict):
            return {key: specs(part) for key, part in form.items()}
        if form and isinstance(form, (list, tuple)) and isinstance(form[-1], (list, tuple, dict)):
            return [specs(part) for part in form]
        return Spec((None, *form[1:]), model.input_dtype)
    return specs(next(iter(shapes.values())))


def _named(nested: Any, of_layers: "list[str] | None", kind: str) -> Any:
    # By the names of layers where Keras has them; else by keys, and by places from 1 on.
    form = keras.tree.map_structure(lambda _: 0, nested)
    found = list(paths(form))
    if of_layers is not None and not isinstance(form, dict) and all(
            len(path) < 2 for path, _ in found):
        return packed(form, of_layers)
    return packed(form, [_numbered(path or (0,), kind) for path, _ in found])


def _numbered(path: tuple[Any, ...], kind: str) -> str:
    parts = path if isinstance(path[0], str) else (kind, *path)
    return "_".join(part if isinstance(part, str) else str(part + 1) for part in parts)


def _unique(names: list[str]) -> list[str]:
    # A layer that is called twice may give two outputs.
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{count}" for count in itertools.count(1))
        found.append(next(each for each in (name, *itertools.islice(numbered, len(names)))
                          if each not in found))
    return found


KIND = Keras3()
