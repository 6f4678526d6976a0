"""Finds the damaged files of a workdir, and deletes them so that a run makes them again.

A record lists the marks of its curve, its trained weights, the ticket that it started from and the
one that it was pruned to, so that damage to any of them is noticed.  A damaged file is deleted with
the record that lists it; all else stays.  The run then repeats the trainings without a record, with
the same bits, since a training depends only on the configuration and its ticket.
"""

import contextlib
import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterator

from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import chain, Training
from lth_keras.experiments.results import paths, store
from lth_keras.experiments.results.paths import DamagedError, FILES, FOLDERS, places
from lth_keras.experiments.results.record import COLUMNS, Record
from lth_keras.files import atomic, checksums, workdir_lock


@dataclasses.dataclass(frozen=True)
class Damage:
    """A damaged file.

    Attributes:
      path: the file.
      why: what is wrong with it.
      invalidates: the training that must be repeated to make the file again, or None.

    Example:
      >>> print(Damage(pathlib.Path("level_03/ticket.safetensors"), "is missing"))
      level_03/ticket.safetensors is missing
    """

    path: pathlib.Path
    why: str
    invalidates: Training | None = None

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


def prepare(root: pathlib.Path, config: Config, repairs: bool, dry: bool,
            say: Callable[[str], None]) -> list[Damage]:
    """Makes a workdir ready for a run: repairs damage, and deletes what killed processes left.

    Args:
      root: the folder, which need not exist.
      config: the configuration of the run.
      repairs: whether to repair damage.
      dry: whether to report damage without repairing it.
      say: a function that reports a line to the user.

    Returns:
      The damage that was found.

    Raises:
      DamagedError: if there is damage and `repairs` is false; it names the first file.
    """
    damages = check(root, config)
    if damages and not repairs:
        more = f", and {len(damages) - 1} more are damaged" if len(damages) > 1 else ""
        raise DamagedError(damages[0].path, damages[0].why + more)
    if repairs and not damages:
        made = os.path.lexists(root / "results.csv") and store.results_stale(root)
        say(f"Nothing in {root} is damaged" + (
            ", except for results.csv, which is made again from the records." if made else "."))
    known: list[Damage] = []
    while damages:
        # Not what is missing only because a record was deleted for damage reported before.
        repeated = {damage.invalidates for damage in known} - {None}
        for damage in damages:
            if damage.invalidates not in repeated:
                say(f"damaged: {damage}")
        known += damages
        if dry:
            return known
        remove_damaged(root, config, damages)
        # A link that was deleted may have hidden further damage.
        damages = [damage for damage in check(root, config) if damage not in known]
    if not dry:
        remove_leftovers(root)
    return known


def check(root: pathlib.Path, config: Config) -> list[Damage]:
    """Finds all damage of a workdir, and writes nothing.

    Args:
      root: the folder, which need not exist.
      config: the configuration of the run.

    Raises:
      WorkdirError: if the folder is the workdir of a run with other settings or of an earlier
        version, or of a search in `fit`.
      OSError: if a file cannot be read, because of its permissions or the disk.
    """
    workdir_lock.refuse_other(root, workdir_lock.RUN)
    damages = _Damages()
    _check_places(root, damages)
    if damages:  # Links and files in the place of folders hide others, found by a second check.
        return [*damages.values()]
    records: dict[Training, Record] = {}
    for training in paths.found(root):
        with damages.of(training):
            records[training] = paths.read_record(root, training)
    _check_config(root, config, records, damages)
    for training in [*records]:
        if records[training].fingerprint != config.fingerprint:
            other = records.pop(training).fingerprint
            damages.add(places(root, training)["record"], f"is of another experiment ({other})",
                        training)
    _check_chains(root, config, records, damages)
    _check_files(root, config, records, damages)
    return [*damages.values()]


class _Damages(dict[pathlib.Path, Damage]):
    """The damage found, by file; for each file, the first that was found."""

    def add(self, path: pathlib.Path, why: str, invalidates: Training | None = None) -> None:
        self.setdefault(path, Damage(path, why, invalidates))

    @contextlib.contextmanager
    def of(self, invalidates: Training | None) -> Iterator[None]:
        """A context that adds a DamagedError raised in it."""
        try:
            yield
        except DamagedError as error:
            self.add(error.path, error.why, invalidates)


def remove_damaged(root: pathlib.Path, config: Config, damages: list[Damage]) -> None:
    """Deletes damaged files and the records that list them.

    Raises:
      OSError: if a file cannot be deleted.
    """
    for damage in damages:
        # The record first: if the process is killed after it, the training counts as not finished.
        if damage.invalidates:
            places(root, damage.invalidates)["record"].unlink(missing_ok=True)
        if damage.path.name == "config.json" and not damage.path.is_symlink():
            atomic.write(damage.path, checksums.seal(config.to_dict()))
        else:
            damage.path.unlink(missing_ok=True)
    # Written again by the run, without the rows of deleted records.
    if not (root / "results.csv").is_symlink():
        (root / "results.csv").unlink(missing_ok=True)


def remove_leftovers(root: pathlib.Path) -> None:
    """Deletes the temporary files that killed processes left behind.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as name:
      ...     (pathlib.Path(name) / ".results.csv.4242.0a1b2c3d").touch()
      ...     remove_leftovers(pathlib.Path(name))
      ...     os.listdir(name)
      []
    """
    atomic.remove_unfinished(root, _walk(root), FILES)


def _walk(root: pathlib.Path) -> Iterator[pathlib.Path]:
    # Everything in the folders of a run, without following links or entering users' folders.
    def stop(error: OSError) -> None:
        if error.filename != os.fspath(root):  # The workdir itself need not exist yet.
            raise error
    for top, folders, names in os.walk(root, onerror=stop):
        here = pathlib.Path(top)
        yield from (here / name for name in [*folders, *names])
        folders[:] = [name for name in folders
                      if FOLDERS.fullmatch((here / name).relative_to(root).as_posix())]


def _check_places(root: pathlib.Path, damages: _Damages) -> None:
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        is_folder = FOLDERS.fullmatch(name) is not None
        if is_folder or FILES.fullmatch(name):
            if path.is_symlink():
                damages.add(path, atomic.IS_A_LINK)
            elif path.is_dir() != is_folder:
                damages.add(path, "is not a folder" if is_folder else "is not a file")


def _check_config(root: pathlib.Path, config: Config, records: dict[Training, Record],
                  damages: _Damages) -> None:
    if not (root / "config.json").exists() and not records and not damages:
        return  # The run has not begun.
    with damages.of(None):
        try:
            paths.read_config(root, config)
        except DamagedError:
            if records and config.fingerprint not in {
                    record.fingerprint for record in records.values()}:
                raise WorkdirError(f"A workdir holds one experiment. Received: {root}, with "
                                   "results of other settings. Use another --workdir.") from None
            raise


def _check_chains(root: pathlib.Path, config: Config, records: dict[Training, Record],
                  damages: _Damages) -> None:
    # Every level has its ticket from a training of the level below.  results.csv is written after
    # the records, so a training that it lists and that has no record has lost it.
    expected = dict.fromkeys(_in_results(root), "results.csv has its row")
    for training, record in records.items():
        if training.level:
            below = chain(config, training.replicate, training.level - 1)
            expected[below] = f"level {training.level} was trained from its ticket"
            if below in records and records[below].following != record.ticket:
                damages.add(places(root, training)["record"],
                            "was trained from another ticket than its level's", training)
    for training, why in expected.items():
        if training not in records:
            damages.add(places(root, training)["record"], f"is missing, though {why}", training)


def _in_results(root: pathlib.Path) -> list[Training]:
    try:
        data = paths.read_results(root)
        named = [Training(int(row["replicate"]), int(row["level"]), row["branch"],
                          int(row["branch_index"]))
                 for row in csv.DictReader(io.StringIO(data.decode()))
                 if tuple(row)[:len(COLUMNS)] == COLUMNS]
        return [training for training in named if FILES.fullmatch(
            places(root, training)["record"].relative_to(root).as_posix())]
    except (DamagedError, ValueError, TypeError, csv.Error):
        return []  # It will be written again.


def _check_files(root: pathlib.Path, config: Config, records: dict[Training, Record],
                 damages: _Damages) -> None:
    # Each file is read once, although several records list it; with the training that makes it
    # again.
    marks: dict[pathlib.Path, tuple[str, Training]] = {}
    for training, record in records.items():
        with damages.of(training):
            paths.read_curve(root, training, record.curve)
        for name in ("following", "trained"):
            if mark := getattr(record, name):
                marks[places(root, training)[name]] = mark, training
    for training, record in records.items():
        # Only if the record of the training that made it is damaged: that one will be repeated.
        maker = chain(config, training.replicate, max(0, training.level - 1))
        marks.setdefault(places(root, training)["ticket"], (record.ticket, maker))
    for path, (mark, maker) in marks.items():
        with damages.of(maker):
            paths.read_marked(root, path, mark)
