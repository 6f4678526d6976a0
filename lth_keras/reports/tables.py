"""Tables for the terminal: results by level, and verdicts."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.results import statistics
from lth_keras.experiments.results.evidence import CONTROL, Difference, INTERVAL
from lth_keras.experiments.results.fits import EARLY
from lth_keras.experiments.results.statistics import (
    Estimate,
    own_metrics,
    paired,
    Quality,
    quality,
    TEST,
)
from lth_keras.experiments.results.verdicts import (
    INCONCLUSIVE,
    LevelVerdict,
    margins_text,
    MATCHING,
    NOT_JUDGED,
    Verdict,
    WINNING,
)
from lth_keras.reports import cost_tables
from lth_keras.reports.plots import styles

_COLOURS = {WINNING: "green", MATCHING: "green", INCONCLUSIVE: "yellow", NOT_JUDGED: "dim"}

_LAST = 4  # How many metrics at the end of a fit's rounds a table has room for.


RANGES, INTERVALS, REASONS = "[least, greatest]", "intervals", "why a level does not win"
LAST, MACS, STEPS = "metrics at the end", "multiply-adds", "early stops"
# What is left out of a table where the terminal is narrow, in this order.
OF_MEASURED = (RANGES, LAST, MACS, STEPS)
OF_JUDGED = (INTERVALS, REASONS, STEPS)


def measured(results: pd.DataFrame, title: str, branches: "Sequence[str] | None" = None,
             without: Collection[str] = ()) -> Table:
    """Makes a table with a row for each level: early-stop step and test accuracy of each branch.

    Where filters are pruned, it also has the share of multiply-adds that is left.

    A fit has no test accuracy: its table has the accuracy or loss on its validation data, and
    its metrics at the end of each round.

    Args:
      results: one row for each trained network, with the columns of `record.COLUMNS`.
      title: the table's title.
      branches: the branches to show. Defaults to the ticket and the re-initialised control.
      without: what to leave out, of OF_MEASURED.
    """
    spread = RANGES not in without
    summary, good = statistics.summarise(results), quality(results)
    # Only branches that are trained: a run may have no reinit, and a new run no level above 0.
    branches = [name for name in branches or (TICKET, CONTROL)
                if name in summary.index.get_level_values("branch")]
    replicates = results.replicate.nunique()
    counts = summary[("replicates", "count")]
    of = _mean_of(replicates, bool((counts < replicates).any()), spread)
    last = [] if LAST in without else _at_the_end(results)
    shown = _table(title, f"{of}; {_where(good, bool(_at_the_end(results)))}")
    costed = cost_tables.has_costs(results) and MACS not in without
    if costed:
        shown.add_column("macs\n%", justify="right")
    for branch in branches:
        name = _heading(branch)
        if costed or STEPS in without:  # Then all of it fits into 80 columns, or 60.
            name = name.replace("-", "-\n")
        if STEPS not in without:
            shown.add_column(f"{name}\nearly stop", justify="right")
        shown.add_column(f"{name}\n{_short(good)}", justify="right")
    for name in last:
        shown.add_column(f"end\n{escape(name)}", justify="right")
    for level in sorted({level for branch, level in summary.index if branch in branches}):
        fewer = any(counts[branch, level] < replicates for branch in branches
                    if (branch, level) in summary.index)
        # A control may be trained at a level at which the ticket is not yet.
        known = next(name for name in (TICKET, *branches) if (name, level) in summary.index)
        density = summary.loc[(known, level), ("density", "mean")]
        cells = [f"{level}{'*' if fewer else ''}", f"{density * 100:.1f}"]
        if costed:
            cells.append(cost_tables.macs_left(results, known, level))
        for branch in branches:
            cells += (_steps_and_quality(summary.loc[(branch, level)], good, spread)
                      if (branch, level) in summary.index else ["", ""])[STEPS in without:]
        cells += [_cell(summary.loc[(TICKET, level)][name], 1, ".4g", spread=False)
                  for name in last if (TICKET, level) in summary.index]
        shown.add_row(*cells)
    return shown


def _mean_of(replicates: int, partly: bool, spread: bool) -> str:
    return "one replicate" if replicates == 1 else f"mean of {replicates} replicates" + (
        " (*: of fewer)" if partly else "") + (" [least, greatest]" if spread else "")


def _steps_and_quality(row: Any, good: Quality, spread: bool) -> list[str]:
    return [_cell(row["early_stop_step"], 1, ",.0f", spread),
            _cell(row[good.column], 100, ".2f", spread) if good.is_share
            else _cell(row[good.column], 1, ".4g", spread)]


def _at_the_end(results: pd.DataFrame) -> list[str]:
    # Whatever metrics the user's model has: a fit's own columns are not known in advance.
    # The first few of a fit's own metrics, those on validation data before those in training.
    names = [name for name in own_metrics(results) if name not in ("steps", "epochs")
             and not name.endswith(EARLY) and results[name].notna().any()]
    return sorted(names, key=lambda name: not name.startswith("val_"))[:_LAST]


def _short(good: Quality) -> str:
    return "val. loss" if not good.is_share else "accuracy %"


def _where(good: Quality, is_fit: bool) -> str:
    if good == TEST:
        return "no validation data" if is_fit else "accuracy on the test set at the early stop"
    # Of a metric such as "validation top5 acc at early stop" the table's head has no room.
    what = good.title.removeprefix("validation ").removesuffix(" at early stop") \
        if good.is_share else "loss"
    return f"{what} on the validation data at the early stop; end: at the round's last epoch"


def judged(verdict: Verdict, title: str, good: Quality = TEST,
           without: Collection[str] = ()) -> Table:
    """Makes a table with each level's verdict, and the differences that it is based on.

    Args:
      verdict: the verdict of the run.
      title: the table's title.
      good: the measure of accuracy (or loss) that is compared.
      without: what to leave out, of OF_JUDGED.
    """
    intervals = INTERVALS not in without
    what = "accuracy" if good.is_share else "val. loss"
    shown = _table(title, "mean of paired differences" + (
        f" [{INTERVAL:.0%} interval]" if intervals else "") +
        f": {'' if STEPS in without else 'steps in %, '}"
        f"{'accuracy in points' if good.is_share else 'loss in %'}; margins: "
        f"{margins_text(verdict.margins, good, retraining=verdict.retraining)}" + (
        "" if intervals or REASONS in without else
        "; in brackets: the replicates that an inconclusive level needs"))
    against = dict.fromkeys(found.against for level in verdict.levels
                            for found in level.differences)
    for name in against:
        if STEPS not in without:
            shown.add_column(f"vs {name}\nsteps", justify="right")
        shown.add_column(f"vs {name}\n{what}", justify="right")
    shown.add_column("verdict", overflow="fold")
    for level in verdict.levels:
        shown.add_row(str(level.level), f"{level.density * 100:.1f}",
                      *(_relative(found, intervals) for found in level.differences
                        if STEPS not in without or found.measure != statistics.STEPS),
                      _badge(level, intervals, REASONS not in without))
    return shown


def _relative(found: Difference, interval: bool) -> str:
    return difference(found.estimate, 100, "+.2f" if found.measure.is_share else "+.0f", interval)


def _badge(level: LevelVerdict, wide: bool, reason: bool) -> str:
    colour = _COLOURS.get(level.outcome, "red")
    why = "" if level.outcome == NOT_JUDGED or not reason else level.why if wide else \
        level.why.removeprefix("needs ").removesuffix(" replicates")
    return f"[{colour}]{level.outcome}[/{colour}]{f' ({why})' if why else ''}"


def against_controls(results: pd.DataFrame, branches: Sequence[str], title: str,
                     without: Collection[str] = ()) -> Table:
    """Makes a table of the ticket's test accuracy at early stop less that of each control.

    Args:
      results: one row for each trained network.
      branches: the controls; levels at which none of them is trained are left out.
      title: the table's title.
      without: what to leave out: INTERVALS, or nothing.
    """
    intervals = INTERVALS not in without
    shown = _table(title, "test accuracy at early stop, in points; mean of paired differences" + (
        " [95% t-interval]" if intervals else ""))
    for branch in branches:
        shown.add_column(f"vs {_heading(branch)}", justify="right")
    # A control has its ticket's density, to within the rounding of its own masks.
    densities = results[results.branch == TICKET].groupby("level").density.mean()
    for level in statistics.compared(results, branches):
        shown.add_row(str(level), f"{densities[level] * 100:.1f}", *(
            difference(paired(results, "test_accuracy_early_stop", level, branch), 100, "+.2f",
                       intervals) for branch in branches))
    return shown


def difference(found: "Estimate | None", scale: float, form: str, interval: bool) -> str:
    """Returns a difference as rich markup; "" for None.

    Args:
      found: the difference, or None.
      scale: a factor, such as 100 for percentage points.
      form: the format of a number, such as "+.2f".
      interval: whether to add the interval, if there is one.

    Example:
      >>> difference(Estimate(0.01, 0.002, 0.018, 0.006, 5), 100, "+.1f", interval=True)
      '+1.0 [+0.2, +1.8]'
    """
    if found is None:
        return ""
    low, high = found.low * scale, found.high * scale
    shown = f" [{low:{form}}, {high:{form}}]" if interval and not math.isnan(low) else ""
    return escape(f"{found.mean * scale:{form}}{shown}")


def fitting(branches: Sequence[str], console: Console, width: int) -> Iterable[list[str]]:
    """Splits branches into groups whose columns fit into the width of the console.

    Args:
      branches: any number of branches.
      console: the console to print to.
      width: characters that the columns of one branch take.

    Example:
      >>> list(fitting(["reinit", "random_mask", "scratch"], Console(width=80), 24))
      [['reinit', 'random_mask'], ['scratch']]
    """
    count = max(1, (console.width - 16) // width)
    return (list(branches[start:start + count]) for start in range(0, len(branches), count))


def _table(title: str, caption: str) -> Table:
    shown = Table(title=escape(title), box=box.SIMPLE_HEAD, caption=escape(caption))
    shown.add_column("level", justify="right")
    shown.add_column("P_m %", justify="right")
    return shown


def _heading(branch: str) -> str:
    # The titles of other controls are too long for a column; their names can be broken into lines.
    return styles.title(branch) if branch in (TICKET, CONTROL) else escape(branch.replace("_", " "))


def _cell(values: pd.Series, scale: float, form: str, spread: bool) -> str:
    mean, low, high = (values[part] * scale for part in ("mean", "min", "max"))
    if math.isnan(mean):  # Such as the early stop of a fit without validation data.
        return ""
    shown = f" [{low:{form}}, {high:{form}}]" if spread and low != high else ""
    return escape(f"{mean:{form}}{shown}")
