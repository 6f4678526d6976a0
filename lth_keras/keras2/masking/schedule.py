"""When: the end of each round, and how sparse the network is after it."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras

from lth_keras.arguments import check_whole
from lth_keras.core import fractions
from lth_keras.core.fractions import Fraction
from lth_keras.errors import LotteryError

_NAME = "lth_keras>LotteryTicketSchedule"


@keras.utils.register_keras_serializable(package="lth_keras")
class LotteryTicketSchedule(tfmot.sparsity.keras.PruningSchedule):
    """The rounds of a search for winning tickets, as a tfmot pruning schedule.

    Level n, after n prunings, has density about (1 - fraction)^n; the exact count of
    each round is round(fraction x remaining).  `lth.LotteryTicketCallback` follows it on
    models wrapped by `lth.prune_low_magnitude` or by tfmot.  In a model that tfmot
    wrapped and no callback of ours drives, it prunes at the first step after each round,
    without rewinding.

    Args:
      rounds: how many times the network is pruned, >= 0; `rounds + 1` networks are trained.
      steps_per_round: length of a round in optimizer steps, >= 1, or
      epochs_per_round: length of a round in epochs, >= 1.  Exactly one is given.
      fraction: share of the remaining weights that a round prunes, in [0, 1), or a mapping
        by layer name, "output", layer type or "default" (the paper, LeNet:
        {"default": 0.2, "output": 0.1}).

    Raises:
      LotteryError: for a value outside its range, or neither or both lengths.

    Example:
      >>> schedule = LotteryTicketSchedule(rounds=3, steps_per_round=100, fraction=0.2)
      >>> [round(schedule.density(level), 3) for level in range(4)]
      [1.0, 0.8, 0.64, 0.512]
      >>> schedule.round_over(steps=99), schedule.round_over(steps=100)
      (False, True)

    Reference: Frankle & Carbin, The Lottery Ticket Hypothesis, ICLR 2019, section 1.
    """

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.

    def __init__(self, rounds: int, steps_per_round: int | None = None,
                 epochs_per_round: int | None = None, fraction: Fraction = 0.2):
        self.rounds = check_whole("rounds", rounds, 0)
        if (steps_per_round is None) == (epochs_per_round is None):
            raise LotteryError(
                "Exactly one of steps_per_round and epochs_per_round must be given. Received: "
                f"steps_per_round={steps_per_round!r}, epochs_per_round={epochs_per_round!r}.")
        self.steps_per_round = steps_per_round if steps_per_round is None \
            else check_whole("steps_per_round", steps_per_round, 1)
        self.epochs_per_round = epochs_per_round if epochs_per_round is None \
            else check_whole("epochs_per_round", epochs_per_round, 1)
        self.fraction = fractions.check(fraction)

    def density(self, level: int, fraction: float | None = None) -> float:
        """The density aimed at after `level` prunings, in (0, 1]: (1 - fraction)^level.

        Args:
          level: how many times the network has been pruned, >= 0.
          fraction: that of one layer, where `self.fraction` is a mapping.
        """
        if fraction is None:
            if isinstance(self.fraction, Mapping):
                raise LotteryError("density() needs the fraction of one layer where the schedule "
                                   f"has several. Received: {dict(self.fraction)}.")
            fraction = self.fraction
        return (1.0 - fraction) ** level

    def round_over(self, steps: int = 0, epochs: int = 0) -> bool:
        """Whether a round that has had this many steps and whole epochs is over."""
        if self.steps_per_round is not None:
            return steps >= self.steps_per_round
        return epochs >= (self.epochs_per_round or 0)

    @property
    def last_step(self) -> int:
        """The last step at which the schedule prunes by itself, counted from 1 as tfmot does."""
        if self.steps_per_round is None:
            raise LotteryError(
                "tfmot counts steps: a schedule for a model wrapped by tfmot needs "
                f"steps_per_round. Received: epochs_per_round={self.epochs_per_round}.")
        return self.rounds * self.steps_per_round + 1

    def __call__(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """tfmot's question: prune at this step, and to which sparsity?

        Args:
          step: scalar, the training step about to run, counted from 1.

        Returns:
          A bool tensor, true at the first step after each round, and a float32 tensor, the
          sparsity 1 - density of the level that step belongs to, in [0, 1).
        """
        last = self.last_step
        if isinstance(self.fraction, Mapping):
            raise LotteryError("tfmot asks a schedule for one sparsity: give each layer its own "
                               "LotteryTicketSchedule, or wrap with lth.prune_low_magnitude. "
                               f"Received: fraction={dict(self.fraction)}.")
        done = tf.cast(step, tf.int64) - 1
        length = tf.constant(self.steps_per_round, tf.int64)
        prune = (done > 0) & (done < last) & (done % length == 0)
        level = tf.minimum(tf.maximum(done, 0) // length, self.rounds)
        density = tf.pow(tf.constant(1.0 - self.fraction, tf.float32), tf.cast(level, tf.float32))
        return prune, 1.0 - density

    def get_config(self) -> dict[str, Any]:
        """The schedule as plain data, in the nested form that tfmot's wrappers store."""
        fraction = dict(self.fraction) if isinstance(self.fraction, Mapping) else self.fraction
        return {"class_name": _NAME,
                "config": {"rounds": self.rounds, "steps_per_round": self.steps_per_round,
                           "epochs_per_round": self.epochs_per_round, "fraction": fraction}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LotteryTicketSchedule":
        """The schedule of a config, as `get_config` gives it or its inner part."""
        return cls(**config.get("config", config))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LotteryTicketSchedule) and \
            self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(repr(self.get_config()))

    def __repr__(self) -> str:
        given = {key: value for key, value in self.get_config()["config"].items()
                 if value is not None}
        return f"LotteryTicketSchedule({', '.join(f'{k}={v!r}' for k, v in given.items())})"
