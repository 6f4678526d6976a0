"""`lth.plot`, `lth.plot_curves`, `lth.paper_figure`: the pictures of a report, from Python.

They draw by the functions that draw a report's pictures (`reports.plots`), into axes that are given
or new ones of matplotlib's pyplot, which a notebook shows.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

from lth_keras.core.best_level import judged_by
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.results import fits, runs
from lth_keras.experiments.results.runs import Run
from lth_keras.experiments.results.statistics import measures, quality, trained
from lth_keras.extras import needed_for
from lth_keras.search.fit.callback import LotteryTicketCallback

if TYPE_CHECKING:  # Loading matplotlib takes longer than `lth.run`'s own modules.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@needed_for("lth.plot")
def plot(source: Any, y: "str | None" = None, ax: "Axes | None" = None, *,
         branches: "Sequence[str] | None" = None) -> "Axes":
    """Draws a measure of each level against the weights remaining, as the paper's figures 1 and 4.

    Lines are means over replicates, bars go from the least to the greatest.  Replicates that were
    trained apart, such as searches in `fit` with other seeds, are joined; several experiments have
    a colour each.

    Args:
      source: what `lth.run` returned, a LotteryTicketCallback after its fit, the workdir of either,
        or a list of these.
      y: what to draw: a column of `results`, such as "early_stop_step".  Defaults to the accuracy:
        on the test set at early stop; of a fit that which `lottery.best` goes by.  Steps of a
        network that was rewound to step k begin at k, also of a fit.
      ax: the axes to draw into. Defaults to those of a new figure.
      branches: the branches to draw. Defaults to all: the ticket and its controls.

    Returns:
      The axes, to be changed or saved: `axes.figure.savefig("accuracy.png")`.

    Raises:
      LotteryError: if there is nothing to draw, or no such measure or branch.
      WorkdirError: if a folder is not a workdir, or a file in it was changed.

    Example:
      >>> import keras, numpy as np, lth_keras as lth
      >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
      >>> model.compile("adam", "mse")
      >>> lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, verbose=0)
      >>> history = model.fit(np.ones((8, 4)), np.ones((8, 3)), validation_split=0.5, epochs=2,
      ...                     callbacks=[lottery], verbose=0)
      >>> axes = plot(lottery, y="early_stop_step")
      >>> axes.get_xlabel(), axes.get_ylabel()
      ('weights remaining (%)', 'early-stop step')

    Reference: Frankle & Carbin, ICLR 2019, figures 1, 4 and 5.
    """
    from lth_keras.reports.plots import drawing, panels
    found = _runs(source)
    y = _measure(found, y)
    there = list(dict.fromkeys(name for run in found
                               for name in drawing.branches(trained(run.results))))
    for name in branches or ():
        if name not in there:
            raise LotteryError(f"branches must be of {', '.join(there)}. Received: {name!r}.")
    axes = panels.compare(_axes(ax), found, y, branches or there)
    axes.set_title(panels.heading(found, "bars"), fontsize=9)
    axes.legend(fontsize=8)
    return axes


@needed_for("lth.plot_curves")
def plot_curves(source: Any, y: "str | None" = None, ax: "Axes | None" = None, *,
                branch: str = TICKET) -> "Axes":
    """Draws learning curves at a few densities, as the paper's figure 3.

    Lines are means over replicates, bands go from the least to the greatest.

    Args:
      source: what `lth.run` returned, a LotteryTicketCallback after its fit, or the workdir of
        either.
      y: "val_accuracy" or "val_loss". Defaults to the accuracy if it was measured.
      ax: the axes to draw into. Defaults to those of a new figure.
      branch: whose networks: the ticket, or a control such as "reinit".

    Returns:
      The axes.

    Raises:
      LotteryError: if there are no learning curves, or no such measure or branch.
      WorkdirError: if a folder is not a workdir, or a file in it was changed.

    Example:
      axes = lth.plot_curves("runs/lenet", branch="reinit")

    Reference: Frankle & Carbin, ICLR 2019, figure 3.
    """
    from lth_keras.reports.plots import panels
    found = _runs(source)
    if len(found) != 1 or found[0].lacks_curves:
        raise LotteryError("Learning curves are drawn of one experiment that has them. Received: "
                           f"{', '.join(run.label for run in found)}. {found[0].lacks_curves}")
    run, = found
    there = [name for name in ("val_accuracy", "val_loss") if run.curves[name].notna().any()]
    for name, value, known in (("y", y or there[0], there), ("branch", branch, run.branches)):
        if value not in known:
            raise LotteryError(f"{name} must be of {', '.join(known)}. Received: {value!r}.")
    return panels.curves_panel(_axes(ax), run, branch, y or there[0])


@needed_for("lth.paper_figure")
def paper_figure(number: int, source: Any) -> "Figure":
    """Draws a figure of Frankle & Carbin 2019 from results: 1 or 3 to 8.

    Args:
      number: its number in the paper.
      source: what `lth.run` returned, a workdir of `lth run`, or a list of these.

    Returns:
      The figure, which a notebook shows and `figure.savefig("figure_4.png")` writes.

    Raises:
      LotteryError: if there is no such figure, or the results are of other experiments.
      WorkdirError: if a folder is not a workdir, or a file in it was changed.

    Example:
      >>> import lth_keras as lth
      >>> found = lth.run("digits", steps=20, rounds=1, replicates=1, jobs=1, verbose=0)
      >>> figure = paper_figure(4, found)
      >>> len(figure.axes)
      4

    Reference: Frankle & Carbin, ICLR 2019.
    """
    from lth_keras.reports.plots.paper_figures import FIGURES
    if number not in FIGURES:
        raise LotteryError("number must be that of a figure, one of "
                           f"{', '.join(map(str, FIGURES))}. Received: {number!r}.")
    found = _runs(source)
    if why := FIGURES[number].lacks(found):
        raise LotteryError("A figure of the paper is drawn from its experiment. Received: "
                           f"{', '.join(run.label for run in found)}. {why}")
    return FIGURES[number].draw(found)


def _runs(source: Any) -> list[Run]:
    several = source if isinstance(source, (list, tuple)) else [source]
    found = runs.together([_run(each) for each in several])
    for run in found:
        if not run.drawable:
            raise LotteryError("A picture needs a trained ticket. Received: "
                               f"{run.label}, all of whose trainings diverged.")
    return found


def _run(source: Any) -> Run:
    if isinstance(source, LotteryTicketCallback):
        return runs.of_fit(fits.Fit(**source.as_data()))
    folder = getattr(source, "workdir", source)
    if not isinstance(folder, (str, os.PathLike)):
        raise LotteryError("source must be what lth.run returned, a LotteryTicketCallback, a "
                           f"workdir, or a list of these. Received: {type(source).__name__}.")
    return runs.read(pathlib.Path(folder))


def _measure(found: Sequence[Run], y: "str | None") -> str:
    # Of a fit the accuracy at the end of a round, by which `lottery.best` goes.
    if y is not None:
        for run in found:
            there = [name for name in measures(run.results) if run.results[name].notna().any()]
            if y not in there:
                raise LotteryError("y must be a column of results with numbers: "
                                   f"{', '.join(there)}. Received: {y!r}.")
        return y
    chosen = {judged_by(run.fits[0].rows[0]) or "loss" if run.fits else quality(run.results).column
              for run in found}
    if len(chosen) > 1:
        raise LotteryError("y must be given for experiments that were measured by different "
                           f"things. Received: {', '.join(sorted(chosen))}.")
    return chosen.pop()


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot  # Notebooks show the figures that it made.
    made: Axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")[1]
    return made
