"""One call of a tf_keras model without values, for `lth.profile`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.masks import Array, Arrays
from lth_keras.costs import example_shapes
from lth_keras.costs.model_rows import ModelRun
from lth_keras.costs.products import NAMES
from lth_keras.errors import LotteryError
from lth_keras.keras2.inspection.model_calls import of_shape, undisturbed
from lth_keras.keras2.masking.masked_weights import MaskedVariable
from lth_keras.keras2.masking.weight_names import (
    check_keras2,
    is_graph,
    masked,
    named_weights,
    TREE,
    variables_among,
)


class TfKerasRun(ModelRun):
    """A tf_keras model as `costs.model_rows.ModelRun`.

    Args:
      model: a built model, wrapped or not, or one to be built on `input_shape`.
      input_shape: the shape of one example; see `lth.profile`.
    """

    tree = TREE

    def __init__(self, model: Any, input_shape: Any = None):
        check_keras2(model)
        if not isinstance(model, keras.Model):
            raise LotteryError("A model of tf_keras is needed. Received: the layer "
                               f"{model.name!r}. Put it into a model: keras.Sequential(["
                               "keras.layers.Input(shape), layer]).")
        self.model = model
        self._args, self._kwargs = _specs(model, input_shape)
        flat = [spec for spec in tf.nest.flatten((self._args, self._kwargs))
                if isinstance(spec, tf.TensorSpec)]
        self.batch = int(flat[0].shape[0]) if flat and len(flat[0].shape) else 1
        if not model.built:
            self.run(lambda: None, zeros=True)

    def named_weights(self) -> dict[str, Any]:
        return named_weights(self.model)

    def masks(self) -> Arrays:
        return {name: item.mask.numpy() for name, item in masked(self.model).items()}

    def array(self, variable: Any) -> Array:
        return np.asarray(variable)

    def plain(self, operand: Any) -> Any:
        return operand._variable if isinstance(operand, MaskedVariable) else operand

    def operations(self) -> Sequence[Any]:
        return ()  # Functions of TensorFlow in a graph are layers.

    def functions(self) -> list[tuple[Any, str]]:
        # What users and tf_keras itself import; each module has names of its own.
        modules = [module for outer in (tf, tf.compat.v2) for module in (outer, outer.linalg)]
        return [(module, name) for module in modules for name in NAMES] + [
            (tf.Tensor, "__matmul__")]

    def run(self, begin: Callable[[], None], zeros: bool) -> None:
        def made(spec: Any) -> Any:
            if not isinstance(spec, tf.TensorSpec):
                return spec
            return tf.zeros(spec.shape, spec.dtype) if zeros else \
                tf.compat.v1.placeholder(spec.dtype, spec.shape)
        mode = {"training": False} if self.model._expects_training_arg else {}
        with undisturbed(self.model):
            if zeros:
                states = [variable for variable in variables_among(self.model.variables)
                          if not variable.trainable]
                before = [variable.numpy() for variable in states]
                self._call(made, begin, mode)
                for variable, value in zip(states, before, strict=True):
                    variable.assign(value)
            else:
                with tf.__internal__.FuncGraph("profile").as_default():
                    self._call(made, begin, mode)

    def _call(self, made: Any, begin: Callable[[], None], mode: dict[str, bool]) -> None:
        begin()
        self.model(*tf.nest.map_structure(made, self._args),
                    **{**tf.nest.map_structure(made, self._kwargs), **mode})


def _taken(model: Any) -> "tuple[Any, Any] | None":
    # Positional and keyword arguments of its call, with specs in place of tensors.
    if is_graph(model) and model.inputs:
        return (tf.nest.map_structure(lambda tensor: tensor.type_spec, model._nested_inputs),), {}
    called: tuple[Any, Any] | None = model.save_spec()
    if called is None and model._build_input_shape is not None:
        return (of_shape(model._build_input_shape, lambda spec: spec),), {}
    return called


def _specs(model: Any, input_shape: Any) -> tuple[Any, Any]:
    # What the model is called with, as tensor specs for one example.
    known = _taken(model)
    if known is None:
        if input_shape is None:
            raise LotteryError("The costs of a model follow from the shape of an example. "
                               f"Received: {type(model).__name__}, of which it is not known what "
                               "it takes. Give the shape, input_shape=, or call it on a batch.")
        known = (_of_given(input_shape),), {}
    args, kwargs = known
    leaves = tf.nest.flatten((args, kwargs))
    specs = [leaf for leaf in leaves if isinstance(leaf, tf.TypeSpec)]
    odd = [spec for spec in specs if not isinstance(spec, (tf.TensorSpec, tf.SparseTensorSpec))
           or spec.shape.rank is None]
    if odd:
        raise LotteryError("The costs of a model follow from the shape of an example, which is the "
                           f"same for all. Received: a model that takes {odd[0]!s:.200}.")
    names = example_shapes.names_of(args[0] if args else None, getattr(
        model, "input_names", None) or ())
    shapes = iter(example_shapes.of_one_example(
        [tuple(spec.shape) for spec in specs], input_shape, names))
    filled = [tf.TensorSpec(next(shapes), leaf.dtype) if isinstance(leaf, tf.TypeSpec) else leaf
              for leaf in leaves]
    packed: tuple[Any, Any] = tf.nest.pack_sequence_as((args, kwargs), filled)
    return packed


def _of_given(given: Any) -> Any:
    # Specs in the structure of given shapes, for a model that was never called.
    if isinstance(given, dict):
        return {key: _of_given(part) for key, part in given.items()}
    if isinstance(given, (list, tuple)) and not all(isinstance(size, int) for size in given):
        return [_of_given(part) for part in given]
    shape, = example_shapes.flat(given)
    return tf.TensorSpec((None, *shape), keras.backend.floatx())
