"""What every analysis reads (`WorkdirReader`) and returns (`Analysis`).

An analysis works on the tickets and trained weights that a run has kept.  Each is a module of its
own, with functions of arrays, and a function `analyse` of a `WorkdirReader` and levels.
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
from lth_keras.experiments.config.trainings import chain, maker, Training
from lth_keras.experiments.results import paths
from lth_keras.experiments.results.store import results, Store
from lth_keras.files.ticket import Ticket

ALL = "all"  # In a column of weights' names: all prunable weights together.


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """The result of an analysis.

    Attributes:
      title: the title of its table and its figure.
      rows: its numbers, one row for each replicate (or pair) and each combination of `keys`.
      keys: the columns that identify a row, besides the replicate.
      measures: column -> format specification, such as ".1%"; the table has no other columns.
      details: name -> further rows, which the figure draws.
      figure: its figure.
      notes: sentences that explain the table or state a result.
      across: the last of `keys`, if the printed table has a column for each of its values, with
        the first measure; "" for a column for each measure.
      caption: the line below its table; "" for one that says over how many replicates the means
        of `rows` are.
    """

    title: str
    rows: pd.DataFrame
    keys: tuple[str, ...]
    measures: Mapping[str, str]
    details: Mapping[str, pd.DataFrame]
    figure: Figure
    notes: tuple[str, ...] = ()
    across: str = ""
    caption: str = ""


def span(counts: "pd.Series[int]") -> str:
    """The least and the greatest of some counts, in words.

    Example:
      >>> span(pd.Series([3, 5, 4])), span(pd.Series([2, 2]))
      ('3 to 5', '2')
    """
    return " to ".join(dict.fromkeys((f"{counts.min():.0f}", f"{counts.max():.0f}")))


class WorkdirReader:
    """Reads tickets and trained weights from a workdir of `lth run`.

    The run may still be going on; its finished trainings are read.

    Args:
      root: the workdir.

    Raises:
      WorkdirError: if it is not a workdir, or no training in it is finished.
    """

    def __init__(self, root: "str | os.PathLike[str]"):
        self.root = pathlib.Path(root)
        paths.require(self.root)
        self.config = paths.read_config(self.root)
        self._store = Store(self.root, self.config)
        # Trainings that diverged have no trained weights that mean anything, and no next ticket.
        records = {training: self._store.record(training) for training in paths.found(self.root)}
        self._done = {training: kept for training, kept in records.items()
                      if kept.diverged_at is None}
        if not self._done:
            raise WorkdirError("An analysis needs a finished training. "
                               f"Received: {self.root}, where none is.")

    @property
    def title(self) -> str:
        """The preset and its number of steps, for titles."""
        return f"{self.config.preset}, {self.config.steps:,} steps"

    @property
    def results(self) -> pd.DataFrame:
        """The rows of all finished trainings, as `lth report` reads them.

        Raises:
          WorkdirError: if it is of a search in `fit`, which trains no other networks to compare.
        """
        return results(self.root, self.config.fingerprint)

    @property
    def replicates(self) -> list[int]:
        """The replicates that have a finished training, in rising order."""
        return sorted({training.replicate for training in self._done})

    def check_trained(self, what: str) -> None:
        """Raises a WorkdirError if a workdir of this kind keeps no trained weights.

        Args:
          what: the analysis that needs them, as a sentence begins.
        """

    def maker(self, replicate: int, level: int) -> Training:
        """Returns the training whose weights were scored to make the ticket of a level > 0."""
        return maker(self.config, replicate, level)

    def levels(self, among: "Iterable[int] | None" = None,
               untrained: bool = False) -> dict[int, list[int]]:
        """Returns the levels that have a ticket, as replicate -> levels.

        Args:
          among: the levels to look for. Defaults to all up to the highest that was trained.
          untrained: whether all are to be those that have a ticket: pruning the last level has made
            one more, from which the run can go on.

        Raises:
          WorkdirError: if none of these levels has a ticket.
        """
        top = max(training.level for training in self._done) + untrained
        wanted = range(top + 1) if among is None else sorted(set(among))
        found = {replicate: [level for level in wanted if self._mark(replicate, level)]
                 for replicate in self.replicates}
        if not any(found.values()):
            raise WorkdirError("An analysis needs a level with a ticket. Received: levels "
                               f"{', '.join(map(str, wanted))} of {self.root}, without a ticket.")
        return found

    def initial(self, replicate: int) -> Arrays:
        """Returns theta_0 of a replicate, even if its tickets rewind to a later step."""
        return self.ticket(replicate, 0).weights

    def ticket(self, replicate: int, level: int) -> Ticket:
        """Returns the ticket of a level.

        Raises:
          WorkdirError: if the level has no ticket yet.
          DamagedError: if the ticket's file was changed after it was written.
        """
        mark = self._mark(replicate, level)
        if mark is None:
            raise WorkdirError("A level has a ticket once the level before it is trained. "
                               f"Received: {self.root}, replicate {replicate}, level {level}.")
        return Ticket.from_bytes(paths.read_marked(
            self.root, self._store.ticket(replicate, level), mark))

    def _mark(self, replicate: int, level: int) -> "str | None":
        # The hash of a ticket is recorded by the training that made it (level 0 has none), and by
        # the training that started from it.
        made = self._done.get(chain(self.config, replicate, level - 1))
        begun = self._done.get(chain(self.config, replicate, level))
        return made.following if level and made else begun.ticket if begun else None

    def has_trained(self, training: Training) -> bool:
        """Returns whether the weights at a training's last step were kept."""
        kept = self._done.get(training)
        return kept is not None and kept.trained is not None

    def trained(self, training: Training) -> "Ticket | None":
        """Returns the weights at a training's last step, or None if they were not kept.

        Raises:
          DamagedError: if their file was changed after it was written.
        """
        return self._store.read_trained(training) if self.has_trained(training) else None

    def repeats(self, replicate: int, level: int) -> list[Training]:
        """Returns the trainings of a level's ticket, which differ in their data order."""
        return sorted((training for training in self._done
                       if (training.replicate, training.level, training.branch)
                       == (replicate, level, "ticket")),
                      key=lambda training: training.branch_index)


def in_order(names: Iterable[str]) -> list[str]:
    """Sorts the names of weights, with numbers in them by value.

    Example:
      >>> in_order(["conv10/kernel", "conv2/kernel"])
      ['conv2/kernel', 'conv10/kernel']
    """
    return sorted(names, key=lambda name: [
        (part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in re.split(r"(\d+)", name)])


def summarise(rows: pd.DataFrame, keys: Sequence[str],
              measures: Iterable[str]) -> pd.DataFrame:
    """Computes mean, minimum and maximum of measures over the rows with equal keys.

    Returns:
      A table indexed by the keys, in their order in `rows`, with the columns
      (measure, "mean" | "min" | "max") and ("rows", "count").

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
    """Averages tables: the mean over the rows with equal keys, in every other column.

    Example:
      >>> mean_of([pd.DataFrame({"level": [0], "share": [share]}) for share in (0.0, 1.0)],
      ...         ["level"]).share.tolist()
      [0.5]
    """
    return pd.concat(frames).groupby(list(keys), sort=False, as_index=False).mean()


def flat(arrays: Arrays, names: Sequence[str]) -> Array:
    """Returns the values of the named arrays, concatenated.

    Example:
      >>> flat({"a": np.ones((2, 1)), "b": np.zeros(1)}, ["a", "b"]).tolist()
      [1.0, 1.0, 0.0]
    """
    return np.concatenate([np.ravel(arrays[name]) for name in names])
