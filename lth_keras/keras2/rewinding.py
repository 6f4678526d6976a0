"""Rewinding: captures a model and its optimizer at step k, and restores them.

What is restored:

  weights           survivors to theta_k bit for bit, pruned weights to zero
  statistics        batch-norm statistics and all other untrained weights, to step k
  optimizer slots   to step k; the slots of pruned weights to those of a fresh optimizer
  states            of layers, and gradients that a model gathers: to step k; zero where pruned
  iteration count   to k, so learning-rate schedules and warm-up start over from there
  learning rate     to its value at step k
  data order        not restored: `fit` continues through its data
  random draws      not restored: dropout and augmentation continue
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array, Arrays
from lth_keras.keras2 import optimizer_state
from lth_keras.keras2.inspection.pruners import note_pruner
from lth_keras.keras2.masking.weight_names import masked, named_weights, stored_in
from lth_keras.search import network
from lth_keras.search.network import check_same_variables, Restored


# By variable, and not by model.get_weights(): that list holds masks and pruning steps too, so that
# restoring it would undo the pruning.
@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot(network.Snapshot):
    """The state of a tf_keras model and its optimizers at step k.

    `optimizer` has the variables that `keras2.optimizer_state.variables` lists.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, name="fc")])
      >>> model.compile("sgd", "mse")
      >>> snapshot = Snapshot.of(model)
      >>> _ = model.get_layer("fc").kernel.assign([[5.0], [5.0]])
      >>> snapshot.restore_all(model)
      >>> bool((model.get_layer("fc").kernel.numpy() == snapshot.weights["fc/kernel"]).all())
      True
    """

    @classmethod
    def of(cls, model: Any, rewinds: bool = True) -> "Snapshot":
        """Captures a compiled model, and builds its optimizer if necessary.

        Args:
          model: the model.
          rewinds: whether `restore` will be called, which needs `fresh_slots`.
        """
        return cls(read(named_weights(model)),
                   [stored(variable) for variable in optimizer_state.variables(model)],
                   fresh_slots(model) if rewinds else [],
                   optimizer_state.counters(model))

    def restore_all(self, model: Any) -> None:
        """Restores everything as it was captured, without masks."""
        assign_weights(model, self.weights)
        for variable, value in zip(optimizer_state.variables(model), self.optimizer, strict=True):
            variable.assign(value)
        for part, counters in zip(optimizer_state.optimizers(model), self.counters, strict=True):
            vars(part).update(counters)

    def restore(self, model: Any, masks: Arrays) -> Restored:
        """Restores the state with pruned weights at zero, and their slots as in a fresh optimizer.

        Args:
          model: the model that was captured.
          masks: weight name -> 0/1 array, for the prunable weights.
        """
        # A momentum left in the slot of a pruned weight would move it away from zero again.
        assign_weights(model, mask_arrays.apply(self.weights, masks))
        saved = self._same_variables(model)
        # A slot belongs to a weight by the optimizer's own book-keeping, not by its position.
        kept = {id(item.weight): masks[name] for name, item in masked(model).items()}
        slots = {id(slot): (kept[id(weight)], fresh.get(name, 0.0))
                 for optimizer, fresh in zip(optimizer_state.stepping(model), self.fresh_slots,
                                             strict=True)
                 for weight in model.trainable_variables if id(weight) in kept
                 for name, slot in optimizer_state.slots_of(optimizer, weight).items()}
        slots |= {id(slot): (kept[id(weight)], 0.0) for weight, slot
                  in optimizer_state.kept_by_weight(model) if id(weight) in kept}
        for variable, value in zip(saved, self.optimizer, strict=True):
            mask, fresh = slots.get(id(variable), (None, 0.0))
            variable.assign(value if mask is None
                            else np.where(mask != 0, value, value.dtype.type(fresh)))
        # Not strict: a snapshot that was made by hand may have no counters.
        for part, counters in zip(optimizer_state.optimizers(model), self.counters, strict=False):
            vars(part).update(counters)
        trained = len(model.trainable_variables)
        states = len(optimizer_state.states(model))
        return Restored(trained, len(self.weights) - trained + states, _count_slots(model, saved),
                        max(int(optimizer.iterations.numpy()) for optimizer
                            in optimizer_state.stepping(model)), learning_rate(model))

    def _same_variables(self, model: Any) -> list[tf.Variable]:
        """The variables that `optimizer` has the values of.

        Raises:
          LotteryError: if the model has others now.
        """
        found = optimizer_state.variables(model)
        check_same_variables(model.name, found, self)
        return found


def fresh_slots(model: Any) -> list[dict[str, float]]:
    """What the optimizers of a model give a weight that has never moved, by the slot's name."""
    return [optimizer_state.fresh_slots(optimizer) for optimizer in optimizer_state.stepping(model)]


def read(variables: Mapping[str, tf.Variable]) -> dict[str, Array]:
    """Returns copies of the values of named variables, as read-only arrays."""
    return {name: stored(variable) for name, variable in variables.items()}


def read_masks(model: Any) -> dict[str, Array]:
    """Returns the masks of a wrapped model, as weight name -> uint8 array.

    Example:
      >>> from lth_keras import prune_low_magnitude
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((2,)), keras.layers.Dense(1, name="fc")]))
      >>> read_masks(model)["fc/kernel"].tolist()
      [[1], [1]]
    """
    return {name: (item.mask.numpy() != 0).astype(np.uint8)
            for name, item in masked(model).items()}


def assign(model: Any, weights: Arrays, masks: Arrays) -> None:
    """Assigns weights and masks to a wrapped model; pruned weights are set to zero.

    Args:
      model: a wrapped model.
      weights: name -> array, for every weight of the model.
      masks: weight name -> 0/1 array, for the prunable weights.

    Example:
      >>> from lth_keras import prune_low_magnitude
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((2,)), keras.layers.Dense(1, use_bias=False, name="fc")]))
      >>> assign(model, {"fc/kernel": np.ones((2, 1))}, {"fc/kernel": np.array([[1], [0]])})
      >>> model(np.ones((1, 2))).numpy().tolist()
      [[1.0]]
    """
    assign_weights(model, mask_arrays.apply(weights, masks))
    assign_masks(model, masks)


def assign_weights(model: Any, values: Arrays) -> None:
    """Assigns values to weights of a built model, by name.

    A Normalization layer computes from constants that it makes of its weights, and so does a
    lookup that weights words.  They are made anew, and the functions of the model that were
    compiled with others are compiled again.

    Args:
      model: the model, wrapped or not.
      values: weight name -> array.

    Example:
      >>> layer = keras.layers.Normalization(name="norm")
      >>> model = keras.Sequential([keras.layers.Input((1,)), layer])
      >>> assign_weights(model, {"norm/adapt_mean": [3.0]})
      >>> model.predict([[5.0]], verbose=0).tolist()
      [[2.0]]
    """
    variables = named_weights(model)
    for name, value in values.items():
        variables[name].assign(value)
    layers = list(model._flatten_layers())
    changed = [layer for layer in layers if _finalized(layer)]
    if changed:
        for part in layers:  # The model itself, too.
            for kind in ("train", "test", "predict"):
                if getattr(part, f"{kind}_function", None) is not None:
                    getattr(part, f"make_{kind}_function")(force=True)


def _finalized(layer: Any) -> bool:
    # Whether it computes from other constants now.
    before = _constants(layer)
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()
    elif hasattr(layer, "idf_weights_const"):
        layer.idf_weights_const = layer.idf_weights.value()
    return before != _constants(layer)


def _constants(layer: Any) -> list[bytes]:
    names = ("mean", "variance") if isinstance(layer, keras.layers.Normalization) \
        else ("idf_weights_const",)
    return [getattr(layer, name).numpy().tobytes() for name in names if hasattr(layer, name)]


def assign_masks(model: Any, masks: Arrays) -> None:
    """Assigns masks to a wrapped model, and updates the thresholds that tfmot's summaries show."""
    note_pruner(model)
    for name, item in masked(model).items():
        # tfmot's wrapper computes thresholds when it prunes; here they only inform.
        survivors = np.abs(stored(item.weight)[masks[name] != 0])
        item.mask.assign(masks[name].astype(item.mask.dtype.as_numpy_dtype))
        item.threshold.assign(survivors.min() if survivors.size else 0)


def stored(variable: Any) -> Array:
    """Returns a copy of a variable's value, as a read-only array.

    Example:
      >>> stored(tf.Variable([1.0, 2.0])).tolist()
      [1.0, 2.0]
    """
    # Under mixed precision a weight reads as float16; its stored value is float32.
    value = np.array(stored_in(variable).numpy())
    value.setflags(write=False)  # All tickets share theta_k, and criteria receive it.
    return value


def finalize(model: Any) -> None:
    """Ends a training as `fit` does: with use_ema, replaces weights by their averages."""
    if isinstance(model.optimizer, keras.optimizers.Optimizer):
        model.optimizer.finalize_variable_values(model.trainable_variables)


def _count_slots(model: Any, saved: list[tf.Variable]) -> int:
    # Reported to the user: an optimizer whose slots were not found would show here as 0.
    slots = {id(slot) for optimizer in optimizer_state.stepping(model)
             for weight in model.trainable_variables
             for slot in optimizer_state.slots_of(optimizer, weight).values()}
    return sum(id(variable) in slots for variable in saved)


def learning_rate(model: Any) -> float | None:
    """Returns the learning rate of a compiled model, or None if a schedule computes it."""
    # A schedule has no value of its own: it follows from the iteration count.
    rate = getattr(model.optimizer, "learning_rate", None)
    return float(keras.backend.get_value(rate)) if isinstance(rate, tf.Variable) else None
