"""The report as one HTML page that needs nothing else: no network, no other file, no script.

Its template, page.html, escapes whatever it is given; its policy forbids a browser to load
anything but what lies in the page itself.
"""

import base64
import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.results import fits, statistics
from lth_keras.experiments.results.runs import about, Run
from lth_keras.experiments.results.statistics import (
    Estimate,
    own_metrics,
    Quality,
    quality,
    TEST,
)
from lth_keras.experiments.results.verdicts import CONTROL, levels_sentence, verdict
from lth_keras.files import atomic, provenance
from lth_keras.reports.plots import drawing, styles

_STEPS = "early_stop_step"
_SHOWN = {_STEPS: "early-stop step", "test_accuracy_early_stop": "test accuracy at early stop",
          "test_accuracy_final": "test accuracy at the last step",
          "train_accuracy_final": "training accuracy at the last step"}


_COMPARES = {TEST.column: "Accuracy on the test set at the early stop, in percentage points.",
             "val_loss_min": "Loss on the validation data at the early stop; less is better."}
_COMPARES_VALIDATION = ("Accuracy on the validation data at the early stop, in percentage points: "
                        "the data that chose the early stop.")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure, drawn.

    Attributes:
      name: of its file, without ".png".
      caption: what it shows.
      text: the same in words, with its figures.
      data: the bytes of the PNG.
    """

    name: str
    caption: str
    text: str
    data: bytes

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.data).decode()


def render(runs: Sequence[Run], pictures: Sequence[Picture], left_out: Sequence[str] = ()) -> str:
    """The page.

    Args:
      runs: at least one.
      pictures: in the order to show them.
      left_out: why figures are not among them, a sentence each.

    Returns:
      HTML; equal runs and pictures give equal pages.
    """
    import jinja2
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        (pathlib.Path(__file__).parent / "html_page.html").read_text(encoding="utf-8"))
    return template.render(title=", ".join(run.label for run in runs), pictures=pictures,
                           left_out=left_out, runs=[_of(run) for run in runs],
                           versions=provenance.versions())


def write(path: pathlib.Path, content: "bytes | str") -> None:
    """Writes the page or a picture of it, whole or not at all."""
    atomic.write(path, content)


def _of(run: Run) -> dict[str, Any]:
    controls = [name for name in drawing.branches(statistics.trained(run.results))
                if name not in (TICKET, CONTROL)]
    compared, good = statistics.compared(run.results, controls), quality(run.results)
    return {"label": run.label, "roots": [str(root) for root in run.roots],
            "about": about([run], ""), "sentence": verdict(run.results).sentence,
            "levels": levels_sentence(run.levels),
            "verdicts": [{"level": item.level, "density": f"{item.density:.1%}",
                          "outcome": item.outcome, "why": item.why, "conditions": [
                              _difference(condition.difference, condition.name == "as early", good)
                              for condition in item.conditions]} for item in run.levels],
            "is_fit": bool(run.fits), "validated": run.validated,
            "unit": "points" if good.is_share else "validation loss",
            "compares": _COMPARES.get(good.column, _COMPARES_VALIDATION),
            "lacks_curves": run.lacks_curves,
            "controls": [styles.title(name) for name in controls],
            "against": [{"level": item.level, "density": f"{item.density:.1%}", "cells": [
                _difference(statistics.paired(run.results, "test_accuracy_early_stop", item.level,
                                              name),
                            False) for name in controls]}
                        for item in run.levels if item.level in compared],
            "means": _means(run), "measures": list(_measures(run).values()),
            "diverged": run.diverged, "unreached": run.unreached,
            "columns": list(run.results.columns),
            "rows": [[_plain(value) for value in row]
                     for row in run.results.itertuples(index=False)],
            "settings": _settings(run), "versions": run.versions}


def _measures(run: Run) -> dict[str, str]:
    if run.fits:
        good = quality(run.results)
        last = [name for name in own_metrics(run.results) if not name.endswith(fits.EARLY)]
        named = {_STEPS: _SHOWN[_STEPS], good.column: good.title,
                 **{name: name if name in ("steps", "epochs") else f"{name} at the end"
                    for name in last}}
        return {name: title for name, title in named.items() if run.results[name].notna().any()}
    steps = {name: f"test accuracy at step {int(name.rsplit('_', 1)[1]):,}"
             for name in statistics.measures(run.results)
             if statistics.STEP_MEASURE.fullmatch(name)}
    return _SHOWN | steps


def _means(run: Run) -> dict[str, list[dict[str, Any]]]:
    # For each branch a row a level: mean, least and greatest, and the bootstrap interval.
    found: dict[str, list[dict[str, Any]]] = {}
    for branch in drawing.branches(statistics.trained(run.results)):
        rows = run.summary.loc[branch]
        for level in map(int, rows.index):
            row: Any = rows.loc[level]
            cells = [_mean(run.results, row, name, branch, level) for name in _measures(run)]
            found.setdefault(styles.title(branch), []).append({
                "level": level, "density": f"{row[('density', 'mean')]:.1%}",
                "replicates": int(row[("replicates", "count")]), "cells": cells})
    return found


def _mean(results: pd.DataFrame, row: pd.Series, measure: str, branch: str,
          level: int) -> dict[str, str]:
    values = statistics.by_replicate(results, measure, branch, level)
    if not len(values):  # A step that its training did not come to.
        return {"mean": "", "range": "", "interval": ""}
    form = _form(results, measure)
    mean, low, high = (form.format(row[(measure, part)]) for part in ("mean", "min", "max"))
    found = statistics.bootstrap(values)
    return {"mean": mean, "range": "" if low == high else f"{low} to {high}",
            "interval": "" if math.isnan(found.low) else
            f"{form.format(found.low)} to {form.format(found.high)}"}


def _form(results: pd.DataFrame, measure: str) -> str:
    if measure in (_STEPS, "steps", "epochs"):
        return "{:,.0f}"
    good = quality(results)
    is_share = good.is_share if measure == good.column else measure not in own_metrics(results)
    return "{:.2%}" if is_share else "{:.4g}"


def _difference(found: "Estimate | None", steps: bool, good: Quality = TEST) -> dict[str, str]:
    if found is None:
        return {"mean": "not trained", "interval": ""}
    scale, form = (1, "{:+,.0f}") if steps else (100, "{:+.2f}") if good.is_share else \
        (1, "{:+.3g}")
    mean, low, high = (form.format(value * scale).replace("-", "\N{MINUS SIGN}")
                       for value in (found.mean, found.low, found.high))
    return {"mean": mean, "interval": "" if math.isnan(found.low) else f"{low} to {high}"}


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.6g}"
    return str(value)


def _settings(run: Run) -> list[tuple[str, str, str]]:
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(run.config)} \
        if run.config else {}
    return [(name, (", ".join(map(str, value)) or "none") if isinstance(value, list)
             else str(value), helps.get(name, "")) for name, value in run.settings.items()]
