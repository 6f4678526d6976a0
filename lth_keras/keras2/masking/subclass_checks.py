"""Refuses subclassed models that use weights which cannot be found, and so not be masked.

Only its code says what such a model computes.  Layers that it makes in its call, or keeps where
Keras does not look, would be trained densely, or not at all, without any message.  So its call is
traced once, and the weights that it makes and reads are compared with those that it holds.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.errors import LotteryError
from lth_keras.keras2.masking import layer_selection
from lth_keras.keras2.masking.weight_names import is_graph, parts, slots

_BY_HAND = ("Hold its layer in an attribute, list, tuple or dict of the model, or wrap the layer "
            "where it is made: lth.prune_low_magnitude(keras.layers.Dense(10)).")


def check_subclassed(model: Any, pruned: set[int]) -> None:
    """Raises LotteryError if a model could not be pruned, or only in part.

    Args:
      model: a built model of any kind, not wrapped yet.
      pruned: ids of the weights to prune.

    Raises:
      LotteryError: if a subclassed model within it uses kernels that it does not track, reads
        a weight that is to be pruned other than through a layer, or makes layers in its call.
    """
    for part in _subclassed(model):
        _check_own_weights(part, pruned)
    if not is_graph(model) and isinstance(model, keras.Model):
        _check_tracked(model)


def _subclassed(model: Any) -> Iterator[Any]:
    if isinstance(model, keras.Model) and not is_graph(model):
        yield model
        for _, layer in parts(model):
            yield from _subclassed(layer)


def _check_own_weights(model: Any, pruned: set[int]) -> None:
    # What the model reads from itself passes by the wrapper, and so comes without its mask.
    inside = {id(layer): path for path, layer in parts(model)}
    for slot in slots(model, aliases=True):
        if slot.owner is model and id(slot.variable) in pruned:
            raise LotteryError(
                "A subclassed model must read a weight that is pruned through its layer. "
                f"Received: {type(model).__name__}.{slot.attribute}, the weight "
                f"{slot.variable.name!r} itself. Write self.layer.kernel, or the like, in call, "
                f"or leave the layer dense with exclude=. Layers: {sorted(inside.values())}.")


def _check_tracked(model: Any) -> None:
    # Wrapping reaches a weight if an attribute leads to it and Keras tracks it.
    held = [slot.variable for slot in slots(model)]
    held += [slot.variable for layer, _ in layer_selection.units(model) for slot in slots(layer)]
    reached = {key for weight in held for key in _ids(weight)} \
        & {key for weight in model.weights for key in _ids(weight)}
    made, read = _made_and_read_in_call(model)
    if made:
        raise LotteryError(
            "A subclassed model must make its layers before its call: a layer made there has new "
            f"weights every time, which nothing trains or prunes. Received: {type(model).__name__}"
            f", whose call makes the weights {made}. Make the layer in __init__ or build, hold it "
            "in an attribute, and call it in call.")
    for variable in (*read, *model.trainable_weights):
        kernel = variable.trainable and variable.shape.rank and variable.shape.rank > 1
        if kernel and not set(_ids(variable)) <= reached:
            raise LotteryError(
                "A subclassed model must hold the layers that it uses. Received: "
                f"{type(model).__name__}, which uses the weight {variable.name!r} of a layer that "
                f"no attribute leads to. {_BY_HAND}")


def _made_and_read_in_call(model: Any) -> tuple[list[str], list[tf.Variable]]:
    # The names of the weights that a call makes, for the model has been called before.
    made: list[str] = []

    def note(make: Any, **kwargs: Any) -> Any:
        variable = make(**kwargs)
        if getattr(variable, "trainable", False):
            made.append(variable.name)
        return variable
    with tf.variable_creator_scope(note), tf.__internal__.FuncGraph("call").as_default(), \
            tf.GradientTape() as tape, contextlib.suppress(Exception):
        _trace_call(model)  # Where it cannot be traced, what it tracks is all that is known.
    return made, list(tape.watched_variables())


def _trace_call(model: Any) -> None:
    training = {"training": False} if model._expects_training_arg else {}
    if model._saved_model_inputs_spec is not None:
        args, kwargs = tf.nest.map_structure(_placeholder, model._saved_model_arg_spec)
        model(*args, **{**kwargs, **training})
    elif model._build_input_shape is not None:  # Built by its shape alone, as Keras does that.
        model.call(_of_shape(model._build_input_shape), **training)


def _placeholder(spec: Any) -> Any:
    return None if spec is None else tf.compat.v1.placeholder(spec.dtype, spec.shape)


def _of_shape(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _of_shape(part) for key, part in shape.items()}
    if isinstance(shape, list) and not all(size is None or isinstance(size, int) for size in shape):
        return [_of_shape(part) for part in shape]
    return tf.compat.v1.placeholder(keras.backend.floatx(), shape)


def _ids(variable: Any) -> list[int]:
    # Under mixed precision a weight is seen through a cast, on several devices in its copies.
    stored = getattr(variable, "_variable", variable) if hasattr(variable, "true_dtype") \
        else variable
    return [id(part) for part in (stored, *getattr(stored, "values", ()))]
