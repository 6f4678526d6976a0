"""Checks during a search that only what the search masks and rewinds trains its model.

A search captures optimizers and states at theta_k and restores them.  If another optimizer trained
the model, or weights were trained past their masks, the next round would silently differ from the
training that it should repeat.  So each of these is an error, as early as it can be noticed.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import DivergedError, LotteryError
from lth_keras.search.network import Network, Snapshot


class TrainingChecks:
    """Observes how the model of a search is trained.

    Args:
      network: the model, compiled.
    """

    def __init__(self, network: Network):
        self._network = network
        # The steps of all optimizers at the beginning of the round; None if it was not observed.
        self._iterations: int | None = None
        self._compiled: tuple[Any, ...] | None = None
        self._gradients_seen = False

    def begin(self, mid_round: bool = False) -> None:
        """Notes how the model is compiled, at theta_k or where an earlier search is resumed.

        Args:
          mid_round: whether the search is resumed within a round, whose beginning was not observed.
        """
        self._compiled = self._network.compiled()
        self.begin_round()
        if mid_round:
            self._iterations = None

    def begin_round(self) -> None:
        """Notes how many steps the optimizers have taken at the beginning of a round."""
        self._iterations = self._network.iterations()

    def trained_elsewhere(self) -> None:
        """Notes that a model that stands for this one trains in this round."""
        self._iterations = None

    def compiled_as_before(self) -> None:
        """Checks that the model was not compiled again since theta_k, nor layers frozen.

        Raises:
          LotteryError: if so.
        """
        if self._compiled is not None and self._network.compiled() != self._compiled:
            raise LotteryError(
                "A model must stay as it was compiled until its search ends, or a round cannot be "
                f"rewound. Received: {self._network.model.name!r}, compiled again, or with layers "
                "frozen or unfrozen, since theta_k was captured. Begin a new search instead; a "
                "learning rate may change: model.optimizer.learning_rate.assign(...).")

    def is_finite(self, loss: float | None, counts: Mapping[str, int], level: int) -> None:
        """Checks that a round has not diverged.

        Args:
          loss: the training loss, if it is known.
          counts: how many values are NaN or infinite, for each weight that has any.
          level: the level of the round.

        Raises:
          DivergedError: if there is one, or the loss is.
        """
        found = [] if loss is None or math.isfinite(loss) else [f"a loss of {float(loss)}"]
        found += [f"{count} values of {name!r}" for name, count in counts.items()]
        if not found:
            return
        more = f" and {len(found) - 2} more" if len(found) > 2 else ""
        remedy = ("Lower the learning rate or clip the gradients; the tickets of the levels so far "
                  "are kept.")
        if not level and not self._network.iterations(within=False):
            remedy = ("No step was taken yet: a weight begins so, or is a constant that does, as "
                      "a mask of -inf. Give it a large number instead, such as -1e9.")
        raise DivergedError(
            "The loss and weights of a round must be finite to make a ticket. Received: at level "
            f"{level}, NaN or infinite: {', '.join(found[:2])}{more}. {remedy}")

    def begins_rewound(self, now: Arrays, start: Arrays) -> None:
        """Checks, before the first step of a level, that nothing moved the weights since rewinding.

        Args:
          now: the prunable weights.
          start: all weights that the model was rewound to.

        Raises:
          LotteryError: if something did.
        """
        moved = [name for name, value in now.items() if np.any(value != start[name])]
        if moved:
            raise LotteryError(
                "A level must begin with the weights that it was rewound to. Received: weights "
                f"that have moved since ({', '.join(moved[:2])}), before its first step. A "
                "callback that sets weights as an epoch begins, such as "
                "SwapEMAWeights(swap_on_epoch=True), belongs in the callbacks of fit, before the "
                "LotteryTicketCallback, and not in round_callbacks.")

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
        missed = self._network.unreached()
        if missed:
            raise LotteryError(
                "Every weight that is pruned must get its gradient through its mask. Received: a "
                f"training step in which none reaches the weights of {', '.join(missed)}. If the "
                "layer calls tf.recompute_grad or tf.custom_gradient, wrap the layers within it, "
                "self.dense = lth.prune_low_magnitude(keras.layers.Dense(8)); if the loss does not "
                "depend on it, leave it dense: prune_low_magnitude(model, exclude=...).")

    def optimizer_is_known(self, final: Arrays, theta: Snapshot, masks: Arrays,
                           level: int = 0) -> None:
        """Checks, at the end of a round, that an optimizer that the search rewinds trained it.

        Warns if nothing has trained it since the last rewinding, or some of its weights, or if no
        known optimizer has trained some that have moved.

        Args:
          final: the prunable weights at the end of the round.
          theta: the state that it began with.
          masks: the masks of the round.
          level: the level of the round.

        Raises:
          LotteryError: if weights have changed, but no known optimizer has taken a step.
        """
        start = mask_arrays.apply(theta.weights, masks)
        moved = [name for name, value in final.items() if np.any(value != start[name])]
        if moved and not level:
            _warn_of_untrained([name for name in final if name not in moved])
            _warn_of_unknown([name for name in self._network.unstepped(theta) if name in moved
                              and not _is_scaled(final[name], start[name])])
        if self._network.iterations() != self._iterations:
            return
        if moved:
            raise LotteryError(
                "A search must know the optimizer that trains, or it cannot rewind it. Received: "
                f"weights that have moved ({', '.join(moved[:2])}), and no step of the model's "
                "optimizers. Compile the model with the optimizer, or hold it in an attribute of "
                "the model, before the search begins.")
        if level:  # Level 0 may well be pruned at initialisation.
            warnings.warn(
                f"Nothing has trained the model at level {level}: its weights and its optimizer's "
                "steps are as they were when the level began. If your loop holds variables as "
                "values, as with stateless_apply, assign them to the model before it is pruned.",
                stacklevel=4)


def _warn_of_untrained(names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        warnings.warn(
            f"Nothing has trained {', '.join(names[:3])}{more} at level 0, while other weights "
            "have moved: each is as it began, bit for bit. They are pruned and counted all the "
            "same. If they are no part of what is trained, as a teacher is not, leave them out by "
            "exclude=, or set trainable=False on their layers before the search.", stacklevel=4)


def _warn_of_unknown(names: Sequence[str]) -> None:
    # No error: a moving average of other weights, or what a callback sets, needs no rewinding.
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        warnings.warn(
            "A search must know every optimizer that trains, or it cannot rewind it. Received: "
            f"{', '.join(names[:3])}{more}, which moved at level 0, while no optimizer of the "
            "model has trained it: their slots for it are as they were. If another optimizer has, "
            "hold it in an attribute of the model before the search begins, or each level begins "
            "with its state of the last. If your step or a callback sets these weights, all is "
            "well.", stacklevel=4)


def _is_scaled(final: Array, start: Array) -> bool:
    # As weight decay leaves a weight that gets no gradient.
    one, other = (np.asarray(value, np.float64).ravel() for value in (final, start))
    factor = float(one @ other) / max(float(other @ other), 1e-300)
    return bool(np.allclose(one, factor * other, rtol=1e-3, atol=0))
