"""Writes the report as one HTML file that works offline: it loads no other file and no script.

The template, html_page.html, escapes all text: settings and labels come from workdirs that others
may have made.  Its content security policy forbids a browser to load anything.
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
from lth_keras.experiments.results.evidence import CONTROL, DENSE, ERROR, INTERVAL
from lth_keras.experiments.results.runs import about, Run
from lth_keras.experiments.results.statistics import (
    Estimate,
    own_metrics,
    Quality,
    quality,
    TEST,
)
from lth_keras.experiments.results.verdicts import margins_text
from lth_keras.files import atomic, provenance
from lth_keras.reports import cost_tables
from lth_keras.reports.plots import drawing, styles

_STEPS = "early_stop_step"
_SHOWN = {_STEPS: "early-stop step", "test_accuracy_early_stop": "test accuracy at early stop",
          "test_accuracy_final": "test accuracy at the last step",
          "train_accuracy_final": "training accuracy at the last step"}


_COMPARES = {TEST.column: "Accuracy on the test set at the early stop, in percentage points.",
             "val_loss_min": "Loss on the validation data at the early stop; lower is better."}
_COMPARES_VALIDATION = ("Accuracy on the validation data at the early stop, in percentage points. "
                        "The early stop was chosen on the same data.")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as a PNG.

    Attributes:
      name: the file's name, without ".png".
      caption: what the figure shows.
      text: its content in words and numbers, for screen readers.
      data: the bytes of the PNG.

    Example:
      >>> Picture("summary", "Early stop against density.", "", b"").uri
      'data:image/png;base64,'
    """

    name: str
    caption: str
    text: str
    data: bytes

    @property
    def uri(self) -> str:
        """The PNG as a data URI, to be embedded in the page."""
        return "data:image/png;base64," + base64.b64encode(self.data).decode()


def render(runs: Sequence[Run], pictures: Sequence[Picture], left_out: Sequence[str] = ()) -> str:
    """Returns the HTML of the report.

    Args:
      runs: the runs to report, at least one.
      pictures: the figures, in the order to show them.
      left_out: a sentence for each figure that could not be drawn, with the reason.

    Returns:
      HTML. Equal runs and figures give equal pages: it contains no date.
    """
    # Imported here: all other commands work without loading jinja2.
    import jinja2
    # autoescape is off by default in jinja2; StrictUndefined makes a misspelt name an error.
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    template = environment.from_string(
        (pathlib.Path(__file__).parent / "html_page.html").read_text(encoding="utf-8"))
    return template.render(title=", ".join(run.label for run in runs), pictures=pictures,
                           left_out=left_out, runs=[_of(run) for run in runs],
                           versions=provenance.versions(("pandas", "scipy")))


def write(path: pathlib.Path, content: "bytes | str") -> None:
    """Writes a file of the report, completely or not at all.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(pathlib.Path(folder) / "report.html", "<html></html>")
      ...     (pathlib.Path(folder) / "report.html").read_text()
      '<html></html>'
    """
    # A workdir's name need not be UTF-8: what is not is shown escaped, as in the terminal.
    atomic.write(path, content if isinstance(content, bytes) else
                 content.encode(errors="backslashreplace"))


def _of(run: Run) -> dict[str, Any]:
    # All that the template shows of a run, as text: the template itself formats no number.
    controls = [name for name in drawing.branches(statistics.trained(run.results))
                if name not in (TICKET, CONTROL)]
    compared, good = statistics.compared(run.results, controls), quality(run.results)
    return {"label": run.label, "roots": [str(root) for root in run.roots],
            "about": about([run], ""), "sentence": run.verdict.sentence,
            "margins": margins_text(run.margins, good, retraining=run.verdict.retraining),
            "error": f"{ERROR:.0%}", "interval": f"{INTERVAL:.0%}",
            "verdicts": [{"level": item.level, "density": f"{item.density:.1%}",
                          "outcome": item.outcome, "why": item.why,
                          "macs": _macs(run, TICKET, item.level), "differences": [
                              _difference(found.estimate, found.measure,
                                          _absent(run, item.level, found.against))
                              for found in item.differences]} for item in run.verdict.levels],
            "controlled": any(len(item.differences) > 2 for item in run.verdict.levels),
            "is_fit": bool(run.fits), "validated": run.validated,
            "unit": "points" if good.is_share else "% of validation loss",
            "compares": _COMPARES.get(good.column, _COMPARES_VALIDATION),
            "lacks_curves": run.lacks_curves,
            "controls": [styles.title(name) for name in controls],
            "against": [{"level": item.level, "density": f"{item.density:.1%}", "cells": [
                _difference(statistics.paired(run.results, TEST.column, item.level, name), TEST,
                            _absent(run, item.level, name))
                for name in controls]}
                        for item in run.verdict.levels if item.level in compared],
            "has_costs": cost_tables.has_costs(run.results), "cost_heads": cost_tables.HEADS,
            "costs": [{"level": costs.level, "density": f"{costs.density:.1%}",
                       "cells": costs.cells} for costs in cost_tables.of_levels(run.results)],
            "means": _means(run), "measures": list(_measures(run).values()),
            "diverged": run.diverged, "early_stops": [*filter(None, (run.unreached, run.ended))],
            "columns": list(run.results.columns),
            "rows": [[_plain(value) for value in row]
                     for row in run.results.itertuples(index=False)],
            "settings": _settings(run), "versions": run.versions}


def _measures(run: Run) -> dict[str, str]:
    # Column -> heading. A fit has the metrics of its own model in place of test accuracies.
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
    # Branch -> a row for each level: mean, range over trainings, bootstrap interval of the mean.
    found: dict[str, list[dict[str, Any]]] = {}
    for branch in drawing.branches(statistics.trained(run.results)):
        rows = run.summary.loc[branch]
        for level in map(int, rows.index):
            row: Any = rows.loc[level]
            cells = [_mean(run.results, row, name, branch, level) for name in _measures(run)]
            found.setdefault(styles.title(branch), []).append({
                "level": level, "density": f"{row[('density', 'mean')]:.1%}",
                "macs": _macs(run, branch, level),
                "replicates": int(row[("replicates", "count")]), "cells": cells})
    return found


def _macs(run: Run, branch: str, level: int) -> str:
    found = cost_tables.macs_left(run.results, branch, level) \
        if cost_tables.has_costs(run.results) else ""
    return found and f"{found}%"


def _mean(results: pd.DataFrame, row: pd.Series, measure: str, branch: str,
          level: int) -> dict[str, str]:
    values = statistics.by_replicate(results, measure, branch, level)
    if not len(values):  # The training of this branch does not reach the step.
        return {"mean": "", "range": "", "interval": ""}
    form = _form(results, measure)
    mean, low, high = (form.format(row[(measure, part)]) for part in ("mean", "min", "max"))
    found = statistics.bootstrap(values)
    return {"mean": mean, "range": "" if low == high else f"{low} to {high}",
            "interval": "" if math.isnan(found.low) else
            f"{form.format(found.low)} to {form.format(found.high)}"}


def _form(results: pd.DataFrame, measure: str) -> str:
    # Steps as whole numbers, shares in percent; a fit's own metrics may be anything.
    if measure in (_STEPS, "steps", "epochs"):
        return "{:,.0f}"
    good = quality(results)
    is_share = good.is_share if measure == good.column else measure not in own_metrics(results)
    return "{:.2%}" if is_share else "{:.4g}"


def _absent(run: Run, level: int, against: str) -> str:
    # Why a ticket is not compared with a network: nobody trained one of the two, or it diverged.
    pair = [(TICKET, level), (TICKET, 0) if against == DENSE else (against, level)]
    begun = {*zip(run.results.branch, run.results.level, strict=True)}
    return "diverged" if begun.issuperset(pair) else "not trained"


def _difference(found: "Estimate | None", measure: Quality, absent: str) -> dict[str, str]:
    # Of accuracies in points, or of steps or losses in percent.
    if found is None:
        return {"mean": absent, "interval": ""}
    form = "{:+.2f}" if measure.is_share else "{:+.1f}"
    mean, low, high = (form.format(value * 100).replace("-", "\N{MINUS SIGN}")
                       for value in (found.mean, found.low, found.high))
    return {"mean": mean, "interval": "" if math.isnan(found.low) else f"{low} to {high}"}


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.6g}"
    return str(value)


def _settings(run: Run) -> list[tuple[str, str, str]]:
    # Name, value and description of each setting, also of those at their default.
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(run.config)} \
        if run.config else {}
    return [(name, (", ".join(map(str, value)) or "none") if isinstance(value, list)
             else str(value), helps.get(name, "")) for name, value in run.settings.items()]
