"""Stores the results of a run's trainings in its workdir, and reads those of finished trainings.

Every file is whole or absent, and a record is written after all files that it lists.  A training is
finished if and only if its record exists; from that alone a run knows where to continue.
"""

import dataclasses
import os
import pathlib
from typing import Any

import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import chain, repeats_from_k, Training
from lth_keras.experiments.results import paths, record
from lth_keras.experiments.results.paths import CURVE_COLUMNS, DamagedError, found
from lth_keras.experiments.results.record import (
    COLUMNS,
    COSTS,
    DENSITY,
    ENDED,
    Record,
    STEP,
    table,
)
from lth_keras.files import atomic, checksums, workdir_lock
from lth_keras.files.ticket import MOST_BYTES, Ticket

_KEYS = ["replicate", "level", "branch", "branch_index"]


class Store:
    """The workdir of one run.

    Args:
      root: the folder.
      config: the run's configuration.

    Raises:
      WorkdirError: if the folder is the workdir of a run with other settings or of a search in
        `fit`.
      DamagedError: if its configuration was changed after it was written.

    Example:
      >>> import tempfile
      >>> from lth_keras.experiments.config import presets
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     store = Store(folder, presets.get("digits"))
      ...     store.begin()
      ...     store.is_done(Training(replicate=0, level=0)), results(folder).empty
      (False, True)
    """

    def __init__(self, root: "str | os.PathLike[str]", config: Config):
        self.root = pathlib.Path(root)
        self._config = config
        workdir_lock.refuse_other(self.root, workdir_lock.RUN)
        if os.path.lexists(self.root / "config.json"):
            paths.read_config(self.root, config)

    def begin(self) -> None:
        """Writes the configuration, which makes the folder the run's workdir.

        This is separate from construction so that a run that fails to start leaves no folder.

        Raises:
          WorkdirError: if the folder cannot be written.
        """
        try:
            atomic.write(self.root / "config.json", checksums.seal(self._config.to_dict()))
        except OSError as error:
            raise WorkdirError("A workdir must be a folder that can be written. Received: "
                               f"{self.root}: {error.strerror}.") from None

    def ticket(self, replicate: int, level: int) -> pathlib.Path:
        """Returns the path of a level's ticket."""
        return paths.ticket_path(self.root, replicate, level)

    def is_done(self, training: Training) -> bool:
        """Whether a training is finished."""
        return paths.places(self.root, training)["record"].exists()

    def record(self, training: Training) -> Record:
        """Reads the record of a finished training.

        Raises:
          DamagedError: if it was changed after it was written, or is of other settings.
        """
        return paths.read_record(self.root, training, self._config.fingerprint)

    def read_ticket(self, replicate: int, level: int) -> tuple[Ticket, str]:
        """Reads the ticket of a level > 0.

        Returns:
          The ticket, and its mark in the record of the training that was pruned to it.

        Raises:
          DamagedError: if it was changed after it was written.
        """
        path = self.ticket(replicate, level)
        following = self.record(chain(self._config, replicate, level - 1)).following
        if following is None:
            raise DamagedError(path, "cannot follow a training that diverged")
        return Ticket.from_bytes(paths.read_marked(self.root, path, following)), following

    def read_trained(self, training: Training) -> Ticket:
        """Reads the trained weights and the masks of a finished training.

        Raises:
          WorkdirError: if they were not kept.
          DamagedError: if they were changed after they were written.
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
        """Writes the results of a training; its record, written last, marks it as finished.

        Args:
          training: the training.
          result: its measures, by column.
          curve: its learning curve.
          start: the ticket of its level if the training drew it; otherwise the mark that
            `read_ticket` returned with it.
          following: the ticket of the next level, if the training was pruned.
          trained: its trained weights and its masks, if they are kept.

        Returns:
          The trainings of higher levels whose records were deleted because they started from
          another ticket than `following`.  There are none unless the training was repeated with
          other bits.

        Raises:
          DamagedError: if the ticket of its level was changed since the training started.
        """
        places = paths.places(self.root, training)
        # A record must not list a ticket that the training did not start from.
        if isinstance(start, str):
            paths.read_marked(self.root, places["ticket"], start)
        # The last level has a following ticket too, so that a run with more rounds can continue.
        tickets = {"ticket": start, "following": following, "trained": trained}
        there = {name: mark for name, level in (("ticket", training.level),
                                                ("following", training.level + 1))
                 if isinstance(given := tickets[name], Ticket)
                 and (mark := self._mark_of_same(training, level, given))}
        contents = {name: given.to_bytes() for name, given in tickets.items()
                    if isinstance(given, Ticket) and name not in there}
        contents["curve"] = curve.to_csv(index=False).encode()
        more = [name for name in result
                if name.startswith((STEP, DENSITY)) or name in (ENDED, *COSTS)]
        row = {name: {**dataclasses.asdict(training), **result}.get(name)
               for name in (*COLUMNS, *more)}
        marks: dict[str, Any] = {"ticket": start, **there, **{
            name: checksums.mark(data) for name, data in contents.items()}}
        contents["record"] = Record(row, self._config.fingerprint, **marks).encode().encode()
        try:
            record.decode(contents["record"])  # Fails now rather than when the run is resumed.
        except ValueError as error:
            raise LotteryError(f"A training's record {error}. Received: {row}.") from None
        deleted = self._delete_records_above(training, marks.get("following")) \
            if training == chain(self._config, training.replicate, training.level) else []
        for name, path in places.items():
            if name in contents:
                atomic.write(path, contents[name])
        write_results(self.root)
        return deleted

    def _mark_of_same(self, training: Training, level: int, ticket: Ticket) -> "str | None":
        # Of a ticket that other trainings started from, if it has the same bits: made again by
        # other versions or on another device, only its provenance differs.
        path, most = self.ticket(training.replicate, level), MOST_BYTES
        marks = {self.record(other).ticket for other in found(self.root)
                 if (other.replicate, other.level) == (training.replicate, level)
                 and other != training}
        if not marks or not path.exists():
            return None
        data = paths.read_within(self.root, path, most)
        mark = checksums.mark(data)
        return mark if mark in marks and _same_bits(Ticket.from_bytes(data), ticket) else None

    def _delete_records_above(self, training: Training,
                              following: "str | None") -> list[Training]:
        # What started from another ticket would be rows of no search that was run: higher levels,
        # and repetitions of the dense network from theta_k, which the ticket of level 1 holds.
        after = {other: path for other, path in found(self.root).items()
                 if other.replicate == training.replicate and (
                     other.level > training.level or (other.level == training.level == 0
                     and repeats_from_k(self._config, other)))}
        if all(self.record(other).ticket == following for other in after
               if other.level == training.level + 1):
            return []
        for path in after.values():
            path.unlink()
        return list(after)


def _same_bits(one: Ticket, other: Ticket) -> bool:
    return one.level == other.level and all(
        {*mine} == {*its} and all(
            value.dtype == its[name].dtype and value.tobytes() == its[name].tobytes()
            for name, value in mine.items())
        for mine, its in ((one.weights, other.weights), (one.masks, other.masks)))


def results(root: "str | os.PathLike[str]", fingerprint: "str | None" = None) -> pd.DataFrame:
    """Reads the rows of all finished trainings of a workdir.

    Args:
      root: the workdir.
      fingerprint: the fingerprint that their configuration must have; None if it may have any.

    Returns:
      The table of results.csv, ordered by replicate, level and branch.

    Raises:
      DamagedError: if a record was changed after it was written, or has another fingerprint.
    """
    root = pathlib.Path(root)
    rows = [paths.read_record(root, training, fingerprint).row for training in found(root)]
    return table(rows).astype({"diverged_at_step": float}).sort_values(_KEYS, ignore_index=True)


def write_results(root: pathlib.Path) -> None:
    """Writes results.csv from the records of the finished trainings."""
    paths.check_inside(root, root / "results.csv")
    atomic.write(root / "results.csv", _results_csv(results(root)))


def results_stale(root: pathlib.Path) -> bool:
    """Whether results.csv differs from the records of the finished trainings."""
    try:
        data = paths.read_results(root)
    except DamagedError:
        return True
    return data != _results_csv(results(root)).encode()


def _results_csv(table: pd.DataFrame) -> str:
    # "Int64" has a missing value; with NaN the steps would be written as floats.
    steps = {"early_stop_step": "Int64", "diverged_at_step": "Int64"}
    return table.astype(steps).to_csv(index=False)


def curves(root: "str | os.PathLike[str]") -> pd.DataFrame:
    """Reads the learning curves of all finished trainings of a workdir into one table.

    Returns:
      A table with the columns replicate, level, branch, branch_index, by which it is ordered, and
      those of the curves: step, loss, accuracy, val_loss, val_accuracy.

    Raises:
      DamagedError: if a curve or its record was changed after it was written.
    """
    root = pathlib.Path(root)
    tables = {dataclasses.astuple(training):
              paths.read_curve(root, training, paths.read_record(root, training).curve)
              for training in found(root)}
    if not tables:
        return pd.DataFrame(columns=[*_KEYS, *CURVE_COLUMNS])
    return pd.concat(tables, names=_KEYS).reset_index(_KEYS).reset_index(drop=True)
