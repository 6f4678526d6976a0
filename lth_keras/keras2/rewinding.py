"""Rewinding: what a training changes, captured at step k and restored.

What is restored, and how:

  weights           survivors to theta_k bit for bit, pruned weights to zero
  statistics        (batch norm) and every other weight that is not trained: to step k
  optimizer slots   to step k; those of pruned weights as in a fresh optimizer
  iteration count   to k, so learning-rate schedules and warm-up start over
  learning rate     to its value at step k
  data order        not touched: `fit` goes on through its data as it would anyway
  random draws      (dropout, augmentation) not touched either
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array, Arrays
from lth_keras.keras2.masking.weight_names import masked, named_weights


@dataclasses.dataclass(frozen=True)
class Restored:
    """What one rewinding restored: numbers of variables, and the step they are from."""

    weights: int
    statistics: int
    slots: int
    iterations: int
    learning_rate: float | None

    def __str__(self) -> str:
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:g}"
        return (f"restored {self.weights} weights, {self.statistics} statistics, "
                f"{self.slots} optimizer slots, iterations {self.iterations}{rate}; "
                "data order goes on")


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """A model and its optimizer at step k.

    Attributes:
      weights: every weight of the model by name: theta_k.
      optimizer: the optimizer's variables in its own order.
      fresh_slots: slot name -> its value for a weight that has not moved yet.
      counters: whole numbers that an optimizer counts in Python; a mapping an optimizer.
    """

    weights: dict[str, Array]
    optimizer: list[Array]
    fresh_slots: dict[str, float] = dataclasses.field(default_factory=dict)
    counters: list[dict[str, int]] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, model: Any, rewinds: bool = True) -> "Snapshot":
        """Captures a compiled model; its optimizer is built if it was not yet.

        Args:
          model: the model.
          rewinds: whether it is to be restored with masks, which takes the fresh slots.
        """
        return cls(read(named_weights(model)),
                   [stored(variable) for variable in optimizer_variables(model)],
                   fresh_slots(model.optimizer) if rewinds else {},
                   [_counters(part) for part in _chain(model)])

    def restore_all(self, model: Any) -> None:
        """Restores everything that was captured, pruned weights too."""
        variables = named_weights(model)
        for name, value in self.weights.items():
            variables[name].assign(value)
        for variable, value in zip(optimizer_variables(model), self.optimizer, strict=True):
            variable.assign(value)
        for part, counters in zip(_chain(model), self.counters, strict=True):
            vars(part).update(counters)

    def restore(self, model: Any, masks: Arrays) -> Restored:
        """Puts it back, with pruned weights at zero and their slots as if fresh.

        Args:
          model: the model that it was taken from.
          masks: weight name -> 0/1 array, for the prunable weights.
        """
        variables = named_weights(model)
        for name, value in mask_arrays.apply(self.weights, masks).items():
            variables[name].assign(value)
        saved = optimizer_variables(model)
        kept = {id(item.weight): masks[name] for name, item in masked(model).items()}
        slots = {id(slot): (kept[id(weight)], self.fresh_slots.get(name, 0.0))
                 for weight in model.trainable_variables if id(weight) in kept
                 for name, slot in slots_of(model.optimizer, weight).items()}
        for variable, value in zip(saved, self.optimizer, strict=True):
            mask, fresh = slots.get(id(variable), (None, 0.0))
            variable.assign(value if mask is None
                            else np.where(mask != 0, value, value.dtype.type(fresh)))
        for part, counters in zip(_chain(model), self.counters, strict=False):
            vars(part).update(counters)
        trained = len(model.trainable_variables)
        return Restored(trained, len(variables) - trained, _count_slots(model, saved),
                        int(model.optimizer.iterations.numpy()), _learning_rate(model.optimizer))


def read(variables: Mapping[str, tf.Variable]) -> dict[str, Array]:
    """The values of named variables, as arrays of their own."""
    return {name: stored(variable) for name, variable in variables.items()}


def read_masks(model: Any) -> dict[str, Array]:
    """The masks of a wrapped model, as uint8 arrays."""
    return {name: (item.mask.numpy() != 0).astype(np.uint8)
            for name, item in masked(model).items()}


def assign(model: Any, weights: Arrays, masks: Arrays) -> None:
    """Puts weights into a wrapped model under masks: pruned ones are zero.

    Args:
      model: a wrapped model.
      weights: name -> array, for every weight of the model.
      masks: weight name -> 0/1 array, for the prunable weights.
    """
    variables = named_weights(model)
    for name, value in mask_arrays.apply(weights, masks).items():
        variables[name].assign(value)
    assign_masks(model, masks)


def assign_masks(model: Any, masks: Arrays) -> None:
    """Puts masks into a wrapped model, and the thresholds that tfmot's summaries show."""
    for name, item in masked(model).items():
        survivors = np.abs(stored(item.weight)[masks[name] != 0])
        item.mask.assign(masks[name].astype(item.mask.dtype.as_numpy_dtype))
        item.threshold.assign(survivors.min() if survivors.size else 0)


def stored(variable: Any) -> Array:
    """The value of a variable, as an array of its own that cannot be written."""
    # Under mixed precision a weight would come cast; the stored value is what is rewound.
    own = getattr(variable, "_variable", variable) \
        if hasattr(variable, "true_dtype") else variable
    value = np.array(own.numpy())
    value.setflags(write=False)  # Tickets share theta_k, and criteria are handed it.
    return value


def optimizer_variables(model: Any) -> list[tf.Variable]:
    """All that an optimizer changes: counters, learning rate, slots, loss scale."""
    chain = _chain(model)
    _build(chain[-1], model.trainable_variables)
    found: dict[int, tf.Variable] = {}
    for optimizer in chain:
        variables = optimizer.variables
        scale = getattr(optimizer, "_loss_scale", None)
        for variable in (*(variables() if callable(variables) else variables),
                         getattr(optimizer, "_learning_rate", None),
                         getattr(optimizer, "_current_learning_rate", None),
                         # Nadam does not list the product of its momentums.
                         getattr(optimizer, "_u_product", None),
                         *getattr(optimizer, "_hyper", {}).values(),
                         *getattr(scale, "_weights", {}).values()):
            if isinstance(variable, tf.Variable):
                found.setdefault(id(variable), variable)
    return list(found.values())


def finalize(model: Any) -> None:
    """Ends a training as `fit` does: with use_ema, weights become their averages."""
    if isinstance(model.optimizer, keras.optimizers.Optimizer):
        model.optimizer.finalize_variable_values(model.trainable_variables)


def _chain(model: Any) -> list[Any]:
    # The optimizer, and those that it wraps.
    chain = [model.optimizer]
    while getattr(chain[-1], "inner_optimizer", None) is not None:
        chain.append(chain[-1].inner_optimizer)
    return chain


def _counters(optimizer: Any) -> dict[str, int]:
    return {name: value for name, value in vars(optimizer).items()
            if type(value) is int and not name.startswith("_self_")}


def _build(optimizer: Any, weights: list[tf.Variable]) -> None:
    if hasattr(optimizer, "_create_all_weights"):  # The optimizers of Keras before 2.11.
        optimizer._create_all_weights(weights)
    else:
        optimizer.build(weights)


def slots_of(optimizer: Any, weight: tf.Variable) -> dict[str, tf.Variable]:
    """The optimizer's variables of a weight's own shape: moments, averages."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if hasattr(optimizer, "get_slot_names"):
        return {name: optimizer.get_slot(weight, name) for name in optimizer.get_slot_names()}
    index = optimizer._index_dict[optimizer._var_key(weight)]
    groups = {name: value[index] for name, value in vars(optimizer).items()
              if isinstance(value, (list, tuple)) and len(value) == len(optimizer._index_dict)}
    return {name: slot for name, slot in groups.items()
            if isinstance(slot, tf.Variable) and slot.shape == weight.shape}


def fresh_slots(optimizer: Any) -> dict[str, float]:
    """What an optimizer gives a weight that has never moved: mostly 0, but for some 0.1."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    try:
        fresh = type(optimizer).from_config(optimizer.get_config())
    except Exception:  # An optimizer of the user's own, that cannot be made from its config.
        return {}
    still = tf.Variable(tf.zeros((1, 1)))
    _build(fresh, [still])
    return {name: float(slot.numpy().item()) for name, slot in slots_of(fresh, still).items()}


def _count_slots(model: Any, saved: list[tf.Variable]) -> int:
    slots = {id(slot) for weight in model.trainable_variables
             for slot in slots_of(model.optimizer, weight).values()}
    return sum(id(variable) in slots for variable in saved)


def _learning_rate(optimizer: Any) -> float | None:
    rate = optimizer.learning_rate
    return float(keras.backend.get_value(rate)) if isinstance(rate, tf.Variable) else None
