"""The inputs and outputs of a model by name.

TensorFlow Lite and SavedModel order the inputs and outputs of a file as they like.  So a file of
several is written with the names that are given here, and is fed and read by them.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tf_keras.src.engine import compile_utils

from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import is_graph


@dataclasses.dataclass(frozen=True, eq=False)
class Signature:
    """The inputs and outputs of a model, by the names that Keras gives them.

    Attributes:
      inputs: name -> `tf.TensorSpec`, in the order of `tf.nest.flatten`.
      takes: what the model is called on, with names in place of tensors: a name, or names in lists
        and dicts.
      returns: what the model returns, in the same way.
    """

    inputs: dict[str, Any]
    takes: Any
    returns: Any

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in the order of `tf.nest.flatten`."""
        return tuple(tf.nest.flatten(self.returns))

    @property
    def single(self) -> bool:
        """Whether there is one input and one output, so that no names are needed."""
        return len(self.inputs) == 1 and len(self.outputs) == 1

    def pack(self, tensors: dict[str, Any]) -> Any:
        """Returns tensors by name in the structure that the model is called on."""
        return tf.nest.map_structure(tensors.__getitem__, self.takes)

    def by_name(self, outputs: Any) -> dict[str, Any]:
        """Returns what the model has returned by the names of its outputs."""
        return dict(zip(self.outputs, tf.nest.flatten(outputs), strict=True))


def of(model: Any) -> Signature:
    """Returns the signature of a model.

    For a dict of inputs or outputs, names are its keys.  A functional model names the others by
    its layers, any other model numbers them: input_1, output_1, output_2.

    Raises:
      LotteryError: if the model is subclassed and was never called, since only a call shows what
        it takes and returns.

    Example:
      >>> import tf_keras as keras
      >>> x = keras.Input((2,), name="x")
      >>> heads = {"sum": keras.layers.Dense(1)(x), "parts": keras.layers.Dense(3)(x)}
      >>> of(keras.Model(x, heads)).outputs
      ('parts', 'sum')
    """
    if is_graph(model) and model.inputs:
        nested = model._nested_inputs
        takes = _named(nested, model.input_names, compile_utils.create_pseudo_input_names)
        specs = {name: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name.split(":")[0])
                 for name, tensor in zip(tf.nest.flatten(takes), model.inputs, strict=True)}
        return Signature(specs, takes, _named(model._nested_outputs, model.output_names,
                                              compile_utils.create_pseudo_output_names))
    given = model.save_spec()
    if given is None:
        raise LotteryError("A subclassed model must be called once before it is converted, so "
                           "that the shapes of its inputs are known. Received: "
                           f"{type(model).__name__}, which was never called.")
    (nested, *_), _ = given
    takes = _named(nested, None, compile_utils.create_pseudo_input_names)
    specs = dict(zip(tf.nest.flatten(takes), tf.nest.flatten(nested), strict=True))
    returned = _function(functools.partial(model.__call__, training=False)) \
        .get_concrete_function(nested).structured_outputs
    return Signature(specs, takes, _named(returned, None, compile_utils.create_pseudo_output_names))


def _named(nested: Any, of_layers: "list[str] | None",
           numbered: Callable[[Any], list[str]]) -> Any:
    # Keras goes by the names of layers, but in a dict and in a deeper structure.
    flat = not tf.nest.is_nested(nested) or (
        isinstance(nested, (list, tuple)) and not any(map(tf.nest.is_nested, nested)))
    names = of_layers if of_layers is not None and flat else numbered(nested)
    return _listed(tf.nest.pack_sequence_as(nested, names))


def _listed(form: Any) -> Any:
    # Tuples become lists, as they do in a JSON file.
    if isinstance(form, dict):
        return {key: _listed(part) for key, part in form.items()}
    return [_listed(part) for part in form] if isinstance(form, (list, tuple)) else form


def inference(model: Any, signature: Signature) -> tuple[Any, list[Any]]:
    """Returns a function that computes a model's outputs, and the specs of its arguments.

    If there are several inputs or outputs, the function takes and returns dicts by name, so that a
    file made of it has these names.

    Args:
      model: the model.
      signature: its signature.
    """
    if signature.single:
        return _function(functools.partial(model.__call__, training=False)), \
            [signature.pack(signature.inputs)]

    def call(inputs: dict[str, Any]) -> dict[str, Any]:
        return signature.by_name(model(signature.pack(inputs), training=False))
    return _function(call), [{name: tf.TensorSpec(spec.shape, spec.dtype, name)
                              for name, spec in signature.inputs.items()}]


def _function(call: Callable[..., Any]) -> Any:
    # autograph=False, since autograph leaves generated files in the system's temporary folder.
    return tf.function(call, autograph=False)
