"""The files of a run's workdir: their paths, and functions that read them as untrusted.

    .lock                                         locked by the process that runs
    config.json                                   the configuration of the last run, sealed
    results.csv                                   a row for each training, made from the records
    replicate_0/level_03/ticket.safetensors       theta_0 and the mask of the level
    replicate_0/level_03/ticket_0/trained.safetensors   its trained weights and the mask
    replicate_0/level_03/reinit_0/curve.csv       loss and accuracy during its training
    replicate_0/level_03/reinit_0/result.json     its record, which marks the training as finished
    plots/                                        figures and report.html
    analysis/                                     the results of `lth analyse`
    deployment/                                   the files that `lth report --deployment` exports

Every file is checked against its SHA-256, has a size limit, and must not be a link or behind one.
Otherwise a `DamagedError` names the file.
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
from lth_keras.files.ticket import ticket_name

# All files that a run and its reports write, by their path in the workdir, except for `deployment`,
# whose files the export checks.
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
_MOST_TABLE = 2**28  # Bytes of results.csv: some two million trainings.
_MOST_TEXT = 2**16  # Bytes of a configuration or a record, which have about 1,000.


class DamagedError(WorkdirError):
    """A file of a workdir was changed, damaged or deleted after it was written.

    Attributes:
      path: the file.
      why: what is wrong with it.

    Example:
      >>> str(DamagedError(pathlib.Path("runs/config.json"), "is missing"))
      'runs/config.json is missing. Give `lth run` --repair to make only damaged files again.'
    """

    def __init__(self, path: pathlib.Path, why: str):
        super().__init__(f"{path} {why}. Give `lth run` --repair to make only damaged files again.")
        self.path, self.why = path, why


def ticket_path(root: pathlib.Path, replicate: int, level: int) -> pathlib.Path:
    """Returns the path of a level's ticket.

    Example:
      >>> ticket_path(pathlib.Path("runs"), replicate=0, level=3).as_posix()
      'runs/replicate_0/level_03/ticket.safetensors'
    """
    return root / f"replicate_{replicate}" / ticket_name(level)


def folder(root: pathlib.Path, training: Training) -> pathlib.Path:
    """Returns the folder with the results of a training.

    Example:
      >>> folder(pathlib.Path("runs"), Training(0, 3, "reinit", 1)).as_posix()
      'runs/replicate_0/level_03/reinit_1'
    """
    level = ticket_path(root, training.replicate, training.level).parent
    return level / f"{training.branch}_{training.branch_index}"


def places(root: pathlib.Path, training: Training) -> dict[str, pathlib.Path]:
    """Returns the paths of a training's files, in the order in which they are written.

    Returns:
      Name -> path: the names of the marks of `record.Record`, then "record".

    Example:
      >>> list(places(pathlib.Path("runs"), Training(0, 3)))
      ['ticket', 'following', 'trained', 'curve', 'record']
    """
    own, replicate, level = folder(root, training), training.replicate, training.level
    return {"ticket": ticket_path(root, replicate, level),
            "following": ticket_path(root, replicate, level + 1),
            "trained": own / "trained.safetensors", "curve": own / "curve.csv",
            "record": own / "result.json"}


def found(root: pathlib.Path) -> dict[Training, pathlib.Path]:
    """Finds the trainings with a record in a workdir.

    Returns:
      Training -> path of its record, ordered by replicate, level and branch.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as name:
      ...     record_path = places(pathlib.Path(name), Training(0, 2, "reinit", 1))["record"]
      ...     atomic.write(record_path, "{}")
      ...     [str(training) for training in found(pathlib.Path(name))]
      ['replicate 0, level 2, reinit 1']
    """
    there: dict[Training, pathlib.Path] = {}
    for path in root.glob("replicate_*/level_*/*/result.json"):
        if match := FILES.fullmatch(path.relative_to(root).as_posix()):
            training = Training(int(match["replicate"]), int(match["level"]), match["branch"],
                                int(match["branch_index"]))
            # Not a copy of the folder under another name, such as level_3 beside level_03.
            if path.parent == folder(root, training):
                there[training] = path
    return dict(sorted(there.items(), key=lambda item: dataclasses.astuple(item[0])))


def first_replicate(root: pathlib.Path) -> int:
    """Returns the number of the first replicate with a record in a workdir; 0 if there is none."""
    return min((training.replicate for training in found(root)), default=0)


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Turns errors of reading a file into DamagedError, if repairing the workdir would help.

    Any other OSError, such as a lack of permission, is left as it is: the file may be undamaged.
    """
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
    """Reads a file of a workdir.

    Args:
      root: the workdir.
      path: the file in it.
      most: the largest size allowed, in bytes.

    Raises:
      DamagedError: if the file is missing, not a plain file, behind a link, or too large.
      OSError: if it cannot be read for another reason.
    """
    with _naming(path):
        return atomic.read(path, most, root)


def read_results(root: pathlib.Path) -> bytes:
    """Reads results.csv of a workdir.

    Raises:
      DamagedError: see `read_within`.
    """
    return read_within(root, root / "results.csv", _MOST_TABLE)


def read_marked(root: pathlib.Path, path: pathlib.Path, mark: str) -> bytes:
    """Reads a file of a workdir and checks the mark that its record has of it.

    Raises:
      DamagedError: see `read_within`; also if the mark differs.
      OSError: if the file cannot be read for another reason.
    """
    with _naming(path):
        return checksums.read_marked(path, mark, root)


def require(root: pathlib.Path) -> None:
    """Raises WorkdirError if a folder is not the workdir of a run that has begun."""
    if not os.path.lexists(root / "config.json"):
        inside = sorted(str(path.parent) for path in root.glob("*/config.json"))[:5]
        hint = f" Workdirs in it: {', '.join(inside)}." if inside else ""
        raise WorkdirError("A workdir is a folder that `lth run` made, with a config.json. "
                           f"Received: {root}.{hint}")


def read_config(root: pathlib.Path, asked: "Config | None" = None) -> Config:
    """Reads the configuration of a workdir.

    Args:
      root: the workdir.
      asked: the configuration that it must have; None if it may have any.

    Raises:
      DamagedError: if config.json was changed after it was written.
      WorkdirError: if it was written by a version that did not seal it, or differs from the
        configuration asked for; the message lists the differences.
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
    """Reads the record of a finished training.

    Args:
      root: the workdir.
      training: the training.
      fingerprint: the fingerprint that its configuration must have; None if it may have any.

    Raises:
      DamagedError: if the record was changed after it was written, or is of another training or
        configuration.
    """
    path = places(root, training)["record"]
    with _naming(path):
        read = record.decode(atomic.read(path, _MOST_TEXT, root))
        if read.training != training:
            raise ValueError(f"is the record of {read.training}")
        if fingerprint not in (None, read.fingerprint):
            raise ValueError(f"is of another experiment ({read.fingerprint})")
        return read


def read_curve(root: pathlib.Path, training: Training, mark: str) -> pd.DataFrame:
    """Reads the learning curve of a training.

    Args:
      root: the workdir.
      training: the training.
      mark: the mark of the curve in the training's record.

    Raises:
      DamagedError: if the curve was changed after it was written.
    """
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
