"""Rewinding: what a training changes, taken down at step k and put back.

What is restored, and how:

  weights           survivors to theta_k bit for bit, pruned weights to zero
  statistics        (batch norm) and every other weight that is not trained: to step k
  optimizer slots   to step k; those of pruned weights to zero
  iteration count   to k, so learning-rate schedules and warm-up start over
  learning rate     to its value at step k
  data order        not touched: `fit` goes on through its data as it would anyway
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from lth_keras import masks as mask_arrays
from lth_keras.masks import Array, Arrays
from lth_keras.weights import masked, named_weights


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
    """

    weights: dict[str, Array]
    optimizer: list[Array]

    @classmethod
    def of(cls, model: Any) -> "Snapshot":
        """Takes down a compiled model; its optimizer is built if it was not yet."""
        return cls(read(named_weights(model)),
                   [_value(variable) for variable in optimizer_variables(model)])

    def restore(self, model: Any, masks: Arrays) -> Restored:
        """Puts it back, with the pruned weights and their slots at zero.

        Args:
          model: the model that it was taken from.
          masks: weight name -> 0/1 array, for the prunable weights.
        """
        variables = named_weights(model)
        for name, value in mask_arrays.apply(self.weights, masks).items():
            variables[name].assign(value)
        kept = {id(item.weight): masks[name] for name, item in masked(model).items()}
        slots = {id(slot): kept[id(weight)] for weight in model.trainable_variables
                 if id(weight) in kept for slot in slots_of(model.optimizer, weight)}
        saved = optimizer_variables(model)
        for variable, value in zip(saved, self.optimizer, strict=True):
            mask = slots.get(id(variable))
            variable.assign(value if mask is None else np.where(mask != 0, value, 0))
        trained = len(model.trainable_variables)
        return Restored(trained, len(variables) - trained, _count_slots(model, saved),
                        int(model.optimizer.iterations.numpy()), _learning_rate(model.optimizer))


def read(variables: Mapping[str, tf.Variable]) -> dict[str, Array]:
    """The values of named variables, as arrays of their own."""
    return {name: _value(variable) for name, variable in variables.items()}


def read_masks(model: Any) -> dict[str, Array]:
    """The masks of a wrapped model, as uint8 arrays."""
    return {name: (item.mask.numpy() != 0).astype(np.uint8)
            for name, item in masked(model).items()}


def assign_masks(model: Any, masks: Arrays) -> None:
    """Puts masks into a wrapped model, and the thresholds that tfmot's summaries show."""
    for name, item in masked(model).items():
        survivors = np.abs(_value(item.weight)[masks[name] != 0])
        item.mask.assign(masks[name].astype(item.mask.dtype.as_numpy_dtype))
        item.threshold.assign(survivors.min() if survivors.size else 0)


def _value(variable: Any) -> Array:
    # Under mixed precision a weight would come cast; the stored value is what is rewound.
    stored = getattr(variable, "_variable", variable) \
        if hasattr(variable, "true_dtype") else variable
    return np.array(stored.numpy())


def optimizer_variables(model: Any) -> list[tf.Variable]:
    """All that an optimizer changes: counters, learning rate, slots, loss scale."""
    optimizer = model.optimizer
    found: dict[int, tf.Variable] = {}
    while optimizer is not None:
        if hasattr(optimizer, "_create_all_weights"):  # The optimizers of Keras before 2.11.
            optimizer._create_all_weights(model.trainable_variables)
        elif hasattr(optimizer, "build") and not getattr(optimizer, "inner_optimizer", None):
            optimizer.build(model.trainable_variables)
        variables = optimizer.variables
        variables = variables() if callable(variables) else variables
        scale = getattr(optimizer, "_loss_scale", None)
        for variable in (*variables, getattr(optimizer, "_learning_rate", None),
                         getattr(optimizer, "_current_learning_rate", None),
                         *getattr(optimizer, "_hyper", {}).values(),
                         *getattr(scale, "_weights", {}).values()):
            if isinstance(variable, tf.Variable):
                found.setdefault(id(variable), variable)
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return list(found.values())


def slots_of(optimizer: Any, weight: tf.Variable) -> list[tf.Variable]:
    """The optimizer's variables of a weight's own shape: moments, averages."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if hasattr(optimizer, "get_slot_names"):
        return [optimizer.get_slot(weight, name) for name in optimizer.get_slot_names()]
    index = optimizer._index_dict[optimizer._var_key(weight)]
    lists = [value for value in vars(optimizer).values()
             if isinstance(value, (list, tuple)) and len(value) == len(optimizer._index_dict)]
    return [group[index] for group in lists
            if isinstance(group[index], tf.Variable) and group[index].shape == weight.shape]


def _count_slots(model: Any, saved: list[tf.Variable]) -> int:
    slots = {id(slot) for weight in model.trainable_variables
             for slot in slots_of(model.optimizer, weight)}
    return sum(id(variable) in slots for variable in saved)


def _learning_rate(optimizer: Any) -> float | None:
    rate = optimizer.learning_rate
    return None if callable(rate) else float(rate)
