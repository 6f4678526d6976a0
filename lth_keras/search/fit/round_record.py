"""Records the rounds of a search in `fit`: their lengths, and the metrics that Keras measured."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

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
      loss: the training loss that Keras last logged, or None.
      diverged: whether the round ended with a loss or weights that are not finite.
      seconds: its duration in earlier processes; when it is over, its whole duration.
      logs: the metrics of the last epoch.
      best: the least validation loss and its step, or None.
      left: the shares of the dense network's costs that are left, of those that a search ends by.
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
    left: dict[str, float] = dataclasses.field(default_factory=dict)
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
        # Not metrics that are arrays, such as one number for each class: a table cell has one
        # number.
        self.logs = {name: float(value) for name, value in logs.items()
                     if name not in ("level", "density") and np.ndim(value) == 0}
        loss = self.logs.get("val_loss", math.nan)
        # "<": of equal minima the first counts, as in the paper's early-stopping criterion.
        if loss < (self.best[0] if self.best else math.inf):
            self.best = [loss, self.steps]

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
    def loss_not_finite(self) -> bool:
        """Whether the loss last logged is NaN or infinite."""
        return self.loss is not None and not math.isfinite(float(self.loss))

    def metrics(self) -> dict[str, Any]:
        """Returns what the round measured without its duration, so that equal rounds are equal."""
        loss, step = self.best or (None, None)
        return {"level": self.level, "density": self.density, "steps": self.steps,
                "epochs": self.epochs, "early_stop_step": step, "val_loss_min": loss,
                **self.logs}

    def row(self) -> dict[str, Any]:
        """Returns the round's row of the results table."""
        return {**self.metrics(), "diverged": self.diverged, "seconds": self._passed()}

    def to_dict(self) -> dict[str, Any]:
        """Returns the round as JSON values, to be resumed in another process."""
        kept = ("level", "density", "steps", "epochs", "over", "loss", "seconds", "logs", "best")
        return {name: getattr(self, name) for name in kept} | {
            "loss": None if self.loss is None else float(self.loss),
            "seconds": self._passed(), "logs": dict(self.logs),
            **({"left": dict(self.left)} if self.left else {})}

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
