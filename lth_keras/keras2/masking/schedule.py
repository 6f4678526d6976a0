"""`lth.LotteryTicketSchedule`: when rounds end, and the density after each."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.core.fractions import plain
from lth_keras.errors import LotteryError
from lth_keras.keras2.inspection.tfmot_parts import PruningSchedule
from lth_keras.search.rounds import Rounds

_NAME = "lth_keras>LotteryTicketSchedule"


# Registered, since tfmot's wrapper stores its schedule by class name: under prune_scope() alone an
# unregistered one fails to load from .h5, and comes back from .keras as a string, without an error.
@keras.utils.register_keras_serializable(package="lth_keras")
class LotteryTicketSchedule(Rounds, PruningSchedule):
    """The rounds of a search for winning tickets, as a tfmot pruning schedule.

    After n rounds the density is about (1 - fraction)^n; the exact number of weights that a round
    prunes is round(fraction x remaining).  `lth.LotteryTicketCallback` follows the schedule on
    models wrapped by `lth.prune_low_magnitude` or by tfmot.  Without the callback, a model wrapped
    by tfmot is pruned at the first step after each round, and not rewound.

    Args:
      rounds: how many times the network is pruned, >= 0; `rounds + 1` levels are trained.
      steps_per_round: length of a round in optimizer steps, >= 1, or
      epochs_per_round: length of a round in epochs, >= 1.  Give exactly one of the two.
      fraction: share of the remaining weights that a round prunes, in [0, 1), or a mapping by
        layer name, pattern of layer names ("stage1_*"), "output", layer type or "default" (the
        paper, for LeNet: {"default": 0.2, "output": 0.1}).  Where filters are pruned, it is the
        share of the remaining filters, and may be a list by stage; see `core.fractions`.

    Raises:
      LotteryError: if a value is outside its range, or neither or both lengths are given.

    Example:
      >>> schedule = LotteryTicketSchedule(rounds=3, steps_per_round=100, fraction=0.2)
      >>> [round(schedule.density(level), 3) for level in range(4)]
      [1.0, 0.8, 0.64, 0.512]
      >>> schedule.round_over(steps=99), schedule.round_over(steps=100)
      (False, True)

    Reference: Frankle & Carbin, The Lottery Ticket Hypothesis, ICLR 2019, section 1.
    """

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.

    @property
    def last_step(self) -> int:
        """The last step at which the schedule prunes by itself, counted from 1 as tfmot does."""
        if self.steps_per_round is None:
            raise LotteryError(
                "A schedule for a model wrapped by tfmot needs steps_per_round, since tfmot counts "
                f"steps. Received: epochs_per_round={self.epochs_per_round}.")
        return self.rounds * self.steps_per_round + 1

    def __call__(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns whether to prune at a step and to which sparsity, as tfmot's wrapper asks.

        Args:
          step: scalar, the training step about to run, counted from 1.

        Returns:
          A bool tensor, true at the first step after each round, and a float32 tensor, the
          sparsity 1 - density of the level to which the step belongs, in [0, 1).
        """
        # Computed in the graph: tfmot calls this while the training step is traced.
        last = self.last_step
        if not isinstance(self.fraction, float):
            raise LotteryError("A schedule that tfmot calls must have one fraction. Received: "
                               f"fraction={plain(self.fraction)}. Give each layer its own "
                               "LotteryTicketSchedule, or wrap with lth.prune_low_magnitude.")
        done = tf.cast(step, tf.int64) - 1
        length = tf.constant(self.steps_per_round, tf.int64)
        prune = (done > 0) & (done < last) & (done % length == 0)
        level = tf.minimum(tf.maximum(done, 0) // length, self.rounds)
        density = tf.pow(tf.constant(1.0 - self.fraction, tf.float32), tf.cast(level, tf.float32))
        return prune, 1.0 - density

    def get_config(self) -> dict[str, Any]:
        """Returns the schedule as plain data, in the nested form that tfmot's wrappers store."""
        # tfmot's own schedules return this form, and its wrapper reads no other.
        return {"class_name": _NAME, "config": self.settings}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LotteryTicketSchedule":
        """Makes a schedule from the data of `get_config`, or from their inner part.

        Both forms occur: tfmot's wrapper passes the inner part, Keras the whole.
        """
        return cls(**config.get("config", config))
