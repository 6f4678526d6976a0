"""A search made in `fit`, as a report reads it: from its workdir, or from the callback's memory.

`results` and `curves` give it the columns that a run of `lth run` has, so that tables, verdicts
and pictures need to know one schema:

    replicate, branch, branch_index      one replicate of the branch "ticket"
    level, density, early_stop_step,     as the callback's own results have them
    val_loss_min, seconds
    diverged_at_step                     the steps of a round that diverged
    test_accuracy_*, train_accuracy_*    NaN: a fit sees no test set
    steps, epochs, loss, val_loss, ...   what the fit measured besides, at the end of each round
    val_accuracy_early_stop, ...         the validation metrics of the epoch of early_stop_step

Old workdirs need no conversion, since all of this is computed when they are read.
"""

import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.results.paths import CURVE_COLUMNS
from lth_keras.experiments.results.record import COLUMNS
from lth_keras.files import atomic, checksums, state_file
from lth_keras.files.json_checks import is_of, is_whole, NUMBER, NUMBER_OR_NONE
from lth_keras.files.state_file import ticket_name
from lth_keras.files.ticket import Ticket
from lth_keras.files.workdir_lock import START, STATE

EARLY = "_early_stop"  # What the names of metrics at the early stop end with.
_MOST_TICKET, _MOST_TABLE = 2**32, 2**24  # Bytes.
_KNOWN = ("level", "density", "steps", "epochs", "early_stop_step", "val_loss_min", "diverged",
          "seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """What is known of a search in `fit`.

    Attributes:
      settings: what the search was asked for, and what it trained with: name -> JSON value.
      rows: a mapping a finished level, as `LotteryTicketCallback.results` has them.
      history: Keras' History: name -> a value an epoch.
      versions: of the packages that it ran with: package -> version.
      files: the mark of each file of its workdir that its state vouches for, by name.
    """

    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    history: Mapping[str, Sequence[Any]]
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def plain(self) -> dict[str, Any]:
        """The settings by name, those of the schedule among them."""
        schedule = self.settings.get("schedule")
        return {**(schedule if isinstance(schedule, Mapping) else {}),
                **{name: value for name, value in self.settings.items() if name != "schedule"}}

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that replicates of one search share: all but the seed."""
        return {name: value for name, value in self.plain.items() if name != "seed"}

    @property
    def origin(self) -> tuple[Any, str]:
        """What two searches that are not copies of each other differ in: the seed or theta_k."""
        return self.plain.get("seed"), self.files.get(START, "")

    @property
    def length(self) -> str:
        """How long a round is at most, in words; "" if that is not known."""
        for name in ("epochs_per_round", "steps_per_round"):
            count, unit = self.plain.get(name), name.partition("_")[0]
            if count is not None:
                return f"{count:,} {unit if count != 1 else unit[:-1]} a round"
        return ""

    @property
    def lacks_curves(self) -> str:
        """Why no learning curves can be drawn, as a sentence; "" if they can."""
        if self.plain.get("epochs_per_round") is None:
            return ("The learning curves are left out: rounds are counted in steps, and Keras' "
                    "history does not say at which step an epoch ended.")
        if "val_loss" not in self.history:
            return "The learning curves are left out: fit was given no validation_data."
        if not _epochs(self):
            return ("The learning curves are left out: the history has not one validation an "
                    "epoch.")
        return ""


def is_fit(root: pathlib.Path) -> bool:
    """Whether a folder is the workdir of a search in `fit`."""
    return os.path.lexists(root / STATE)


def read(root: pathlib.Path) -> Fit:
    """The search that lies in a workdir, which may go on meanwhile.

    Raises:
      WorkdirError: if a file is missing, a link, damaged or foreign; it names the file.
    """
    path = root / STATE
    try:
        atomic.refuse_links(root, path)
        state = state_file.decode(state_file.STATE.load(path))
    except (LotteryError, OSError) as error:
        raise _damaged(path, getattr(error, "strerror", None) or str(error)) from None
    rows = [*state.rows, *([_row(state.round)] if state.round["over"] else [])]
    if not all(is_whole(row.get("level")) and is_of(row.get("density"), NUMBER) for row in rows):
        raise _damaged(path, "holds rows without a level or a density")
    rows += _diverged(root, state.round, {row["level"] for row in rows})
    fit = Fit(state.settings, rows, state.history["logs"], {}, state.files)
    return dataclasses.replace(fit, versions=_versions(root, fit))


def read_ticket(root: pathlib.Path, fit: Fit, level: int) -> Ticket:
    """The ticket of a level of a search in `fit`.

    Raises:
      WorkdirError: if the search has not come to it, or the file is not what was written.
    """
    name = ticket_name(level)
    if name not in fit.files:
        raise WorkdirError("A ticket is there once its level is reached. "
                           f"Received: {root}, level {level}.")
    try:
        return Ticket.from_bytes(
            checksums.read_marked(root / name, fit.files[name], root, _MOST_TICKET))
    except ValueError as error:
        raise _damaged(root / name, str(error)) from None
    except OSError as error:
        raise _damaged(root / name, atomic.damage(error) or error.strerror or str(error)) from None


def results(fit: Fit, replicate: int = 0) -> pd.DataFrame:
    """A row a finished level, with the columns of a run's results first; see the module.

    Args:
      fit: the search.
      replicate: its number among those that are reported together.

    Example:
      >>> fit = Fit({}, [{"level": 0, "density": 1.0, "steps": 8, "epochs": 2, "seconds": 0.5,
      ...                 "early_stop_step": 4, "val_loss_min": 0.25, "val_accuracy": 0.75}],
      ...           {"level": [0, 0], "val_loss": [0.25, 0.5], "val_accuracy": [0.875, 0.75]})
      >>> names = ["branch", "early_stop_step", "val_accuracy", "val_accuracy_early_stop"]
      >>> results(fit)[names].values.tolist()
      [['ticket', 4.0, 0.75, 0.875]]
    """
    places = _epochs(fit)
    rows = []
    for row in fit.rows:
        diverged = bool(row.get("diverged"))
        own = {name: value for name, value in row.items()
               if name not in (*_KNOWN, *COLUMNS) and is_of(_number(value), NUMBER_OR_NONE)}
        rows.append({
            "replicate": replicate, "branch": TICKET, "branch_index": 0, "level": row["level"],
            "density": row["density"], "seconds": row.get("seconds"),
            **{name: None if diverged else row.get(name)
               for name in ("early_stop_step", "val_loss_min")},
            "diverged_at_step": row.get("steps") if diverged else None,
            "steps": row.get("steps"), "epochs": row.get("epochs"),
            **({} if diverged else {**own, **_at_early_stop(fit, places.get(row["level"], []))})})
    more = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    table = pd.DataFrame(rows, columns=[*COLUMNS, *more])
    measures = [*COLUMNS[COLUMNS.index("density"):], *more]
    table[measures] = table[measures].apply(pd.to_numeric).astype(float)
    return table


def curves(fit: Fit, replicate: int = 0) -> pd.DataFrame:
    """Losses and accuracies at the end of each epoch of the finished levels.

    Returns:
      The columns of `store.curves`; steps count from the round's start.  NaN where the fit has no
      metric whose name says accuracy.  No rows where `Fit.lacks_curves` says why.
    """
    keys = ["replicate", "level", "branch", "branch_index"]
    accuracy = next((name for name in fit.history
                     if "acc" in name and not name.startswith("val_")), "accuracy")
    names = {"loss": "loss", "accuracy": accuracy, "val_loss": "val_loss",
             "val_accuracy": f"val_{accuracy}"}
    rows = []
    places = {} if fit.lacks_curves else _epochs(fit)
    for row in fit.rows:
        found = places.get(row["level"], [])
        for number, place in enumerate(found, 1):
            rows.append({
                "replicate": replicate, "level": row["level"], "branch": TICKET,
                "branch_index": 0, "step": round(row["steps"] * number / len(found)),
                **{name: _value(fit.history, key, place) for name, key in names.items()}})
    return pd.DataFrame(rows, columns=[*keys, *CURVE_COLUMNS])


def _epochs(fit: Fit) -> dict[int, list[int]]:
    # Level -> the places of its epochs in the history, where the history has all of them.
    history = fit.history
    levels, losses = history.get("level", []), history.get("val_loss", [])
    if len(levels) != len(losses):
        return {}
    found: dict[int, list[int]] = {}
    for place, level in enumerate(levels):
        if is_of(_number(level), NUMBER):
            found.setdefault(int(level), []).append(place)
    return {row["level"]: found[row["level"]] for row in fit.rows
            if len(found.get(row["level"], [])) == row.get("epochs")}


def _at_early_stop(fit: Fit, places: Sequence[int]) -> dict[str, float]:
    # The validation metrics of the epoch whose validation loss is the first least one.
    losses = [_value(fit.history, "val_loss", place) for place in places]
    if not np.isfinite(losses).any():
        return {}
    best = places[int(np.nanargmin(losses))]
    return {f"{name}{EARLY}": _value(fit.history, name, best) for name in fit.history
            if name.startswith("val_") and name != "val_loss"
            and not math.isnan(_value(fit.history, name, best))}


def _value(history: Mapping[str, Sequence[Any]], name: str, place: int) -> float:
    values = history.get(name, [])
    value = _number(values[place]) if place < len(values) else math.nan
    return float(value) if is_of(value, NUMBER) else math.nan


def _number(value: Any) -> Any:
    # Keras' History holds NumPy's numbers too.
    return value.item() if isinstance(value, np.generic) else value


def _row(last: Mapping[str, Any]) -> dict[str, Any]:
    # The row of a round that is over, as `keras2.fit.round_record.Round.row` gives it.
    loss, step = last["best"] or (None, None)
    return {**{name: last[name] for name in ("level", "density", "steps", "epochs", "seconds")},
            "early_stop_step": step, "val_loss_min": loss, **last["logs"], "diverged": False}


def _diverged(root: pathlib.Path, last: Mapping[str, Any],
              there: "set[int]") -> list[dict[str, Any]]:
    # A round that diverged is not saved, so that the search can go on from the epoch before.
    # Only results.csv has it, which is not vouched for: one row of it is used, if it fits.
    try:
        data = atomic.read(root / "results.csv", _MOST_TABLE, root)
        rows = pd.read_csv(io.BytesIO(data)).tail(1).to_dict("records")
    except (OSError, ValueError):
        return []
    return [{"level": int(row["level"]), "density": float(last["density"]),
             "steps": row.get("steps"), "epochs": row.get("epochs"), "diverged": True,
             "seconds": row.get("seconds")} for row in rows
            if row.get("diverged") is True and row.get("level") == last["level"]
            and last["level"] not in there and is_of(row.get("steps"), NUMBER)]


def _versions(root: pathlib.Path, fit: Fit) -> dict[str, str]:
    try:
        found = read_ticket(root, fit, 0).provenance.get("versions")
    except LotteryError:
        return {}
    return {str(name): str(value) for name, value in found.items()} \
        if isinstance(found, dict) else {}


def _damaged(path: pathlib.Path, why: str) -> WorkdirError:
    return WorkdirError(f"{path}: {why.rstrip('.')}. Bring the file back, or run the fit again in "
                        "another workdir.")
