"""The report of a workdir: a table, pictures, a verdict."""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lth_keras import layout, locks, plots, stats, store
from lth_keras.errors import WorkdirError
from lth_keras.record import Training

_WIDE = 100  # Characters, from which on a line has room for spreads.
_TITLES = {"ticket": "ticket", "reinit": "re-initialised"}


def table(results: pd.DataFrame, title: str, spread: bool = True) -> Table:
    """A row a level: early-stop step and test accuracy there, branch beside branch.

    Args:
      results: a row a trained network, with the columns of `store.COLUMNS`.
      title: the table's.
      spread: whether to give the least and greatest beside each mean.
    """
    summary = stats.summarise(results)
    branches = [name for name in _TITLES if name in summary.index.get_level_values("branch")]
    replicates = results.replicate.nunique()
    partly = (summary[("replicates", "count")] < replicates).any()
    of = "one replicate" if replicates == 1 else f"mean of {replicates} replicates" + (
        " (*: of fewer)" if partly else "") + (" [least, greatest]" if spread else "")
    shown = Table(title=title, box=box.SIMPLE_HEAD,
                  caption=escape(f"{of}; accuracy on the test set at the early stop"))
    shown.add_column("level", justify="right")
    shown.add_column("P_m %", justify="right")
    for branch in branches:
        shown.add_column(f"{_TITLES[branch]}\nearly stop", justify="right")
        shown.add_column(f"{_TITLES[branch]}\naccuracy %", justify="right")
    counts = summary[("replicates", "count")]
    for level in summary.loc["ticket"].index:
        fewer = any(counts[branch, level] < replicates for branch in branches
                    if (branch, level) in summary.index)
        density = summary.loc[("ticket", level), ("density", "mean")]
        cells = [f"{level}{'*' if fewer else ''}", f"{density * 100:.1f}"]
        for branch in branches:
            if (branch, level) in summary.index:
                row = summary.loc[(branch, level)]
                cells += [_cell(row["early_stop_step"], 1, ",.0f", spread),
                          _cell(row["test_accuracy_early_stop"], 100, ".2f", spread)]
            else:
                cells += ["", ""]
        shown.add_row(*cells)
    return shown


def _cell(values: pd.Series, scale: float, form: str, spread: bool) -> str:
    mean, low, high = (values[part] * scale for part in ("mean", "min", "max"))
    shown = f" [{low:{form}}, {high:{form}}]" if spread and low != high else ""
    return escape(f"{mean:{form}}{shown}")


def show(root: pathlib.Path, console: Console) -> None:
    """Prints a workdir's table and verdict, and draws its pictures.

    A run may go on meanwhile: what it has finished is shown.

    Raises:
      WorkdirError: if the folder is no workdir, if nothing in it is finished, or if a file of
        it is not what was written.
      OSError: if a picture or results.csv cannot be written; all else is printed before.
    """
    if not os.path.lexists(root / "config.json"):
        raise WorkdirError("A workdir is a folder that `lth run` made, with a config.json. "
                           f"Received: {root}.")
    config = layout.read_config(root)
    results, say = store.results(root, config.fingerprint), functools.partial(
        console.print, soft_wrap=True, highlight=False, markup=False)
    if not (results.branch == "ticket").any():
        raise WorkdirError(f"A report needs a finished training. Received: {root}, where none is.")
    failed = None
    if (stats.trained(results).branch == "ticket").any():
        title = f"{config.preset}, {config.steps:,} steps"
        console.print(table(results, title, spread=console.width >= _WIDE))
        pictures = {"summary": plots.summary_figure(results, title),
                    "curves": plots.curves_figure(store.curves(root), results, title)}
        for name, figure in pictures.items():
            path = root / "plots" / f"{name}.png"
            try:
                layout.check_inside(root, path)
                plots.save(figure, path)
                say(f"picture: {path}")
            except OSError as error:  # What can be read in a folder that cannot be written is.
                failed = error
    for row in results[results.diverged_at_step.notna()].to_dict("records"):
        training = Training(row["replicate"], row["level"], row["branch"])
        say(f"{training}: diverged at step {row['diverged_at_step']:,.0f}")
    _renew(root, say)
    say(f"results: {root / 'results.csv'}")
    say(stats.verdict(results).sentence)
    if failed:
        raise failed


def _renew(root: pathlib.Path, say: Callable[[str], None]) -> None:
    # Not while a run goes on: it is about to write it itself.
    if store.results_stale(root):
        with contextlib.suppress(WorkdirError), locks.held(root):
            store.write_results(root)
            say(f"{root / 'results.csv'} was not what the trainings say, and is written anew.")
