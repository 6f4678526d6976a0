"""The state that training changes besides weights: optimizers, and states of layers.

Keras knows one optimizer of a model.  A user's model may train with several, like a GAN, and hold
states that are passed from batch to batch, like stateful recurrent layers.  A search rewinds and
saves all of them; otherwise the next round would continue with the state of the last one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.keras2.contents import contents, is_optimizer
from lth_keras.keras2.masking.weight_names import named_weights, stored_in, wrappers
from lth_keras.search.contents import Held
from lth_keras.search.network import moved_by_gradients, Snapshot, untrained


def optimizers(model: Any) -> list[Any]:
    """Returns every optimizer that a model holds, each followed by those that it wraps.

    Args:
      model: a compiled model.

    Returns:
      The optimizer that it was compiled with, then those that its attributes, lists, dicts, nested
      models and functions lead to.

    Example:
      >>> model = keras.Sequential([keras.layers.Dense(1)])
      >>> model.compile("sgd")
      >>> model.second = keras.optimizers.Adam()
      >>> [type(optimizer).__name__ for optimizer in optimizers(model)]
      ['SGD', 'Adam']
    """
    found: dict[int, Any] = {}
    for optimizer in (model.optimizer, *(held.value for held in contents(model)
                                         if is_optimizer(held.value))):
        for part in chain(optimizer):
            found.setdefault(id(part), part)
    return list(found.values())


def build(model: Any) -> None:
    """Creates the variables of every optimizer that has none yet, so that they can be captured.

    Otherwise the first step would create them, after theta_0 was captured without them.
    """
    _build(chain(model.optimizer)[-1], model.trainable_variables)
    for held in [held for held in contents(model) if is_optimizer(held.value)]:
        if getattr(held.value, "inner_optimizer", None) is None and not _is_built(held.value):
            _build(held.value, _stepped_by(held, model))


def variables(model: Any) -> list[tf.Variable]:
    """Returns all that training changes besides weights: counters, learning rates, slots, states.

    Metrics are not included, since every epoch resets them; nor are the states of random
    generators, since a rewound round draws new random numbers.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
      >>> model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
      >>> len(variables(model))  # Iterations, learning rate, two momentums.
      4
    """
    # `optimizer.variables` alone is not complete.  It is a method of legacy optimizers, and lists
    # neither hyperparameters nor loss scales.
    build(model)
    found = {id(variable): variable for optimizer in optimizers(model)
             for variable in variables_of(optimizer)}
    for variable in states(model):
        found.setdefault(id(variable), variable)
    return list(found.values())


def variables_of(optimizer: Any) -> list[tf.Variable]:
    """Returns the variables of an optimizer that is built: counters, learning rates, slots.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
      >>> model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
      >>> build(model)
      >>> len(variables_of(model.optimizer))
      4
    """
    own, scale = optimizer.variables, getattr(optimizer, "_loss_scale", None)
    found = (*(own() if callable(own) else own),
             getattr(optimizer, "_learning_rate", None),
             getattr(optimizer, "_current_learning_rate", None),
             # Nadam does not list the product of its momentums.
             getattr(optimizer, "_u_product", None),
             *getattr(optimizer, "_hyper", {}).values(),
             *getattr(scale, "_weights", {}).values())
    return list({id(variable): variable for variable in found
                 if isinstance(variable, tf.Variable)}.values())


def states(model: Any) -> list[tf.Variable]:
    """Returns the variables of a model that are not weights, masks, metrics, seeds or slots.

    Example:
      >>> model = keras.Sequential([keras.layers.Dense(1)])
      >>> model.build((None, 2))
      >>> import types
      >>> model.helper = types.SimpleNamespace(count=tf.Variable(3))
      >>> [int(variable) for variable in states(model)]
      [3]
    """
    return [held.value for held in _states(model)]


def _states(model: Any) -> list[Held]:
    known = {id(stored_in(variable)) for variable in named_weights(model).values()}
    known |= {id(stored_in(variable)) for wrapper in wrappers(model)
              for variable in wrapper._non_trainable_weights}
    return [held for held in contents(model) if isinstance(held.value, tf.Variable)
            and held.kind not in ("metric", "seed", "optimizer")
            and id(stored_in(held.value)) not in known]


def kept_by_weight(model: Any) -> list[tuple[tf.Variable, tf.Variable]]:
    """What a model itself keeps for each weight that it trains, such as gradients that it gathers.

    Returns:
      Pairs of a weight and what is kept for it, from every list that has a variable of its shape
      for each trained weight, in their order.
    """
    lists: dict[str, list[Held]] = {}
    for held in _states(model):
        lists.setdefault(held.path.rpartition("[")[0], []).append(held)
    found = []
    for name, kept in lists.items():
        owner = next((owner for owner in reversed(kept[0].owners)
                      if isinstance(owner, keras.Model)), model)
        weights = owner.trainable_variables
        if name and [held.value.shape for held in kept] == [weight.shape for weight in weights]:
            found += [(weight, held.value) for weight, held in zip(weights, kept, strict=True)]
    return found


def stepping(model: Any) -> list[Any]:
    """Returns the optimizers that have slots and step: those that do not wrap another one."""
    return [optimizer for optimizer in optimizers(model)
            if getattr(optimizer, "inner_optimizer", None) is None]


def iterations(model: Any, within: bool = True) -> int:
    """Returns the total number of steps that the optimizers of a model have taken.

    Args:
      model: the model.
      within: whether those count that models within it were compiled with.
    """
    others = {id(part) for layer in model._flatten_layers() if not within
              and getattr(layer, "optimizer", None) not in (None, model.optimizer)
              for part in chain(layer.optimizer)}
    return sum(int(optimizer.iterations.numpy()) for optimizer in stepping(model)
               if id(optimizer) not in others)


def counters(model: Any) -> list[dict[str, int]]:
    """Returns the whole numbers in Python attributes of optimizers, which may count steps.

    Returns:
      One mapping from attribute to value for each optimizer.
    """
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
    # Built for a weight of its own, since the slots of the real weights have been trained.
    still = tf.Variable(tf.zeros((1, 1)))
    _build(fresh, [still])
    return {name: float(slot.numpy().item()) for name, slot in slots_of(fresh, still).items()}


def slots_by_weight(optimizer: Any) -> frozenset[str]:
    """Returns the kinds of slots that stay fresh for a weight that never gets a gradient.

    Most do.  Adafactor's do not: it computes second moments from means of rows and columns, and so
    from the gradients of other weights.

    Example:
      >>> sorted(slots_by_weight(keras.optimizers.Adam()))
      ['_momentums', '_velocities']
      >>> sorted(slots_by_weight(keras.optimizers.Adafactor()))
      []
    """
    still = np.array([[False, True], [True, True]])
    return frozenset(kind for kind, (before, after) in _tried(optimizer).items()
                     if np.array_equal(before[still], after[still]))


def _tried(optimizer: Any) -> dict[str, tuple[Any, Any]]:
    # The slots of a weight before and after one step with a gradient in one place.
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
        weight = tf.Variable(tf.ones((2, 2)))
        _build(fresh, [weight])
        before = {name: slot.numpy() for name, slot in slots_of(fresh, weight).items()}
        # init_scope, so that it runs eagerly even if this is called while a function is traced.
        with tf.init_scope():
            fresh.apply_gradients([(tf.constant([[1.0, 0.0], [0.0, 0.0]]), weight)])
    except Exception:  # Nothing is known about a user's optimizer that cannot be copied.
        return {}
    return {name: (before[name], slot.numpy()) for name, slot in slots_of(fresh, weight).items()}


def unstepped(model: Any, weights: Mapping[str, Any], theta: Snapshot) -> list[str]:
    """The weights that no optimizer has trained since theta_k; see `Network.unstepped`.

    Args:
      model: the model.
      weights: name -> variable.
      theta: theta_k.
    """
    found = []
    for optimizer in stepping(model):
        kinds = moved_by_gradients(_tried(optimizer))
        found.append((optimizer.iterations, {name: [
            slot for kind, slot in slots_of(optimizer, weight).items() if kind in kinds]
            for name, weight in weights.items()}))
    return untrained(found, variables(model), theta, lambda variable: (
        stored_in(variable).numpy()))


def _stepped_by(held: Held, model: Any) -> list[tf.Variable]:
    """Returns the variables that an optimizer may have to train, for which it needs slots."""
    # Those of the nested model that it was compiled with, such as a GAN's discriminator; an
    # optimizer in an attribute may train any weight of the model.
    owner = next((owner for owner in reversed(held.owners) if isinstance(owner, keras.Model)
                  and getattr(owner, "optimizer", None) is held.value), model)
    found = {id(variable): variable for variable in owner.trainable_variables}
    if owner is model:  # Also what Keras does not track, such as a temperature that is trained.
        found.update((id(variable), variable) for variable in states(model) if variable.trainable)
    return list(found.values())


def chain(optimizer: Any) -> list[Any]:
    """Returns an optimizer, then those that it wraps, as LossScaleOptimizer does.

    Example:
      >>> wrapping = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam())
      >>> [type(part).__name__.removesuffix("V3") for part in chain(wrapping)]
      ['LossScaleOptimizer', 'Adam']
    """
    found = [optimizer]
    while getattr(found[-1], "inner_optimizer", None) is not None:
        found.append(found[-1].inner_optimizer)
    return found


def _is_built(optimizer: Any) -> bool:
    return bool(getattr(optimizer, "_built", False) or getattr(optimizer, "_weights", None))


def _build(optimizer: Any, weights: list[tf.Variable]) -> None:
    if hasattr(optimizer, "_create_all_weights"):  # The optimizers of Keras before 2.11.
        optimizer._create_all_weights(weights)
    else:
        optimizer.build(weights)
