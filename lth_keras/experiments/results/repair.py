"""Repair: what of a workdir is not what was written, and taking that away to be done again.

A record vouches for its curve, its trained weights, the ticket it started from and the one
that it was pruned to, so a workdir is a chain.  What is damaged goes, with the record that vouched
for it; what is intact stays.  The run then does again what has no record: to the same bits,
as a training depends on nothing but the configuration and its ticket.
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
    """A file that is not what was written.

    Attributes:
      path: the file.
      why: what is wrong with it.
      voids: the training that is to be done again for it, or None.
    """

    path: pathlib.Path
    why: str
    voids: Training | None = None

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


def prepare(root: pathlib.Path, config: Config, repairs: bool, dry: bool,
            say: Callable[[str], None]) -> list[Damage]:
    """Makes a workdir ready for a run: sound, and without what a killed process left.

    Args:
      root: the folder; it need not be there.
      config: what is to be run in it.
      repairs: whether damage is to be repaired.
      dry: whether damage is only to be said.
      say: is told of it.

    Returns:
      The damage that was found.

    Raises:
      DamagedError: if there is damage and it is not to be repaired; it names the first file.
    """
    damages = check(root, config)
    if damages and not repairs:
        more = f", and {len(damages) - 1} more are damaged" if len(damages) > 1 else ""
        raise DamagedError(damages[0].path, damages[0].why + more)
    if repairs and not damages:
        made = os.path.lexists(root / "results.csv") and store.results_stale(root)
        say(f"Nothing in {root} is damaged" + (
            ", but for results.csv, which is made anew of the records." if made else "."))
    known: list[Damage] = []
    while damages:
        void = {damage.voids for damage in known} - {None}
        for damage in damages:
            if damage.voids not in void:
                say(f"damaged: {damage}")
        known += damages
        if dry:
            return known
        mend(root, config, damages)
        # A link may have hidden others.
        damages = [damage for damage in check(root, config) if damage not in known]
    if not dry:
        tidy(root)
    return known


def check(root: pathlib.Path, config: Config) -> list[Damage]:
    """All damage of a workdir; nothing is written.

    Args:
      root: the folder; it need not be there.
      config: what is to be run in it.

    Raises:
      WorkdirError: if the folder holds a run of other settings, or of an earlier version, or a
        search in `fit`.
      OSError: if a file cannot be read, for want of permission or of a sound disk.
    """
    workdir_lock.refuse_other(root, workdir_lock.RUN)
    damages = _Damages()
    _check_places(root, damages)
    if damages:  # They hide what else there is; a second look finds it.
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
    """What is found, by file; what was found of a file first stands."""

    def add(self, path: pathlib.Path, why: str, voids: Training | None = None) -> None:
        self.setdefault(path, Damage(path, why, voids))

    @contextlib.contextmanager
    def of(self, voids: Training | None) -> Iterator[None]:
        """Adds what is damaged among that which is read."""
        try:
            yield
        except DamagedError as error:
            self.add(error.path, error.why, voids)


def mend(root: pathlib.Path, config: Config, damages: list[Damage]) -> None:
    """Takes away what is damaged, and the records that vouched for it.

    Raises:
      OSError: if something cannot be taken away.
    """
    for damage in damages:
        if damage.voids:  # First: without its record the rest is as if never done.
            places(root, damage.voids)["record"].unlink(missing_ok=True)
        if damage.path.name == "config.json" and not damage.path.is_symlink():
            atomic.write(damage.path, checksums.seal(config.to_dict()))
        else:
            damage.path.unlink(missing_ok=True)
    if not (root / "results.csv").is_symlink():  # Made anew, so that it names none of those.
        (root / "results.csv").unlink(missing_ok=True)


def tidy(root: pathlib.Path) -> None:
    """Takes away the temporary files that a killed process left."""
    atomic.remove_unfinished(root, _walk(root), FILES)


def _walk(root: pathlib.Path) -> Iterator[pathlib.Path]:
    # Everything in the folders of a run; what a link leads to is not in it.
    def stop(error: OSError) -> None:
        if error.filename != os.fspath(root):  # Which need not be there yet.
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
                damages.add(path, "is a link, and what is in a workdir lies there itself")
            elif path.is_dir() != is_folder:
                damages.add(path, "is not a folder" if is_folder else "is not a file")


def _check_config(root: pathlib.Path, config: Config, records: dict[Training, Record],
                  damages: _Damages) -> None:
    if not (root / "config.json").exists() and not records and not damages:
        return  # A run that has not begun.
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
    # Every level stands on the training below it that its ticket was made from.  Results.csv is
    # made from the records, after them: it never has a row that they have not.
    told = dict.fromkeys(_in_results(root), "results.csv has its row")
    for training, record in records.items():
        if training.level:
            below = chain(config, training.replicate, training.level - 1)
            told[below] = f"level {training.level} was trained from its ticket"
            if below in records and records[below].following != record.ticket:
                damages.add(places(root, training)["record"],
                            "was trained from another ticket than its level's", training)
    for training, why in told.items():
        if training not in records:
            damages.add(places(root, training)["record"], f"is missing, though {why}", training)


def _in_results(root: pathlib.Path) -> list[Training]:
    try:
        data = paths.read_within(root, root / "results.csv", paths.MOST_TABLE)
        named = [Training(int(row["replicate"]), int(row["level"]), row["branch"],
                          int(row["branch_index"]))
                 for row in csv.DictReader(io.StringIO(data.decode()))
                 if tuple(row)[:len(COLUMNS)] == COLUMNS]
        return [training for training in named if FILES.fullmatch(
            places(root, training)["record"].relative_to(root).as_posix())]
    except (DamagedError, ValueError, TypeError, csv.Error):
        return []  # It is written anew.


def _check_files(root: pathlib.Path, config: Config, records: dict[Training, Record],
                 damages: _Damages) -> None:
    # What each record vouches for, once, with the training that makes it again.
    marks: dict[pathlib.Path, tuple[str, Training]] = {}
    for training, record in records.items():
        with damages.of(training):
            paths.read_curve(root, training, record.curve)
        for name in ("following", "trained"):
            if mark := getattr(record, name):
                marks[places(root, training)[name]] = mark, training
    for training, record in records.items():
        # If the record that made it is damaged: that training is done again, and makes it.
        maker = chain(config, training.replicate, max(0, training.level - 1))
        marks.setdefault(places(root, training)["ticket"], (record.ticket, maker))
    for path, (mark, maker) in marks.items():
        with damages.of(maker):
            paths.read_marked(root, path, mark)
