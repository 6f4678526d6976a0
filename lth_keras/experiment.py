"""The experiment: levels x branches x replicates, in the order in which they can be done.

At every level the ticket is trained and pruned to the next level's, and beside it its
controls, which need only its mask.  What is done already is found in the store and not
done again, so that resuming is the same as running.
"""

import concurrent.futures
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pandas as pd

from lth_keras import ticketfile
from lth_keras.config import Config
from lth_keras.errors import LotteryError
from lth_keras.masks import density
from lth_keras.store import Store, Training
from lth_keras.ticketfile import Contents

_ATTEMPTS = 3
_LOOK = 0.25  # Seconds between two looks at how far the trainings are.


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What one training leaves behind.

    Attributes:
      result: the measures of its row in results.csv.
      curve: its learning curve.
      drawn: the ticket of level 0, if the training drew it.
      following: the ticket of the next level, if it was a ticket's training.
    """

    result: dict[str, Any]
    curve: pd.DataFrame
    drawn: "Contents | None" = None
    following: "Contents | None" = None


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a network trains here.

    Attributes:
      compilation: seconds until the program is compiled, paid once a process.
      step: seconds a step.
      validation: seconds a validation.
      evaluation: seconds for the evaluations at a training's end, at that rate.
    """

    compilation: float
    step: float
    validation: float
    evaluation: float


class WorkerDiedError(Exception):
    """A worker ended before its training did; the training can be tried again."""


class Workers(Protocol):
    """Who trains: this process, or worker processes here or on other machines.

    Attributes:
      slots: how many trainings can run at once.
    """

    slots: int

    def submit(self, training: Training,
               ticket: "Contents | None") -> "concurrent.futures.Future[Outcome]":
        """Starts a training.  Its future raises WorkerDiedError if its worker ended too early."""

    def steps(self) -> int:
        """The steps done so far by all trainings started."""


class Watch(Protocol):
    """Who follows a run: the command's progress display, a test."""

    def begin(self, training: Training, density: float) -> None:
        """A training starts."""

    def steps(self, done: int) -> None:
        """So many steps of the whole run are done."""

    def end(self, training: Training, result: Mapping[str, Any]) -> None:
        """A training is finished."""


class Experiment:
    """All trainings of one configuration.

    Args:
      config: the settings.
      store: where results are kept and found.
      watch: is told of every training.
      workers: train.
    """

    def __init__(self, config: Config, store: Store, watch: Watch, workers: Workers):
        self.config = config
        self.store = store
        self.watch = watch
        self.workers = workers

    def run(self) -> None:
        """Trains whatever of the configuration is not done yet.

        Raises:
          LotteryError: if a training diverges, or its worker died three times.
        """
        self.store.begin()
        waiting = unfinished(self.config, self.store)
        running: dict[concurrent.futures.Future[Outcome], Training] = {}
        attempts: Counter[Training] = Counter()
        while waiting or running:
            while ready := self._ready(waiting, len(running)):
                waiting.remove(ready)
                attempts[ready] += 1
                running[self._start(ready)] = ready
            done, _ = concurrent.futures.wait(running, _LOOK, concurrent.futures.FIRST_COMPLETED)
            self.watch.steps(self.workers.steps())
            # What is finished is kept before an error of another ends the run.
            for future in sorted(done, key=lambda future: future.exception() is not None):
                training = running.pop(future)
                try:
                    self._keep(training, future.result())
                except WorkerDiedError as death:
                    if attempts[training] == _ATTEMPTS:
                        raise LotteryError(
                            f"A worker must outlive its training. Received: {_ATTEMPTS} workers "
                            f"that died in {training} ({death}). Is there memory enough? "
                            "Fewer --jobs need less.") from None
                    waiting.insert(0, training)
        self.store.write_results()

    def _ready(self, waiting: list[Training], running: int) -> "Training | None":
        # The first that can be trained now: its level's ticket has been made.
        free = [training for training in waiting
                if training.level == 0 or self._path(training).exists()]
        return free[0] if free and running < self.workers.slots else None

    def _start(self, training: Training) -> "concurrent.futures.Future[Outcome]":
        path = self._path(training)
        ticket = ticketfile.read(path) if training.level or path.exists() else None
        self.watch.begin(training, density(ticket.masks) if ticket else 1.0)
        return self.workers.submit(training, ticket)

    def _keep(self, training: Training, outcome: Outcome) -> None:
        if outcome.drawn:
            ticketfile.write(self._path(training), outcome.drawn)
        if outcome.following:
            # That of the last level too, so that more rounds can go on from it.
            ticketfile.write(self.store.ticket(training.replicate, training.level + 1),
                             outcome.following)
        self.store.finish(training, outcome.result, outcome.curve)
        self.watch.end(training, outcome.result)

    def _path(self, training: Training) -> Any:
        return self.store.ticket(training.replicate, training.level)


def trainings(config: Config) -> Iterator[Training]:
    """Every training of a configuration, level by level: the order in which they are done.

    So all replicates' chains of tickets, which can only be trained one after the other, end
    at about the same time, and means over replicates can be had from the beginning.
    """
    for level in range(config.rounds + 1):
        for replicate in range(config.replicates):
            for branch in config.branches if level else ("ticket",):
                yield Training(replicate, level, branch)


def unfinished(config: Config, store: Store) -> list[Training]:
    """Those that are still to be done."""
    def done(training: Training) -> bool:
        following = store.ticket(training.replicate, training.level + 1)
        return store.is_done(training) and (training.branch != "ticket" or following.exists())
    return [training for training in trainings(config) if not done(training)]
