"""What training changes in a model beside its weights: optimizers, and states that layers keep.

A model has one optimizer in the eyes of Keras.  One of the user's own may step with several, as a
GAN does, and hold states that go from batch to batch, as stateful recurrent layers do.  A search
rewinds and keeps them all, or the next round would not be the training that it is taken for.
"""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.keras2.contents import contents, Held, is_optimizer
from lth_keras.keras2.masking.weight_names import named_weights, stored_in, wrappers


def optimizers(model: Any) -> list[Any]:
    """Every optimizer that a model holds, each followed by those that it wraps.

    Args:
      model: a compiled model; its own optimizer comes first, then those that its attributes, lists,
        dicts, nested models and functions lead to.
    """
    found: dict[int, Any] = {}
    for optimizer in (model.optimizer, *(held.value for held in contents(model)
                                         if is_optimizer(held.value))):
        for part in _chain(optimizer):
            found.setdefault(id(part), part)
    return list(found.values())


def build(model: Any) -> None:
    """Makes the variables of every optimizer that has none yet, so that they can be captured."""
    _build(_chain(model.optimizer)[-1], model.trainable_variables)
    for held in [held for held in contents(model) if is_optimizer(held.value)]:
        if getattr(held.value, "inner_optimizer", None) is None and not _is_built(held.value):
            _build(held.value, _stepped_by(held, model))


def variables(model: Any) -> list[tf.Variable]:
    """Returns all that training changes beside weights: counters, learning rates, slots, states.

    Metrics are left out, which begin anew with every epoch, and the states of random generators,
    which go on.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
      >>> model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
      >>> len(variables(model))  # Iterations, learning rate, two momentums.
      4
    """
    # `optimizer.variables` alone is not complete: it depends on the optimizer's generation, and
    # lists neither hyperparameters nor loss scales.
    build(model)
    found: dict[int, tf.Variable] = {}
    for optimizer in optimizers(model):
        own = optimizer.variables
        scale = getattr(optimizer, "_loss_scale", None)
        for variable in (*(own() if callable(own) else own),
                         getattr(optimizer, "_learning_rate", None),
                         getattr(optimizer, "_current_learning_rate", None),
                         # Nadam does not list the product of its momentums.
                         getattr(optimizer, "_u_product", None),
                         *getattr(optimizer, "_hyper", {}).values(),
                         *getattr(scale, "_weights", {}).values()):
            if isinstance(variable, tf.Variable):
                found.setdefault(id(variable), variable)
    for variable in states(model):
        found.setdefault(id(variable), variable)
    return list(found.values())


def states(model: Any) -> list[tf.Variable]:
    """The variables that a model holds and that are no weights, masks, metrics, seeds or slots."""
    known = {id(stored_in(variable)) for variable in named_weights(model).values()}
    known |= {id(stored_in(variable)) for wrapper in wrappers(model)
              for variable in wrapper._non_trainable_weights}
    return [held.value for held in contents(model) if isinstance(held.value, tf.Variable)
            and held.kind not in ("metric", "seed", "optimizer")
            and id(stored_in(held.value)) not in known]


def stepping(model: Any) -> list[Any]:
    """The optimizers that have slots: those that wrap no other."""
    return [optimizer for optimizer in optimizers(model)
            if getattr(optimizer, "inner_optimizer", None) is None]


def iterations(model: Any) -> int:
    """How many steps the optimizers of a model have taken, together."""
    return sum(int(optimizer.iterations.numpy()) for optimizer in stepping(model))


def counters(model: Any) -> list[dict[str, int]]:
    """The whole numbers that optimizers count in Python; a mapping an optimizer."""
    return [{name: value for name, value in vars(optimizer).items()
             if type(value) is int and not name.startswith("_self_")}
            for optimizer in optimizers(model)]


def slots_of(optimizer: Any, weight: tf.Variable) -> dict[str, tf.Variable]:
    """Returns the optimizer's variables for one weight, of the weight's shape: moments, averages.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
      >>> model.compile("adam", "mse")
      >>> model.optimizer.build(model.trainable_variables)
      >>> sorted(slots_of(model.optimizer, model.trainable_variables[0]))
      ['_momentums', '_velocities']
    """
    if hasattr(optimizer, "get_slot_names"):
        return {name: optimizer.get_slot(weight, name) for name in optimizer.get_slot_names()}
    # New optimizers have no public way to ask for slots: they are in lists, one for each kind,
    # with an element for each weight that the optimizer was built for.
    index = getattr(optimizer, "_index_dict", {}).get(optimizer._var_key(weight))
    if index is None:
        return {}
    groups = {name: value[index] for name, value in vars(optimizer).items()
              if isinstance(value, (list, tuple)) and len(value) == len(optimizer._index_dict)}
    return {name: slot for name, slot in groups.items()
            if isinstance(slot, tf.Variable) and slot.shape == weight.shape}


def fresh_slots(optimizer: Any) -> dict[str, float]:
    """Returns the initial value of each kind of slot: mostly 0, but 0.1 for Adagrad's.

    Example:
      >>> fresh_slots(keras.optimizers.Adagrad())
      {'_accumulators': 0.10000000149011612}
    """
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
    except Exception:  # A user's optimizer may not support from_config; 0 is used for its slots.
        return {}
    still = tf.Variable(tf.zeros((1, 1)))
    _build(fresh, [still])
    return {name: float(slot.numpy().item()) for name, slot in slots_of(fresh, still).items()}


def slots_by_weight(optimizer: Any) -> frozenset[str]:
    """Returns the slots that have nothing of a weight which never gets a gradient.

    Most have not.  Adafactor makes up its second moments from means of rows and columns, and so of
    other weights.

    Example:
      >>> sorted(slots_by_weight(keras.optimizers.Adam()))
      ['_momentums', '_velocities']
      >>> sorted(slots_by_weight(keras.optimizers.Adafactor()))
      []
    """
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
        weight = tf.Variable(tf.ones((2, 2)))
        _build(fresh, [weight])
        before = {name: slot.numpy() for name, slot in slots_of(fresh, weight).items()}
        with tf.init_scope():
            fresh.apply_gradients([(tf.constant([[1.0, 0.0], [0.0, 0.0]]), weight)])
    except Exception:  # An optimizer of the user's own, of which nothing is known.
        return frozenset()
    still = np.array([[False, True], [True, True]])
    return frozenset(name for name, slot in slots_of(fresh, weight).items()
                     if np.array_equal(slot.numpy()[still], before[name][still]))


def _stepped_by(held: Held, model: Any) -> list[tf.Variable]:
    """The variables that an optimizer may be asked to step: it needs a slot for each."""
    owner = next((owner for owner in reversed(held.owners) if isinstance(owner, keras.Model)
                  and getattr(owner, "optimizer", None) is held.value), model)
    found = {id(variable): variable for variable in owner.trainable_variables}
    if owner is model:  # Also what Keras does not track, such as a temperature that is trained.
        found.update((id(variable), variable) for variable in states(model) if variable.trainable)
    return list(found.values())


def _chain(optimizer: Any) -> list[Any]:
    # An optimizer, and those that it wraps.
    chain = [optimizer]
    while getattr(chain[-1], "inner_optimizer", None) is not None:
        chain.append(chain[-1].inner_optimizer)
    return chain


def _is_built(optimizer: Any) -> bool:
    return bool(getattr(optimizer, "_built", False) or getattr(optimizer, "_weights", None))


def _build(optimizer: Any, weights: list[tf.Variable]) -> None:
    if hasattr(optimizer, "_create_all_weights"):  # The optimizers of Keras before 2.11.
        optimizer._create_all_weights(weights)
    else:
        optimizer.build(weights)
