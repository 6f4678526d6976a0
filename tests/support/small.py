"""A network and a data set of a few numbers, and what watches a run of them."""

import dataclasses
import functools
import json
from concurrent.futures import Future

import numpy as np
import pytest
import tf_keras as keras

from lth_keras.errors import LotteryError
from lth_keras.experiments import worker
from lth_keras.experiments.config.config import Config, EXTENT
from lth_keras.experiments.experiment import Experiment
from lth_keras.experiments.pools import InProcess, Pool
from lth_keras.experiments.results import store
from lth_keras.experiments.results.store import Store
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras2 import engine
from lth_keras.experiments.training_keras2.trainer import Trainer

CONFIG = Config(preset="test", network="tiny", dataset="blobs", steps=12, rounds=2, replicates=1,
                validation_every=4, validation_size=10, batch_size=8,
                fraction={"default": 0.3, "output": 0.1})


def tiny(input_shape, classes):
    layers = keras.layers
    return keras.Sequential([layers.Input(input_shape), layers.Dense(8, "relu", name="a"),
                             layers.Dense(classes, name="b", dtype="float32")])


def blobs(train=50, test=20, seed=0):
    """Three classes of points, each about its own centre."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 6))

    def draw(size):
        y = rng.integers(0, 3, size).astype(np.int32)
        return (centres[y] + rng.normal(size=(size, 6))).astype(np.float32), y
    return Data(*draw(train), *draw(test), 3)


class Watch:
    """Notes what it is told."""

    def __init__(self):
        self.begun, self.ended, self.done = [], [], []

    def begin(self, training, density):
        self.begun.append(training)

    def steps(self, done):
        self.done.append(done)

    def end(self, training, result):
        self.ended.append(training)


class Stopping:
    """A lab in which Ctrl-C is pressed at a validation; before it so many are let through."""

    def __init__(self, lab, validations):
        self._lab, self._left = lab, validations

    def train_together(self, group, on_interval):
        def count(place, steps):
            on_interval(place, steps)
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        return self._lab.train_together(group, count)


class Inline(Pool):
    """Worker processes that are this process; it keeps what was compiled for each configuration."""

    _runner = staticmethod(functools.cache(worker._kept_runner.__wrapped__))

    def __init__(self, jobs, waiting, config, placement):
        super().__init__(jobs, waiting, config, dataclasses.replace(placement, threads=0))

    def _call(self, function, *arguments):
        future = Future()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker, "_kept_runner", self._runner)
            try:
                future.set_result(function(*arguments))
            except LotteryError as error:
                future.set_exception(error)
        return future

    def close(self):
        pass


# What no network is compiled by.  Compiling takes seconds, a training a fraction of one.
_NOT_COMPILED = dict.fromkeys((*EXTENT, "strategy", "retraining", "rewind_step", "seed", "fraction",
                               "scope", "criterion", "structure", "data_order", "measured_steps",
                               "distribution", "scoring_per_class", "against",
                               "mask_update_every", "source_fingerprint", "patience"))
_trainers = {}


@functools.cache
def _runner(settings):
    compiled_by = json.dumps({**json.loads(settings), **_NOT_COMPILED})

    def trainer(*arguments):
        if compiled_by not in _trainers:
            _trainers[compiled_by] = Trainer(*arguments)
        return _trainers[compiled_by]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Trainer", trainer)
        return engine.round_runner(Config.from_json(settings), blobs())


def lab(config=CONFIG, rounds=CONFIG.rounds):
    """A lab for the configuration; all tests share what it compiles."""
    one = config.replace(rounds=rounds, replicates=1, branches=CONFIG.branches)
    return _runner(json.dumps(one.to_dict()))


class Spying:
    """A lab that notes what each training is trained from and to."""

    def __init__(self, lab):
        self._lab, self.plans, self.trained = lab, {}, {}

    def train_together(self, group, on_interval):
        trainer = self._lab.trainer
        train = trainer.train

        def spy(plans, on_interval):
            trained = train(plans, on_interval)
            for (training, _), plan, result in zip(group, plans, trained, strict=True):
                self.plans[training], self.trained[training] = plan, result
            return trained
        trainer.train = spy
        try:
            return self._lab.train_together(group, on_interval)
        finally:
            del trainer.train


class Diverging:
    """A lab in which some trainings diverge."""

    def __init__(self, lab, diverges):
        self._lab, self._diverges = lab, diverges

    def train_together(self, group, on_interval):
        outcome, = self._lab.train_together(group, on_interval)
        (training, _), = group
        if training not in self._diverges:
            return [outcome]
        result = {name: outcome.result[name] for name in ("density", "seconds")}
        return [dataclasses.replace(outcome, result={**result, "diverged_at_step": 8},
                                    following=None, trained=None)]


def run(root, config=CONFIG, stop_after=None, trains=None, on_divergence="stop"):
    """Runs an experiment in this process; returns its watch."""
    watch, trains = Watch(), trains or lab(config)
    if stop_after is not None:
        trains = Stopping(trains, stop_after)
    Experiment(config, Store(root, config), watch, InProcess(trains), on_divergence).run()
    return watch


def contents(root):
    """Every file's bytes, but for the seconds that trainings took."""
    results = store.results(root).drop(columns="seconds").to_csv()
    files = {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*"))
             if path.name in ("ticket.safetensors", "curve.csv")}
    return results, files
