"""Repair: what of a workdir is not what was written, and taking that away to be done again.

A record vouches for its curve, its trained weights, the ticket it started from and the one
that it was pruned to, so a workdir is a chain.  What is damaged goes, with the record that vouched
for it; what is intact stays.  The run then does again what has no record: to the same bits,
as a training depends on nothing but the configuration and its ticket.
"""

import csv
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator

from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import chain, Training
from lth_keras.experiments.results import paths, store
from lth_keras.experiments.results.paths import (
    DamagedError,
    folder,
    found,
    read_within,
    ticket_path,
)
from lth_keras.experiments.results.record import COLUMNS, Record
from lth_keras.files import atomic, checksums, workdir_lock

# All that a run writes, by its path in the workdir.
_FILES = (r"config\.json|results\.csv|plots/(summary|curves|figure_[0-9]+)\.png|"
          r"plots/report\.html|analysis/[a-z_]+\.(csv|png)|"
          r"replicate_[0-9]+/level_[0-9]+/(ticket\.safetensors|"
          r"[0-9A-Za-z_.]+_[0-9]+/(result\.json|curve\.csv|trained\.safetensors))")
_FOLDERS = r"plots|analysis|replicate_[0-9]+(/level_[0-9]+(/[0-9A-Za-z_.]+_[0-9]+)?)?"


@dataclasses.dataclass(frozen=True)
class Damage:
    """A file that is not what was written.

    Attributes:
      path: the file.
      why: what is wrong with it.
      voids: the trainings that are to be done again for it.
    """

    path: pathlib.Path
    why: str
    voids: tuple[Training, ...] = ()

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
    known: set[Damage] = set()
    void: set[Training] = set()
    while new := [damage for damage in damages if damage not in known]:
        for damage in new:
            if not damage.voids or not void.issuperset(damage.voids):
                say(f"damaged: {damage}")
        known.update(new)
        void.update(training for damage in new for training in damage.voids)
        if not dry:
            mend(root, config, new)
            damages = check(root, config)  # A link may have hidden others.
    if not dry:
        tidy(root)
    return list(known)


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
    damages = list(_links(root))
    if damages:  # They hide what else there is; a second look finds it.
        return damages
    records: dict[Training, Record] = {}
    for training in found(root):
        try:
            records[training] = paths.read_record(root, training)
        except DamagedError as error:
            damages.append(Damage(error.path, error.why, (training,)))
    damages += _of_config(root, config, records, bool(damages))
    for training, record in list(records.items()):
        if record.fingerprint != config.fingerprint:
            path = folder(root, training) / "result.json"
            damages.append(Damage(path, f"is of another experiment ({record.fingerprint})",
                                  (training,)))
            del records[training]
    known = {training for damage in damages for training in damage.voids}
    damages += [*_of_chains(root, config, records, known), *_of_tickets(root, config, records),
                *_of_trainings(root, records)]
    damages += _forgotten(root, {*records, *known} | {
        training for damage in damages for training in damage.voids})
    return list({damage.path: damage for damage in reversed(damages)}.values())[::-1]


def mend(root: pathlib.Path, config: Config, damages: list[Damage]) -> None:
    """Takes away what is damaged, and the records that vouched for it.

    Raises:
      OSError: if something cannot be taken away.
    """
    for damage in damages:
        for training in damage.voids:  # First: without them the rest is as if never done.
            (folder(root, training) / "result.json").unlink(missing_ok=True)
        if damage.path.name == "config.json" and not damage.path.is_symlink():
            atomic.write(damage.path, checksums.seal(config.to_dict()))
        else:
            damage.path.unlink(missing_ok=True)
    if not (root / "results.csv").is_symlink():  # Made anew, so that it names none of those.
        (root / "results.csv").unlink(missing_ok=True)


def tidy(root: pathlib.Path) -> None:
    """Takes away the temporary files that a killed process left."""
    atomic.remove_unfinished(root, _walk(root), _FILES)


def _walk(root: pathlib.Path) -> Iterator[pathlib.Path]:
    # Everything in the folders of a run; what a link leads to is not in it.
    def stop(error: OSError) -> None:
        if error.filename != os.fspath(root):  # Which need not be there yet.
            raise error
    for top, folders, names in os.walk(root, onerror=stop):
        here = pathlib.Path(top)
        yield from (here / name for name in [*folders, *names])
        folders[:] = [name for name in folders if re.fullmatch(
            _FOLDERS, (here / name).relative_to(root).as_posix())]


def _links(root: pathlib.Path) -> Iterator[Damage]:
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if re.fullmatch(f"{_FILES}|{_FOLDERS}", name):
            if path.is_symlink():
                yield Damage(path, "is a link, and what is in a workdir lies there itself")
            elif path.is_dir() != bool(re.fullmatch(_FOLDERS, name)):
                yield Damage(path, "is not a file" if path.is_dir() else "is not a folder")


def _of_config(root: pathlib.Path, config: Config, records: dict[Training, Record],
               damaged: bool) -> Iterator[Damage]:
    path = root / "config.json"
    if not path.exists() and not records and not damaged:
        return
    try:
        paths.check_same(root, paths.read_config(root), config)
    except DamagedError as error:
        if records and all(record.fingerprint != config.fingerprint
                           for record in records.values()):
            raise WorkdirError(f"A workdir holds one experiment. Received: {root}, with results "
                               "of other settings. Use another --workdir.") from None
        yield Damage(error.path, error.why)


def _of_chains(root: pathlib.Path, config: Config, records: dict[Training, Record],
               known: set[Training]) -> Iterator[Damage]:
    # Every level stands on the training below it that its ticket was made from.
    for training, record in records.items():
        path = folder(root, training) / "result.json"
        if training.level == 0:
            continue
        below = chain(config, training.replicate, training.level - 1)
        if below in known:
            continue
        if below not in records:
            yield Damage(folder(root, below) / "result.json", "is missing, though level "
                         f"{training.level} was trained from its ticket", (below,))
        elif records[below].following != record.ticket:
            yield Damage(path, "was trained from another ticket than its level's", (training,))


def _of_tickets(root: pathlib.Path, config: Config,
                records: dict[Training, Record]) -> Iterator[Damage]:
    stated: dict[tuple[int, int], tuple[Training, str]] = {}
    for training, record in records.items():
        if record.following:
            stated[training.replicate, training.level + 1] = training, record.following
        # Below the record that made it, if that one is damaged: to be made again by it.
        maker = chain(config, training.replicate, max(0, training.level - 1))
        stated.setdefault((training.replicate, training.level), (maker, record.ticket))
    for (replicate, level), (maker, mark) in stated.items():
        try:
            paths.read_marked(root, ticket_path(root, replicate, level), mark)
        except DamagedError as error:
            yield Damage(error.path, error.why, (maker,))


def _of_trainings(root: pathlib.Path, records: dict[Training, Record]) -> Iterator[Damage]:
    # The curve and the trained weights that each has for itself.
    for training, record in records.items():
        try:
            paths.read_curve(root, training, record.curve)
            if record.trained:
                paths.read_marked(root, paths.trained_path(root, training), record.trained)
        except DamagedError as error:
            yield Damage(error.path, error.why, (training,))


def _forgotten(root: pathlib.Path, known: set[Training]) -> Iterator[Damage]:
    # results.csv is made from the records, after them: it never has a row that they have not.
    try:
        text = read_within(root, root / "results.csv", paths.MOST_TABLE).decode()
        rows = [row for row in csv.DictReader(io.StringIO(text))
                if tuple(row)[:len(COLUMNS)] == COLUMNS]
        named = {Training(int(row["replicate"]), int(row["level"]), row["branch"],
                          int(row["branch_index"])) for row in rows}
    except (DamagedError, ValueError, TypeError, csv.Error):
        return  # It is written anew.
    for training in sorted(named - known, key=dataclasses.astuple):
        path = folder(root, training) / "result.json"
        if re.fullmatch(_FILES, path.relative_to(root).as_posix()):
            yield Damage(path, "is missing, though results.csv has its row", (training,))
