"""The files of a run's workdir: where they lie, and how they are read, as they may be anything.

    .lock                                         who uses it (`files.workdir_lock`)
    config.json                                   the configuration last asked for, sealed
    results.csv                                   a row a trained network, made from the records
    replicate_0/level_03/ticket.safetensors       theta_0 and the mask of that level
    replicate_0/level_03/ticket_0/trained.safetensors   its trained weights, and the mask
    replicate_0/level_03/reinit_0/curve.csv       loss and accuracy over its training
    replicate_0/level_03/reinit_0/result.json     its record; once this is there, it is done
    plots/                                        the pictures
    analysis/                                     what `lth analyse` gave
    deployment/                                   what `lth report --deployment` exported

What is read is checked against its SHA-256, is of a bounded size, and lies in the workdir
itself, not behind a link.  What does not pass is a `DamagedError` that names the file.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Iterator

import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import record
from lth_keras.experiments.results.record import Record
from lth_keras.files import atomic, checksums, workdir_lock

# All that a run and its reports write, by the path in the workdir; `deployment` is an export's.
FILES = re.compile(r"""
    config\.json | results\.csv
    | plots / ( (summary|curves|figure_[0-9]+)\.png | report\.html )
    | analysis / [a-z_]+\.(csv|png)
    | replicate_(?P<replicate>[0-9]{1,9}) / level_(?P<level>[0-9]{1,9}) / (
        ticket\.safetensors
        | (?P<branch>\w[\w.]*)_(?P<branch_index>[0-9]{1,9}) /
          ( curve\.csv | trained\.safetensors | result\.json ) )
    """, re.ASCII | re.VERBOSE)
FOLDERS = re.compile(
    r"plots|analysis|replicate_[0-9]{1,9}(/level_[0-9]{1,9}(/\w[\w.]*_[0-9]{1,9})?)?", re.ASCII)
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


def places(root: pathlib.Path, training: Training) -> dict[str, pathlib.Path]:
    """Where the files of a training lie, in the order in which they are written.

    Returns:
      "record", and what that vouches for by the names of its marks: see `record.Record`.
    """
    own, replicate, level = folder(root, training), training.replicate, training.level
    return {"ticket": ticket_path(root, replicate, level),
            "following": ticket_path(root, replicate, level + 1),
            "trained": own / "trained.safetensors", "curve": own / "curve.csv",
            "record": own / "result.json"}


def found(root: pathlib.Path) -> dict[Training, pathlib.Path]:
    """The trainings that have a record in a workdir, by replicate, level and branch."""
    there: dict[Training, pathlib.Path] = {}
    for path in root.glob("replicate_*/level_*/*/result.json"):
        if match := FILES.fullmatch(path.relative_to(root).as_posix()):
            training = Training(int(match["replicate"]), int(match["level"]), match["branch"],
                                int(match["branch_index"]))
            if path.parent == folder(root, training):  # A copy beside it is not a result.
                there[training] = path
    return dict(sorted(there.items(), key=lambda item: dataclasses.astuple(item[0])))


def first_replicate(root: pathlib.Path) -> int:
    """The number of the first replicate that a workdir has a record of; 0 if it has none."""
    return min((training.replicate for training in found(root)), default=0)


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Makes a DamagedError of what is wrong with a file that is read, if it can be repaired."""
    try:
        yield
    except LotteryError:
        raise
    except ValueError as error:
        raise DamagedError(path, str(error)) from None
    except OSError as error:
        why = atomic.damage(error)
        if why is None:
            raise
        raise DamagedError(pathlib.Path(error.filename or path), why) from None


def check_inside(root: pathlib.Path, path: pathlib.Path) -> None:
    """Raises DamagedError if any part of a path below the root is a link."""
    with _naming(path):
        atomic.refuse_links(root, path)


def read_within(root: pathlib.Path, path: pathlib.Path, most: int) -> bytes:
    """The bytes of a file of a workdir.

    Raises:
      DamagedError: if it is not there, no plain file, behind a link, or larger than `most`.
      OSError: if it is there and cannot be read.
    """
    with _naming(path):
        return atomic.read(path, most, root)


def read_marked(root: pathlib.Path, path: pathlib.Path, mark: str) -> bytes:
    """The bytes of a file of a workdir that a record vouches for by its mark.

    Raises:
      DamagedError: as `read_within` does, or if it has another mark.
      OSError: if it is there and cannot be read.
    """
    with _naming(path):
        return checksums.read_marked(path, mark, root)


def require(root: pathlib.Path) -> None:
    """Raises WorkdirError if a folder is not the workdir of a run that began."""
    if not os.path.lexists(root / "config.json"):
        raise WorkdirError("A workdir is a folder that `lth run` made, with a config.json. "
                           f"Received: {root}.")


def read_config(root: pathlib.Path, asked: "Config | None" = None) -> Config:
    """The configuration of a workdir.

    Raises:
      DamagedError: if it is not what was written.
      WorkdirError: if it is of a version that did not seal it, or of another experiment than the
        one that is asked for; it says what differs.
    """
    path = root / "config.json"
    data = read_within(root, path, _MOST_TEXT)
    try:
        config = Config.from_plain(checksums.unseal(data))
    except (ValueError, LotteryError) as error:
        _refuse_earlier(path, data)
        why = "does not hold a configuration" if isinstance(error, LotteryError) else str(error)
        raise DamagedError(path, why) from None
    if asked is not None:
        workdir_lock.refuse_changed(root, workdir_lock.RUN, config.identity, asked.identity)
    return config


def _refuse_earlier(path: pathlib.Path, data: bytes) -> None:
    try:
        Config.from_json(data.decode())
    except (LotteryError, UnicodeDecodeError):
        return
    raise WorkdirError("A workdir must be of a version that seals its files. Received: "
                       f"{path}, which an earlier version wrote; use another --workdir.")


def read_record(root: pathlib.Path, training: Training,
                fingerprint: "str | None" = None) -> Record:
    """The record of a training that is done, checked to be of it and of the fingerprint."""
    path = places(root, training)["record"]
    with _naming(path):
        read = record.decode(atomic.read(path, _MOST_TEXT, root))
        if read.training != training:
            raise ValueError(f"is the record of {read.training}")
        if fingerprint not in (None, read.fingerprint):
            raise ValueError(f"is of another experiment ({read.fingerprint})")
        return read


def read_curve(root: pathlib.Path, training: Training, mark: str) -> pd.DataFrame:
    """The curve of a training, checked against its record's mark of it."""
    path = places(root, training)["curve"]
    data = read_marked(root, path, mark)
    try:
        table = pd.read_csv(io.BytesIO(data), dtype=float, float_precision="round_trip")
        table = table.astype({"step": int})
    except (ValueError, KeyError, OverflowError):
        raise DamagedError(path, "is no table of numbers") from None
    if tuple(table.columns) != CURVE_COLUMNS or not isinstance(table.index, pd.RangeIndex):
        raise DamagedError(path, "is no curve")
    return table
