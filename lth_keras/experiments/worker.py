"""The work of a worker process: one training after another, on a model that it compiles once.

TensorFlow is loaded with the first training, so that the process which starts a run, and imports
this module too, does not load it.
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
from lth_keras.experiments.results.outcome import Outcome, Speed, StartingPoint

DEVICES = ("none", "mirrored", "tpu")  # One device; all GPUs of this machine; a TPU.


@dataclasses.dataclass(frozen=True)
class Placement:
    """The data folder, devices and threads of a training; none of them changes its result.

    Attributes:
      data_dir: the folder of tensorflow-datasets, or None for its default.
      distribute: the devices that train one network, one of DEVICES.
      threads: CPU threads of a process, >= 1; 0 for all cores.
      resident_mib: data larger than this many MiB are streamed to the device.

    Example:
      >>> Placement(threads=2).distribute
      'none'
    """

    data_dir: "str | None" = None
    distribute: str = "none"
    threads: int = 1
    resident_mib: int = 2048


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


def train(config: str, placement: Placement, training: Training, start: StartingPoint,
          slot: tuple[str, int]) -> Outcome:
    """Runs one training, and counts its steps in the file and index of `StepCounter.slot`."""
    path, place = slot
    counts: Array = np.zeros(place + 1, np.int64)
    with contextlib.suppress(OSError):  # The file does not exist on another machine.
        counts = np.memmap(path, np.int64, "r+")
    counts[place] = 0  # A training that is tried again starts from its first step.

    def count(steps: int) -> None:
        counts[place] += steps
    with _one_at_a_time:
        outcome: Outcome = _kept_runner(config, placement).train(training, start, count)
        return outcome


def measure(config: str, placement: Placement) -> Speed:
    """Compiles in this process, and measures the speed of training."""
    with _one_at_a_time:
        speed: Speed = _kept_runner(config, placement).measure()
        return speed


def evaluator(config: Config, placement: Placement) -> Any:
    """Makes the `training.evaluator.Evaluator` of a configuration in this process."""
    with quiet.loading():
        import tensorflow as tf

        from lth_keras.experiments.training import datasets
        from lth_keras.experiments.training.evaluator import Evaluator
        _set_threads(placement.threads, tf.config.threading)
    return Evaluator(config, datasets.load(config.dataset, placement.data_dir),
                     placement.resident_mib)


def load_runner(config: Config, placement: Placement) -> Any:
    """Makes the `training.round_runner.RoundRunner` of a configuration in this process.

    Raises:
      LotteryError: if the settings do not fit the network or the data set, or a device is missing.
    """
    with quiet.loading():
        import tensorflow as tf

        from lth_keras.experiments.training import datasets
        from lth_keras.experiments.training.round_runner import RoundRunner
    return RoundRunner(config, datasets.load(config.dataset, placement.data_dir),
                       _distribution(placement.distribute, tf), placement.resident_mib)


@functools.lru_cache(maxsize=1)
def _kept_runner(config: str, placement: Placement) -> Any:
    # One runner for all trainings of a process, so that it compiles once. The configuration comes
    # as JSON since it must be hashable to be a cache key.
    with quiet.loading():
        import tensorflow as tf
        _set_threads(placement.threads, tf.config.threading)
        # By default TensorFlow reserves all memory of a GPU, which several processes may share.
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    return load_runner(Config.from_json(config), placement)


def _set_threads(threads: int, settings: Any) -> None:
    # A cluster's worker may have trained for an earlier run, with other threads.
    before = settings.get_intra_op_parallelism_threads()
    if before == threads:
        return
    try:
        settings.set_intra_op_parallelism_threads(threads)
        settings.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow has already started its threads in an earlier run.
        raise LotteryError("threads (--threads) must stay what the cluster's workers were started "
                           f"with, {before or 'all'}. Received: {threads or 'all'}. Restart the "
                           "workers to change it.") from None


def _distribution(name: str, tf: Any) -> Any:
    # None stands for the current strategy, which is the default device.
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        except ValueError as error:
            raise LotteryError("distribute=\"tpu\" (--distribute tpu) needs a TPU. Received: "
                               f"TensorFlow finds none ({error}).") from None
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    return None


def exit_with_parent(parent: int, folder: str) -> None:
    """Makes this worker process end when its parent ends, and ignore Ctrl-C.

    Args:
      parent: the process ID of the parent.
      folder: the parent's temporary folder, which is removed here in case the parent was killed.
    """
    # A terminal sends Ctrl-C to all processes; the parent decides what it means for the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        # When the parent ends, this process gets another parent.
        while os.getppid() == parent:
            time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)  # Not sys.exit: it would end this thread only, and training would go on.
    if os.getppid() == parent:
        threading.Thread(target=watch, daemon=True).start()
