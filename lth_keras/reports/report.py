"""Reports runs and searches in `fit`: prints tables and verdicts, writes figures and the page."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.margins import Margins, parse
from lth_keras.experiments.results import paths, runs, statistics, store
from lth_keras.experiments.results.evidence import CONTROL
from lth_keras.experiments.results.fits import Fit
from lth_keras.experiments.results.runs import about, apart, read_all, Run
from lth_keras.extras import needed_for
from lth_keras.files import workdir_lock
from lth_keras.reports import cost_tables, html_page, tables
from lth_keras.reports import tensorboard as events
from lth_keras.reports.analyses import widths
from lth_keras.reports.html_page import Picture
from lth_keras.reports.plots import drawing, panels
from lth_keras.reports.plots.paper_figures import FIGURES

_WIDE = 100  # Columns of a terminal that are enough for ranges and intervals.
DEFAULT_OUT = "report"  # The folder for the page of several workdirs.
_KINDS = {".html": "page", ".png": "figure", ".csv": "results", ".json": "verdict"}
_Say = Callable[[str], None]


def show(roots: "pathlib.Path | Sequence[pathlib.Path]", console: Console,
         out: "pathlib.Path | None" = None, tensorboard: "pathlib.Path | None" = None,
         margins: "Margins | None" = None) -> None:
    """Prints tables and verdicts of workdirs, and writes their figures and the page.

    A run may still be going on: its finished trainings are reported.

    Args:
      roots: one or several workdirs, of `lth run` or of searches in `fit`.
      console: the console to print to.
      out: folder for the figures and report.html. Defaults to plots in the workdir, and to report
        if there are several workdirs.
      tensorboard: folder for TensorBoard's files; None writes none.
      margins: the margins of the verdicts; None for those of each run's settings.

    Raises:
      WorkdirError: if a folder is not a workdir, no training in it is finished, or a file was
        changed after it was written.
      OSError: if a file cannot be written; everything that can be is printed first.
    """
    roots = [roots] if isinstance(roots, pathlib.Path) else list(roots)
    if tensorboard:  # Before anything is printed: a missing package should be the only output.
        events.require()
    runs = read_all(roots, margins)
    say = functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)
    for line in apart(runs):
        say(line)
    for run in runs:
        if run.drawable:
            _print_tables(run, console)
    _, failed = _write(runs, out, say)
    if tensorboard:
        try:
            events.write_all(runs, tensorboard)
            say(f"tensorboard: {tensorboard}")
        except OSError as error:
            failed = error
    for run in runs:
        _conclude(run, say, run.label if len(runs) > 1 else "")
    if failed:
        raise failed


def write(runs: Sequence[Run], out: "pathlib.Path | None" = None) -> pathlib.Path:
    """Writes the figures and the page of runs, and prints nothing.

    Args:
      runs: the runs, at least one.
      out: the folder, as for `show`.

    Returns:
      The path of the page.

    Raises:
      OSError: if a file cannot be written.
    """
    page, failed = _write(runs, out, lambda line: None)
    if failed:
        raise failed
    return page


@needed_for("lottery.report()")
def report_search(fit: Mapping[str, Any], root: "str | os.PathLike[str] | None",
                  out: "str | os.PathLike[str] | None",
                  margin: "str | Mapping[str, float] | None" = None) -> pathlib.Path:
    """Writes the page of a search in `fit` that is in memory; see LotteryTicketCallback.report.

    Args:
      fit: the attributes of a `fits.Fit`.
      root: the search's workdir, if it has one.
      out: the folder, as for `show`.
      margin: how much worse than the dense network still counts as good, as `margins.parse` reads
        it; None for the default.

    Returns:
      The path of the page.

    Raises:
      LotteryError: if no level is finished, or the margin is none.
      OSError: if a file cannot be written.
    """
    asked = None if margin is None else parse(margin)
    run = runs.of_fit(Fit(**fit), None if root is None else pathlib.Path(root))
    if run.results.empty:
        raise LotteryError("A report needs at least one trained level. Received: a search "
                           "without one.")
    run = dataclasses.replace(run, asked=asked)
    return write([run], None if out is None else pathlib.Path(out))


def _print_tables(run: Run, console: Console) -> None:
    # Other controls than reinit get tables of their own, as many as the terminal's width needs.
    title, results = f"{run.label}, {about([run], '')}", run.results
    others = [name for name in drawing.branches(statistics.trained(results))
              if name not in (TICKET, CONTROL)]
    wide = console.width >= _WIDE
    for portion in (None, *tables.fitting(others, console, 48 if wide else 24)):
        widths.show(functools.partial(tables.measured, results, title, portion),
                    tables.OF_MEASURED, console)
    if cost_tables.has_costs(results):
        console.print(cost_tables.table(results, f"{run.label}: what it costs"))
    if run.verdict.levels:
        widths.show(functools.partial(
            tables.judged, run.verdict, f"{run.label}: ticket less others",
            statistics.quality(results)), tables.OF_JUDGED, console)
    for portion in tables.fitting(others, console, 24 if wide else 14):
        widths.show(functools.partial(tables.against_controls, results, portion,
                                      f"{run.label}: ticket less controls"),
                    (tables.INTERVALS,), console)


def _write(runs: Sequence[Run], out: "pathlib.Path | None",
           say: _Say) -> tuple[pathlib.Path, "OSError | None"]:
    # Returns the page's path and the last error. A read-only folder must not keep the tables and
    # verdicts, which are printed after this, from the user.
    alone = out is None and len(runs) == 1 and not runs[0].more
    inside = runs[0].root if alone else None
    out = out or (inside / "plots" if inside else pathlib.Path(DEFAULT_OUT))
    drawable, drawn, failed = [run for run in runs if run.drawable], [], None
    # The paper's figures need its experiments. If there are only fits, it is not said that all
    # figures are left out.
    left_out = {number: why for number, figure in FIGURES.items()
                if any(run.config for run in drawable) and (why := figure.lacks(drawable))}
    for picture in _pictures(drawable):
        drawn.append(picture)
        failed = _try(picture.name + ".png", picture.data, out, inside, say) or failed
    if left_out:
        say(f"figures left out: {', '.join(map(str, left_out))} (the page says why)")
    for run in runs:
        if run.lacks_curves:
            say(f"{run.label}: {run.lacks_curves}" if len(runs) > 1 else run.lacks_curves)
    for number, run in enumerate(runs, 1):
        if run.fits:  # The results.csv in a fit's workdir has other columns than a run's.
            name = "results.csv" if len(runs) == 1 else f"results_{number}.csv"
            failed = _try(name, run.results.to_csv(index=False), out, inside, say) or failed
    verdicts = {run.label: run.verdict.plain() for run in runs}
    failed = _try("verdict.json", json.dumps(verdicts, indent=2) + "\n", out, inside, say) or failed
    html = html_page.render(runs, drawn, list(left_out.values()))
    return out / "report.html", _try("report.html", html, out, inside, say) or failed


def _try(name: str, content: "bytes | str", out: pathlib.Path, inside: "pathlib.Path | None",
         say: _Say) -> "OSError | None":
    try:
        if inside:  # A link in the workdir must not lead a write out of it.
            paths.check_inside(inside, out / name)
        html_page.write(out / name, content)
    except OSError as error:
        return error
    say(f"{_KINDS[pathlib.Path(name).suffix]}: {out / name}")
    return None


def _pictures(runs: Sequence[Run]) -> Iterator[Picture]:
    # One at a time: a figure of matplotlib takes more memory than its PNG.
    runs = [run for run in runs if run.validated]
    if not runs:
        return
    figure = panels.summary_figure(runs)
    tested = "Early stop and test accuracy" if not any(run.fits for run in runs) else \
        "Early stop and what was measured there"
    yield Picture("summary", f"{tested} against weights remaining.",
                  panels.describe(figure), drawing.png(figure))
    for number, run in enumerate(runs, 1):
        if run.lacks_curves:
            continue
        figure = panels.curves_figure(run)
        yield Picture("curves" if len(runs) == 1 else f"curves_{number}",
                      f"{run.label}: {_curve(run)} over training, at the paper's "
                      "densities.",
                      panels.describe(figure), drawing.png(figure))
    for number, paper in FIGURES.items():
        if not paper.lacks(runs):
            figure = paper.draw(runs)
            yield Picture(f"figure_{number}", f"After figure {number} of Frankle & Carbin 2019: "
                          f"{paper.shows}.", panels.describe(figure), drawing.png(figure))


def _curve(run: Run) -> str:
    measure = "val_accuracy" if run.curves.val_accuracy.notna().any() else "val_loss"
    return panels.curve_label(run, measure)


def _conclude(run: Run, say: _Say, name: str) -> None:
    # Printed last, below all tables and file names: the verdict is what a user looks for.
    for line in run.diverged:
        say(f"{name}: {line}" if name else line)
    for root in () if run.fits else run.roots:
        _renew(root, say)
        say(f"results: {root / 'results.csv'}")
    for sentence in (run.unreached, run.ended, run.verdict.sentence):
        if sentence:
            say(f"{name}: {sentence}" if name else sentence)


def _renew(root: pathlib.Path, say: _Say) -> None:
    # Not while a run holds the workdir: it will write the file itself.
    if store.results_stale(root):
        with contextlib.suppress(WorkdirError), workdir_lock.held(root):
            store.write_results(root)
            say(f"{root / 'results.csv'} did not match the finished trainings and was rewritten.")
