"""What the call of a model touches, and so what the model holds for its training alone.

Only its code says what a subclassed model computes.  A call on inputs like those that it was built
with, traced and not run, shows the variables that it reads and writes.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras


def call(model: Any, make: Callable[[tf.TensorSpec], Any], training: bool = False) -> Any:
    """Calls a model on inputs of the kind that it was built with.

    Args:
      model: a model that is built.
      make: makes an input, or another argument of the call, from its shape and type.
      training: given to the call, if it takes it.

    Returns:
      What the call returns; None if nobody knows what inputs the model takes.
    """
    def of_spec(spec: Any) -> Any:
        return None if spec is None else make(spec)
    mode = {"training": training} if model._expects_training_arg else {}
    if model._saved_model_inputs_spec is not None:
        args, kwargs = tf.nest.map_structure(of_spec, model._saved_model_arg_spec)
        return model(*args, **{**kwargs, **mode})
    if model._build_input_shape is not None:  # Built by build(), which calls it like this too.
        return model.call(of_shape(model._build_input_shape, make), **mode)
    return None


def trace(model: Any, training: bool = False) -> Any:
    """Calls a model on placeholders, in the graph that is the default; see `call`."""
    return call(model, lambda spec: tf.compat.v1.placeholder(spec.dtype, spec.shape), training)


def touched(model: Any) -> frozenset[int] | None:
    """The ids of the resources that a model's call reads or writes, in training and inference.

    Args:
      model: a model; what its layers note of a call in Python is put back.

    Returns:
      The ids of the handles of variables; None if the call cannot be traced.
    """
    found: set[int] = set()
    for training in (False, True):
        graph = tf.__internal__.FuncGraph("call")
        try:
            with undisturbed(model), graph.as_default():
                if trace(model, training) is None:
                    return None
        except Exception:  # The call may need inputs that only the user can make.
            return None
        found |= {id(outside) for outside, _ in graph.captures}
    return frozenset(found)


def held_for_training(model: Any) -> frozenset[int]:
    """The ids of variables that Keras takes for weights of a model and that are not its network's.

    What a layer holds is the network's, and so is what is trained.  A metric's counts are not; nor
    is what a model holds beside its layers, does not train, and does not touch in its call: the
    gradients that its train_step accumulates, or its count of steps.

    Example:
      >>> inputs = keras.layers.Input((2,))
      >>> model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
      >>> model.gradients = [tf.Variable(tf.zeros_like(weight), trainable=False)
      ...                    for weight in model.trainable_weights]
      >>> len(model.weights), len(held_for_training(model))
      (4, 2)
    """
    layers = list(model._flatten_layers())
    found = {id(count) for layer in layers for metric in layer._metrics
             for count in metric.weights}
    models = [layer for layer in layers if isinstance(layer, keras.Model)]
    own = {id(variable): variable for part in models for variable in part._non_trainable_weights}
    if own:
        ids = frozenset(own)
        known = _held.get(model, (frozenset(), frozenset()))
        if known[0] != ids:
            known = ids, _untouched(models, own)
            if model.built:  # Traced once, since it takes long.
                _held[model] = known
        found |= known[1]
    return frozenset(found)


# Which variables a model holds beside its layers, and those of them that its call does not touch.
_held: "weakref.WeakKeyDictionary[Any, tuple[frozenset[int], frozenset[int]]]" = \
    weakref.WeakKeyDictionary()


def _untouched(models: Iterable[Any], own: Mapping[int, Any]) -> frozenset[int]:
    # A part's variable may be read in the call of the whole, and a part be called by itself.
    touches: set[int] = set()
    for part in models:
        if type(part).call.__module__.startswith("tf_keras"):
            continue  # It has no call, or one that runs the layers of a graph and nothing else.
        handles = touched(part)
        if handles is None:  # Nobody knows what it touches, so that all may be the network's.
            return frozenset()
        touches |= handles
    return frozenset(key for key, variable in own.items() if not any(
        id(each.handle) in touches for each in getattr(variable, "values", (variable,))))


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Puts back what a call notes in Python: the seeds drawn, and which weights it has trained."""
    noted = [thing for layer in model._flatten_layers() for thing in (
        vars(layer).get("_random_generator"), *vars(layer).get("_constraints", {}).values())
             if thing is not None]
    before = [dict(vars(thing)) for thing in noted]
    try:
        yield
    finally:
        for thing, values in zip(noted, before, strict=True):
            vars(thing).update(values)


def of_shape(shape: Any, make: Callable[[tf.TensorSpec], Any]) -> Any:
    """Inputs of the shapes that a model was built with, in the structure that they have."""
    if isinstance(shape, dict):
        return {key: of_shape(part, make) for key, part in shape.items()}
    if isinstance(shape, list) and not all(size is None or isinstance(size, int) for size in shape):
        return [of_shape(part, make) for part in shape]
    return make(tf.TensorSpec(shape, keras.backend.floatx()))
