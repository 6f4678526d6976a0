"""The work of a worker process: one training after another, on a model that it compiles once.

TensorFlow is loaded with the first training, so that the process which starts a run, and imports
this module too, does not load it.
"""

import contextlib
import dataclasses
import functools
import importlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from lth_keras import quiet
from lth_keras.core.masks import Array
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import steps_of, Training, trainings
from lth_keras.experiments.results.outcome import Outcome, Speed, StartingPoint
from lth_keras.experiments.training import datasets

ENGINES = {"tf_keras": "training_keras2", "keras": "training_keras3"}
DEVICES = ("none", "mirrored", "tpu")  # One device; all GPUs of this machine; a TPU.


@dataclasses.dataclass(frozen=True)
class Placement:
    """The data folder, devices and threads of a training; none of them changes its result.

    Attributes:
      data_dir: the folder of tensorflow-datasets, or None for its default.
      distribute: the devices that train one network, one of DEVICES.
      threads: CPU threads of a process, >= 1; 0 for all cores.
      resident_mib: data larger than this many MiB are streamed to the device.
      together: how many networks one process trains at the same time, >= 1; None to let the device
        decide. With Keras 3 on JAX, they are one program, and the last bits of results depend on
        their number as they do on the device.

    Example:
      >>> Placement(threads=2).distribute
      'none'
    """

    data_dir: "str | None" = None
    distribute: str = "none"
    threads: int = 1
    resident_mib: int = 2048
    together: "int | None" = None


class StepCounter:
    """Counts the steps of all trainings, for the progress bar.

    Workers on this machine write to a memory-mapped file, which costs them next to nothing.
    Workers on other machines cannot: their steps are counted when a training ends.

    Attributes:
      folder: the temporary folder of the file, removed together with the counter.
    """

    def __init__(self, config: Config):
        self._folder = tempfile.TemporaryDirectory(prefix="lth_")
        self.folder = self._folder.name
        self._config = config
        size = sum(1 for _ in trainings(config)) + _MORE
        self._path = str(pathlib.Path(self.folder) / "steps")
        self._counts = np.memmap(self._path, np.int64, "w+", shape=size)
        self._slots: dict[Training, int] = {}

    def slot(self, training: Training) -> tuple[str, int]:
        """Returns the file and the index for the steps of a training.

        A training that is tried again gets the same index, so that its steps count once.
        """
        last = len(self._counts) - 1  # If there are ever more trainings, they share the last one.
        return self._path, self._slots.setdefault(training, min(len(self._slots), last))

    def finish(self, training: Training) -> None:
        """Counts all steps of a finished training, on whichever machine it was trained."""
        self._counts[self._slots[training]] = steps_of(self._config, training)

    def total(self) -> int:
        """Returns the number of steps of all trainings together."""
        return int(self._counts.sum())


_MORE = 1000  # A repair may train levels beyond the configuration's rounds.
_one_at_a_time = threading.Lock()  # A cluster may call from several threads; there is one model.


def train(config: str, placement: Placement, group: Sequence[tuple[Training, StartingPoint]],
          slots: Sequence[tuple[str, int]]) -> list[Outcome]:
    """Runs trainings at the same time.

    Args:
      config: the settings, as JSON.
      placement: the data, devices and threads.
      group: trainings with their starting points.
      slots: for each, the file and index of `StepCounter.slot` in which its steps are counted.
    """
    path, places = slots[0][0], [place for _, place in slots]
    counts: Array = np.zeros(max(places) + 1, np.int64)
    with contextlib.suppress(OSError):  # The file does not exist on another machine.
        counts = np.memmap(path, np.int64, "r+")
    counts[places] = 0  # A training that is tried again starts from its first step.

    def count(number: int, steps: int) -> None:
        counts[places[number]] += steps
    with _one_at_a_time:
        outcomes: list[Outcome] = _kept_runner(config, placement).train_together(group, count)
        return outcomes


def compile_(config: str, placement: Placement, brief: bool) -> float:
    """Compiles in this process; returns the seconds."""
    with _one_at_a_time:
        seconds: float = _kept_runner(config, placement).compile(brief)
        return seconds


def measure(config: str, placement: Placement, brief: bool) -> Speed:
    """Measures the speed of training in this process."""
    with _one_at_a_time:
        speed: Speed = _kept_runner(config, placement).measure(brief)
        return speed


def evaluator(config: Config, placement: Placement) -> Any:
    """Makes what evaluates the test error of a configuration's network, in this process."""
    engine = engine_of(config)
    engine.start(config, placement.threads)
    return engine.evaluator_of(config, datasets.of(config, placement.data_dir),
                               placement.resident_mib)


def load_runner(config: Config, placement: Placement) -> Any:
    """Makes the `training.round_runner.RoundRunner` of a configuration in this process.

    Raises:
      LotteryError: if the settings do not fit the network or the data set, or a device is missing.
    """
    engine = engine_of(config)
    return engine.round_runner(config, datasets.of(config, placement.data_dir),
                               placement.distribute, placement.resident_mib, placement.together)


def environment(config: Config, placement: Placement) -> dict[str, str]:
    """Returns the environment variables that every worker process gets.

    Example:
      >>> from lth_keras.experiments.config import presets
      >>> environment(presets.get("digits"), Placement())
      {'TF_CPP_MIN_LOG_LEVEL': '3'}
    """
    found = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if config.engine == "keras":
        found["KERAS_BACKEND"] = config.keras_backend
        # By default JAX reserves most of a GPU's memory, which several processes may share.
        found["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        if config.keras_backend == "jax" and placement.threads:
            # How many threads JAX uses on a CPU can be told to it in no other way.
            found["NPROC"] = str(placement.threads)
            eigen = "--xla_cpu_multi_thread_eigen=false" if placement.threads == 1 else ""
            found["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {eigen}".strip()
    return found


@functools.lru_cache(maxsize=1)
def _kept_runner(config: str, placement: Placement) -> Any:
    # One runner for all trainings of a process, so that it compiles once. The configuration comes
    # as JSON since it must be hashable to be a cache key.
    settings = Config.from_json(config)
    engine_of(settings).start(settings, placement.threads)
    return load_runner(settings, placement)


def engine_of(config: Config) -> Any:
    """Returns the module that trains a configuration's networks, and loads its Keras.

    The backend of Keras 3 is that of the configuration, unless this process runs on another
    already, which the engine then refuses.
    """
    if config.engine == "keras" and "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = config.keras_backend
    with quiet.loading():
        return importlib.import_module(f"lth_keras.experiments.{ENGINES[config.engine]}.engine")


def exit_with_parent(parent: int, folder: str) -> None:
    """Makes this worker process end when its parent ends, and ignore Ctrl-C.

    Args:
      parent: the process ID of the parent.
      folder: the parent's temporary folder, which is removed here in case the parent was killed.
    """
    # A terminal sends Ctrl-C to all processes; the parent decides what it means for the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        # When the parent ends, this process gets another parent; it may have ended already.
        while os.getppid() == parent:
            time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)  # Not sys.exit: it would end this thread only, and training would go on.
    threading.Thread(target=watch, daemon=True).start()
