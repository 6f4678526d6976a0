"""Searches in `fit` as reports read them: from a workdir, or from the memory of the callback.

`results` and `curves` have the columns of an `lth run`, so that tables, verdicts and figures need
only one schema:

    replicate, branch, branch_index      one replicate of the branch "ticket"
    level, density, early_stop_step,     as in the callback's own results
    val_loss_min, seconds
    diverged_at_step                     the step at which a round that diverged ended
    test_accuracy_*, train_accuracy_*    NaN, since a fit is given no test set
    macs_left, macs, parameters          as in `record.Record`, where filters are pruned
    steps, epochs, loss, val_loss, ...   further measurements, at the end of each round
    validated_step                       the step of the round's last validation, where it is known
    val_accuracy_early_stop, ...         the validation metrics of the epoch of early_stop_step

Steps are counted as those of an `lth run`: a round of level 1 or more begins at step k of theta_k,
`rewind_step`, where the callback's own results count from the beginning of the round.

All of this is computed when a workdir is read, so workdirs of earlier versions work too.
"""

import dataclasses
import functools
import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.core.best_level import judged_by
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.results.paths import CURVE_COLUMNS
from lth_keras.experiments.results.record import COLUMNS, table, VALIDATED
from lth_keras.files import atomic, checksums, state_file
from lth_keras.files.json_checks import is_of, is_whole, NUMBER, NUMBER_OR_NONE
from lth_keras.files.ticket import MOST_BYTES, Ticket, ticket_name
from lth_keras.files.workdir_lock import START, STATE

EARLY = "_early_stop"  # The suffix of metrics at the early stop.
_MOST_TABLE = 2**24  # Bytes of results.csv: some 100,000 levels.
_KNOWN = ("level", "density", "steps", "epochs", "early_stop_step", "val_loss_min", "diverged",
          VALIDATED, "seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """A search in `fit`.

    Attributes:
      settings: the settings of the search and of its training, as JSON values by name.
      rows: the rows of `LotteryTicketCallback.results`, one mapping for each finished level.
      history: Keras' History: name -> one value for each epoch.
      versions: package -> version that it was trained with.
      files: the marks of the files in its workdir, by name.

    Example:
      >>> fit = Fit({"schedule": {"epochs_per_round": 2}, "seed": 0}, [], {"val_loss": []})
      >>> fit.length, fit.identity
      ('2 epochs a round', {'epochs_per_round': 2})
    """

    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    history: Mapping[str, Sequence[Any]]
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def plain(self) -> dict[str, Any]:
        """The settings by name, with those of the schedule beside the others."""
        schedule = self.settings.get("schedule")
        return {**(schedule if isinstance(schedule, Mapping) else {}),
                **{name: value for name, value in self.settings.items() if name != "schedule"}}

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that replicates of one search have in common: all but the seed."""
        return {name: value for name, value in self.plain.items() if name != "seed"}

    @property
    def origin(self) -> tuple[Any, str]:
        """The seed and the mark of theta_k: equal only for copies of one search."""
        return self.plain.get("seed"), self.files.get(START, "")

    def first_step(self, level: int) -> int:
        """The step at which the rounds of a level begin: k of theta_k, but 0 at level 0.

        Example:
          >>> fit = Fit({"rewind_step": 100}, [], {})
          >>> fit.first_step(0), fit.first_step(1)
          (0, 100)
        """
        return int(self.plain.get("rewind_step") or 0) if level else 0

    @property
    def length(self) -> str:
        """The greatest length of a round in words, such as "2 epochs a round"; "" if unknown."""
        for name in ("epochs_per_round", "steps_per_round"):
            count, unit = self.plain.get(name), name.partition("_")[0]
            if count is not None:
                return f"{count:,} {unit if count != 1 else unit[:-1]} a round"
        return ""

    @property
    def lacks_curves(self) -> str:
        """A sentence that says why learning curves cannot be drawn; "" if they can."""
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
    """Reads a search from its workdir.  The search may still be going on.

    Raises:
      WorkdirError: if a file is missing, a link, damaged, or not one of a search; the message names
        the file.
    """
    path = root / STATE
    with atomic.explained(functools.partial(_damaged, path)):
        atomic.refuse_links(root, path)
        state = state_file.decode(state_file.STATE.load(path))
    rows = [*state.rows, *([_row(state.round)] if state.round["over"] else [])]
    if not all(is_whole(row.get("level")) and is_of(row.get("density"), NUMBER) for row in rows):
        raise _damaged(path, "holds rows without a level or a density")
    rows += _diverged(root, state.round, {row["level"] for row in rows})
    fit = Fit(state.settings, rows, state.history["logs"], {}, state.files)
    return dataclasses.replace(fit, versions=_versions(root, fit))


def read_ticket(root: pathlib.Path, fit: Fit, level: int) -> Ticket:
    """Reads the ticket of a level.

    Args:
      root: the workdir.
      fit: the search in it.
      level: the level.

    Raises:
      WorkdirError: if the search has not reached the level, or the file was changed after it was
        written.
    """
    name = ticket_name(level)
    if name not in fit.files:
        raise WorkdirError("A ticket exists once its level is reached. "
                           f"Received: {root}, level {level}.")
    with atomic.explained(functools.partial(_damaged, root / name)):
        return Ticket.from_bytes(
            checksums.read_marked(root / name, fit.files[name], root, MOST_BYTES))


def results(fit: Fit, replicate: int = 0) -> pd.DataFrame:
    """Returns a table with one row for each finished level; for its columns see the module.

    Args:
      fit: the search.
      replicate: the number of the search among those that are reported together.

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
    for row in map(functools.partial(_from_step_0, fit), fit.rows):
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
            VALIDATED: _validated_step(fit, row, places.get(row["level"], [])),
            **({} if diverged else {**own, **_at_early_stop(fit, places.get(row["level"], []))})})
    found = table(rows)
    measures = found.columns[COLUMNS.index("density"):]
    found[measures] = found[measures].astype(float)
    return found


def curves(fit: Fit, replicate: int = 0) -> pd.DataFrame:
    """Returns the losses and accuracies at the end of each epoch of the finished levels.

    Args:
      fit: the search.
      replicate: the number of the search among those that are reported together.

    Returns:
      A table with the columns of `store.curves`; steps count as in `results`.  Accuracies
      are NaN if levels are not compared by one (`core.best_level.judged_by`).  The table is empty
      if `Fit.lacks_curves` gives a reason.

    Example:
      >>> fit = Fit({"epochs_per_round": 2},
      ...           [{"level": 0, "density": 1.0, "steps": 8, "epochs": 2}],
      ...           {"level": [0, 0], "val_loss": [0.5, 0.25]})
      >>> curves(fit)[["step", "val_loss"]].values.tolist()
      [[4.0, 0.5], [8.0, 0.25]]
    """
    keys = ["replicate", "level", "branch", "branch_index"]
    names, rows = _drawn(fit), []
    places = {} if fit.lacks_curves else _epochs(fit)
    for row in fit.rows:
        found = places.get(row["level"], [])
        for number, place in enumerate(found, 1):
            rows.append({
                "replicate": replicate, "level": row["level"], "branch": TICKET,
                "branch_index": 0, "step": fit.first_step(row["level"]) + round(
                    row["steps"] * number / len(found)),
                **{name: _value(fit.history, names.get(name, ""), place)
                   for name in CURVE_COLUMNS[1:]}})
    return pd.DataFrame(rows, columns=[*keys, *CURVE_COLUMNS])


def _drawn(fit: Fit) -> dict[str, str]:
    # The columns of a curve, and the metric in each.
    found = {name: [value for place in range(len(values))
                    if not math.isnan(value := _value(fit.history, name, place))]
             for name, values in fit.history.items()}
    judged = judged_by(found).removeprefix("val_")
    accuracies = {} if judged in ("", "loss") else \
        {"accuracy": judged, "val_accuracy": f"val_{judged}"}
    return {"loss": "loss", "val_loss": "val_loss", **accuracies}


def _from_step_0(fit: Fit, row: Mapping[str, Any]) -> dict[str, Any]:
    # A row of the callback, whose steps begin with its round.
    first = fit.first_step(row["level"])
    return {**row, **{name: row[name] + first for name in ("steps", "early_stop_step", VALIDATED)
                      if row.get(name) is not None}}


def _epochs(fit: Fit) -> dict[int, list[int]]:
    # Level -> the indices of its epochs in the history, for levels that have as many there as their
    # row counts. A round that ends within an epoch has one more or less.
    history = fit.history
    levels, losses = history.get("level", []), history.get("val_loss", [])
    if len(levels) != len(losses):
        return {}
    found: dict[int, list[int]] = {}
    for place, level in enumerate(levels):
        if is_of(_number(level), NUMBER):
            found.setdefault(int(level), []).append(place)
    return {row["level"]: found.get(row["level"], []) for row in fit.rows
            if len(found.get(row["level"], [])) == row.get("epochs")}


def _validated_step(fit: Fit, row: Mapping[str, Any], places: Sequence[int]) -> Any:
    # The rows of an earlier version lack it. It is known where the last of the losses is the least.
    *others, last = [_value(fit.history, "val_loss", place) for place in places] or [math.nan]
    falls = not math.isnan(last) and all(last < other for other in others)
    return row.get("early_stop_step") if falls else row.get(VALIDATED)


def _at_early_stop(fit: Fit, places: Sequence[int]) -> dict[str, float]:
    # The validation metrics of the epoch with the least validation loss; of equal ones the first.
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
    # Keras' History contains NumPy numbers too.
    return value.item() if isinstance(value, np.generic) else value


def _row(last: Mapping[str, Any]) -> dict[str, Any]:
    # The row of a finished round, like that of `search.fit.round_record.Round.row`, which this
    # package cannot import.
    loss, step = last["best"] or (None, None)
    return {**{name: last[name] for name in ("level", "density", "steps", "epochs", "seconds")},
            "early_stop_step": step, "val_loss_min": loss, **last["logs"],
            **last.get("costs", {}), VALIDATED: last.get("validated"), "diverged": False}


def _diverged(root: pathlib.Path, last: Mapping[str, Any],
              there: "set[int]") -> list[dict[str, Any]]:
    # A round that diverged is not saved, so that the search can be resumed before it.  Only
    # results.csv contains it, which has no checksum: its last row is used if it fits the state.
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
    return WorkdirError(f"{path}: {why.rstrip('.')}. Restore the file from a copy, or run the fit "
                        "again in another workdir.")
