"""Trains one network from its initial weights to its last step; the same model serves many times.

`training_keras2.program` compiles the steps and the validation; `Trainer` decides what goes in and
keeps what comes out.  The test set is evaluated at the step of minimum validation loss, at the
last step, and at `measured_steps`.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.network_trainer import Stopwatch
from lth_keras.experiments.training.spec import (
    Interval,
    intervals,
    is_finite,
    Trained,
    TrainingRecord,
    TrainingSpec,
)
from lth_keras.experiments.training_keras2 import data_feed, optimizers
from lth_keras.experiments.training_keras2.program import Program
from lth_keras.keras2 import random_generators, rewinding
from lth_keras.keras2.masking.weight_names import named_weights


class Trainer:
    """Trains one compiled model any number of times on one data set.

    Compiling takes longer than a short training, so every level, branch and replicate of a worker
    is trained by one Trainer.

    Args:
      model: a compiled classifier or regressor, with or without pruning wrappers.
      data: the data set.
      augmentation: the name of an augmentation of the training examples, one of
        `training_keras2.augmentation.AUGMENTATIONS`.
      resident_mib: data of at most this many MiB are moved to the device whole; larger data are
        streamed to it.

    Raises:
      LotteryError: if a layer draws random numbers that cannot be seeded later on.
    """

    def __init__(self, model: Any, data: Data, augmentation: str = "none",
                 resident_mib: int = data_feed.RESIDENT_MIB):
        self._model = model
        self._generators = _generators(model)
        self._program = Program(model, data, augmentation)
        self.feed = data_feed.make(self._program, data, resident_mib)
        self._test = np.arange(len(data.y_test))
        self._keep_fresh()

    def train(self, plan: TrainingSpec,
              on_interval: Callable[[int], None] = lambda steps: None) -> Trained:
        """Trains from given weights with a fresh optimizer.

        Args:
          plan: the weights, masks, data and steps.
          on_interval: called after each validation with the number of steps since the last.
        """
        began = time.perf_counter()
        self._start(plan)
        variables = named_weights(self._model)
        record = TrainingRecord(plan.patience, plan.steps)
        best: dict[str, Array] = {}
        rewound: dict[str, Array] | None = None
        measures: dict[str, float] = {}
        for interval, logs in self.feed.train(intervals(plan), plan.validation, plan.seed):
            improved = record.add(interval.last, _floats(logs))
            on_interval(interval.count)
            if record.over:
                break
            # Only the weights are kept: the test set is evaluated at the end, once.
            if improved:
                best = rewinding.read(variables)
            if interval.last == plan.rewind_step:
                rewound = rewinding.read(variables)
            if interval.last in plan.measured_steps:
                measures |= self._measures("test", self._test, f"test_{{}}_step_{interval.last}")
        if not record.over:
            self._settle()
        final = rewinding.read(variables)
        if record.ended or (not record.stopped and is_finite(final)):
            measures = self._evaluated(plan, variables, best) | measures
        return record.trained(final, measures, time.perf_counter() - began, rewound)

    def _evaluated(self, plan: TrainingSpec, variables: Any, best: Arrays) -> dict[str, float]:
        measures = {**self._measures("test", self._test, "test_{}_final"),
                    **self._measures("train", plan.train, "train_{}_final")}
        # Last, since it overwrites the final weights.
        for name, value in best.items():
            variables[name].assign(value)
        return measures | self._measures("test", self._test, "test_{}_early_stop")

    def stopwatch(self, plan: TrainingSpec) -> Stopwatch:
        """Returns what compiles the program and measures its speed.

        Args:
          plan: a training like those to come.
        """
        self._start(plan)
        indices = next(intervals(plan)).indices

        def seconds(count: int) -> float:
            began = time.perf_counter()
            interval = Interval(0, count, indices)
            for _, logs in self.feed.train([interval], plan.validation, plan.seed):
                _floats(logs)  # Reading the metrics waits until the device is done.
            return time.perf_counter() - began

        evaluated = 2 * len(self._test) + len(plan.train)
        return Stopwatch(seconds, len(indices), evaluated / len(plan.validation))

    # A training whose optimizer holds masks begins and ends otherwise.

    def _keep_fresh(self) -> None:
        # Optimizers create their slots at the first step; a snapshot of a fresh optimizer needs
        # them now, and under the strategy that will update them.
        with self._model.distribute_strategy.scope():
            self._fresh = rewinding.Snapshot.of(self._model)

    def _assign(self, plan: TrainingSpec) -> None:
        # A fresh optimizer with the plan's weights; masks decide which slots are zero.
        start = dataclasses.replace(self._fresh, weights=dict(plan.weights))
        rewinding.assign_masks(self._model, plan.masks)
        start.restore(self._model, plan.masks)

    def _settle(self) -> None:
        pass

    @property
    def compilations(self) -> int:
        """How often the training program has been compiled so far."""
        return int(self.feed.interval.experimental_get_tracing_count())

    def _start(self, plan: TrainingSpec) -> None:
        self._program.check_shares({
            "a batch": plan.batch_size, "validation": len(plan.validation),
            "training": len(plan.train), "testing": len(self._test)})
        self._assign(plan)
        optimizers.begin_schedule_at(
            self._model.optimizer, plan.rate_first, plan.rate_stretch)
        for number, generator in enumerate(self._generators):
            generator.reset_from_seed(plan.seed + number)

    def _measures(self, part: str, indices: Array, name: str) -> dict[str, float]:
        # Metrics under the names of columns in results.csv.
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
