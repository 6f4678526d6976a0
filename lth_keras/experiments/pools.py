"""Where trainings run: in this process, or in worker processes on this machine.

The result of a training depends only on the configuration, the ticket and the training's key, so
any process can do it, and do it again; the process that started the run keeps the results.
Worker processes have one thread each by default: side by side they train more than one process
with many threads does, and give the same bits whatever their number.

    InProcess    this process
    LocalPool    processes on this machine, through joblib's loky

Clusters are in `experiments.clusters`.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import joblib
from joblib.externals import loky

from lth_keras.errors import LotteryError
from lth_keras.experiments import parcels, worker
from lth_keras.experiments.config import trainings
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import Outcome, Speed, Start
from lth_keras.experiments.worker import Placement

ATTEMPTS = 3  # Of a training, or a measurement, whose process dies.


class WorkerDiedError(Exception):
    """A worker process ended before its training did; the training can be tried again."""


class InProcess:
    """Trains in this process, one training at a time.

    Args:
      runner: trains, as `experiments.training.round_runner.RoundRunner` does.
    """

    slots = 1

    def __init__(self, runner: Any):
        self._runner = runner
        self._done = 0

    @classmethod
    def of(cls, config: Config, placement: Placement | None = None) -> "InProcess":
        """Trains a configuration on the data set that it names.

        TensorFlow is taken as it is: `placement.threads` is for worker processes alone.
        """
        return cls(worker.load_runner(config, placement or Placement()))

    def submit(self, training: Training, start: Start) -> "Future[Outcome]":
        """Trains before it returns: the future is done."""
        future: Future[Outcome] = Future()
        future.set_result(self._runner.train(training, start, self._count))
        return future

    def steps(self) -> int:
        """The number of steps done so far."""
        return self._done

    def _count(self, steps: int) -> None:
        self._done += steps


class Pool:
    """Worker processes: what those of every backend have in common.

    Args:
      jobs: how many processes at most; by default as many as there are cores or, in a cluster
        that runs already, workers.
      waiting: what is to be trained.
      config: the settings.
      placement: where the data lie, and which devices and cores a training may use.
    """

    def __init__(self, jobs: "int | None", waiting: Sequence[Training], config: Config,
                 placement: Placement):
        # More could never be busy at once.
        most = min(len(waiting), config.replicates * max(
            len(trainings.at_level(config, 0, level)) for level in range(config.rounds + 1)))
        self.slots = min(most, jobs or self._cores())
        self._task = json.dumps(config.to_dict()), placement
        self._counter = worker.StepCounter(config)

    def submit(self, training: Training, start: Start) -> "Future[Outcome]":
        """Starts a training in a process that is free."""
        slot = self._counter.slot(training)
        future = self._call(worker.train, *self._task, training, start, slot)

        def finish(done: "Future[Outcome]") -> None:
            if done.exception() is None:
                self._counter.finish(training)
        future.add_done_callback(finish)
        return future

    def measure(self) -> list[Speed]:
        """Measures the speed of every process while all of them are busy; compiles in each.

        Raises:
          LotteryError: if the settings fit the network or the data not, or if processes died
            three times.
        """
        for _ in range(ATTEMPTS):
            with contextlib.suppress(WorkerDiedError):
                return self._measure()
        raise LotteryError(f"A worker must outlive its measurement. Received: {ATTEMPTS} in a row "
                           "that died. Is there memory enough? Fewer --jobs need less.")

    def _measure(self) -> list[Speed]:
        # Twice: while one process still compiles, the others are faster or slower than later.
        first, second = ([future.result() for future in
                          [self._call(worker.measure, *self._task) for _ in range(self.slots)]]
                         for _ in range(2))
        compilation = max(speed.compilation for speed in first)
        return [dataclasses.replace(speed, compilation=compilation) for speed in second]

    def steps(self) -> int:
        """The number of steps done so far."""
        return self._counter.total()

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        raise NotImplementedError

    def _cores(self) -> int:
        return int(joblib.cpu_count())

    def _call(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        raise NotImplementedError


class LocalPool(Pool):
    """Processes on this machine."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._executor = self._start()

    def _start(self) -> Any:
        return loky.ProcessPoolExecutor(self.slots, initializer=worker.exit_with_parent,
                                        initargs=(os.getpid(), self._counter.folder),
                                        env=environment())

    def _call(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        folder = self._counter.folder
        parcel = parcels.packed(folder, function, *arguments)
        try:
            inner = self._executor.submit(parcels.call, parcel, folder)
        except concurrent.futures.BrokenExecutor:
            # One process died, and loky gave up the others with it.
            self._executor.shutdown(wait=False, kill_workers=True)
            self._executor = self._start()
            inner = self._executor.submit(parcels.call, parcel, folder)
        return translated(inner, concurrent.futures.BrokenExecutor, parcels.opened)

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        self._executor.shutdown(wait=True, kill_workers=True)


def environment() -> dict[str, str]:
    """The environment variables of a worker process."""
    return {"TF_CPP_MIN_LOG_LEVEL": "3"}


def translated(inner: "Future[Any]", deaths: Any,
               opened: Callable[[Any], Any] = lambda result: result) -> "Future[Any]":
    """A future with the result of a backend's, whose errors are this package's.

    Args:
      inner: a future of the backend.
      deaths: the type or types of error that it raises if a process ended too early.
      opened: turns what comes back into the result, or raises what the worker raised.

    Returns:
      A future that raises WorkerDiedError for those, and a LotteryError as it was raised.
    """
    outer: Future[Any] = Future()

    def finish(done: "Future[Any]") -> None:
        if done.cancelled():
            outer.set_exception(WorkerDiedError("its work was cancelled"))
            return
        error, result = done.exception(), None
        if error is None:
            try:
                result = opened(done.result())
            except Exception as raised:
                error = raised
        cause = getattr(error, "cause", None)  # Ray wraps what a task raises.
        if isinstance(cause, LotteryError):
            error = cause
        if isinstance(error, deaths):
            error = WorkerDiedError(type(error).__name__)
        if error is None:
            outer.set_result(result)
        else:
            outer.set_exception(error)
    inner.add_done_callback(finish)
    return outer
