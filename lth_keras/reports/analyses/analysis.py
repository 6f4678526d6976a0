"""What every analysis reads (`WorkdirReader`) and what it gives (`Analysis`).

An analysis looks at the tickets and the trained weights that a run has kept.  Each is a module of
its own: functions of arrays, and an `analyse` that takes a `WorkdirReader` and levels.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.strategies import STRATEGIES
from lth_keras.experiments.config.trainings import chain, Training
from lth_keras.experiments.results import paths
from lth_keras.experiments.results.store import Store
from lth_keras.files.ticket import Ticket

ALL = "all"  # Stands for all prunable weights together where a weight's name is expected.


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """The result of an analysis.

    Attributes:
      title: the title of its table and its picture.
      rows: its numbers, one row for each replicate (or pair) and each combination of `keys`.
      keys: the columns that say what a row belongs to, besides the replicate.
      measures: column -> its format, as for format(); other columns are not in the table.
      details: name -> further rows, which the picture draws.
      figure: its picture.
      notes: sentences that explain the table or say what was found.
    """

    title: str
    rows: pd.DataFrame
    keys: tuple[str, ...]
    measures: Mapping[str, str]
    details: Mapping[str, pd.DataFrame]
    figure: Figure
    notes: tuple[str, ...] = ()


class WorkdirReader:
    """Reads a workdir for the analyses.

    The run may still be going on: what is finished is read.

    Args:
      root: the folder, which `lth run` made.

    Raises:
      WorkdirError: if it is none.
    """

    def __init__(self, root: "str | os.PathLike[str]"):
        self.root = pathlib.Path(root)
        paths.require(self.root)
        self.config = paths.read_config(self.root)
        self._store = Store(self.root, self.config)
        records = {training: self._store.record(training) for training in paths.found(self.root)}
        self._done = {training: kept for training, kept in records.items()
                      if kept.diverged_at is None}
        if not self._done:
            raise WorkdirError("An analysis needs a finished training. "
                               f"Received: {self.root}, where none is.")

    @property
    def title(self) -> str:
        """The preset and its steps, for titles."""
        return f"{self.config.preset}, {self.config.steps:,} steps"

    @property
    def replicates(self) -> list[int]:
        """The replicates that have a finished training, rising."""
        return sorted({training.replicate for training in self._done})

    def check_trained(self, what: str) -> None:
        """Raises a WorkdirError if a workdir of this kind keeps no trained weights.

        Args:
          what: the analysis that needs them, as a sentence begins.
        """

    def maker(self, replicate: int, level: int) -> Training:
        """The training by whose weights the ticket of a level > 0 was pruned."""
        one_shot = STRATEGIES[self.config.strategy].one_shot
        return chain(self.config, replicate, 0 if one_shot else level - 1)

    def levels(self, among: "Iterable[int] | None" = None) -> dict[int, list[int]]:
        """The levels that have a ticket: replicate -> levels.

        Args:
          among: the levels to look for; by default all.

        Raises:
          WorkdirError: if none of them has one.
        """
        top = max(training.level for training in self._done) + 1
        wanted = range(top + 1) if among is None else sorted(set(among))
        found = {replicate: [level for level in wanted if self._mark(replicate, level)]
                 for replicate in self.replicates}
        if not any(found.values()):
            raise WorkdirError("An analysis needs a level that has a ticket. Received: levels "
                               f"{', '.join(map(str, wanted))} of {self.root}, where none has.")
        return found

    def initial(self, replicate: int) -> Arrays:
        """theta_0 of a replicate, also where its tickets go back to a later step."""
        return self.ticket(replicate, 0).weights

    def ticket(self, replicate: int, level: int) -> Ticket:
        """The ticket of a level.

        Raises:
          DamagedError: if it is not what was written.
        """
        mark = self._mark(replicate, level)
        if mark is None:
            raise WorkdirError("A ticket is there once what it is made from is trained. "
                               f"Received: {self.root}, replicate {replicate}, level {level}.")
        return Ticket.from_bytes(paths.read_marked(
            self.root, self._store.ticket(replicate, level), mark))

    def _mark(self, replicate: int, level: int) -> "str | None":
        # That of a level that was pruned to, or of one that was begun.
        made = self._done.get(chain(self.config, replicate, level - 1))
        begun = self._done.get(chain(self.config, replicate, level))
        return made.following if level and made else begun.ticket if begun else None

    def has_trained(self, training: Training) -> bool:
        """Whether the weights at a training's last step were kept."""
        kept = self._done.get(training)
        return kept is not None and kept.trained is not None

    def trained(self, training: Training) -> "Ticket | None":
        """The weights at a training's last step, if they were kept.

        Raises:
          DamagedError: if they are not what was written.
        """
        return self._store.read_trained(training) if self.has_trained(training) else None

    def repeats(self, replicate: int, level: int) -> list[Training]:
        """The trainings of a level's ticket, each with its own data order."""
        return sorted((training for training in self._done
                       if (training.replicate, training.level, training.branch)
                       == (replicate, level, "ticket")),
                      key=lambda training: training.branch_index)


def in_order(names: Iterable[str]) -> list[str]:
    """Sorts weights' names, numbers in them by value.

    Example:
      >>> in_order(["conv10/kernel", "conv2/kernel"])
      ['conv2/kernel', 'conv10/kernel']
    """
    return sorted(names, key=lambda name: [
        (part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in re.split(r"(\d+)", name)])


def summarise(rows: pd.DataFrame, keys: Sequence[str],
              measures: Iterable[str]) -> pd.DataFrame:
    """Mean, least and greatest of measures over the rows that share their keys.

    Returns:
      Indexed by the keys, in their order in `rows`; columns (measure, "mean" | "min" | "max"),
      and ("rows", "count").

    Example:
      >>> rows = pd.DataFrame({"level": [0, 0, 1], "share": [0.0, 1.0, 0.25]})
      >>> summarise(rows, ["level"], ["share"])[("share", "mean")].tolist()
      [0.5, 0.25]
    """
    groups = rows.groupby(list(keys), sort=False)
    summary = groups[list(measures)].agg(["mean", "min", "max"])
    summary[("rows", "count")] = groups.size()
    return summary


def mean_of(frames: Sequence[pd.DataFrame], keys: Sequence[str]) -> pd.DataFrame:
    """The frames' mean in every column that is no key."""
    return pd.concat(frames).groupby(list(keys), sort=False, as_index=False).mean()


def flat(arrays: Arrays, names: Sequence[str]) -> Array:
    """The values of the named arrays, one after the other."""
    return np.concatenate([np.ravel(arrays[name]) for name in names])
