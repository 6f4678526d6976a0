"""Training: one network from its initial weights to its last step, many times over.

The steps, the order of the examples and the validation of an interval are one compiled
program (`experiments.training.program`); what is here decides what goes in, and keeps what comes
out.  The test set is looked at where the validation loss was least, and at the end.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.experiments.results.outcome import Speed
from lth_keras.experiments.training import data_feed, optimizers
from lth_keras.experiments.training.data_feed import Interval
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.program import Program
from lth_keras.keras2 import random_generators, rewinding
from lth_keras.keras2.masking.weight_names import named_weights

_MEASURED = 1.0  # Seconds of steps that a measurement of the speed takes, about.


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingSpec:
    """What one training sees, and for how long.

    Attributes:
      weights: name -> array, where every weight starts.
      masks: weight name -> 0/1 array.
      train: indices of the training examples, in the order of their classes' file.
      validation: indices of those held out.
      order: the generator of the data order.
      steps: optimizer steps.
      validation_every: steps between validations.
      batch_size: examples a step.
      seed: of what is drawn while training (augmentation, dropout), in [0, 2**31).
      first: the step that `weights` are of; it trains the steps after it.
      rate_first: the step of the learning rate's schedule that it begins at.
      rate_stretch: its steps a step of that schedule.
      rewind_step: the step whose weights are captured on the way, or 0 for none.
      measured_steps: steps at which the test accuracy is taken.
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


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What one training gave.

    Attributes:
      weights: name -> array at the last step.
      curve: a row a validation: step, loss and the model's metrics (over the interval, in
        training), and the same with "val_" in front.
      result: diverged_at_step: of the validation at which a loss or a weight was seen to be
        NaN or infinite, where the training ends, or None.  If None: early_stop_step (step of
        minimum validation loss, the first of equal ones), val_loss_min; for each of the model's
        metrics test_METRIC_early_stop, test_METRIC_final and train_METRIC_final (of accuracy: in
        [0, 1]), and test_accuracy_step_N for measured step N.  Always: seconds.
      rewound: the weights at the plan's rewind_step, if it has one.
    """

    weights: dict[str, Array]
    curve: pd.DataFrame
    result: dict[str, Any]
    rewound: "dict[str, Array] | None" = None

    @property
    def diverged(self) -> bool:
        """Whether a loss or a weight was no longer finite."""
        return self.result["diverged_at_step"] is not None


class Trainer:
    """Trains one compiled model again and again on one data set.

    Args:
      model: a compiled classifier or regressor, wrapped or not.
      data: the data set.
      augmentation: name of one of `experiments.training.augmentation`, for the training examples.
      resident_mib: data of at most so many MiB are moved to the device whole, larger data
        are streamed to it.

    Raises:
      LotteryError: if a layer draws random numbers that no seed given later can decide.
    """

    def __init__(self, model: Any, data: Data, augmentation: str = "none",
                 resident_mib: int = data_feed.RESIDENT_MIB):
        self._model = model
        self._generators = _generators(model)
        self._program = Program(model, data, augmentation)
        self.feed = data_feed.make(self._program, data, resident_mib)
        self._test = np.arange(len(data.y_test))
        with model.distribute_strategy.scope():  # The optimizer's slots are made here.
            self._fresh = rewinding.Snapshot.of(model)

    def train(self, plan: TrainingSpec,
              on_interval: Callable[[int], None] = lambda steps: None) -> Trained:
        """Trains from the plan's weights with a fresh optimizer.

        Args:
          plan: what to train, on what, how long.
          on_interval: called after each interval with its number of steps.
        """
        began = time.perf_counter()
        self._start(plan)
        variables = named_weights(self._model)
        rows: list[dict[str, float]] = []
        best: tuple[float, int] = (np.inf, 0)
        best_weights: dict[str, Array] = {}
        rewound: dict[str, Array] | None = None
        steps: dict[str, float] = {}
        for interval, logs in self.feed.train(intervals(plan), plan.validation, plan.seed):
            rows.append({"step": interval.last, **_floats(logs)})
            on_interval(interval.count)
            if not np.isfinite(list(rows[-1].values())).all():
                break
            if rows[-1]["val_loss"] < best[0]:
                best, best_weights = (rows[-1]["val_loss"],
                                      interval.last), rewinding.read(variables)
            if interval.last == plan.rewind_step:
                rewound = rewinding.read(variables)
            if interval.last in plan.measured_steps:
                steps |= self._measures("test", self._test, f"test_{{}}_step_{interval.last}")
        final = rewinding.read(variables)
        finite = all(np.isfinite(value).all() for value in final.values()) \
            and np.isfinite(list(rows[-1].values())).all()
        measures = {**self._evaluated(plan, variables, best_weights), **steps} if finite else {}
        result = {"diverged_at_step": None, "early_stop_step": best[1], "val_loss_min": best[0],
                  **measures} if finite else {"diverged_at_step": int(rows[-1]["step"])}
        return Trained(final, pd.DataFrame(rows),
                       {**result, "seconds": round(time.perf_counter() - began, 3)}, rewound)

    def _evaluated(self, plan: TrainingSpec, variables: Any, best: Arrays) -> dict[str, float]:
        measures = {**self._measures("test", self._test, "test_{}_final"),
                    **self._measures("train", plan.train, "train_{}_final")}
        for name, value in best.items():
            variables[name].assign(value)
        return measures | self._measures("test", self._test, "test_{}_early_stop")

    def measure(self, plan: TrainingSpec) -> Speed:
        """Compiles the program, and measures how fast it is, in a few seconds more.

        Args:
          plan: what would be trained.
        """
        self._start(plan)
        indices = next(intervals(plan)).indices

        def seconds(count: int) -> float:
            began = time.perf_counter()
            interval = Interval(0, count, indices)
            for _, logs in self.feed.train([interval], plan.validation, plan.seed):
                _floats(logs)  # Waits for the device.
            return time.perf_counter() - began

        first, short = seconds(1), min(seconds(1), seconds(1))
        # More steps until they show beside the validation, which may take longer than many; twice,
        # so that a pause of the machine is not taken for them.
        count, taken = 1, short
        while count < len(indices) and taken - short < _MEASURED / 2:
            count = min(2 * count, len(indices))
            taken = seconds(count)
            if taken - short >= _MEASURED / 2:
                taken = min(taken, seconds(count))
        step = max(0.0, taken - short) / max(1, count - 1)
        validation = max(0.0, short - step)
        evaluated = 2 * len(self._test) + len(plan.train)
        return Speed(max(0.0, first - short), step, validation,
                     evaluation=validation * evaluated / len(plan.validation))

    @property
    def compilations(self) -> int:
        """How many programs have been compiled for training so far."""
        return int(self.feed.interval.experimental_get_tracing_count())

    def _start(self, plan: TrainingSpec) -> None:
        self._program.check_shares({
            "a batch": plan.batch_size, "validation": len(plan.validation),
            "training": len(plan.train), "testing": len(self._test)})
        start = dataclasses.replace(self._fresh, weights=dict(plan.weights))
        rewinding.assign_masks(self._model, plan.masks)
        start.restore(self._model, plan.masks)
        optimizers.begin_schedule_at(
            self._model.optimizer, plan.rate_first, plan.rate_stretch)
        for number, generator in enumerate(self._generators):
            generator.reset_from_seed(plan.seed + number)

    def _measures(self, part: str, indices: Array, name: str) -> dict[str, float]:
        return {name.format(metric): value
                for metric, value in _floats(self.feed.evaluate(part, indices)).items()}


def _floats(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


def _generators(model: Any) -> list[Any]:
    for name in random_generators.without_generator(model):
        raise LotteryError(
            "Layers that draw random numbers must be made after tf_keras.backend.experimental."
            "enable_tf_random_generator(), so that the seed decides what they draw. Received: "
            f"{name!r}.")
    return random_generators.generators(model)


def intervals(plan: TrainingSpec) -> Iterator[Interval]:
    """The examples of each validation interval.

    Every epoch is a new permutation; a batch may hold the end of one and the beginning of
    the next, so that all batches are full.

    Yields:
      Intervals of `validation_every` rows of indices each, from step `first` on; a last,
      shorter one leaves the rows past its end unused.
    """
    rows, waiting = plan.validation_every, np.empty(0, np.int64)
    for first in range(0, plan.steps, rows):
        while len(waiting) < rows * plan.batch_size:
            waiting = np.concatenate([waiting, plan.order.permutation(plan.train)])
        taken, waiting = np.split(waiting, [rows * plan.batch_size])
        if first >= plan.first:
            yield Interval(first, min(rows, plan.steps - first),
                           taken.reshape(rows, plan.batch_size))
