"""Runs trainings in this process, or in worker processes on this machine.

    InProcess    this process
    LocalPool    processes on this machine, through joblib's loky

The result of a training depends only on the configuration, the ticket and the training's key, so
any process can run it, and run it again after a crash.  Only the process that started the run
writes results.

Worker processes have one thread each by default.  Two of them train 1.7 times as many small
networks as one process with two threads does, and results do not depend on their number.

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
from lth_keras.experiments import devices, parcels, worker
from lth_keras.experiments.config import trainings
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import Outcome, Speed, StartingPoint
from lth_keras.experiments.training.network_trainer import WITHIN
from lth_keras.experiments.worker import Placement

# Trainings that run at the same time in one process, with their starting points.
Group = Sequence[tuple[Training, StartingPoint]]

ATTEMPTS = 3  # How often a training or a measurement is tried if its process dies.


class WorkerDiedError(Exception):
    """Raised when a worker process ends before its training does; the training can be repeated."""


class InProcess:
    """Trains in this process, one training at a time.

    Args:
      runner: an `experiments.training.round_runner.RoundRunner`.
    """

    slots = 1

    def __init__(self, runner: Any):
        self._runner = runner
        self.together: int = runner.trainer.together if hasattr(runner, "trainer") else 1
        self._done = 0

    @classmethod
    def of(cls, config: Config, placement: Placement | None = None) -> "InProcess":
        """Makes one for a configuration, and loads its data set.

        `placement.threads` is not used: TensorFlow's threads cannot be changed once it runs.
        """
        return cls(worker.load_runner(config, placement or Placement()))

    def submit(self, group: Group) -> "Future[list[Outcome]]":
        """Trains, and returns a future that is already done."""
        future: Future[list[Outcome]] = Future()
        future.set_result(self._runner.train_together(group, self._count))
        return future

    def steps(self) -> int:
        """The number of steps done so far."""
        return self._done

    def _count(self, place: int, steps: int) -> None:
        self._done += steps


class Pool:
    """Base class of the worker processes of every backend.

    Args:
      jobs: the largest number of processes. Defaults to the number of cores, or of workers in a
        cluster that is already running.
      waiting: the trainings to come.
      config: the settings.
      placement: the data, devices and threads of each process.
    """

    def __init__(self, jobs: "int | None", waiting: Sequence[Training], config: Config,
                 placement: Placement):
        # No more processes than can be busy at once: of a replicate, only the trainings of one
        # level can run side by side.
        most = min(len(waiting), config.replicates * max(
            len(trainings.at_level(config, 0, level)) for level in range(config.rounds + 1)))
        self.slots = min(most, jobs or self._processes(config))
        self.together = placement.together or 1  # More if a measurement finds that more fit.
        # As JSON, since a worker keeps its model by it: see worker._kept_runner.
        self._task = json.dumps(config.to_dict()), placement
        self._environment = worker.environment(config, placement)
        self._counter = worker.StepCounter(config)

    def submit(self, group: Group) -> "Future[list[Outcome]]":
        """Starts trainings in a free process."""
        slots = [self._counter.slot(training) for training, _ in group]
        future = self._call(worker.train, *self._task, group, slots)

        def finish(done: "Future[list[Outcome]]") -> None:
            # A training that failed keeps the steps it has counted, until it is tried again.
            if done.exception() is None:
                for training, _ in group:
                    self._counter.finish(training)
        future.add_done_callback(finish)
        return future

    def measure(self, brief: bool = False,
                say: Callable[[str], None] = lambda what: None) -> list[Speed]:
        """Compiles in every process, and measures its speed while all of them are busy.

        Args:
          brief: whether nothing will be trained: fewer examples are validated then, so that it is
            quick for slow networks too.
          say: called with what is done, before each thing that takes a while.

        Raises:
          LotteryError: if the settings do not fit the network or the data, or if processes died
            three times in a row.
        """
        for _ in range(ATTEMPTS):
            with contextlib.suppress(WorkerDiedError):
                return self._measure(brief, say)
        raise LotteryError("A worker process must not end while its speed is measured. Received: "
                           f"{ATTEMPTS} attempts in which one ended, probably for lack of memory. "
                           "Try fewer jobs (--jobs).")

    def _measure(self, brief: bool, say: Callable[[str], None]) -> list[Speed]:
        # One after the other: while a process compiles, the others are slower than they will be.
        where = "a process" if self.slots == 1 else f"{self.slots:,} processes"
        say(f"Starting {where}: loading the data and compiling the network")
        self._everywhere(worker.compile_, brief)
        say(f"Measuring the speed, for about {WITHIN:.0f} s at most")
        speeds: list[Speed] = self._everywhere(worker.measure, brief)
        self.together = min(speed.together for speed in speeds)
        compilation = max(speed.compilation for speed in speeds)
        return [dataclasses.replace(speed, compilation=compilation) for speed in speeds]

    def _everywhere(self, function: Callable[..., Any], brief: bool) -> list[Any]:
        return [future.result() for future in
                [self._call(function, *self._task, brief) for _ in range(self.slots)]]

    def steps(self) -> int:
        """The number of steps done so far."""
        return self._counter.total()

    def close(self) -> None:
        """Ends the processes, even if they are still training."""
        raise NotImplementedError

    def _processes(self, config: Config) -> int:
        # An accelerator is used by one process, which trains networks together.
        return 1 if devices.has_accelerator(config) else self._cores()

    def _cores(self) -> int:
        # Not os.cpu_count(): a container may have fewer cores than its machine.
        return int(joblib.cpu_count())

    def _call(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        raise NotImplementedError


class LocalPool(Pool):
    """Worker processes on this machine, which end when this process does."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._executor = self._start()

    def _start(self) -> Any:
        return loky.ProcessPoolExecutor(self.slots, initializer=worker.exit_with_parent,
                                        initargs=(os.getpid(), self._counter.folder),
                                        env=self._environment)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        folder = self._counter.folder
        parcel = parcels.packed(folder, function, *arguments)
        try:
            inner = self._executor.submit(parcels.call, parcel, folder)
        except concurrent.futures.BrokenExecutor:
            # When one process dies, loky refuses all further work: start new processes.
            self._executor.shutdown(wait=False, kill_workers=True)
            self._executor = self._start()
            inner = self._executor.submit(parcels.call, parcel, folder)
        return translated(inner, concurrent.futures.BrokenExecutor, parcels.opened)

    def close(self) -> None:
        """Ends the processes, even if they are still training."""
        self._executor.shutdown(wait=True, kill_workers=True)


def translated(inner: "Future[Any]", deaths: Any,
               opened: Callable[[Any], Any] = lambda result: result) -> "Future[Any]":
    """Returns a future with a backend's result, but with this package's errors.

    Args:
      inner: a future of the backend.
      deaths: the type or types of error that the backend raises if a process ended too early.
      opened: converts what the backend returns to the result, or raises the worker's error.

    Returns:
      A future that raises WorkerDiedError for `deaths`, and a worker's LotteryError as it was.

    Example:
      >>> inner: Future = Future()
      >>> outer = translated(inner, MemoryError)
      >>> inner.set_exception(MemoryError())
      >>> outer.exception()
      WorkerDiedError('MemoryError')
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
        # Each backend has errors of its own for a process that died.
        if isinstance(error, deaths):
            error = WorkerDiedError(type(error).__name__)
        if error is None:
            outer.set_result(result)
        else:
            outer.set_exception(error)
    inner.add_done_callback(finish)
    return outer
