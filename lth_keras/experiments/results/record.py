"""The record of a training: its row of results, and the marks of its files.

A record is sealed (`files.checksums.seal`) and lists the marks (`files.checksums.mark`) of the
ticket that the training started from, its curve, its trained weights, and the ticket that it was
pruned to.  So the records form a chain: every file that is damaged, replaced or missing is noticed.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lth_keras.experiments.config.branches import MOST_LEVEL
from lth_keras.experiments.config.trainings import Training
from lth_keras.files import checksums
from lth_keras.files.json_checks import is_whole, misfits

COLUMNS = ("replicate", "branch", "branch_index", "level", "density", "early_stop_step",
           "val_loss_min", "test_accuracy_early_stop", "test_accuracy_final",
           "train_accuracy_final", "seconds", "diverged_at_step")
ENDED = "ended_at_step"  # A further column, of runs with patience.
VALIDATED = "validated_step"  # A further column, of a search in `fit`: the last validation's step.
STEP, DENSITY = "test_accuracy_step_", "density_"  # The prefixes of further columns.
# Further columns, where filters are pruned: the share of multiply-adds that is left, and what the
# network without its pruned filters has.
MACS_LEFT, PARAMETERS, MACS = COSTS = ("macs_left", "parameters", "macs")
AT_LAST_STEP = ("test_accuracy_final", "train_accuracy_final")
FORMAT = 2
_MORE = re.compile(f"{ENDED}|{STEP}[0-9]{{1,16}}|{DENSITY}.{{1,1000}}|{'|'.join(COSTS)}")
_MOST_MORE = 10_000


@dataclasses.dataclass(frozen=True)
class Record:
    """The record of a finished training.

    Attributes:
      row: its row of results.csv: all of COLUMNS, then test_accuracy_step_N for each of the
        configuration's measured_steps (None for steps before the training began), where filters are
        pruned macs_left, the share of the dense network's multiply-adds, and parameters and macs,
        the numbers of both that are left, with patience ended_at_step, the step at which it was at
        an end, and density_WEIGHT for each weight with a mask.
        If the training diverged, all measures but densities, costs and seconds are None.
      fingerprint: the fingerprint of its configuration.
      ticket: the mark of the ticket that it started from.
      curve: the mark of its curve.
      following: the mark of the next level's ticket, if it was pruned.
      trained: the mark of its trained weights, if they were kept.
    """

    row: dict[str, Any]
    fingerprint: str
    ticket: str
    curve: str
    following: "str | None" = None
    trained: "str | None" = None

    @property
    def training(self) -> Training:
        """The training that it is the record of."""
        return Training(*(self.row[field.name] for field in dataclasses.fields(Training)))

    @property
    def diverged_at(self) -> "int | None":
        """The step at which the loss or weights were found not to be finite, or None."""
        step: int | None = self.row["diverged_at_step"]
        return step

    def encode(self) -> str:
        """Returns the text of its file."""
        plain = dataclasses.asdict(self)
        return checksums.seal({"format": FORMAT, **plain})


def decode(data: bytes) -> Record:
    """Reads a record from a file's bytes, which may be anything.

    Raises:
      ValueError: if they are not a whole record; it says in a few words what is wrong.
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
    if row.get(ENDED) is not None:
        measures = measures | dict.fromkeys(AT_LAST_STEP)
    pruned = None if diverged else (None, checksums.is_mark)
    wrong = [*misfits(row, {**_ROW, **measures, **{
        name: _COUNTS.get(name, (None, _is_share)) for name in more}}),
             *misfits(content, {**_MARKS, "row": dict, "following": pruned, "trained": pruned})]
    if wrong:
        raise ValueError(f"has no possible value of {wrong[0]}")
    return Record(**content)


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Makes the table of results: COLUMNS first, then further columns, with measures as numbers.

    Args:
      rows: one mapping for each training; a column that it lacks is empty.

    Example:
      >>> table([{"replicate": 0, "branch": "ticket", "level": 1, "density": 0.5, "loss": 2}])[
      ...     ["branch", "level", "density", "loss"]].values.tolist()
      [['ticket', 1, 0.5, 2]]
    """
    more = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    made = pd.DataFrame(list(rows), columns=[*COLUMNS, *more])
    measures = [*COLUMNS[COLUMNS.index("density"):], *more]
    # A column that is None in every row would otherwise be of type object.
    made[measures] = made[measures].apply(pd.to_numeric)
    return made


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _is_share(value: Any) -> bool:
    return _is_finite(value) and 0 <= value <= 1


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.]{0,49}", value, re.ASCII) is not None


# The shapes of a record's parts, see `json_checks.is_of`.
_MEASURES: dict[str, Any] = {
    "early_stop_step": is_whole, "val_loss_min": _is_finite, "test_accuracy_early_stop": _is_share,
    "test_accuracy_final": _is_share, "train_accuracy_final": _is_share}
_ROW: dict[str, Any] = {
    "replicate": is_whole, "branch": _is_name, "branch_index": is_whole,
    "level": lambda value: is_whole(value) and value <= MOST_LEVEL,
    "density": lambda value: _is_share(value) and value > 0,
    "seconds": lambda value: _is_finite(value) and value >= 0,
    "diverged_at_step": (None, lambda value: is_whole(value) and value > 0)}
_COUNTS: dict[str, Any] = {**dict.fromkeys((PARAMETERS, MACS), is_whole), ENDED: (None, is_whole)}
_MARKS = {"fingerprint": _is_name, "ticket": checksums.is_mark, "curve": checksums.is_mark}
