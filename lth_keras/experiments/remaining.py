"""What a workdir still lacks of a configuration's trainings, and what of it diverged."""

import dataclasses
from collections.abc import Iterable

from lth_keras.errors import DivergedError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import chain, stands_on, Training, trainings
from lth_keras.experiments.results.paths import found
from lth_keras.experiments.results.store import Store


def unfinished(config: Config, store: Store) -> list[Training]:
    """The trainings that are still to be done, and can be.

    What follows from a training that diverged cannot be done.  A training that a level already in
    the store stands on is to be done even if the configuration asks for fewer rounds: a repair
    took it away.

    Raises:
      DamagedError: if a record is not what was written.
    """
    done = found(store.root)
    # Reads every record, so that no level is above what a record can have.
    ends = {training.replicate: training.level for training in diverged(store, done)
            if training == chain(config, training.replicate, training.level)}
    tops = {training.replicate: training.level for training in done}  # The last is the highest.
    below = {chain(config, replicate, level)
             for replicate, top in tops.items() for level in range(top)}
    wanted = [*trainings(config), *sorted(below - {*trainings(config)}, key=dataclasses.astuple)]

    def can_be(training: Training) -> bool:
        base = stands_on(config, training)
        return base is None or base.level < ends.get(training.replicate, base.level + 1)
    return [training for training in wanted if training not in done and can_be(training)]


def diverged(store: Store, among: Iterable[Training]) -> list[Training]:
    """Which of some trainings are done and diverged."""
    return [training for training in among if store.is_done(training)
            and store.record(training).diverged_at is not None]


def refuse_diverged(store: Store, among: Iterable[Training]) -> None:
    """Refuses trainings of which one diverged.

    Raises:
      DivergedError: for the first that did; names it, and its step.
    """
    for training in diverged(store, among):
        raise DivergedError(
            f"A training must stay finite. Received: {training}, which diverged at step "
            f"{store.record(training).diverged_at:,}. It is recorded, and no ticket is made of "
            "it; try a lower learning_rate, or --on_divergence continue for what does not follow "
            "from it.")
