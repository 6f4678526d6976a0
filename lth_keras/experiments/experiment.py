"""The experiment: levels x branches x replicates, each trained as soon as it can be.

    1. Randomly initialise a network: theta_0.
    2. Train it for T steps.
    3. Prune the remaining weights with the smallest magnitude: this gives a mask.
    4. Rewind the survivors to theta_0 (or theta_k): this is the ticket of the next level.
    5. Go to 2 with the ticket, and train its controls as well, which depend on the ticket only.

(Frankle & Carbin 2019, section 1.)  Strategies change the weights that are scored in step 3, and
retrainings what survivors are reset to in step 4 (`config.strategies`).

Trainings that are finished in the workdir are not repeated, so resuming is the same as running.
"""

import concurrent.futures
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from lth_keras.arguments import check_choice
from lth_keras.core.masks import density
from lth_keras.errors import InvariantError, LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import (
    chain,
    repeats_from_k,
    span,
    stands_on,
    takes_from,
    Training,
)
from lth_keras.experiments.pools import ATTEMPTS, Group, InProcess, WorkerDiedError
from lth_keras.experiments.remaining import last_levels, refuse_diverged, unfinished
from lth_keras.experiments.results.outcome import Outcome, StartingPoint
from lth_keras.experiments.results.store import Store, write_results
from lth_keras.experiments.source import SourceRun

ON_DIVERGENCE = ("stop", "continue")
_POLL = 0.25  # Seconds between two updates of the progress.


class Workers(Protocol):
    """Something that trains: this process, or worker processes here or on other machines.

    Attributes:
      slots: how many groups of trainings can run at the same time.
      together: how many trainings a group can have, >= 1.
    """

    slots: int
    together: int

    def submit(self, group: Group) -> "concurrent.futures.Future[list[Outcome]]":
        """Starts trainings; the future raises WorkerDiedError if their process ended too early."""

    def steps(self) -> int:
        """Returns the number of steps that all trainings have done so far."""


class Watch:
    """Receives the progress of a run; subclass it to show progress.  This one does nothing."""

    def begin(self, training: Training, density: float) -> None:
        """Called when a training starts, with the density of its ticket."""

    def steps(self, done: int) -> None:
        """Called about four times a second with the number of steps trained so far."""

    def end(self, training: Training, result: Mapping[str, Any]) -> None:
        """Called when a training is finished, with its result."""


class Experiment:
    """Runs all trainings of one configuration.

    Args:
      config: the settings.
      store: writes and reads results in the workdir.
      watch: receives the progress. Defaults to none.
      workers: run the trainings. Defaults to this process, one training at a time.
      on_divergence: "stop" stops at a training that diverged; "continue" goes on with trainings
        that do not depend on it, such as other replicates.

    Raises:
      WorkdirError: if it trains tickets of another run, and that run has not all of them.
    """

    def __init__(self, config: Config, store: Store, watch: Watch | None = None,
                 workers: Workers | None = None, on_divergence: str = "stop"):
        check_choice("on_divergence", on_divergence, ON_DIVERGENCE)
        self.config = config
        self.store = store
        self.watch = watch or Watch()
        self.workers = workers or InProcess.of(config)
        self.on_divergence = on_divergence
        self._source = SourceRun.of(config)
        # Their tickets' marks are stored with the results.
        self._starts: dict[Training, StartingPoint] = {}

    def run(self) -> None:
        """Runs the trainings that the store does not have, and stores each when it is finished.

        Raises:
          DivergedError: if a training diverged, unless `on_divergence` is "continue".
          LotteryError: if the worker of a training died three times.
        """
        self.store.begin()
        waiting = unfinished(self.config, self.store)
        running: dict[concurrent.futures.Future[list[Outcome]], list[Training]] = {}
        attempts: Counter[Training] = Counter()
        while waiting or running:
            while ready := self._ready(waiting, len(running)):
                waiting = [training for training in waiting if training not in ready]
                attempts.update(ready)
                running[self._start(ready)] = ready
            if not running:  # Nothing runs and nothing is ready: the run would wait forever.
                raise InvariantError("A level's ticket must be made before it is trained. "
                                     f"Received: none for {waiting[0]}.")
            done, _ = concurrent.futures.wait(running, _POLL, concurrent.futures.FIRST_COMPLETED)
            self.watch.steps(self.workers.steps())
            ended = {future: running.pop(future) for future in list(running) if future in done}
            # Finished trainings are stored before one that diverged or failed ends the run.
            changed, failed = self._keep_all(ended)
            if self.on_divergence == "stop":
                refuse_diverged(self.store, [*itertools.chain(*ended.values())])
            # A divergence or what a level costs ends a chain of levels, and a new ticket may
            # replace those above it.
            if changed:
                busy = {*itertools.chain(*running.values()), *failed}
                waiting = [other for other in unfinished(self.config, self.store)
                           if other not in busy]
            for training, error in failed.items():
                _refuse_failed(training, error, attempts[training])
                waiting.insert(0, training)
        write_results(self.store.root)

    def _ready(self, waiting: list[Training], running: int) -> list[Training]:
        # The trainings to start now, all of as many steps: those they depend on are finished.
        if running >= self.workers.slots:
            return []
        can_start = (training for training in waiting
                     if (base := stands_on(self.config, training)) is None
                     or self.store.is_done(base))
        # Of a hundred thousand, looking for all would take as long as a training.
        free = list(can_start if self.workers.together > 1 else itertools.islice(can_start, 1))
        if not free:
            return []
        if self.workers.together > 1:  # Level by level, or one replicate would run ahead.
            free.sort(key=lambda training: (
                training.level, training != chain(self.config, training.replicate, training.level),
                training.branch, training.branch_index, training.replicate))
        steps = span(self.config, free[0])
        return [training for training in free
                if span(self.config, training) == steps][:self.workers.together]

    def _start(self, group: list[Training]) -> "concurrent.futures.Future[list[Outcome]]":
        return self.workers.submit([(training, self._begun(training)) for training in group])

    def _begun(self, training: Training) -> StartingPoint:
        read, replicate = self.store.read_ticket, training.replicate
        ticket, mark = read(replicate, training.level) if training.level else (None, None)
        taken = {other.level: self.store.read_trained(other)
                 for other in takes_from(self.config, training)}
        # theta_k is stored in the ticket of level 1, which was rewound to it.
        theta = read(replicate, 1)[0] if repeats_from_k(self.config, training) else None
        source = self._source.tickets(training) if self._source else {}
        self._starts[training] = start = StartingPoint(ticket, mark, taken, theta, source)
        self.watch.begin(training, density(start.ticket.masks) if start.ticket else 1.0)
        return start

    def _keep_all(self, ended: Mapping["concurrent.futures.Future[list[Outcome]]", list[Training]]
                  ) -> tuple[bool, dict[Training, Exception]]:
        # Returns whether the list of remaining trainings has changed, and what failed.
        changed, failed = False, dict[Training, Exception]()
        for future, group in ended.items():
            try:
                for training, outcome in zip(group, future.result(), strict=True):
                    changed |= self._keep(training, outcome)
            except Exception as failure:
                failed.update((training, failure) for training in group
                              if not self.store.is_done(training))
        return changed, failed

    def _keep(self, training: Training, outcome: Outcome) -> bool:
        # Returns whether the list of remaining trainings has changed.
        begun = outcome.drawn or self._starts.pop(training).mark
        assert begun is not None
        gone = self.store.finish(training, outcome.result, outcome.curve, begun,
                                 following=outcome.following, trained=outcome.trained)
        self.watch.end(training, outcome.result)
        ended = self.config.target is not None and bool(
            last_levels(self.config, self.store, [training]))
        return outcome.result.get("diverged_at_step") is not None or ended or bool(gone)


def _refuse_failed(training: Training, error: Exception, attempts: int) -> None:
    # Returns only if the training may be tried again: its worker died fewer than ATTEMPTS times.
    if not isinstance(error, WorkerDiedError):
        raise error
    if attempts == ATTEMPTS:
        raise LotteryError(
            "A worker process must not end while it trains. Received: "
            f"{ATTEMPTS} attempts at {training} in which one ended ({error}), probably for lack of "
            "memory. Try fewer jobs (--jobs).")
