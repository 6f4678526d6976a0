"""Finds the trainings that a workdir does not have yet, and those that diverged."""

import dataclasses
from collections.abc import Iterable

from lth_keras.errors import DivergedError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import chain, stands_on, Training, trainings
from lth_keras.experiments.results.paths import found as finished
from lth_keras.experiments.results.record import MACS_LEFT
from lth_keras.experiments.results.store import Store


def unfinished(config: Config, store: Store) -> list[Training]:
    """Returns the trainings that have still to be done, and can be done.

    Trainings that depend on one that diverged cannot be done, and those above the first level that
    costs no more than `config.until` need not be.

    Raises:
      DamagedError: if a record was changed after it was written.
    """
    done = finished(store.root)
    # Reads every record, so that no level is above what a record can have.
    ends = {training.replicate: training.level for training in diverged(store, done)
            if training == chain(config, training.replicate, training.level)}
    last = last_levels(config, store, done)
    tops = {training.replicate: training.level for training in done}  # The last is the highest.
    # A repair may have removed a level below one that is stored. It is trained again even if the
    # configuration now asks for fewer rounds, since the stored level depends on it.
    below = {chain(config, replicate, level)
             for replicate, top in tops.items() for level in range(top)}
    asked = [training for training in trainings(config)
             if training.level <= last.get(training.replicate, training.level)]
    wanted = [*asked, *sorted(below - {*asked}, key=dataclasses.astuple)]

    # `ends` holds the level at which a replicate's chain diverged: no ticket exists above it.
    def can_be(training: Training) -> bool:
        base = stands_on(config, training)
        return base is None or base.level < ends.get(training.replicate, base.level + 1)
    return [training for training in wanted if training not in done and can_be(training)]


def last_levels(config: Config, store: Store, among: Iterable[Training]) -> dict[int, int]:
    """Returns the level at which each replicate ends that has reached `config.until`.

    Args:
      config: the settings.
      store: of the run.
      among: finished trainings.

    Returns:
      Replicate -> level; without replicates that have not reached it, and {} without `until`.
    """
    if config.target is None:
        return {}
    found: dict[int, int] = {}
    for training in among:
        if training == chain(config, training.replicate, training.level):
            row = store.record(training).row
            left = {"macs": row.get(MACS_LEFT), "weights": row["density"]}
            if config.target.is_reached(left):
                found[training.replicate] = min(
                    training.level, found.get(training.replicate, training.level))
    return found


def diverged(store: Store, among: Iterable[Training]) -> list[Training]:
    """Returns those of the given trainings that are finished and diverged."""
    return [training for training in among if store.is_done(training)
            and store.record(training).diverged_at is not None]


def refuse_diverged(store: Store, among: Iterable[Training]) -> None:
    """Checks that none of the given trainings has diverged.

    Raises:
      DivergedError: if one has; the message names the first, and the step.
    """
    for training in diverged(store, among):
        raise DivergedError(
            "The loss and weights of a training must stay finite. Received: "
            f"{training}, which diverged at step {store.record(training).diverged_at:,}. It is "
            "recorded, and no ticket is made from it. Try a lower learning_rate, or "
            "on_divergence=\"continue\" (--on_divergence continue) to train what does not depend "
            "on it.")
