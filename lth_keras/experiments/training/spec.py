"""What one training depends on, and what it leaves: the same for both engines."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.core.masks import Array, Arrays


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingSpec:
    """Everything that one training depends on.

    Attributes:
      weights: name -> array, the initial value of every weight.
      masks: weight name -> 0/1 array.
      train: indices of the training examples in the data set's training part.
      validation: indices of the examples held out for validation, in the same part.
      order: the random generator of the data order.
      steps: the number of the last optimizer step.
      validation_every: steps between validations.
      batch_size: examples in a step.
      seed: seeds augmentation and dropout, in [0, 2**31).
      first: the step that `weights` belong to; the steps after it are trained.
      rate_first: the step at which the learning-rate schedule begins.
      rate_stretch: how many steps are trained for each step of the learning-rate schedule.
      rewind_step: the step whose weights are captured during training, or 0 for none.
      measured_steps: steps at which the test accuracy is measured.
      patience: the steps without a lower validation loss after which it ends; 0 to go on to the
        last step.
      method: the sparse training that finds masks of as many weights in each layer as `masks`;
        "" to train with `masks`.
    """

    weights: Arrays
    masks: Arrays
    train: Array
    validation: Array
    order: np.random.Generator
    steps: int
    validation_every: int
    batch_size: int
    seed: int = 0
    first: int = 0
    rate_first: int = 0
    rate_stretch: float = 1.0
    rewind_step: int = 0
    measured_steps: tuple[int, ...] = ()
    patience: int = 0
    method: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """The result of one training.

    Attributes:
      weights: name -> array at the last step.
      curve: a table with one row for each validation: the step, loss and metrics over the
        interval before it, and the same of the validation examples with the prefix "val_".
      result: diverged_at_step, the validation at which a loss or weight was NaN or infinite and
        training stopped, or None.  If None, also early_stop_step (the step of minimum validation
        loss; the first of equal ones), val_loss_min, for each metric test_METRIC_early_stop,
        test_METRIC_final and train_METRIC_final (accuracies in [0, 1]), and
        test_accuracy_step_N for each measured step N.  With patience: ended_at_step, or None; a
        training that has ended has no measures at the last step.  Always: seconds.
      rewound: the weights at `TrainingSpec.rewind_step`, if it is not 0.
      masks: weight name -> 0/1 array, those that a sparse training has found; None of others.
    """

    weights: dict[str, Array]
    curve: pd.DataFrame
    result: dict[str, Any]
    rewound: "dict[str, Array] | None" = None
    masks: "dict[str, Array] | None" = None

    @property
    def diverged(self) -> bool:
        """Whether a loss or a weight became NaN or infinite."""
        return self.result["diverged_at_step"] is not None


@dataclasses.dataclass(frozen=True, eq=False)
class Interval:
    """The steps between two validations.

    Attributes:
      first: the number of steps before this interval.
      count: the number of steps in it.
      indices: the indices of their examples, shape (rows, batch_size), rows >= count. Rows past
        `count` are not used: all intervals have one shape, so that the program is compiled once.

    Example:
      >>> Interval(first=100, count=50, indices=np.zeros((100, 60), int)).last
      150
    """

    first: int
    count: int
    indices: Array

    @property
    def last(self) -> int:
        """The number of the last step, counted from 1."""
        return self.first + self.count


class TrainingRecord:
    """What a training has measured so far: its curve, and its best validation.

    Args:
      patience: the steps without a lower validation loss after which it ends; 0 for no end.
      last: the number of its last step.

    Attributes:
      early_stop_step: the step of minimum validation loss, the first of equal ones; 0 before any.
      stopped: whether a loss or metric was NaN or infinite, so that the training ends.
      ended: the step before the last at which its patience was at an end, or None.

    Example:
      >>> record = TrainingRecord()
      >>> [record.add(step, {"val_loss": loss}) for step, loss in ((10, 2.0), (20, 3.0))]
      [True, False]
      >>> record.early_stop_step, record.stopped
      (10, False)
    """

    def __init__(self, patience: int = 0, last: float = np.inf) -> None:
        self._patience, self._last = patience, last
        self._rows: list[dict[str, float]] = []
        self._least = np.inf
        self.early_stop_step = 0
        self.stopped = False
        self.ended: int | None = None

    @property
    def over(self) -> bool:
        """Whether the training stops before its last step."""
        return self.stopped or self.ended is not None

    def add(self, step: int, logs: Mapping[str, float]) -> bool:
        """Adds a validation; returns whether its loss is the least so far.

        Args:
          step: the number of the step after which the network was validated.
          logs: loss and metrics since the last validation, and of the validation with "val_".
        """
        self._rows.append({"step": step, **logs})
        self.stopped = not np.isfinite(list(logs.values())).all()
        if not self.stopped and logs["val_loss"] < self._least:
            self._least, self.early_stop_step = logs["val_loss"], step
            return True
        waited = step - self.early_stop_step
        if self._patience and not self.stopped and waited >= self._patience and step < self._last:
            self.ended = step
        return False

    def trained(self, weights: dict[str, Array], measures: Mapping[str, float], seconds: float,
                rewound: "dict[str, Array] | None" = None) -> "Trained":
        """Returns the training's result.

        Args:
          weights: name -> array at the last step.
          measures: what was evaluated at the end; left out if the training diverged.
          seconds: how long it took.
          rewound: name -> array at step k.
        """
        # The last interval's metrics are a mean: weights may be NaN that they do not show yet.
        ended = {"ended_at_step": self.ended} if self._patience else {}
        if self.stopped or not (self.ended or is_finite(weights)):
            result: dict[str, Any] = {"diverged_at_step": int(self._rows[-1]["step"]), **ended}
        else:
            if self.ended:  # What was measured afterwards is not of its last step.
                measures = {name: value for name, value in measures.items()
                            if not name.endswith("_final")}
            result = {"diverged_at_step": None, "early_stop_step": self.early_stop_step,
                      "val_loss_min": self._least, **measures, **ended}
        return Trained(weights, pd.DataFrame(self._rows), {**result, "seconds": round(seconds, 3)},
                       rewound)


def is_finite(weights: Arrays) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(np.isfinite(value).all() for value in weights.values())


def intervals(spec: TrainingSpec) -> Iterator[Interval]:
    """Yields the examples of each validation interval.

    Each epoch is a new permutation of the training examples.  A batch may hold the end of one
    epoch and the beginning of the next, so that all batches are full.

    Yields:
      Intervals of `validation_every` rows of indices, from step `first` on. The last one may use
      only some of its rows.

    Example:
      >>> spec = TrainingSpec({}, {}, np.arange(6), np.arange(2), np.random.default_rng(0),
      ...                     steps=5, validation_every=2, batch_size=3)
      >>> [(each.first, each.count, each.indices.shape) for each in intervals(spec)]
      [(0, 2, (2, 3)), (2, 2, (2, 3)), (4, 1, (2, 3))]
    """
    # Also the steps before `first` are drawn, so that a training that starts at step k sees the
    # same batches after k as the dense network.
    rows, waiting = spec.validation_every, np.empty(0, np.int64)
    for first in range(0, spec.steps, rows):
        while len(waiting) < rows * spec.batch_size:
            waiting = np.concatenate([waiting, spec.order.permutation(spec.train)])
        taken, waiting = np.split(waiting, [rows * spec.batch_size])
        if first >= spec.first:
            yield Interval(first, min(rows, spec.steps - first),
                           taken.reshape(rows, spec.batch_size))
