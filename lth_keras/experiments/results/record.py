"""The record of a training: its row, and the files that it vouches for.

A record is sealed (`files.checksums.seal`) and holds the marks (`files.checksums.mark`) of
the ticket that the training started from, of its curve, of its trained weights, and of the
ticket that it was pruned to.  So a workdir is a chain, in which every file that is damaged,
foreign or gone is noticed.
"""

import dataclasses
import re
from typing import Any

from lth_keras.experiments.config.branches import MOST_LEVEL
from lth_keras.experiments.config.trainings import Training
from lth_keras.files import checksums
from lth_keras.files.json_checks import is_whole, misfits

COLUMNS = ("replicate", "branch", "branch_index", "level", "density", "early_stop_step",
           "val_loss_min", "test_accuracy_early_stop", "test_accuracy_final",
           "train_accuracy_final", "seconds", "diverged_at_step")
STEP, DENSITY = "test_accuracy_step_", "density_"  # What further columns begin with.
FORMAT = 2
_MORE = re.compile(f"{STEP}[0-9]{{1,16}}|{DENSITY}.{{1,1000}}")
_MOST_MORE = 10_000


@dataclasses.dataclass(frozen=True)
class Record:
    """What is kept of a finished training.

    Attributes:
      row: its row of results.csv, with all of COLUMNS, then test_accuracy_step_N for each of
        the configuration's measured_steps (None for one before the step it began at) and
        density_WEIGHT for each weight with a mask.  A training that diverged has no measures
        but its densities and seconds: the others are None.
      fingerprint: of the configuration it belongs to.
      ticket: mark of the ticket of its level.
      curve: mark of its curve.
      following: mark of the ticket of the next level, if it was pruned to one.
      trained: mark of its trained weights, if they are kept.
    """

    row: dict[str, Any]
    fingerprint: str
    ticket: str
    curve: str
    following: "str | None" = None
    trained: "str | None" = None

    @property
    def training(self) -> Training:
        """Which training it is of."""
        return Training(*(self.row[field.name] for field in dataclasses.fields(Training)))

    @property
    def diverged_at(self) -> "int | None":
        """The step at which it was found to be no longer finite, or None."""
        step: int | None = self.row["diverged_at_step"]
        return step

    def encode(self) -> str:
        """The text of its file."""
        plain = dataclasses.asdict(self)
        return checksums.seal({"format": FORMAT, **plain})


def decode(data: bytes) -> Record:
    """The record in a file's bytes, which may be anything.

    Raises:
      ValueError: if they are no whole record; what is wrong, in a few words.
    """
    content = checksums.unseal(data)
    version, row = content.pop("format", None), content.get("row")
    if type(version) is not int or version != FORMAT:
        raise ValueError(f"is not of format {FORMAT}, which this version reads")
    names = [field.name for field in dataclasses.fields(Record)]
    more = [*row][len(COLUMNS):] if isinstance(row, dict) else []
    if [*content] != names or not isinstance(row, dict) or [*row] != [*COLUMNS, *more] or \
            len(more) > _MOST_MORE or not all(map(_MORE.fullmatch, more)):
        raise ValueError("is no record of a training")
    diverged = row["diverged_at_step"] is not None
    measures: dict[str, Any] = dict.fromkeys(_MEASURES) if diverged else _MEASURES
    pruned = None if diverged else (None, checksums.is_mark)
    wrong = [*misfits(row, {**_ROW, **measures, **dict.fromkeys(more, (None, _is_share))}),
             *misfits(content, {**_MARKS, "row": dict, "following": pruned, "trained": pruned})]
    if wrong:
        raise ValueError(f"has no possible value of {wrong[0]}")
    return Record(**content)


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _is_share(value: Any) -> bool:
    return _is_finite(value) and 0 <= value <= 1


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.]{0,49}", value, re.ASCII) is not None


# What a record holds, as `json_checks.is_of` takes it.
_MEASURES: dict[str, Any] = {
    "early_stop_step": is_whole, "val_loss_min": _is_finite, "test_accuracy_early_stop": _is_share,
    "test_accuracy_final": _is_share, "train_accuracy_final": _is_share}
_ROW: dict[str, Any] = {
    "replicate": is_whole, "branch": _is_name, "branch_index": is_whole,
    "level": lambda value: is_whole(value) and value <= MOST_LEVEL,
    "density": lambda value: _is_share(value) and value > 0,
    "seconds": lambda value: _is_finite(value) and value >= 0,
    "diverged_at_step": (None, lambda value: is_whole(value) and value > 0)}
_MARKS = {"fingerprint": _is_name, "ticket": checksums.is_mark, "curve": checksums.is_mark}
