"""Panels of one or several runs side by side, and the two pictures that every report has."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from lth_keras.experiments.results.runs import about, Run
from lth_keras.reports.plots import drawing, styles

EARLY, ACCURACY = "early_stop_step", "test_accuracy_early_stop"
LABELS = {EARLY: "early-stop step", ACCURACY: "test accuracy at early stop",
          "test_accuracy_final": "test accuracy at the last step",
          "train_accuracy_final": "training accuracy at the last step"}


def grid(rows: int, columns: int, **options: Any) -> tuple[Figure, Any]:
    """A figure and its rows x columns panels, as `Figure.subplots` takes more options."""
    figure = Figure(figsize=(max(8, 5 * columns), 3.7 * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def compare(axes: Axes, runs: Sequence[Run], measure: str, branches: Sequence[str]) -> Axes:
    """Draws the branches of all runs in one panel, coloured by run if there are several.

    Args:
      axes: where to draw.
      runs: with a trained ticket each.
      measure: the column to draw.
      branches: which to draw; those that a run does not have are left out.
    """
    for place, run in enumerate(runs):
        drawing.against_density(axes, run.results, measure, {
            branch: styles.style(branch) if len(runs) == 1
            else styles.run_style(place, run.label, branch) for branch in branches})
    label_axis(axes, measure)
    return axes


def label_axis(axes: Axes, measure: str) -> None:
    """Labels the vertical axis for a measure: steps begin at 0, accuracies are in percent."""
    if measure == EARLY:
        axes.set_ylim(bottom=0)
        axes.set_ylabel(LABELS[measure])
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    else:
        drawing.percent_axis(axes, LABELS.get(measure, "test accuracy"))


def add_legend(figure: Figure) -> None:
    """Adds one legend for all panels below them, in as many columns as there is room for."""
    found = {label: handle[0] if isinstance(handle, tuple) else handle for axes in figure.axes
             for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    inches = 0.9 + 0.07 * max(map(len, found))  # The width of a column at font size 8.
    rows = -(-len(found) // max(1, int(figure.get_figwidth() / inches)))
    figure.legend(list(found.values()), list(found), loc="outside lower center",
                  ncols=-(-len(found) // rows), fontsize=8, handlelength=3.5)


def heading(runs: Sequence[Run], spread: str) -> str:
    """A title for runs: the label if there is one run; steps, replicates, scale."""
    said = about(runs, spread)
    return f"{runs[0].label}, {said}" if len(runs) == 1 else said


def summary_figure(runs: Sequence[Run]) -> Figure:
    """Early-stop step and test accuracy against density, tickets and all controls."""
    figure, ((left, right),) = grid(1, 2)
    branches = list(dict.fromkeys(branch for run in runs
                                  for branch in drawing.branches(run.results)))
    compare(left, runs, EARLY, branches)
    compare(right, runs, ACCURACY, branches)
    add_legend(figure)
    drawing.head(figure, heading(runs, "bars"), 10)
    return figure


def curves_figure(run: Run) -> Figure:
    """Validation accuracy over training at a few densities, a panel a branch."""
    branches = [name for name in drawing.branches(run.results) if name in run.branches]
    columns = min(4, len(branches))
    rows = -(-len(branches) // columns)
    figure, cells = grid(rows, columns, sharey=True)
    for axes, branch in zip(cells.flat, branches, strict=False):
        drawing.learning_curves(axes, run.curves, run.results, branch)
    for axes in list(cells.flat)[len(branches):]:
        axes.set_visible(False)
    late = run.curves[run.curves.step > run.curves.step.max() * 0.05]
    drawing.zoom([cells[0, 0]], late.val_accuracy)  # All panels share its range.
    for row in cells:
        row[0].set_ylabel("validation accuracy")
    drawing.head(figure, heading([run], "bands"), 10)
    return figure


def describe(figure: Figure) -> str:
    """A figure in words, for readers who cannot see it: where each line begins and ends."""
    said = []
    for axes in filter(Axes.get_visible, figure.axes):
        form = "{:,.0f}" if axes.get_ylabel() == LABELS[EARLY] else "{:.2%}"
        lines = []
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            line: Any = handle[0] if isinstance(handle, tuple) else handle
            first, last = (form.format(line.get_ydata()[end]) for end in (0, -1))
            lines.append(f"{label} from {first} to {last}")
        name = ", ".join(filter(None, (axes.get_title(), axes.get_ylabel())))
        said.append(f"{name} against {axes.get_xlabel()}: {'; '.join(lines)}.")
    return " ".join(said).replace("\n", " ")
