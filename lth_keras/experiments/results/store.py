"""The results of a run in its workdir: what finishes a training, and what is read of those done.

Every file is whole or absent, and what a record vouches for was written before it.  A run
goes on from what it finds here: nothing else tells it what has been done.
"""

import dataclasses
import os
import pathlib
from typing import Any

import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import chain, Training
from lth_keras.experiments.results import paths, record
from lth_keras.experiments.results.paths import (
    CURVE_COLUMNS,
    DamagedError,
    found,
    MOST_TABLE,
    read_within,
)
from lth_keras.experiments.results.record import COLUMNS, DENSITY, Record, STEP
from lth_keras.files import atomic, checksums, workdir_lock
from lth_keras.files.ticket import Ticket

_KEYS = ["replicate", "level", "branch", "branch_index"]


class Store:
    """The results of one run, in its workdir.

    Args:
      root: the folder.
      config: the run's configuration.

    Raises:
      WorkdirError: if the folder holds a run of other settings, or a search in `fit`; a
        DamagedError, if its configuration is not what was written.
    """

    def __init__(self, root: "str | os.PathLike[str]", config: Config):
        self.root = pathlib.Path(root)
        self._config = config
        workdir_lock.refuse_other(self.root, workdir_lock.RUN)
        if os.path.lexists(self.root / "config.json"):
            paths.read_config(self.root, config)

    def begin(self) -> None:
        """Makes the folder the run's: only now, so that a run that fails to start leaves none.

        Raises:
          WorkdirError: if it cannot be written.
        """
        try:
            atomic.write(self.root / "config.json", checksums.seal(self._config.to_dict()))
        except OSError as error:
            raise WorkdirError("A workdir must be a folder that can be written. Received: "
                               f"{self.root}: {error.strerror}.") from None

    def ticket(self, replicate: int, level: int) -> pathlib.Path:
        """Where the ticket of a level lies."""
        return paths.ticket_path(self.root, replicate, level)

    def is_done(self, training: Training) -> bool:
        """Whether a training is finished."""
        return paths.places(self.root, training)["record"].exists()

    def record(self, training: Training) -> Record:
        """The record of a training that is done.

        Raises:
          DamagedError: if it is not what was written, or of other settings.
        """
        return paths.read_record(self.root, training, self._config.fingerprint)

    def read_ticket(self, replicate: int, level: int) -> tuple[Ticket, str]:
        """The ticket of a level > 0, as a training below it was pruned to, and its mark.

        Raises:
          DamagedError: if it is not what was written.
        """
        path = self.ticket(replicate, level)
        following = self.record(chain(self._config, replicate, level - 1)).following
        if following is None:
            raise DamagedError(path, "cannot follow a training that diverged")
        return Ticket.from_bytes(paths.read_marked(self.root, path, following)), following

    def read_trained(self, training: Training) -> Ticket:
        """The trained weights of a training that is done, with its masks.

        Raises:
          WorkdirError: if they were not kept; a DamagedError, if they are not what was written.
        """
        mark = self.record(training).trained
        if mark is None:
            raise WorkdirError("Trained weights are kept of tickets, unless keep_trained=none. "
                               f"Received: {training} in {self.root}, whose are not.")
        return Ticket.from_bytes(paths.read_marked(
            self.root, paths.places(self.root, training)["trained"], mark))

    def finish(self, training: Training, result: dict[str, Any], curve: pd.DataFrame,
               start: "Ticket | str", *, following: "Ticket | None" = None,
               trained: "Ticket | None" = None) -> list[Training]:
        """Keeps what a training leaves; its record is written last and marks it done.

        Args:
          training: which.
          result: its measures, by column.
          curve: loss and accuracy over its steps.
          start: the ticket of its level if it drew it, or else the mark of the one that
            `read_ticket` gave it.
          following: the ticket of the next level, if it was pruned to one.
          trained: its trained weights and its masks, if they are kept.

        Returns:
          Trainings that were done from another ticket than `following`, and are no more: all
          levels above.  There are none unless a training was done again to other bits.

        Raises:
          DamagedError: if the ticket of its level is not the one that it started from any more.
        """
        places = paths.places(self.root, training)
        if isinstance(start, str):
            paths.read_marked(self.root, places["ticket"], start)
        # The last level is followed by a ticket too, so that more rounds can go on from it.
        tickets = {"ticket": start, "following": following, "trained": trained}
        contents = {name: given.to_bytes() for name, given in tickets.items()
                    if isinstance(given, Ticket)}
        contents["curve"] = curve.to_csv(index=False).encode()
        more = [name for name in result if name.startswith((STEP, DENSITY))]
        row = {name: {**dataclasses.asdict(training), **result}.get(name)
               for name in (*COLUMNS, *more)}
        marks: dict[str, Any] = {"ticket": start, **{
            name: checksums.mark(data) for name, data in contents.items()}}
        contents["record"] = Record(row, self._config.fingerprint, **marks).encode().encode()
        try:
            record.decode(contents["record"])  # What could not be read again is not written.
        except ValueError as error:
            raise LotteryError(f"A training's record {error}. Received: {row}.") from None
        gone = self._forget_above(training, marks.get("following")) \
            if training == chain(self._config, training.replicate, training.level) else []
        for name, path in places.items():
            if name in contents:
                atomic.write(path, contents[name])
        write_results(self.root)
        return gone

    def _forget_above(self, training: Training, following: "str | None") -> list[Training]:
        above = {other: path for other, path in found(self.root).items()
                 if other.replicate == training.replicate and other.level > training.level}
        if all(self.record(other).ticket == following for other in above
               if other.level == training.level + 1):
            return []
        for path in above.values():
            path.unlink()
        return list(above)


def results(root: "str | os.PathLike[str]", fingerprint: "str | None" = None) -> pd.DataFrame:
    """The rows of the trainings done in a workdir, by replicate, level and branch.

    Raises:
      DamagedError: if a record is not what was written, or not of the fingerprint.
    """
    root = pathlib.Path(root)
    rows = [paths.read_record(root, training, fingerprint).row for training in found(root)]
    more = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    table = pd.DataFrame(rows, columns=[*COLUMNS, *more])
    measures = [*COLUMNS[COLUMNS.index("density"):], *more]
    table[measures] = table[measures].apply(pd.to_numeric)
    table = table.astype({"diverged_at_step": float})
    return table.sort_values(["replicate", "level", "branch", "branch_index"], ignore_index=True)


def write_results(root: pathlib.Path) -> None:
    """Writes results.csv from the trainings that are done."""
    paths.check_inside(root, root / "results.csv")
    atomic.write(root / "results.csv", _results_csv(results(root)))


def results_stale(root: pathlib.Path) -> bool:
    """Whether results.csv is not what the trainings that are done say."""
    try:
        data = read_within(root, root / "results.csv", MOST_TABLE)
    except DamagedError:
        return True
    return data != _results_csv(results(root)).encode()


def _results_csv(table: pd.DataFrame) -> str:
    # Steps are whole numbers, or empty.
    steps = {"early_stop_step": "Int64", "diverged_at_step": "Int64"}
    return table.astype(steps).to_csv(index=False)


def curves(root: "str | os.PathLike[str]") -> pd.DataFrame:
    """The learning curves of the trainings done in a workdir, one under the other.

    Returns:
      Columns replicate, level, branch, branch_index, then those of the curves: step,
      loss, accuracy, val_loss, val_accuracy; rows in the order of the former.

    Raises:
      DamagedError: if a curve or its record is not what was written.
    """
    root = pathlib.Path(root)
    tables = {dataclasses.astuple(training):
              paths.read_curve(root, training, paths.read_record(root, training).curve)
              for training in found(root)}
    if not tables:
        return pd.DataFrame(columns=[*_KEYS, *CURVE_COLUMNS])
    return pd.concat(tables, names=_KEYS).reset_index(_KEYS).reset_index(drop=True)
