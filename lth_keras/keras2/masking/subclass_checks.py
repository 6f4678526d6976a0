"""Refuses subclassed models that use weights which cannot be found, and so cannot be masked.

Only the code of such a model defines what it computes.  Layers that it creates in its call, or
holds where Keras does not look, would be trained without a mask or not at all, and nobody would
notice.  So its call is traced once, and the weights that the call creates and reads are compared
with those that the model holds.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.errors import LotteryError
from lth_keras.keras2.inspection.model_calls import call, trace
from lth_keras.keras2.masking.weight_names import (
    is_graph,
    parts,
    slots,
    TREE,
    variables_among,
)
from lth_keras.search import layer_selection

_BY_HAND = ("Hold its layer in an attribute, list, tuple or dict of the model, or wrap the layer "
            "where it is made: lth.prune_low_magnitude(keras.layers.Dense(10)).")


def check_subclassed(model: Any, pruned: set[int]) -> None:
    """Raises LotteryError if masks could not reach all weights that a model uses.

    Args:
      model: a built model of any kind that is not wrapped yet.
      pruned: the ids of the weights to prune.

    Raises:
      LotteryError: if a subclassed model in it uses kernels that it does not track, reads a weight
        to prune in another way than through its layer, or creates layers in its call.
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
    # A weight that the model reads from its own attribute does not pass through the layer's
    # wrapper, so it would be read without its mask.
    inside = {id(layer): path for path, layer in parts(model)}
    for slot in slots(model, aliases=True):
        if slot.owner is model and id(slot.variable) in pruned:
            raise LotteryError(
                "A subclassed model must read a weight that is pruned through its layer. "
                f"Received: {type(model).__name__}.{slot.attribute}, the weight "
                f"{slot.variable.name!r} itself. Write self.layer.kernel, or the like, in call, "
                f"or leave the layer dense with exclude=. Layers: {sorted(inside.values())}.")


def _check_tracked(model: Any) -> None:
    # Wrapping reaches a weight only if an attribute leads to it and Keras tracks it.
    held = [slot.variable for slot in slots(model)]
    held += [slot.variable for layer, _ in layer_selection.units(model, TREE)
             for slot in slots(layer)]
    reached = {key for weight in held for key in _ids(weight)} \
        & {key for weight in model.weights for key in _ids(weight)}
    made, read = _made_and_read_in_call(model)
    if made:
        raise LotteryError(
            "A subclassed model must make its layers before its call: a layer made there has new "
            f"weights every time, which nothing trains or prunes. Received: {type(model).__name__}"
            f", whose call makes the weights {made}. Make the layer in __init__ or build, hold it "
            "in an attribute, and call it in call.")
    for variable in (*read, *variables_among(model.trainable_weights)):
        kernel = variable.trainable and variable.shape.rank and variable.shape.rank > 1
        if kernel and not set(_ids(variable)) <= reached:
            raise LotteryError(
                "A subclassed model must hold the layers that it uses. Received: "
                f"{type(model).__name__}, which uses the weight {variable.name!r} of a layer that "
                f"no attribute leads to. {_BY_HAND}")


def _made_and_read_in_call(model: Any) -> tuple[list[str], list[tf.Variable]]:
    # The names of trainable weights that a call creates, and all variables that it reads. The model
    # has been called before, so a layer that is created once exists already.
    made: list[str] = []

    def note(make: Any, **kwargs: Any) -> Any:
        variable = make(**kwargs)
        if getattr(variable, "trainable", False):
            made.append(variable.name)
        return variable
    with tf.variable_creator_scope(note), tf.__internal__.FuncGraph("call").as_default(), \
            tf.GradientTape() as tape, contextlib.suppress(Exception):
        trace(model)  # If it cannot be traced, only its tracked weights are checked.
    return made, list(tape.watched_variables())


def outputs(model: Any) -> list[Any] | None:
    """Returns the outputs of a subclassed model for a random batch; None if it cannot be called.

    The batch has the shapes that the model was built for, and comes from a separate random
    generator.  Variables that the call changes, such as states of recurrent layers, are restored.
    """
    changed = [*variables_among(model.non_trainable_variables), *(
        state for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)
        for state in tf.nest.flatten(layer.states) if isinstance(state, tf.Variable))]
    before = [variable.numpy() for variable in changed]
    try:
        found = call(model, _example)
    except Exception:  # The call may need inputs that only the user can make.
        return None
    finally:
        for variable, value in zip(changed, before, strict=True):
            variable.assign(value)
    return [value.numpy() for value in tf.nest.flatten(found, expand_composites=True)
            if tf.is_tensor(value)]


def check_outputs(model: Any, before: list[Any] | None) -> None:
    """Raises LotteryError if a wrapped model computes other outputs than before it was wrapped.

    Args:
      model: the wrapped model.
      before: what `outputs` returned before; None makes no check.

    Raises:
      LotteryError: if they differ; the message names the probable cause in the model's code.
    """
    if before is None:
        return
    now = outputs(model)
    if now is not None and len(now) == len(before) and all(
            np.allclose(one, other, 1e-4, 1e-5, equal_nan=True) if one.dtype.kind in "fc"
            else np.array_equal(one, other) for one, other in zip(now, before, strict=True)):
        return
    received = "other outputs of the same batch" if now is not None else "a call that fails"
    raise LotteryError(
        "A wrapped model must compute what it did before. Received: "
        f"{type(model).__name__} with {received} once its layers are wrapped; it is left as it "
        "was. Its code asks what its layers are, such as type(layer) is Dense; ask "
        "isinstance(layer, Dense) in call, or leave these layers dense with exclude=.")


def _example(spec: tf.TensorSpec) -> tf.Tensor:
    shape = [2 if size is None else size for size in spec.shape]
    if not spec.dtype.is_floating:
        return tf.zeros(shape, spec.dtype)
    return tf.constant(np.random.default_rng(0).normal(size=shape), spec.dtype)


def _ids(variable: Any) -> list[int]:
    # Under mixed precision a weight is wrapped in a variable that casts it; on several devices it
    # has a copy on each.
    stored = getattr(variable, "_variable", variable) if hasattr(variable, "true_dtype") \
        else variable
    return [id(part) for part in (stored, *getattr(stored, "values", ()))]
