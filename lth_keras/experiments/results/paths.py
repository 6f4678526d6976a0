"""Where things lie in a run's workdir, and how they are read: as files that may be anything.

What is read is checked against its SHA-256, is of a bounded size, and lies in the workdir
itself, not behind a link.  What does not pass is a `DamagedError` that names the file.
"""

import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import record
from lth_keras.experiments.results.record import Record
from lth_keras.files import atomic, checksums, workdir_lock

_Read = TypeVar("_Read")

CURVE_COLUMNS = ("step", "loss", "accuracy", "val_loss", "val_accuracy")
MOST_TABLE = 2**28  # Bytes of results.csv: some two million trainings.
_MOST_TEXT = 2**16  # Bytes of a configuration or a record: they have some 1,000.


class DamagedError(WorkdirError):
    """A file of a workdir that is not what was written there.

    Attributes:
      path: the file.
      why: what is wrong with it.
    """

    def __init__(self, path: pathlib.Path, why: str):
        super().__init__(f"{path} {why}. Give `lth run` --repair to make it again, and nothing "
                         "else.")
        self.path, self.why = path, why


def ticket_path(root: pathlib.Path, replicate: int, level: int) -> pathlib.Path:
    """Where the ticket of a level lies."""
    return root / f"replicate_{replicate}" / f"level_{level:02d}" / "ticket.safetensors"


def folder(root: pathlib.Path, training: Training) -> pathlib.Path:
    """Where the results of a training lie."""
    level = ticket_path(root, training.replicate, training.level).parent
    return level / f"{training.branch}_{training.branch_index}"


def trained_path(root: pathlib.Path, training: Training) -> pathlib.Path:
    """Where the trained weights of a training lie, if they are kept."""
    return folder(root, training) / "trained.safetensors"


def check_inside(root: pathlib.Path, path: pathlib.Path) -> None:
    """Raises DamagedError if any part of a path below the root is a link.

    Raises:
      DamagedError: if one is.
    """
    _undamaged(lambda: atomic.refuse_links(root, path), path)


def read_within(root: pathlib.Path, path: pathlib.Path, most: int) -> bytes:
    """The bytes of a file of a workdir.

    Raises:
      DamagedError: if it is not there, no plain file, behind a link, or larger than `most`.
      OSError: if it is there and cannot be read.
    """
    return _undamaged(lambda: atomic.read(path, most, root), path)


def read_marked(root: pathlib.Path, path: pathlib.Path, mark: str) -> bytes:
    """The bytes of a file of a workdir that a record vouches for by its mark.

    Raises:
      DamagedError: as `read_within` does, or if it has another mark.
      OSError: if it is there and cannot be read.
    """
    return _undamaged(lambda: checksums.read_marked(path, mark, root), path)


def _undamaged(read: Callable[[], _Read], path: pathlib.Path) -> _Read:
    try:
        return read()
    except ValueError as error:
        raise DamagedError(path, str(error)) from None
    except OSError as error:
        why = atomic.damage(error)
        if why is None:
            raise
        raise DamagedError(pathlib.Path(error.filename or path), why) from None


def require(root: pathlib.Path) -> None:
    """Raises WorkdirError if a folder is not the workdir of a run that began.

    Raises:
      WorkdirError: if it is none.
    """
    if not os.path.lexists(root / "config.json"):
        raise WorkdirError("A workdir is a folder that `lth run` made, with a config.json. "
                           f"Received: {root}.")


def read_config(root: pathlib.Path) -> Config:
    """The configuration of a workdir.

    Raises:
      DamagedError: if it is not what was written.
      WorkdirError: if it is of a version that did not seal it.
    """
    path = root / "config.json"
    data = read_within(root, path, _MOST_TEXT)
    try:
        return Config.from_plain(checksums.unseal(data))
    except (ValueError, LotteryError) as error:
        _refuse_earlier(path, data)
        why = "does not hold a configuration" if isinstance(error, LotteryError) else str(error)
        raise DamagedError(path, why) from None


def _refuse_earlier(path: pathlib.Path, data: bytes) -> None:
    try:
        Config.from_json(data.decode())
    except (LotteryError, UnicodeDecodeError):
        return
    raise WorkdirError("A workdir must be of a version that seals its files. Received: "
                       f"{path}, which an earlier version wrote; use another --workdir.")


def check_same(root: pathlib.Path, there: Config, here: Config) -> None:
    """Raises WorkdirError if two configurations are not of one experiment.

    Raises:
      WorkdirError: if not; it says what differs.
    """
    workdir_lock.refuse_changed(root, workdir_lock.RUN, there.identity, here.identity)


def read_record(root: pathlib.Path, training: Training,
                fingerprint: "str | None" = None) -> Record:
    """The record of a training that is done, checked to be of it and of the fingerprint."""
    path = folder(root, training) / "result.json"
    try:
        read = record.decode(read_within(root, path, _MOST_TEXT))
    except ValueError as error:
        if isinstance(error, LotteryError):
            raise
        raise DamagedError(path, str(error)) from None
    if read.training != training:
        raise DamagedError(path, f"is the record of {read.training}")
    if fingerprint not in (None, read.fingerprint):
        raise DamagedError(path, f"is of another experiment ({read.fingerprint})")
    return read


def read_curve(root: pathlib.Path, training: Training, mark: str) -> pd.DataFrame:
    """The curve of a training, checked against its record's mark of it."""
    path = folder(root, training) / "curve.csv"
    data = read_marked(root, path, mark)
    try:
        table = pd.read_csv(io.BytesIO(data), dtype=float, float_precision="round_trip")
        table = table.astype({"step": int})
    except (ValueError, KeyError, OverflowError):
        raise DamagedError(path, "is no table of numbers") from None
    if tuple(table.columns) != CURVE_COLUMNS or not isinstance(table.index, pd.RangeIndex):
        raise DamagedError(path, "is no curve")
    return table


def found(root: pathlib.Path) -> dict[Training, pathlib.Path]:
    """The trainings that have a record in a workdir, by replicate, level and branch."""
    return dict(sorted(((training, path) for training, path in _records(root)),
                       key=lambda item: dataclasses.astuple(item[0])))


def first_replicate(root: pathlib.Path) -> int:
    """The number of the first replicate that a workdir has a record of; 0 if it has none."""
    return min((training.replicate for training in found(root)), default=0)


def _records(root: pathlib.Path) -> Iterator[tuple[Training, pathlib.Path]]:
    # Only what lies where it belongs: a copy beside it is not a result.
    for path in root.glob("replicate_*/level_*/*/result.json"):
        parts = re.fullmatch(r"replicate_([0-9]{1,9})/level_([0-9]{1,9})/(\w[\w.]*)_"
                             r"([0-9]{1,9})/.*", path.relative_to(root).as_posix(),
                             re.ASCII)
        if parts:
            replicate, level, branch, index = parts.groups()
            training = Training(int(replicate), int(level), branch, int(index))
            if path.parent == folder(root, training):
                yield training, path
