"""Checks during a search that only what the search masks and rewinds trains its model.

A search captures optimizers and states at theta_k and restores them.  If another optimizer trained
the model, or weights were trained past their masks, the next round would silently differ from the
training that it should repeat.  So each of these is an error, as early as it can be noticed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lth_keras.core.masks import Arrays
from lth_keras.errors import LotteryError
from lth_keras.keras2 import optimizer_state, rewinding
from lth_keras.keras2.masking.masked_weights import ZeroConstraint
from lth_keras.keras2.masking.weight_names import Masked


class TrainingChecks:
    """Observes how the model of a search is trained.

    Args:
      model: the wrapped and compiled model.
      weights: its prunable weights by name.
    """

    def __init__(self, model: Any, weights: Mapping[str, Masked]):
        self._model, self._weights = model, weights
        # The steps of all optimizers at the beginning of the round; None if it was not observed.
        self._iterations: int | None = None
        self._compiled: tuple[Any, ...] | None = None
        self._gradients_seen = False
        self._slots: dict[int, frozenset[str]] = {}  # The slots to check, by the optimizer's id.

    def begin(self, mid_round: bool = False) -> None:
        """Notes how the model is compiled, at theta_k or where an earlier search is resumed.

        Args:
          mid_round: whether the search is resumed within a round, whose beginning was not observed.
        """
        self._compiled = self._as_compiled()
        self.begin_round()
        if mid_round:
            self._iterations = None

    def begin_round(self) -> None:
        """Notes how many steps the optimizers have taken at the beginning of a round."""
        self._iterations = optimizer_state.iterations(self._model)

    def _as_compiled(self) -> tuple[Any, ...]:
        # Compiling again makes another optimizer; freezing a layer changes the trainable variables.
        return (id(self._model.optimizer), *map(id, self._model.trainable_variables))

    def compiled_as_before(self) -> None:
        """Checks that the model was not compiled again since theta_k, nor layers frozen.

        Raises:
          LotteryError: if so.
        """
        if self._compiled is not None and self._as_compiled() != self._compiled:
            raise LotteryError(
                "A model must stay as it was compiled until its search ends, or a round cannot be "
                f"rewound. Received: {self._model.name!r}, compiled again, or with layers frozen "
                "or unfrozen, since theta_k was captured. Begin a new search instead; a learning "
                "rate may change: model.optimizer.learning_rate.assign(...).")

    def gradients_are_masked(self) -> None:
        """Checks, after the first step, that every weight read for training got a masked gradient.

        A function with its own gradient, as tf.recompute_grad makes it, reads its layer's weights
        again in the backward pass, where they are not masked.

        Raises:
          LotteryError: if no gradient reached a weight through its mask; it names the layer.
        """
        if self._gradients_seen:
            return
        # Only once: a compiled step calls `note_gradient` when it is traced, and later steps do
        # not.
        self._gradients_seen = True
        missed = sorted({item.wrapper.layer.name for item in self._weights.values()
                         if isinstance(item.weight.constraint, ZeroConstraint)
                         and item.weight.constraint.read_to_train
                         and not item.weight.constraint.has_gradient})
        if missed:
            raise LotteryError(
                "Every weight that is pruned must get its gradient through its mask. Received: a "
                f"training step in which none reaches the weights of {', '.join(missed)}. If the "
                "layer calls tf.recompute_grad or tf.custom_gradient, wrap the layers within it, "
                "self.dense = lth.prune_low_magnitude(keras.layers.Dense(8)); if the loss does not "
                "depend on it, leave it dense: prune_low_magnitude(model, exclude=...).")

    def optimizer_is_known(self, final: Arrays, start: Arrays) -> None:
        """Checks, at the end of a round, that an optimizer that the search rewinds trained it.

        Args:
          final: the prunable weights at the end of the round.
          start: the prunable weights at its beginning.

        Raises:
          LotteryError: if weights have changed, but no known optimizer has taken a step.
        """
        moved = [name for name, value in final.items() if np.any(value != start[name])]
        if moved and optimizer_state.iterations(self._model) == self._iterations:
            raise LotteryError(
                "A search must know the optimizer that trains, or it cannot rewind it. Received: "
                f"weights that have moved ({', '.join(moved[:2])}), and no step of the model's "
                "optimizers. Compile the model with the optimizer, or hold it in an attribute of "
                "the model, before the search begins.")

    def slots(self, theta: rewinding.Snapshot) -> tuple[dict[tuple[str, str], Any],
                                                       dict[tuple[str, str], float]]:
        """Returns the optimizers' slots of prunable weights, and their fresh values.

        Slots that change without a gradient (`optimizer_state.slots_by_weight`) are left out.

        Args:
          theta: the model at theta_k.

        Returns:
          (weight, slot) -> array, and (weight, slot) -> the value of a slot that was never updated.
        """
        slots, fresh = {}, {}
        for optimizer, values in zip(optimizer_state.stepping(self._model), theta.fresh_slots,
                                     strict=True):
            if id(optimizer) not in self._slots:
                self._slots[id(optimizer)] = optimizer_state.slots_by_weight(optimizer)
            for name, item in self._weights.items():
                if not isinstance(item.weight.constraint, ZeroConstraint):
                    continue  # tfmot's own wrapper does not mask gradients.
                for slot, variable in optimizer_state.slots_of(optimizer, item.weight).items():
                    if slot in values and slot in self._slots[id(optimizer)]:
                        slots[name, slot] = rewinding.stored(variable)
                        fresh[name, slot] = values[slot]
        return slots, fresh
