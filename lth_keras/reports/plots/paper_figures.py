"""Draws the figures of Frankle & Carbin (ICLR 2019) from our results: `FIGURES` by number.

Each figure picks the runs that it shows, such as those of LeNet-300-100; if there are none,
`PaperFigure.lacks` says which run it needs.  To add a figure, write a function from runs to a
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
_SHOWN_STEPS = 15_000  # The steps of the paper's figure 3; accuracy hardly changes after them.


@dataclasses.dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper.

    Attributes:
      number: its number in the paper.
      shows: what it shows, in a few words.
      needs: the kind of run that it needs, in words.
      pick: picks the runs to show, from runs that have a pruned ticket.
      plot: draws the figure of these runs.
      spread: how the range over replicates is drawn, "bars" or "bands".

    Example:
      >>> FIGURES[7].lacks([])
      'Figure 7 is left out: it needs a run of vgg19, with a pruned ticket.'
    """

    number: int
    shows: str
    needs: str
    pick: Pick
    plot: Draw
    spread: str

    def lacks(self, runs: Sequence[Run]) -> str:
        """Returns a sentence that says why it cannot be drawn from these runs, or ""."""
        return "" if self._mine(runs) else \
            f"Figure {self.number} is left out: it needs {self.needs}, with a pruned ticket."

    def draw(self, runs: Sequence[Run]) -> Figure:
        """Draws the figure of those of the runs that `pick` picks."""
        mine = self._mine(runs)
        figure = self.plot(mine)
        drawing.head(figure, f"After figure {self.number}: {self.shows}\n"
                           f"{heading(mine, self.spread)}", 10)
        return figure

    def _mine(self, runs: Sequence[Run]) -> list[Run]:
        # Fits have no configuration, and so cannot be told to be one of the paper's experiments.
        return self.pick([run for run in runs if run.config and any(
            level and branch == TICKET for branch, level in run.summary.index)])


FIGURES: dict[int, PaperFigure] = {}


def register(number: int, shows: str, needs: str, pick: Pick,
             spread: str = "bars") -> Callable[[Draw], Draw]:
    """Decorates a function that draws a figure of the paper, so that reports include it.

    Example:
      >>> @register(99, "test figure", "any run", lambda runs: list(runs))
      ... def figure_99(runs):
      ...     return Figure()
      >>> del FIGURES[99]
    """
    def add(plot: Draw) -> Draw:
        FIGURES[number] = PaperFigure(number, shows, needs, pick, plot, spread)
        return plot
    return add


def _one_shot(run: Run) -> bool:
    # As the paper means it: pruned once after training, which scores at initialisation are not.
    strategy = STRATEGIES[run.experiment.strategy]
    return strategy.one_shot and not strategy.at_init


def _of(*networks: str) -> Pick:
    # Picks by the network, whatever preset or setting it was trained with.
    return lambda runs: [run for run in runs if run.experiment.network in networks]


@register(1, "tickets and random sparse networks", f"a run with branch {_RANDOM}",
          lambda runs: [run for run in runs if _RANDOM in run.branches])
def figure_1(runs: Sequence[Run]) -> Figure:
    """Draws early-stop step and test accuracy against density, for tickets and random masks."""
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
    """Draws learning curves of denser tickets, sparser tickets, and re-initialised tickets.

    They show the first 15,000 steps, times the run's scale.  The paper draws test accuracy; a run
    stores only validation accuracy over its steps, so that is drawn here.
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
    # The lines of each panel; a panel that would show the dense network only is left out.
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
    # A figure whose first two rows show the four measures of the paper's figures 4 and 5.
    figure, cells = grid(rows, 2)
    for axes, measure in zip(cells[:2].flat, LABELS, strict=True):
        compare(axes, runs, measure, (TICKET, _REINIT))
    return figure, cells


@register(4, "early stop and accuracy of LeNet-300-100, tickets and re-initialised",
          f"a run of {_LENET}", _of(_LENET))
def figure_4(runs: Sequence[Run]) -> Figure:
    """Draws early stop and accuracies against density; one-shot pruning in panels of its own."""
    # As in the paper, one-shot pruning gets panels of its own if iterative pruning is drawn too.
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
    """Draws early stop and accuracies against density, with re-initialised controls."""
    figure, _ = _four(runs)
    add_legend(figure)
    return figure


def _with_dropout(runs: Sequence[Run]) -> list[Run]:
    # A run without dropout is shown only beside one of the same network with dropout.
    found = {run.experiment.network for run in _of(*_CONVOLUTIONAL)(runs)
             if run.experiment.dropout}
    return [run for run in runs if run.experiment.network in found]


@register(6, "networks trained with dropout (solid) and without (dashed)",
          "a run of conv2, conv4 or conv6 with dropout", _with_dropout)
def figure_6(runs: Sequence[Run]) -> Figure:
    """Draws early stop and accuracy of tickets with dropout, and of the same networks without."""
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
    """Draws test accuracy at the measured steps of VGG-19, by learning rate and warm-up."""
    return _at_steps(runs)


@register(8, "test accuracy of Resnet-18 at several steps", "a run of resnet18", _of("resnet18"))
def figure_8(runs: Sequence[Run]) -> Figure:
    """Draws test accuracy at the measured steps of Resnet-18, by learning rate and warm-up."""
    return _at_steps(runs)


def _at_steps(runs: Sequence[Run]) -> Figure:
    # Runs of different length share panels, counted from the last step: a scaled run measures at
    # as many steps as the preset, but at others.
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
    # Step -> column of the test accuracy at it. The last step is always measured.
    found = {int(match[1]): match[0] for name in run.results.columns
             if (match := STEP_MEASURE.fullmatch(str(name)))}
    return dict(sorted({run.experiment.steps: "test_accuracy_final", **found}.items()))


def _rates(run: Run) -> str:
    # Figures 7 and 8 compare learning rates with and without warm-up.
    config = run.experiment
    warmup = f", warm-up {config.warmup_steps:,} steps" if config.warmup_steps else ""
    return f"{run.label}, rate {config.learning_rate:g}{warmup}"
