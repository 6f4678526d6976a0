"""The optimizers that a Keras 3 model holds, and all that they change beside its weights.

A model of the user's own may train with several optimizers, as a GAN does.  A search masks,
rewinds and keeps them all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lth_keras.keras3 import held
from lth_keras.search.network import moved_by_gradients, Snapshot, untrained

_ONLY_ONE = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)


def optimizers(model: Any) -> list[Any]:
    """Every optimizer that a model holds, each followed by those that it holds itself.

    Args:
      model: a model; its own optimizer comes first, if it has one, then those that its attributes,
        lists, dicts, layers and functions lead to.

    Example:
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
      >>> model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mse")
      >>> [type(optimizer).__name__ for optimizer in optimizers(model)]
      ['LossScaleOptimizer', 'Adam']
    """
    found: dict[int, Any] = {}
    for optimizer in (getattr(model, "optimizer", None), *held.optimizers(model)):
        if optimizer is not None:
            for part in chain(optimizer):
                found.setdefault(id(part), part)
    return list(found.values())


def stepping(model: Any) -> list[Any]:
    """The optimizers that step weights themselves, or hold slots for one that does."""
    return [optimizer for optimizer in optimizers(model) if not _inner(optimizer)]


def build(model: Any) -> None:
    """Makes the variables of every optimizer that has none yet, so that they can be captured."""
    for optimizer in optimizers(model):  # One that wraps others first, which builds them itself.
        if not optimizer.built:
            optimizer.build(model.trainable_variables)


def variables(model: Any, masks: "frozenset[int] | set[int]" = frozenset()) -> list[Any]:
    """All that training changes beside weights: counters, learning rates, slots, states.

    Metrics are left out, which begin anew with every epoch, and the states of random generators,
    which go on.

    Args:
      model: a compiled model.
      masks: ids of variables that are masks.

    Example:
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
      >>> model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
      >>> len(variables(model))  # Iterations, learning rate, two momentums.
      4
    """
    build(model)
    found: dict[int, Any] = {}
    for optimizer in optimizers(model):
        # `optimizer.variables` of one that wraps others has theirs too.
        found.update((id(variable), variable) for variable in optimizer._variables
                     if id(variable) not in masks)
    found.update((id(variable), variable) for variable in states(model))
    return list(found.values())


def states(model: Any) -> list[Any]:
    """What training changes beside weights and seeds: RNN states, and what Keras does not track."""
    seeds = {id(variable) for variable in seed_states(model)}
    found = [variable for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)
             for variable in keras.tree.flatten(layer.states)]
    return [*(variable for variable in found
              if isinstance(variable, keras.Variable) and id(variable) not in seeds),
            *held.untracked(model)]


def seed_states(model: Any) -> list[Any]:
    """The states of the random generators that a model's layers draw from."""
    return [generator.state for generator in held.seed_generators(model)]


def iterations(model: Any, within: bool = True) -> int:
    """How many steps the optimizers of a model have taken, together.

    Args:
      model: the model.
      within: whether those count that models within it were compiled with.
    """
    others = {id(part) for layer in model._flatten_layers() if not within
              and getattr(layer, "optimizer", None) not in (None, model.optimizer)
              for part in chain(layer.optimizer)}
    return sum(int(keras.ops.convert_to_numpy(optimizer._iterations))
               for optimizer in stepping(model) if id(optimizer) not in others)


def slots_of(optimizer: Any, weight: Any) -> dict[str, Any]:
    """The optimizer's variables for one weight, of the weight's shape: moments, averages.

    Example:
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
      >>> model.compile("adam", "mse")
      >>> model.optimizer.build(model.trainable_variables)
      >>> sorted(slots_of(model.optimizer, model.trainable_variables[0]))
      ['_momentums', '_velocities']
    """
    # Slots are in lists, one for each kind, with an element for each weight that the optimizer
    # was built for.  An optimizer of the user's own may have them in dicts.
    key = optimizer._var_key(weight)
    index = optimizer._trainable_variables_indices.get(key)
    if index is None:
        return {}
    count = len(optimizer._trainable_variables)
    groups = {name: value[index] for name, value in vars(optimizer).items()
              if name not in ("_variables", "_trainable_variables")
              and isinstance(value, (list, tuple)) and len(value) == count}
    keys = (index, id(weight), key, weight.path, weight.name)
    groups |= {name: next((value[found] for found in keys if found in value), None)
               for name, value in vars(optimizer).items() if isinstance(value, dict)}
    return {name: slot for name, slot in groups.items()
            if isinstance(slot, keras.Variable) and tuple(slot.shape) == tuple(weight.shape)}


def fresh_slots(optimizer: Any) -> dict[str, float]:
    """The initial value of each kind of slot of a weight that is zero: mostly 0.

    Example:
      >>> fresh_slots(keras.optimizers.Adagrad(initial_accumulator_value=0.5))
      {'_accumulators': 0.5}
    """
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
        still = keras.Variable(np.zeros((1, 1), np.float32))
        fresh.build([still])
    except Exception:  # A user's optimizer may not support from_config; 0 is used for its slots.
        return {}
    return {name: float(keras.ops.convert_to_numpy(slot).item())
            for name, slot in slots_of(fresh, still).items()}


def slots_by_weight(optimizer: Any) -> frozenset[str]:
    """Returns the slots that stay as they are where a weight is zero and gets no gradient.

    Most do.  Adafactor makes up its second moments from means of rows and columns, and so of other
    weights.

    Example:
      >>> sorted(slots_by_weight(keras.optimizers.Adam()))
      ['_momentums', '_velocities']
      >>> sorted(slots_by_weight(keras.optimizers.Adafactor()))
      []
    """
    return frozenset(kind for kind, (before, after) in _tried(optimizer).items()
                     if np.array_equal(before[_ONLY_ONE == 0], after[_ONLY_ONE == 0]))


def unstepped(model: Any, weights: Mapping[str, Any], saved: Sequence[Any],
              theta: Snapshot) -> list[str]:
    """The weights that no optimizer has trained since theta_k; see `Network.unstepped`.

    Args:
      model: the model.
      weights: name -> variable.
      saved: the variables that `theta.optimizer` has the values of.
      theta: theta_k.
    """
    found = []
    for optimizer in stepping(model):
        kinds = moved_by_gradients(_tried(optimizer))
        found.append((optimizer._iterations, {name: [
            slot for kind, slot in slots_of(optimizer, weight).items() if kind in kinds]
            for name, weight in weights.items()}))
    # A constraint of the user's own may move a weight that gets no gradient.
    free = {name for name, weight in weights.items()
            if getattr(weight.constraint, "own", weight.constraint) is None}
    return [name for name in untrained(found, saved, theta, lambda variable: (
        keras.ops.convert_to_numpy(variable.value))) if name in free]


def _tried(optimizer: Any) -> dict[str, tuple[Any, Any]]:
    # The slots of a weight before and after one step with a gradient in one place.
    try:
        fresh = type(optimizer).from_config(
            optimizer.get_config() | {"gradient_accumulation_steps": None})
        weight = keras.Variable(_ONLY_ONE)
        fresh.build([weight])
        before = {name: np.array(keras.ops.convert_to_numpy(slot))
                  for name, slot in slots_of(fresh, weight).items()}
        fresh.apply([keras.ops.convert_to_tensor(_ONLY_ONE)], [weight])
    except Exception:  # An optimizer of the user's own, of which nothing is known.
        return {}
    return {name: (before[name], keras.ops.convert_to_numpy(slot))
            for name, slot in slots_of(fresh, weight).items()}


def _inner(optimizer: Any) -> list[Any]:
    # To these alone an optimizer passes on every gradient, and steps nothing itself.
    inner = getattr(optimizer, "inner_optimizer", None)
    return [inner] if inner is not None else list(getattr(optimizer, "_inner_optimizers", ()))


def chain(optimizer: Any) -> list[Any]:
    """Returns an optimizer, then those that it wraps or holds in attributes of any name.

    Example:
      >>> wrapping = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
      >>> [type(part).__name__ for part in chain(wrapping)]
      ['LossScaleOptimizer', 'Adam']
    """
    found: dict[int, Any] = {}
    waiting = [optimizer]
    while waiting:
        part = waiting.pop(0)
        if id(part) not in found:
            found[id(part)] = part
            waiting[:0] = [*_inner(part), *held.optimizers([*vars(part).values()])]
    return list(found.values())
