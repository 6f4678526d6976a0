"""From the moments at which intervals ended to milliseconds a step."""

import time

import numpy as np

from benchmarks.task import Task, VALIDATION, VALIDATION_EVERY

WARM_UP = 1  # The interval that compiles.


class Stopwatch:
    """Is called at the end of each interval."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def __call__(self, steps: int = 0) -> None:
        self._ends.append(time.perf_counter())

    @property
    def interval(self) -> float:
        """The median of the intervals after the first, in seconds."""
        return float(np.median(np.diff(self._ends)))

    @property
    def whole(self) -> float:
        """From the end of the first interval to that of the last, in seconds."""
        return self._ends[-1] - self._ends[0]


def milliseconds(task: Task, plain: float, validated: float) -> dict[str, float]:
    """Milliseconds a step, with the validation as often as in the experiment.

    Args:
      task: gives the steps of an interval.
      plain: seconds of an interval that ends in the validation of one example.
      validated: seconds of an interval that ends in that of `task.validation` examples.
    """
    validation = (validated - plain) * VALIDATION / task.validation
    return {"plain": 1e3 * plain / task.interval,
            "validated": 1e3 * (plain / task.interval + validation / VALIDATION_EVERY)}
