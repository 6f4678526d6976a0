"""The figures of Frankle & Carbin (ICLR 2019), drawn from our results: `FIGURES` by number.

A figure is drawn from those of the given runs that it is about; if there are none,
`PaperFigure.lacks` says which run it needs.  To add one, write a function from runs to a
matplotlib figure and `register` it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.strategies import STRATEGIES
from lth_keras.experiments.results.runs import Run
from lth_keras.experiments.results.statistics import STEP_MEASURE
from lth_keras.reports.plots import drawing, styles
from lth_keras.reports.plots.panels import (
    ACCURACY,
    add_legend,
    compare,
    EARLY,
    grid,
    heading,
    label_axis,
    LABELS,
)

Draw = Callable[[Sequence[Run]], Figure]
Pick = Callable[[Sequence[Run]], list[Run]]
_REINIT, _RANDOM = "reinit", "random_mask"
_LENET, _CONVOLUTIONAL = "lenet_300_100", ("conv2", "conv4", "conv6")
_SHOWN_STEPS = 15_000  # Of the paper's figure 3; nothing is learned later.


@dataclasses.dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper.

    Attributes:
      number: its number in the paper.
      shows: what it shows, in a few words.
      needs: which run it needs, in words.
      pick: chooses the runs that it is about, from runs that have a pruned ticket.
      plot: draws it from these runs.
      spread: what shows the range over replicates: "bars" or "bands".
    """

    number: int
    shows: str
    needs: str
    pick: Pick
    plot: Draw
    spread: str

    def lacks(self, runs: Sequence[Run]) -> str:
        """Why it cannot be drawn from these runs, in one line; "" if it can."""
        return "" if self._mine(runs) else \
            f"Figure {self.number} is left out: it needs {self.needs}, with a pruned ticket."

    def draw(self, runs: Sequence[Run]) -> Figure:
        """Draws the figure from those of the runs that it is about."""
        mine = self._mine(runs)
        figure = self.plot(mine)
        drawing.head(figure, f"After figure {self.number}: {self.shows}\n"
                           f"{heading(mine, self.spread)}", 10)
        return figure

    def _mine(self, runs: Sequence[Run]) -> list[Run]:
        return self.pick([run for run in runs if run.config and any(
            level and branch == TICKET for branch, level in run.summary.index)])


FIGURES: dict[int, PaperFigure] = {}


def register(number: int, shows: str, needs: str, pick: Pick,
             spread: str = "bars") -> Callable[[Draw], Draw]:
    """Registers a function that draws a figure of the paper, under its number."""
    def add(plot: Draw) -> Draw:
        FIGURES[number] = PaperFigure(number, shows, needs, pick, plot, spread)
        return plot
    return add


def _one_shot(run: Run) -> bool:
    return STRATEGIES[run.experiment.strategy].one_shot


def _of(*networks: str) -> Pick:
    return lambda runs: [run for run in runs if run.experiment.network in networks]


@register(1, "tickets and random sparse networks", f"a run with branch {_RANDOM}",
          lambda runs: [run for run in runs if _RANDOM in run.branches])
def figure_1(runs: Sequence[Run]) -> Figure:
    """Early-stop step and accuracy there against density, ticket against random mask."""
    figure, ((left, right),) = grid(1, 2)
    compare(left, runs, EARLY, (TICKET, _RANDOM))
    compare(right, runs, ACCURACY, (TICKET, _RANDOM))
    add_legend(figure)
    return figure


@register(3, "validation accuracy as training proceeds, at several densities",
          f"a run of {_LENET} that is not one-shot",
          lambda runs: [run for run in _of(_LENET)(runs) if not _one_shot(run)],
          spread="bands")
def figure_3(runs: Sequence[Run]) -> Figure:
    """Learning curves: denser tickets, sparser tickets, and tickets against re-initialised.

    The first 15,000 steps, times the scale.  The paper's are of test accuracy; a run keeps the
    validation accuracy over its steps.
    """
    rows = [_learning(run) for run in runs]
    names = [name for name in ("denser tickets", "sparser tickets", "tickets and re-initialised")
             if any(name in lines for lines in rows)]
    figure, cells = grid(len(runs), len(names))
    for run, row, panels in zip(runs, rows, cells, strict=True):
        most = min(run.experiment.steps, round(_SHOWN_STEPS * run.experiment.scale))
        curves = run.curves[run.curves.step <= most]
        for axes, name in zip(panels, names, strict=True):
            drawing.curve_lines(axes, curves, run.results, row.get(name, []))
            if name not in row:
                axes.set_axis_off()
                axes.text(0.5, 0.5, f"no {name}", ha="center", transform=axes.transAxes)
                continue
            if axes.get_lines():
                axes.legend(title="weights remaining", fontsize=8, title_fontsize=8,
                            loc="lower right")
            axes.set_title(name, fontsize=10)
        late = curves[(curves.step > most * 0.05) & curves.branch.isin((TICKET, _REINIT))]
        drawing.zoom(panels, late.val_accuracy)
        panels[0].set_ylabel("validation accuracy" if len(runs) == 1 else
                             f"{run.label}\nvalidation accuracy")
    return figure


_Lines = list[tuple[str, int, Mapping[str, Any]]]


def _learning(run: Run) -> dict[str, _Lines]:
    """The lines of each panel; a panel with the dense network alone is left out."""
    levels = drawing.nearest_levels(run.results, drawing.CURVE_DENSITIES)
    looks = {level: {"color": colour, "label": f"{density:.1%}"} for colour, (level, density)
             in zip(styles.shades(len(levels)), levels.items(), strict=True)}
    denser = [level for level, density in levels.items() if density >= 0.2]
    panels: dict[str, _Lines] = {"denser tickets": [(TICKET, level, looks[level])
                                                    for level in denser]}
    if sparser := [level for level in levels if level not in denser]:
        panels["sparser tickets"] = [(TICKET, level, looks[level]) for level in (0, *sparser)]
    if _REINIT in run.branches:
        panels["tickets and re-initialised"] = panels["denser tickets"] + [
            (_REINIT, level, {**looks[level], "linestyle": "--",
                              "label": f"{looks[level]['label']} re-initialised"})
            for level in denser if level]
    return panels


def _four(runs: Sequence[Run], rows: int = 2) -> tuple[Figure, Any]:
    """A figure whose first two rows show the four measures of figures 4 and 5."""
    figure, cells = grid(rows, 2)
    for axes, measure in zip(cells[:2].flat, LABELS, strict=True):
        compare(axes, runs, measure, (TICKET, _REINIT))
    return figure, cells


@register(4, "early stop and accuracy of LeNet-300-100, tickets and re-initialised",
          f"a run of {_LENET}", _of(_LENET))
def figure_4(runs: Sequence[Run]) -> Figure:
    """Early stop, accuracy there and at the end against density; one-shot pruning for itself."""
    one_shot = [run for run in runs if _one_shot(run)]
    apart = 0 < len(one_shot) < len(runs)
    figure, cells = _four(runs, 2 + apart)
    for axes, measure in zip(cells[2:].flat, (EARLY, ACCURACY), strict=False):
        for run in one_shot:
            drawing.against_density(axes, run.results, measure, {
                branch: styles.run_style(runs.index(run), run.label, branch)
                for branch in (TICKET, _REINIT)})
        label_axis(axes, measure)
        axes.set_title("one-shot pruning", fontsize=10)
    add_legend(figure)
    return figure


@register(5, "early stop and accuracy of Conv-2, Conv-4 and Conv-6",
          "a run of conv2, conv4 or conv6 without dropout",
          lambda runs: [run for run in _of(*_CONVOLUTIONAL)(runs) if not run.experiment.dropout])
def figure_5(runs: Sequence[Run]) -> Figure:
    """Early stop, accuracy there and at the end against density, with re-initialised controls."""
    figure, _ = _four(runs)
    add_legend(figure)
    return figure


def _with_dropout(runs: Sequence[Run]) -> list[Run]:
    found = {run.experiment.network for run in _of(*_CONVOLUTIONAL)(runs)
             if run.experiment.dropout}
    return [run for run in runs if run.experiment.network in found]


@register(6, "networks trained with dropout (solid) and without (dashed)",
          "a run of conv2, conv4 or conv6 with dropout", _with_dropout)
def figure_6(runs: Sequence[Run]) -> Figure:
    """Early stop and accuracy of tickets with dropout, and of the same networks without."""
    figure, ((left, right),) = grid(1, 2)
    for run in runs:
        look = styles.run_style(_CONVOLUTIONAL.index(run.experiment.network), run.label, TICKET)
        look |= {"linestyle": "-", "marker": "o"} if run.experiment.dropout else \
            {"linestyle": "--", "marker": "s"}
        for axes, measure in ((left, EARLY), (right, ACCURACY)):
            drawing.against_density(axes, run.results, measure, {TICKET: look})
    label_axis(left, EARLY)
    label_axis(right, ACCURACY)
    add_legend(figure)
    return figure


@register(7, "test accuracy of VGG-19 at several steps", "a run of vgg19", _of("vgg19"))
def figure_7(runs: Sequence[Run]) -> Figure:
    """Test accuracy at the measured steps against density, by learning rate and warm-up."""
    return _at_steps(runs)


@register(8, "test accuracy of Resnet-18 at several steps", "a run of resnet18", _of("resnet18"))
def figure_8(runs: Sequence[Run]) -> Figure:
    """Test accuracy at the measured steps against density, by learning rate and warm-up."""
    return _at_steps(runs)


def _at_steps(runs: Sequence[Run]) -> Figure:
    # Runs of different lengths share panels, counted from the last: a scaled run measures at as
    # many steps.
    measured = [_measures(run) for run in runs]
    count = max(map(len, measured))
    figure, (panels,) = grid(1, count)
    steps: list[set[int]] = [set() for _ in range(count)]
    for place, (run, measures) in enumerate(zip(runs, measured, strict=True)):
        for number, (step, measure) in enumerate(measures.items(), count - len(measures)):
            steps[number].add(step)
            drawing.against_density(panels[number], run.results, measure, {
                branch: styles.run_style(place, _rates(run), branch)
                for branch in (TICKET, _REINIT)})
    for axes, found in zip(panels, steps, strict=True):
        drawing.percent_axis(axes, "test accuracy")
        axes.set_title("step " + " / ".join(f"{step:,}" for step in sorted(found)), fontsize=10)
    add_legend(figure)
    return figure


def _measures(run: Run) -> dict[int, str]:
    """Step -> column of the test accuracy there; the last step is always among them."""
    found = {int(match[1]): match[0] for name in run.results.columns
             if (match := STEP_MEASURE.fullmatch(str(name)))}
    return dict(sorted({run.experiment.steps: "test_accuracy_final", **found}.items()))


def _rates(run: Run) -> str:
    config = run.experiment
    warmup = f", warm-up {config.warmup_steps:,} steps" if config.warmup_steps else ""
    return f"{run.label}, rate {config.learning_rate:g}{warmup}"
