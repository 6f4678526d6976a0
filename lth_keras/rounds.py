"""The record of one round in `fit`: how long it was, and what Keras measured."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass
class Round:
    """One level's training as it goes on.

    Attributes:
      level: how many times the network has been pruned.
      density: the fraction of prunable weights kept.
      steps: optimizer steps so far.
      epochs: whole epochs so far.
      over: whether the next batch belongs to the next round.
      loss: the training loss that Keras last logged, or None.
      diverged: whether it ended with a loss or weights that are not finite.
    """

    level: int
    density: float
    steps: int = 0
    epochs: int = 0
    over: bool = False
    loss: Any = None
    diverged: bool = False
    _began: float = dataclasses.field(default_factory=time.perf_counter)
    _logs: dict[str, float] = dataclasses.field(default_factory=dict)
    _best: tuple[float, int] | None = None

    def end_epoch(self, logs: Mapping[str, Any]) -> None:
        """Counts an epoch and keeps its metrics.

        Example:
          >>> record = Round(level=0, density=1.0, steps=10)
          >>> record.end_epoch({"val_loss": 0.5})
          >>> record.row()["early_stop_step"], record.row()["val_loss"]
          (10, 0.5)
        """
        self.epochs += 1
        self.loss = logs.get("loss", self.loss)
        # A metric may be an array, one number a class; the table has room for one number.
        self._logs = {name: float(value) for name, value in logs.items()
                      if name not in ("level", "density") and np.ndim(value) == 0}
        loss = self._logs.get("val_loss", math.nan)
        # The first of equal minima, as the paper's criterion finds it afterwards.
        if loss < (self._best[0] if self._best else math.inf):
            self._best = (loss, self.steps)

    @property
    def lost(self) -> bool:
        """Whether the loss last logged is NaN or infinite."""
        return self.loss is not None and not math.isfinite(float(self.loss))

    def metrics(self) -> dict[str, Any]:
        """What the round measured; nothing that depends on the clock."""
        loss, step = self._best or (None, None)
        return {"level": self.level, "density": self.density, "steps": self.steps,
                "epochs": self.epochs, "early_stop_step": step, "val_loss_min": loss,
                **self._logs}

    def row(self) -> dict[str, Any]:
        """The round's row of the results table."""
        return {**self.metrics(), "diverged": self.diverged,
                "seconds": time.perf_counter() - self._began}
