"""What a worker process does: one training after another, on a model that it compiles once.

TensorFlow is loaded when the first training comes, so that the process that starts a run need not
load it.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
import signal
import tempfile
import threading
import time
from typing import Any

import numpy as np

from lth_keras import quiet
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import steps_of, Training, trainings
from lth_keras.experiments.results.outcome import Outcome, Speed, Start

DEVICES = ("none", "mirrored", "tpu")  # One; all GPUs of this machine; a TPU.


@dataclasses.dataclass(frozen=True)
class Placement:
    """Which data, devices and cores a training uses.

    Attributes:
      data_dir: where tensorflow-datasets keeps its data, or None for its default.
      distribute: one of DEVICES, which each training is distributed over.
      threads: cores that a training may use, >= 1; 0 for all.
      resident_mib: data larger than so many MiB are streamed to the device.
    """

    data_dir: "str | None" = None
    distribute: str = "none"
    threads: int = 1
    resident_mib: int = 2048


class StepCounter:
    """Counts the steps of each training, in a file that workers on this machine write to.

    Workers on other machines cannot write to it: their steps count when a training ends.

    Attributes:
      folder: the temporary folder of the file, which is removed with the counter.
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
        """The file, and the place in it, for the steps of a training: the same if tried again."""
        last = len(self._counts) - 1  # Trainings beyond the file's size share its last place.
        return self._path, self._slots.setdefault(training, min(len(self._slots), last))

    def finish(self, training: Training) -> None:
        """Counts all steps of a training that is done, wherever it was trained."""
        self._counts[self._slots[training]] = steps_of(self._config, training)

    def total(self) -> int:
        """The steps of all trainings together."""
        return int(self._counts.sum())


_MORE = 1000  # Places for trainings beyond a configuration's extent, which a repair may redo.
_one_at_a_time = threading.Lock()  # A cluster may call from several threads.


def train(config: str, placement: Placement, training: Training, start: Start,
          slot: tuple[str, int]) -> Outcome:
    """Trains, and counts the steps where `StepCounter.slot` said."""
    path, place = slot
    counts: Array = np.zeros(place + 1, np.int64)
    with contextlib.suppress(OSError):  # It is not there on another machine.
        counts = np.memmap(path, np.int64, "r+")
    counts[place] = 0

    def count(steps: int) -> None:
        counts[place] += steps
    with _one_at_a_time:
        outcome: Outcome = _kept_runner(config, placement).train(training, start, count)
        return outcome


def measure(config: str, placement: Placement) -> Speed:
    """Compiles in this process, and measures how fast it trains."""
    with _one_at_a_time:
        speed: Speed = _kept_runner(config, placement).measure()
        return speed


def evaluator(config: Config, placement: Placement) -> Any:
    """A `training.evaluator.Evaluator` of a configuration, in this process."""
    with quiet.loading():
        import tensorflow as tf

        from lth_keras.experiments.training import datasets
        from lth_keras.experiments.training.evaluator import Evaluator
        _set_threads(placement.threads, tf.config.threading)
    return Evaluator(config, datasets.load(config.dataset, placement.data_dir),
                     placement.resident_mib)


def load_runner(config: Config, placement: Placement) -> Any:
    """A `training.round_runner.RoundRunner` of a configuration, in this process.

    Raises:
      LotteryError: if the settings fit the network or the data set not, or a device is missing.
    """
    with quiet.loading():
        import tensorflow as tf

        from lth_keras.experiments.training import datasets
        from lth_keras.experiments.training.round_runner import RoundRunner
    return RoundRunner(config, datasets.load(config.dataset, placement.data_dir),
                       _distribution(placement.distribute, tf), placement.resident_mib)


@functools.lru_cache(maxsize=1)
def _kept_runner(config: str, placement: Placement) -> Any:
    # One for all trainings of a process, so that it compiles once.
    with quiet.loading():
        import tensorflow as tf
        _set_threads(placement.threads, tf.config.threading)
        for device in tf.config.list_physical_devices("GPU"):  # Processes may share one.
            tf.config.experimental.set_memory_growth(device, True)
    return load_runner(Config.from_json(config), placement)


def _set_threads(threads: int, settings: Any) -> None:
    before = settings.get_intra_op_parallelism_threads()
    if before == threads:
        return
    try:
        settings.set_intra_op_parallelism_threads(threads)
        settings.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow has started its threads already.
        raise LotteryError("--threads must stay what a cluster's workers began with, "
                           f"{before or 'all'}. Received: {threads or 'all'}. Start the workers "
                           "anew to change it.") from None


def _distribution(name: str, tf: Any) -> Any:
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        except ValueError as error:
            raise LotteryError("--distribute tpu needs a TPU. Received: none that TensorFlow finds "
                               f"({error}).") from None
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    return None


def exit_with_parent(parent: int, folder: str) -> None:
    """Makes this process end when the one that started it does, and not on Ctrl-C.

    Args:
      parent: the number of the process that started this one.
      folder: that process's temporary folder, removed even if that process was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)  # Nobody waits for a result any more.
    if os.getppid() == parent:
        threading.Thread(target=watch, daemon=True).start()
