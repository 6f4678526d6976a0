"""One call of a Keras 3 model without values, for `lth.profile`."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.costs import example_shapes
from lth_keras.costs.layer_costs import OPERATIONS
from lth_keras.costs.model_rows import ModelRun
from lth_keras.costs.products import ATTENTION, NAMES
from lth_keras.errors import LotteryError
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.weights import check_keras3, is_graph, named_weights, TREE

# Backend -> the class of what it traces, which has the operators.
_TENSORS = {"tensorflow": ("tensorflow", "Tensor"), "jax": ("jax.core", "Tracer"),
            "torch": ("torch", "Tensor")}


class Keras3Run(ModelRun):
    """A Keras 3 model, on any backend, as `costs.model_rows.ModelRun`.

    Args:
      model: a built model, or one to be built on `input_shape`.
      input_shape: the shape of one example; see `lth.profile`.
    """

    tree = TREE

    def __init__(self, model: Any, input_shape: Any = None):
        check_keras3(model)
        self.model = model
        taken = _taken(model)
        if taken is None and input_shape is None:
            raise LotteryError("The costs of a model follow from the shape of an example. "
                               f"Received: {type(model).__name__}, of which it is not known what "
                               "it takes. Give the shape, input_shape=, or call it on a batch.")
        called = taken or ((_of_given(input_shape, model),), {})
        leaves = keras.tree.flatten(called)
        names = example_shapes.names_of(called[0][0], [
            leaf.name for leaf in leaves] if is_graph(model) else ())
        shapes = iter(example_shapes.of_one_example(
            [tuple(leaf.shape) for leaf in leaves], input_shape, names))
        filled = [keras.KerasTensor(next(shapes), leaf.dtype) for leaf in leaves]
        self.batch = int(filled[0].shape[0]) if filled and filled[0].shape else 1
        self._args, self._kwargs = keras.tree.pack_sequence_as(called, filled)
        if not model.built:
            self.run(lambda: None, zeros=True)
        # What stands for a variable in the backend; code may multiply with that too.
        self._values = {id(weight._value): weight for weight in model.weights}

    def named_weights(self) -> dict[str, Any]:
        return named_weights(self.model)

    def masks(self) -> Arrays:
        found = ModelMasks.of(self.model)
        return found.read() if found else {}

    def array(self, variable: Any) -> Array:
        found: Array = keras.ops.convert_to_numpy(variable.value)
        return found

    def plain(self, operand: Any) -> Any:
        return self._values.get(id(operand), operand)

    def operations(self) -> Sequence[Any]:
        return [operation for model in self.model._flatten_layers() if is_graph(model)
                for operation in _graph(model).operations
                if type(operation).__name__ in OPERATIONS
                and not isinstance(operation, keras.layers.Layer)]

    def functions(self) -> list[tuple[Any, str]]:
        # What keras.ops calls, on every backend, and `@`.
        module, name = _TENSORS[keras.backend.backend()]
        return [*((keras.src.backend.numpy, name) for name in NAMES),
                (keras.src.backend.nn, ATTENTION),
                (getattr(importlib.import_module(module), name), "__matmul__")]

    def run(self, begin: Callable[[], None], zeros: bool) -> None:
        def call(args: Any, kwargs: Any) -> Any:
            begin()  # A backend may trace more than once.
            return self.model(*args, **kwargs, training=False)
        if not zeros:
            keras.src.backend.compute_output_spec(call, self._args, self._kwargs)
            return
        states = self.model.non_trainable_variables
        before = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in states]
        call(*keras.tree.map_structure(lambda spec: keras.ops.zeros(spec.shape, spec.dtype),
                                       (self._args, self._kwargs)))
        for variable, value in zip(states, before, strict=False):
            variable.assign(value)


def _graph(model: Any) -> Any:
    return model._functional if isinstance(model, keras.Sequential) else model


def _taken(model: Any) -> "tuple[Any, Any] | None":
    # Positional and keyword arguments of its call, with symbolic tensors.
    if is_graph(model):
        if _graph(model) is not None:
            return (_graph(model)._inputs_struct,), {}
        return None
    shapes = getattr(model, "_build_shapes_dict", None)
    if not model.built or not shapes:
        return None
    first, *rest = ((name, _of_shapes(form, model)) for name, form in shapes.items()
                    if form is not None)
    return (first[1],), {name.removesuffix("_shape"): taken for name, taken in rest}


def _of_shapes(form: Any, model: Any) -> Any:
    # A shape that Keras keeps has the batch that the model was first called on: any other works.
    if isinstance(form, dict):
        return {key: _of_shapes(part, model) for key, part in form.items()}
    if form and isinstance(form, (list, tuple)) and isinstance(form[-1], (list, tuple, dict)):
        return [_of_shapes(part, model) for part in form]
    return keras.KerasTensor((None, *form[1:]), model.input_dtype)


def _of_given(given: Any, model: Any) -> Any:
    # Tensors in the structure of given shapes, for a model that was never called.
    if isinstance(given, dict):
        return {key: _of_given(part, model) for key, part in given.items()}
    if isinstance(given, (list, tuple)) and not all(isinstance(size, int) for size in given):
        return [_of_given(part, model) for part in given]
    shape, = example_shapes.flat(given)
    return keras.KerasTensor((None, *shape), model.input_dtype)
