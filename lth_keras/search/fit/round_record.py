"""Records the rounds of a search in `fit`: their lengths, and the metrics that Keras measured."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.best_level import accuracies, judged_by
from lth_keras.errors import LotteryError
from lth_keras.search.network import Restored
from lth_keras.search.target import Target


@dataclasses.dataclass
class Round:
    """The training of one level.

    Attributes:
      level: how many times the network has been pruned.
      density: the fraction of prunable weights kept, in [0, 1].
      steps: optimizer steps so far.
      epochs: finished epochs so far.
      over: whether the next batch belongs to the next round.
      loss: the training loss that Keras last logged, as it was logged, or None.
      diverged: whether the round ended with a loss or weights that are not finite.
      seconds: its duration in earlier processes; when it is over, its whole duration.
      logs: the metrics of the last epoch; those on validation data of the last that had any.
      best: the least validation loss and its step, or None.
      validated: the step of the last validation; None before any, or in an earlier version.
      left: the shares of the dense network's costs that are left, of those that a search ends by.
      costs: what the level costs without its pruned filters, see `Search.costs`.
      rates: the learning rates of level 0, as [step, rate] at steps with which an epoch began;
        None if a schedule computes them, or a round callback has set one.
    """

    level: int
    density: float
    steps: int = 0
    epochs: int = 0
    over: bool = False
    loss: Any = None
    diverged: bool = False
    seconds: float = 0.0
    logs: dict[str, float] = dataclasses.field(default_factory=dict)
    best: "list[Any] | None" = None
    validated: "int | None" = None
    left: dict[str, float] = dataclasses.field(default_factory=dict)
    costs: dict[str, float] = dataclasses.field(default_factory=dict)
    rates: "list[list[Any]] | None" = dataclasses.field(default_factory=list)
    _began: float | None = dataclasses.field(default_factory=time.perf_counter)

    def end_epoch(self, logs: Mapping[str, Any]) -> None:
        """Counts a finished epoch and stores its metrics.

        Example:
          >>> record = Round(level=0, density=1.0, steps=10)
          >>> record.end_epoch({"val_loss": 0.5})
          >>> record.row()["early_stop_step"], record.row()["val_loss"]
          (10, 0.5)
        """
        self.epochs += 1
        self.loss = logs.get("loss", self.loss)
        found = {name: number for name, value in logs.items()
                 if name not in ("level", "density") and (number := _number(value)) is not None}
        # With validation_freq not every epoch is validated.
        self.logs = found | {name: value for name, value in self.logs.items()
                             if name.startswith("val_") and name not in found}
        loss = found.get("val_loss", math.nan)
        if "val_loss" in found:
            self.validated = self.steps
        # "<": of equal minima the first counts, as in the paper's early-stopping criterion.
        if loss < (self.best[0] if self.best else math.inf):
            self.best = [loss, self.steps]

    def rate_expected(self, rate: "float | None", rewind_step: int) -> "float | None":
        """Returns the learning rate that level 0 had at the same step, where that is known.

        Args:
          rate: the one that the next step is taken with; that of level 0 is noted.
          rewind_step: the step of level 0 at which this round began.

        Example:
          >>> Round(level=1, density=0.8, steps=5, rates=[[0, 0.5], [5, 0.25]]).rate_expected(
          ...     0.125, rewind_step=0)
          0.25
        """
        if self.rates is None or rate is None:
            return None
        if not self.level:
            self.rates.append([self.steps, rate])
        here = self.steps + (rewind_step if self.level else 0)
        if not self.rates or here > self.rates[-1][0]:
            return None  # Level 0 ended before.
        return float(next(then for step, then in reversed(self.rates) if step <= here))

    def end(self) -> None:
        """Ends the round and stops its clock."""
        self.seconds, self._began, self.over = self._passed(), None, True

    def is_last(self, rounds: int, target: "Target | None") -> bool:
        """Returns whether a search ends with this round.

        Args:
          rounds: how many rounds the whole search has at most.
          target: the costs by which it ends, or None.
        """
        return self.level == rounds or (target is not None and target.is_reached(self.left))

    @property
    def last_loss(self) -> "float | None":
        """The loss last logged as a number; None if there is none."""
        return _number(self.loss)

    @property
    def loss_not_finite(self) -> bool:
        """Whether the loss last logged is NaN or infinite."""
        return self.last_loss is not None and not math.isfinite(self.last_loss)

    def metrics(self) -> dict[str, Any]:
        """Returns what the round measured without its duration, so that equal rounds are equal."""
        loss, step = self.best or (None, None)
        return {"level": self.level, "density": self.density, "steps": self.steps,
                "epochs": self.epochs, "early_stop_step": step, "val_loss_min": loss,
                **self.logs}

    def row(self) -> dict[str, Any]:
        """Returns the round's row of the results table."""
        return {**self.metrics(), **self.costs, "validated_step": self.validated,
                "diverged": self.diverged, "seconds": self._passed()}

    def to_dict(self) -> dict[str, Any]:
        """Returns the round as JSON values, to be resumed in another process."""
        kept = ("level", "density", "steps", "epochs", "over", "loss", "seconds", "logs", "best")
        return {name: getattr(self, name) for name in kept} | {
            "loss": self.last_loss,
            "seconds": self._passed(), "logs": dict(self.logs),
            **{name: dict(given) for name, given in (("left", self.left), ("costs", self.costs))
               if given},
            **({} if self.validated is None else {"validated": self.validated}),
            **({} if self.rates == [] else {"rates": self.rates and [*self.rates]})}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Round":
        """Makes a round from what `to_dict` returned; its clock runs on if it is not over.

        Example:
          >>> record = Round(level=2, density=0.64, steps=10, over=True)
          >>> Round.from_dict(record.to_dict()).metrics() == record.metrics()
          True
        """
        return cls(**given, _began=None if given["over"] else time.perf_counter())

    def _passed(self) -> float:
        return self.seconds + (0.0 if self._began is None else time.perf_counter() - self._began)


@dataclasses.dataclass
class Progress:
    """How far a search in `fit` has come.

    Attributes:
      round: the current round.
      rows: the rows of the finished rounds.
      restored: what each rewinding restored.
      first_epoch: the first epoch that `fit` trained; None before it.
    """

    round: Round
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    restored: list[Restored] = dataclasses.field(default_factory=list)
    first_epoch: int | None = None


def gains(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Returns by how much each level is better than level 0 at the end of its round.

    Args:
      rows: the rows of the levels, level 0 first.

    Returns:
      Level -> the difference of the metric of `judged_by`, > 0 if the level is better; NaN if it
      was not measured or the level diverged.

    Raises:
      LotteryError: if level 0 was not measured on validation data.

    Example:
      >>> gains([{"level": 0, "val_loss": 0.5}, {"level": 1, "val_loss": 0.25}])
      {0: 0.0, 1: 0.25}
    """
    name = judged_by(rows[0]) if rows else ""
    if not name:
        raise _not_judged(rows)
    better = [math.nan if row.get("diverged") else row.get(name, math.nan) - rows[0][name]
              for row in rows]
    return {row["level"]: 0.0 - gain if name == "val_loss" else gain
            for row, gain in zip(rows, better, strict=True)}


def _not_judged(rows: Sequence[Mapping[str, Any]]) -> LotteryError:
    received, remedy = "no level", "Pass validation_data or validation_split to fit"
    if rows and accuracies(rows[0]):
        received = f"{', '.join(accuracies(rows[0]))}, each of a part of the model, and no val_loss"
        remedy = "Let test_step return a loss"
    elif any(judged_by(row) for row in rows):
        received = "a level 0 of which no epoch was validated, though of later levels some were"
        remedy = "Let validation_freq divide the epochs of a round"
    elif rows:
        received = "a fit without them"
    return LotteryError(
        "The best level is chosen by validation data, of which level 0 must have been trained to "
        f"the end of an epoch. Received: {received}. {remedy}, or choose one of lottery.tickets.")


def _number(value: Any) -> "float | None":
    # A log may be text, an array with a number for each class, or whatever a train_step returns: a
    # table cell has one number.
    if isinstance(value, (str, bytes, np.complexfloating)):
        return None
    try:
        return float(value) if np.ndim(value) == 0 else None
    except (TypeError, ValueError):
        return None


def shown(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns the columns and cells that a notebook shows of the levels, as text.

    Example:
      >>> shown([{"level": 1, "density": 0.5, "steps": 40, "early_stop_step": 10, "val_loss": 0.25,
      ...         "seconds": 1.0}])
      (['level', 'density', 'early_stop_step', 'val_loss'], [['1', '50.0%', '10', '0.2500']])
    """
    left_out = ("steps", "epochs", "validated_step", "seconds", "diverged", "loss")
    columns = [name for name in dict.fromkeys(name for row in rows for name in row)
               if name not in left_out]
    return columns, [[_text(name, row.get(name)) for name in columns] for row in rows]


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "density":
        return f"{value:.1%}"
    if not isinstance(value, float):
        return f"{value:,}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"
