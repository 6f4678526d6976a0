"""The experiment: levels x branches x replicates, in the order in which they can be done.

At every level the ticket is trained and pruned to the next level's, and beside it its
controls, which need only its mask.  What is done already is found in the workdir and
not done again, so that resuming is the same as running.
"""

import concurrent.futures
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import pandas as pd

from lth_keras.config import Config
from lth_keras.errors import DivergedError, InvariantError, LotteryError
from lth_keras.layout import found
from lth_keras.masks import density
from lth_keras.record import Training
from lth_keras.store import Store, write_results
from lth_keras.ticketfile import Contents

ON_DIVERGENCE = ("stop", "continue")
ATTEMPTS = 3
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
      store: keeps and finds the results, in a workdir.
      watch: is told of every training.
      workers: train.
      on_divergence: "stop" at a training that diverged, or "continue" with what does not
        follow from it: other replicates, other branches.
    """

    def __init__(self, config: Config, store: Store, watch: Watch, workers: Workers,
                 on_divergence: str = "stop"):
        self.config = config
        self.store = store
        self.watch = watch
        self.workers = workers
        self.on_divergence = on_divergence
        self._marks: dict[Training, str] = {}  # Of the tickets that trainings started from.

    def run(self) -> None:
        """Trains whatever of the configuration is not done yet.

        Raises:
          DivergedError: if a training diverged, unless `on_divergence` is "continue".
          LotteryError: if its worker died three times.
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
            if not running:
                raise InvariantError("A level's ticket must be made before it is trained. "
                                     f"Received: none for {waiting[0]}.")
            done, _ = concurrent.futures.wait(running, _LOOK, concurrent.futures.FIRST_COMPLETED)
            self.watch.steps(self.workers.steps())
            ended = {running.pop(future): future for future in list(running) if future in done}
            failed: dict[Training, Exception] = {}
            changed = False
            for training, future in ended.items():
                # All that is finished is kept before one that diverged or failed ends the run.
                try:
                    changed |= self._keep(training, future.result())
                except Exception as failure:
                    failed[training] = failure
            if self.on_divergence == "stop":
                refuse_diverged(self.store, [*ended])
            if changed:
                waiting = [other for other in unfinished(self.config, self.store)
                           if other not in running.values() and other not in failed]
            for training, error in failed.items():
                _refuse_failed(training, error, attempts[training])
                waiting.insert(0, training)
        write_results(self.store.root)

    def _ready(self, waiting: list[Training], running: int) -> "Training | None":
        # The first that can be trained now: what makes its level's ticket is done.
        free = [training for training in waiting if training.level == 0
                or self.store.is_done(Training(training.replicate, training.level - 1))]
        return free[0] if free and running < self.workers.slots else None

    def _start(self, training: Training) -> "concurrent.futures.Future[Outcome]":
        ticket = None
        if training.level:
            ticket, self._marks[training] = self.store.read_ticket(training.replicate,
                                                                   training.level)
        self.watch.begin(training, density(ticket.masks) if ticket else 1.0)
        return self.workers.submit(training, ticket)

    def _keep(self, training: Training, outcome: Outcome) -> bool:
        # Whether that changed what is to be done.
        gone = self.store.finish(training, outcome.result, outcome.curve,
                                 outcome.drawn or self._marks[training], outcome.following)
        self.watch.end(training, outcome.result)
        return outcome.result.get("diverged_at_step") is not None or bool(gone)


def _refuse_failed(training: Training, error: Exception, attempts: int) -> None:
    # Nothing, if it can be tried again.
    if not isinstance(error, WorkerDiedError):
        raise error
    if attempts == ATTEMPTS:
        raise LotteryError(
            f"A worker must outlive its training. Received: {ATTEMPTS} workers that died in "
            f"{training} ({error}). Is there memory enough? Fewer --jobs need less.")


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
    """Those that are still to be done, and can be.

    What follows from a training that diverged cannot.  What a level stands on that is there
    already is to be done even if the configuration asks for less: a repair took it away.

    Raises:
      DamagedError: if a record is not what was written.
    """
    done = found(store.root)
    # Reads every record, so that no level is above what a record can have.
    ends = {training.replicate: training.level for training in diverged(store, done)
            if training.branch == "ticket"}
    tops = {training.replicate: training.level for training in done}  # The last is the highest.
    below = {Training(replicate, level) for replicate, top in tops.items() for level in range(top)}
    wanted = [*trainings(config), *sorted(below - {*trainings(config)}, key=dataclasses.astuple)]
    return [training for training in wanted if training not in done
            and training.level <= ends.get(training.replicate, training.level)]


def diverged(store: Store, among: Iterable[Training]) -> list[Training]:
    """Those of some trainings that are done and diverged."""
    return [training for training in among if store.is_done(training)
            and store.record(training).diverged_at is not None]


def refuse_diverged(store: Store, among: Iterable[Training]) -> None:
    """Nothing, if none of some trainings diverged.

    Raises:
      DivergedError: if one did; it names the first, and its step.
    """
    for training in diverged(store, among):
        raise DivergedError(
            f"A training must stay finite. Received: {training}, which diverged at step "
            f"{store.record(training).diverged_at:,}. It is recorded, and no ticket is made of "
            "it; try a lower learning_rate, or --on_divergence continue for what does not follow "
            "from it.")
