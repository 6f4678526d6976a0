"""Figures of several panels: the summary and the learning curves, which every report has."""

import re
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from lth_keras.core.best_level import is_accuracy
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.results.runs import about, Run
from lth_keras.experiments.results.statistics import in_words, Quality, quality
from lth_keras.reports.plots import drawing, styles

# Accuracies of the first 5% of steps would stretch an axis down to chance level.
_FIRST = 0.05
EARLY, ACCURACY = "early_stop_step", "test_accuracy_early_stop"
LABELS = {EARLY: "early-stop step", ACCURACY: "test accuracy at early stop",
          "test_accuracy_final": "test accuracy at the last step",
          "train_accuracy_final": "training accuracy at the last step"}
_WHEN = re.compile(r"(_early_stop|_final|_step_\d+)$")  # Behind the name of a metric.


def grid(rows: int, columns: int, **options: Any) -> tuple[Figure, Any]:
    """Makes a figure with rows x columns panels; options go to `Figure.subplots`.

    Example:
      >>> figure, panels = grid(1, 2)
      >>> panels.shape
      (1, 2)
    """
    figure = Figure(figsize=(max(8, 5 * columns), 3.7 * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def compare(axes: Axes, runs: Sequence[Run], measure: str, branches: Sequence[str],
            among: "Sequence[Run] | None" = None) -> Axes:
    """Draws the branches of all runs into one panel, in one colour for each run if several.

    Args:
      axes: the axes to draw into.
      runs: the runs, each with a trained ticket.
      measure: the column to draw.
      branches: the branches to draw; those that a run does not have are left out.
      among: the runs that have the measure. Defaults to all; the others keep their colour.
    """
    for place, run in enumerate(runs):  # `place` also of runs that are left out: it is a colour.
        if among is not None and not any(run is other for other in among):
            continue
        drawing.against_density(axes, run.results, measure, {
            branch: styles.style(branch) if len(runs) == 1
            else styles.run_style(place, run.label, branch) for branch in branches})
    drawn = [run.results[measure].dropna() for run in among or runs if measure in run.results]
    label_axis(axes, measure, all(values.between(0, 1).all() for values in drawn))
    return axes


def label_axis(axes: Axes, measure: str, shares: bool = True) -> None:
    """Labels the vertical axis: steps from 0 on, accuracies in percent, losses as they are.

    Args:
      axes: the axes.
      measure: the column that is drawn.
      shares: whether its values lie in [0, 1]; a fit may measure accuracies in percent.
    """
    if measure == "val_loss_min":
        axes.set_ylabel("least validation loss")
    elif measure == EARLY:
        axes.set_ylim(bottom=0)
        axes.set_ylabel(LABELS[measure])
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    elif is_accuracy(metric := _WHEN.sub("", measure)):
        step = re.search(r"_step_(\d+)$", measure)
        end = f" at step {int(step[1]):,}" if step else "" if not measure.startswith("val_") else \
            " at the end" if metric == measure else " at early stop"
        label = LABELS.get(measure, in_words(metric) + end)
        if shares:
            drawing.percent_axis(axes, label)
        else:
            axes.set_ylabel(label)
    else:
        axes.set_ylabel(in_words(measure))


def add_legend(figure: Figure) -> None:
    """Adds one legend for all panels, below them, in as many columns as fit."""
    found = {label: handle[0] if isinstance(handle, tuple) else handle for axes in figure.axes
             for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    # matplotlib does not fit legends into a figure by itself, so the width is estimated.
    inches = 0.9 + 0.07 * max(map(len, found))  # The width of a column at font size 8.
    rows = -(-len(found) // max(1, int(figure.get_figwidth() / inches)))
    figure.legend(list(found.values()), list(found), loc="outside lower center",
                  ncols=-(-len(found) // rows), fontsize=8, handlelength=3.5)


def heading(runs: Sequence[Run], spread: str) -> str:
    """Returns a title: the label of a single run, then steps, replicates and scale."""
    said = about(runs, spread)
    return f"{runs[0].label}, {said}" if len(runs) == 1 else said


def summary_figure(runs: Sequence[Run]) -> Figure:
    """Draws early-stop step and test accuracy against density, for tickets and all controls.

    Fits have no test accuracy: their accuracy or loss on validation data is drawn, in a panel of
    its own for each measure.
    """
    # Accuracies and losses cannot share an axis.
    found: dict[Quality, list[Run]] = {}
    for run in runs:
        found.setdefault(quality(run.results), []).append(run)
    figure, (panels,) = grid(1, 1 + len(found))
    branches = list(dict.fromkeys(branch for run in runs
                                  for branch in drawing.branches(run.results)))
    compare(panels[0], runs, EARLY, branches)
    for axes, (good, mine) in zip(panels[1:], found.items(), strict=True):
        compare(axes, runs, good.column, branches, among=mine)
    add_legend(figure)
    drawing.head(figure, heading(runs, "bars"), 10)
    return figure


def curves_figure(run: Run) -> Figure:
    """Draws learning curves at a few densities, one panel for each branch.

    They show validation accuracy, or validation loss if a fit measured no accuracy.
    """
    measure = "val_accuracy" if run.curves.val_accuracy.notna().any() else "val_loss"
    branches = [name for name in drawing.branches(run.results) if name in run.branches]
    columns = min(4, len(branches))
    rows = -(-len(branches) // columns)
    figure, cells = grid(rows, columns, sharey=True)
    for axes, branch in zip(cells.flat, branches, strict=False):
        drawing.learning_curves(axes, run.curves, run.results, branch, measure)
    for axes in list(cells.flat)[len(branches):]:
        axes.set_visible(False)
    late = run.curves[run.curves.step > run.curves.step.max() * _FIRST]
    if measure == "val_accuracy":
        drawing.zoom([cells[0, 0]], late.val_accuracy)  # All panels share its range.
    for row in cells:
        row[0].set_ylabel(curve_label(run, measure))
    drawing.head(figure, heading([run], "bands"), 10)
    return figure


def curves_panel(axes: Axes, run: Run, branch: str, measure: str) -> Axes:
    """Draws the learning curves of one branch, of all levels if they are few.

    Args:
      axes: the axes to draw into.
      run: the run, which has learning curves.
      branch: the branch.
      measure: "val_accuracy" or "val_loss".
    """
    tickets = run.results[run.results.branch == TICKET]
    densities = tickets.groupby("level").density.mean()
    few = len(densities) <= len(drawing.CURVE_DENSITIES)
    drawing.learning_curves(axes, run.curves, run.results, branch, measure, levels={
        level: float(densities[level])
        for level in (densities.index if few else drawing.shown_levels(tickets))})
    if measure == "val_accuracy":
        late = run.curves[run.curves.step > run.curves.step.max() * _FIRST]
        drawing.zoom([axes], late[late.branch.isin((TICKET, branch))].val_accuracy)
    axes.set_ylabel(curve_label(run, measure))
    return axes


def curve_label(run: Run, measure: str) -> str:
    """Returns what a column of learning curves shows, in words: of a fit it may be any accuracy.

    Args:
      run: the run.
      measure: "val_accuracy" or "val_loss".
    """
    good = quality(run.results)
    return good.title.removesuffix(" at early stop") \
        if run.fits and good.is_share and measure == "val_accuracy" else in_words(measure)


def describe(figure: Figure) -> str:
    """Describes a figure for readers who cannot see it: where each line begins and ends.

    Example:
      >>> figure, ((axes,),) = grid(1, 1)
      >>> _ = axes.plot([1, 2], [0.9, 0.95], label="ticket")
      >>> _ = axes.set_ylabel("accuracy"), axes.set_xlabel("level")
      >>> describe(figure)
      'accuracy against level: ticket from 90.00% to 95.00%.'
    """
    # Screen readers read the alternative text of an image: it must hold the figure's numbers.
    said = []
    for axes in filter(Axes.get_visible, figure.axes):
        named = axes.get_ylabel()
        form = "{:,.0f}" if named == LABELS[EARLY] else "{:.4g}" if "loss" in named else "{:.2%}"
        lines = []
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            line: Any = handle[0] if isinstance(handle, tuple) else handle
            first, last = (form.format(line.get_ydata()[end]) for end in (0, -1))
            lines.append(f"{label} from {first} to {last}")
        name = ", ".join(filter(None, (axes.get_title(), axes.get_ylabel())))
        said.append(f"{name} against {axes.get_xlabel()}: {'; '.join(lines)}.")
    return " ".join(said).replace("\n", " ")
