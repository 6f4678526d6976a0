"""Trains networks of one architecture with Keras 3, several of them at the same time on JAX.

Trainings of equal length, which begin at the same step, run side by side.  A program always trains
`together` networks, so that it is compiled once: what is missing is filled with copies, whose
results are not used.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays, ones
from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import parse
from lth_keras.costs.model_rows import ModelRows
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data, scaled
from lth_keras.experiments.training.network_trainer import (
    NetworkTrainer,
    OnInterval,
    Stopwatch,
)
from lth_keras.experiments.training.spec import (
    Interval,
    intervals,
    is_finite,
    Trained,
    TrainingRecord,
    TrainingSpec,
)
from lth_keras.experiments.training_keras3 import optimizers
from lth_keras.experiments.training_keras3.models import KERAS
from lth_keras.experiments.training_keras3.network_states import ModelLayout, Steps
from lth_keras.files import provenance
from lth_keras.initial.scored_model import scored, ScoredModel
from lth_keras.keras3.engine import PlainNetwork
from lth_keras.keras3.model_run import Keras3Run
from lth_keras.keras3.weights import with_units


class PlainNetworkTrainer(NetworkTrainer):
    """Trains a configuration's network as an ordinary Keras 3 model.

    Args:
      config: the settings.
      data: the data set that the settings name.
      resident_mib: the largest size of a data set that is moved to a device whole, in MiB.
      together: how many networks to train at the same time, >= 1; None to let the device decide.
      counts: how many units each group of filters keeps, of a smaller network that has no masks;
        None for the whole network.

    Attributes:
      model: the model whose steps are compiled; its own weights are not those that are trained.
      program: the compiled steps and evaluation.

    Raises:
      LotteryError: if the settings do not fit the network, the data set or the backend.
    """

    def __init__(self, config: Config, data: Data, resident_mib: int,
                 together: int | None = None, counts: Sequence[int] | None = None):
        if config.augmentation != "none" and data.x_train.ndim not in (3, 4):
            raise LotteryError(f"augmentation={config.augmentation} needs images of shape (height, "
                               "width) or (height, width, channels). Received: examples of shape "
                               f"{data.input_shape}.")
        size = data.x_train.nbytes + data.x_test.nbytes
        if config.keras_backend == "jax" and size > resident_mib * 2**20:
            raise LotteryError("A data set must fit into the device's memory with keras_backend="
                               f"jax. Received: {size / 2**20:,.0f} MiB, with resident_mib="
                               f"{resident_mib:,}. Raise resident_mib (--resident_mib), or use "
                               "engine=tf_keras, which streams data.")
        self._data, self._counts = data, counts
        self._made_with = config, data, resident_mib
        self.model = compiled_model(config, data, counts, self._optimizer)
        self._layout = self._layout_of(self.model)
        self.prunable: Mapping[str, Prunable] = self._layout.prunable
        self.shapes: Mapping[str, tuple[int, ...]] = self._layout.shapes
        self.structures: Mapping[str, Structure] = self._layout.structures
        self.program = program_of(self.model, self._layout, data, config, together)
        self.together: int = self.program.together
        self.provenance: Mapping[str, Any] = {
            "versions": provenance.versions(provenance.KERAS[config.keras_backend]),
            **self.program.provenance}

    # A training whose optimizer holds masks is made, and ends, otherwise.

    def _trainer_of(self, method: str) -> "PlainNetworkTrainer":
        return self

    def _optimizer(self, model: Any, inner: Any) -> Any:
        return inner

    def _layout_of(self, model: Any) -> ModelLayout:
        return ModelLayout(model, parse(self._made_with[0].structure),
                           has_masks=self._counts is None)

    def _settle(self, records: Sequence[TrainingRecord]) -> None:
        pass

    def smaller(self, counts: Sequence[int]) -> "PlainNetworkTrainer":
        return PlainNetworkTrainer(*self._made_with, self.together, counts)

    def uses(self) -> Mapping[str, float]:
        return ModelRows(Keras3Run(self.model, None)).uses

    def initial_weights(self, rng: np.random.Generator) -> dict[str, Array]:
        return KERAS.initial_weights(self.model, rng)

    def train(self, specs: Sequence[TrainingSpec], on_interval: OnInterval) -> list[Trained]:
        results: dict[int, Trained] = {}
        for group in self._groups(specs):
            trained = self._trainer_of(specs[group[0]].method)._train(
                [specs[place] for place in group], _Places(group, on_interval))
            results.update(zip(group, trained, strict=True))
        return [results[place] for place in range(len(specs))]

    def _groups(self, specs: Sequence[TrainingSpec]) -> list[list[int]]:
        # Places in `specs` of trainings that can run side by side.
        alike: dict[Any, list[int]] = {}
        for place, spec in enumerate(specs):
            alike.setdefault((spec.method, spec.steps, spec.first, spec.rate_first,
                              spec.rate_stretch, spec.measured_steps), []).append(place)
        return [places[begin:begin + self.together] for places in alike.values()
                for begin in range(0, len(places), self.together)]

    def _train(self, specs: Sequence[TrainingSpec], on_interval: OnInterval) -> list[Trained]:
        began = time.perf_counter()
        self._begin(specs)
        records = [TrainingRecord(spec.patience, spec.steps) for spec in specs]
        rewound: list[dict[str, Array] | None] = [None] * len(specs)
        measures: list[dict[str, float]] = [{} for _ in specs]
        waiting: tuple[Interval, Any] | None = None
        patient = any(spec.patience for spec in specs)
        for interval, indices in _side_by_side(specs, self.together):
            logs = self._interval(interval, indices, specs)
            # The metrics of the interval before are read while the device computes this one, if
            # they do not decide whether it is.
            if waiting and self._noted(waiting, records, on_interval):
                break
            waiting = interval, logs
            if patient:
                waiting = None
                if self._noted((interval, logs), records, on_interval):
                    break
            kept = [place for place, spec in enumerate(specs)
                    if interval.last == spec.rewind_step]
            now = self.program.weights() if kept else []
            for place in kept:
                rewound[place] = now[place]
            if interval.last in specs[0].measured_steps:
                tested = self.program.evaluate("test")
                for place, record in enumerate(records):
                    measures[place] |= {} if record.over else self._measures(
                        place, tested, f"test_{{}}_step_{interval.last}")
        if waiting:
            self._noted(waiting, records, on_interval)
        self._settle(records)
        final = self.program.weights()[:len(specs)]
        if any(record.ended or (not record.stopped and is_finite(weights))
               for record, weights in zip(records, final, strict=True)):
            for place, evaluated in enumerate(self._evaluated(specs)):
                measures[place] = evaluated | measures[place]
        seconds = time.perf_counter() - began
        return [record.trained(weights, found, seconds, kept) for record, weights, found, kept
                in zip(records, final, measures, rewound, strict=True)]

    def _begin(self, specs: Sequence[TrainingSpec]) -> None:
        filled = _filled(specs, self.together)
        self.program.begin(
            [self._layout.state(spec.weights, spec.masks, spec.seed) for spec in filled],
            [spec.seed for spec in filled])
        self._validation = np.stack([spec.validation for spec in filled]).astype(np.int32)

    def _interval(self, interval: Interval, indices: Array,
                  specs: Sequence[TrainingSpec]) -> Any:
        return self.program.interval(indices, self._validation, Steps(
            interval.count, interval.first, specs[0].rate_first, specs[0].rate_stretch))

    def _noted(self, waiting: tuple[Interval, Any], records: Sequence[TrainingRecord],
               on_interval: OnInterval) -> bool:
        # Whether all trainings are over.
        interval, logs = waiting
        values = {name: np.asarray(logs[name]) for name in _ordered(logs)}
        for place, record in enumerate(records):
            if not record.over:
                record.add(interval.last, {name: float(value[place])
                                           for name, value in values.items()})
                on_interval(place, interval.count)
                if record.ended:
                    self.program.hold(place)
        return all(record.over for record in records)

    def _evaluated(self, specs: Sequence[TrainingSpec]) -> list[dict[str, float]]:
        train = np.stack([spec.train for spec in _filled(specs, self.together)]).astype(np.int32)
        logs = {"test_{}_final": self.program.evaluate("test"),
                "train_{}_final": self.program.evaluate("train", train),
                "test_{}_early_stop": self.program.evaluate("test", best=True)}
        return [{key: value for name, each in logs.items()
                 for key, value in self._measures(place, each, name).items()}
                for place in range(len(specs))]

    def _measures(self, place: int, logs: Any, name: str) -> dict[str, float]:
        # Metrics of one network under the names of columns in results.csv.
        return {name.format(metric): float(np.asarray(logs[metric])[place])
                for metric in _ordered(logs)}

    def stopwatch(self, spec: TrainingSpec) -> Stopwatch:
        self._begin([spec])
        interval, indices = next(_side_by_side([spec], self.together))

        def seconds(count: int) -> float:
            began = time.perf_counter()
            logs = self._interval(Interval(0, count, interval.indices), indices, [spec])
            for value in logs.values():
                np.asarray(value)  # Waits until the device is done.
            return time.perf_counter() - began

        evaluated = 2 * len(self._data.y_test) + len(spec.train)
        return Stopwatch(seconds, len(interval.indices), evaluated / len(spec.validation),
                         self.together)

    def loss_gradient(self, weights: Arrays, masks: Arrays, indices: Array) -> dict[str, Array]:
        network = self._network(weights, masks)
        return dict(network.loss_gradient(self._scoring_data(indices))())

    def activations(self, weights: Arrays, masks: Arrays, indices: Array) -> dict[str, Array]:
        network = self._network(weights, masks, self._made_with[0].structure)
        return dict(network.activations(self._scoring_data(indices))())

    def scored_model(self, weights: Arrays) -> ScoredModel:
        self._network(weights, ones(self.shapes))
        return scored(self.model)

    def _network(self, weights: Arrays, masks: Arrays,
                 structure: str | None = None) -> PlainNetwork:
        network = PlainNetwork(self.model, structure=structure)
        network.assign({**network.weights(), **weights}, masks)
        return network

    def _scoring_data(self, indices: Array) -> tuple[Array, Array]:
        return scaled(self._data.x_train[indices]), self._data.y_train[indices]


class _Places:
    # Tells the places of a group's trainings in the list that was asked for.

    def __init__(self, group: Sequence[int], on_interval: OnInterval):
        self._group, self._on_interval = group, on_interval

    def __call__(self, place: int, steps: int) -> None:
        self._on_interval(self._group[place], steps)


def compiled_model(config: Config, data: Data, counts: Sequence[int] | None = None,
                   optimizer_of: Callable[[Any, Any], Any] = lambda model, inner: inner) -> Any:
    """Builds and compiles a configuration's network, with all the variables of its training.

    Args:
      config: the settings.
      data: the data set.
      counts: how many units each group of filters keeps; None for all.
      optimizer_of: makes the model's optimizer, from the model and that of the settings.
    """
    model = KERAS.build(config, data.input_shape, data.classes,
                        lambda whole: whole if counts is None else with_units(whole, counts))
    KERAS.compile(model, optimizer_of(model, optimizers.build_optimizer(config)))
    # Keras makes the variables of metrics with the first batch.
    model.test_on_batch(scaled(data.x_test[:1]), data.y_test[:1])
    model.reset_metrics()
    return model


def program_of(model: Any, layout: ModelLayout, data: Data, config: Config,
               together: int | None = None) -> Any:
    """Makes the program that trains a model on the backend of a configuration.

    Args:
      model: a compiled model.
      layout: where its weights lie in its state.
      data: the data set.
      config: the settings keras_backend, augmentation and replicates are used.
      together: how many networks to train at the same time, >= 1; None to let the device decide.

    Raises:
      LotteryError: if several networks are asked for, and the backend trains one at a time.
    """
    if config.keras_backend == "jax":
        from lth_keras.experiments.training_keras3 import jax_devices
        return jax_devices.program(model, layout, data, config, together)
    if together not in (None, 1):
        raise LotteryError("together (--together) must be 1 unless keras_backend is jax. Received: "
                           f"{together} on {config.keras_backend}. Use --jobs, or --set "
                           "keras_backend=jax.")
    from lth_keras.experiments.training_keras3.stepwise_program import StepwiseProgram
    return StepwiseProgram(model, layout, data, config.augmentation)


def _ordered(logs: Any) -> list[str]:
    # As Keras orders metrics: JAX sorts them by name.
    return sorted(logs, key=lambda name: (name.startswith("val_"), not name.endswith("loss")))


def _filled(specs: Sequence[TrainingSpec], together: int) -> list[TrainingSpec]:
    return [*specs, *[specs[-1]] * (together - len(specs))]


def _side_by_side(specs: Sequence[TrainingSpec],
                  together: int) -> Iterator[tuple[Interval, Array]]:
    # Each interval of the first training, with the indices of all: (networks, rows, batch).
    for each in zip(*map(intervals, specs), strict=True):
        indices = [interval.indices for interval in each]
        indices += indices[-1:] * (together - len(indices))
        yield each[0], np.stack(indices).astype(np.int32)
