"""The paper's figures, drawn from our results: `FIGURES`, number -> what it needs and how it goes.

Frankle & Carbin, ICLR 2019.  A figure is drawn of those of the runs that it is about; where
there are none, `PaperFigure.lacks` says what it needs.  To add one, write a function from runs
to a matplotlib figure and `register` it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_keras import plots
from lth_keras.branches import TICKET
from lth_keras.runs import about, Run
from lth_keras.stats import STEP_MEASURE

Draw = Callable[[Sequence[Run]], Figure]
_REINIT, _RANDOM = "reinit", "random_mask"
_CONVOLUTIONAL = ("conv2", "conv4", "conv6")
_EARLY, _ACCURACY = "early_stop_step", "test_accuracy_early_stop"
_LABELS = {_EARLY: "early-stop step", _ACCURACY: "test accuracy at early stop",
           "test_accuracy_final": "test accuracy at the last step",
           "train_accuracy_final": "training accuracy at the last step"}


@dataclasses.dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper.

    Attributes:
      number: in the paper.
      shows: what it shows, a few words.
      needs: the run that it needs, in words.
      of: whether it is about a run.
      plot: draws it of such runs.
    """

    number: int
    shows: str
    needs: str
    of: Callable[[Run], bool]
    plot: Draw

    def lacks(self, runs: Sequence[Run]) -> str:
        """Why it is left out, in one line; nothing if it can be drawn."""
        return "" if self._mine(runs) else f"Figure {self.number} is left out: " \
            f"it needs {self.needs}."

    def draw(self, runs: Sequence[Run]) -> Figure:
        """The figure, of those of the runs that it is about."""
        mine = self._mine(runs)
        figure = self.plot(mine)
        spread = "bands" if self.number == 3 else "bars"
        figure.suptitle(f"After figure {self.number}: {self.shows}\n{_of(mine, spread)}",
                        fontsize=10)
        return figure

    def _mine(self, runs: Sequence[Run]) -> list[Run]:
        return [run for run in runs if run.drawable and self.of(run)]


FIGURES: dict[int, PaperFigure] = {}


def register(number: int, shows: str, needs: str,
             of: Callable[[Run], bool]) -> Callable[[Draw], Draw]:
    """Makes a figure of the paper known by its number."""
    def add(plot: Draw) -> Draw:
        FIGURES[number] = PaperFigure(number, shows, needs, of, plot)
        return plot
    return add


def _of(runs: Sequence[Run], spread: str) -> str:
    said = about(runs, spread)
    return f"{runs[0].label}, {said}" if len(runs) == 1 else said


def _pruned(run: Run) -> bool:
    return any(level for branch, level in run.summary.index if branch == TICKET)


def _is(*networks: str) -> Callable[[Run], bool]:
    return lambda run: run.config.network in networks and _pruned(run)


def _panels(rows: int, columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5 * columns, 3.7 * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _compare(axes: Axes, runs: Sequence[Run], measure: str, branches: Sequence[str]) -> Axes:
    # The branches of every run in one panel: colours by run, if there are several.
    for place, run in enumerate(runs):
        chosen = [branch for branch in branches if branch in run.branches]
        plots.against_density(axes, run.results, measure, {
            branch: plots.style(branch) if len(runs) == 1
            else plots.run_style(place, run.label, branch) for branch in chosen})
    _finish(axes, measure)
    return axes


def _finish(axes: Axes, measure: str) -> None:
    if measure == _EARLY:
        axes.set_ylim(bottom=0)
        axes.set_ylabel(_LABELS[measure])
    else:
        plots.percent_axis(axes, _LABELS.get(measure, measure))


def _legend(figure: Figure, columns: int = 3) -> None:
    found = {label: handle for axes in figure.axes
             for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(found.values()), list(found), loc="outside lower center",
                  ncols=min(columns, len(found)), fontsize=8)


@register(1, "tickets and random sparse networks",
          f"a run with branch {_RANDOM} and a pruned ticket",
          lambda run: _pruned(run) and _RANDOM in run.branches)
def figure_1(runs: Sequence[Run]) -> Figure:
    """Early-stop step and accuracy there against density, ticket against random mask."""
    figure, ((left, right),) = _panels(1, 2)
    _compare(left, runs, _EARLY, (TICKET, _RANDOM))
    _compare(right, runs, _ACCURACY, (TICKET, _RANDOM))
    _legend(figure, 2)
    return figure


@register(3, "validation accuracy as training proceeds, at several densities",
          "a run of lenet_300_100, not one-shot, with a pruned ticket",
          lambda run: _is("lenet_300_100")(run) and run.config.strategy != "one_shot")
def figure_3(runs: Sequence[Run]) -> Figure:
    """Learning curves: denser tickets, sparser tickets, and tickets against re-initialised.

    The paper's are of test accuracy; a run keeps the validation accuracy over its steps.
    """
    with_control = any(_REINIT in run.branches for run in runs)
    figure, grid = _panels(len(runs), 3 if with_control else 2)
    for run, panels in zip(runs, grid, strict=True):
        levels = plots.nearest_levels(run.results, plots.CURVE_DENSITIES)
        looks = {level: {"color": colour, "label": f"{density:.1%}"} for colour, (level, density)
                 in zip(plots.shades(len(levels)), levels.items(), strict=True)}
        denser = [level for level, density in levels.items() if density >= 0.2]
        sparser = [level for level in levels if level not in denser]
        plots.curve_lines(panels[0], run.curves, run.results,
                          [(TICKET, level, looks[level]) for level in denser])
        plots.curve_lines(panels[1], run.curves, run.results,
                          [(TICKET, level, looks[level]) for level in (denser[-1], *sparser)])
        if with_control:
            plots.curve_lines(panels[2], run.curves, run.results, _against_reinit(denser, looks))
        late = run.curves[run.curves.step > run.config.steps * 0.05]
        shown = late[late.level.isin(levels) & late.branch.isin((TICKET, _REINIT))]
        plots.zoom(panels, shown.val_accuracy)
        panels[0].set_ylabel("validation accuracy" if len(runs) == 1 else
                             f"{run.label}\nvalidation accuracy")
        for axes in panels:
            axes.legend(title="weights remaining", fontsize=8, title_fontsize=8, loc="lower right")
    for axes, name in zip(grid[0], ("denser tickets", "sparser tickets",
                                    "tickets and re-initialised"), strict=False):
        axes.set_title(name, fontsize=10)
    return figure


def _against_reinit(levels: Sequence[int], looks: dict[int, dict[str, Any]]
                    ) -> list[tuple[str, int, dict[str, Any]]]:
    lines: list[tuple[str, int, dict[str, Any]]] = [(TICKET, level, looks[level])
                                                    for level in levels]
    return lines + [(_REINIT, level, {**looks[level], "linestyle": "--",
                                      "label": f"{looks[level]['label']} re-initialised"})
                    for level in levels if level]


def _four(runs: Sequence[Run], extra_rows: int = 0) -> tuple[Figure, Any]:
    figure, grid = _panels(2 + extra_rows, 2)
    for axes, measure in zip(grid[:2].flat, _LABELS, strict=True):
        _compare(axes, runs, measure, (TICKET, _REINIT))
    return figure, grid


@register(4, "early stop and accuracy of LeNet-300-100, with re-initialised controls",
          "a run of lenet_300_100 with a pruned ticket", _is("lenet_300_100"))
def figure_4(runs: Sequence[Run]) -> Figure:
    """Early stop, accuracy there and at the end against density; one-shot pruning for itself."""
    one_shot = [run for run in runs if run.config.strategy == "one_shot"]
    apart = bool(one_shot) and len(one_shot) < len(runs)
    figure, grid = _four(runs, int(apart))
    if apart:
        for axes, measure in zip(grid[2], (_EARLY, _ACCURACY), strict=True):
            for run in one_shot:
                plots.against_density(axes, run.results, measure, {
                    branch: plots.run_style(runs.index(run), run.label, branch)
                    for branch in (TICKET, _REINIT)})
            _finish(axes, measure)
            axes.set_title("one-shot pruning", fontsize=10)
    _legend(figure)
    return figure


@register(5, "early stop and accuracy of Conv-2, Conv-4 and Conv-6",
          "a run of conv2, conv4 or conv6 without dropout, with a pruned ticket",
          lambda run: _is(*_CONVOLUTIONAL)(run) and not run.config.dropout)
def figure_5(runs: Sequence[Run]) -> Figure:
    """Early stop, accuracy there and at the end against density, with re-initialised controls."""
    figure, _ = _four(runs)
    _legend(figure)
    return figure


@register(6, "Conv-2, Conv-4 and Conv-6 trained with dropout (solid) and without (dashed)",
          "a run of conv2, conv4 or conv6 with dropout and a pruned ticket",
          _is(*_CONVOLUTIONAL))
def figure_6(runs: Sequence[Run]) -> Figure:
    """Early stop and accuracy of tickets with dropout, and of the same networks without."""
    figure, ((left, right),) = _panels(1, 2)
    for run in runs:
        place = _CONVOLUTIONAL.index(run.config.network)
        look = {**plots.run_style(place, run.label, TICKET),
                "linestyle": "-" if run.config.dropout else "--",
                "marker": "o" if run.config.dropout else "s"}
        for axes, measure in ((left, _EARLY), (right, _ACCURACY)):
            plots.against_density(axes, run.results, measure, {TICKET: look})
    _finish(left, _EARLY)
    _finish(right, _ACCURACY)
    _legend(figure)
    return figure


@register(7, "test accuracy of VGG-19 at several steps",
          "a run of vgg19 with a pruned ticket", _is("vgg19"))
def figure_7(runs: Sequence[Run]) -> Figure:
    """Test accuracy at the measured steps against density, by learning rate and warm-up."""
    return _at_steps(runs)


@register(8, "test accuracy of Resnet-18 at several steps",
          "a run of resnet18 with a pruned ticket", _is("resnet18"))
def figure_8(runs: Sequence[Run]) -> Figure:
    """Test accuracy at the measured steps against density, by learning rate and warm-up."""
    return _at_steps(runs)


def _at_steps(runs: Sequence[Run]) -> Figure:
    # Runs of other lengths share panels from the last on: a scaled run measures as often.
    measured = [_measures(run) for run in runs]
    count = max(map(len, measured))
    figure, (panels,) = _panels(1, count)
    steps: list[set[int]] = [set() for _ in range(count)]
    for place, (run, measures) in enumerate(zip(runs, measured, strict=True)):
        first = count - len(measures)
        for number, (step, measure) in enumerate(measures.items(), first):
            steps[number].add(step)
            plots.against_density(panels[number], run.results, measure, {
                branch: plots.run_style(place, _rates(run), branch)
                for branch in (TICKET, _REINIT)})
    for axes, found in zip(panels, steps, strict=True):
        plots.percent_axis(axes, "test accuracy")
        axes.set_title("step " + " / ".join(f"{step:,}" for step in sorted(found)), fontsize=10)
    _legend(figure, 2)
    return figure


def _measures(run: Run) -> dict[int, str]:
    # Step -> column, the last step always.
    found = {int(match[1]): match[0] for name in run.results.columns
             if (match := STEP_MEASURE.fullmatch(str(name)))}
    return dict(sorted({run.config.steps: "test_accuracy_final", **found}.items()))


def _rates(run: Run) -> str:
    warmup = f", warm-up {run.config.warmup_steps:,} steps" if run.config.warmup_steps else ""
    return f"{run.label}, learning rate {run.config.learning_rate:g}{warmup}"


def summary_figure(runs: Sequence[Run]) -> Figure:
    """Early-stop step and test accuracy against density, tickets and all controls."""
    figure, ((left, right),) = _panels(1, 2)
    branches = list(dict.fromkeys(branch for run in runs for branch in plots.branches(run.results)))
    _compare(left, runs, _EARLY, branches)
    _compare(right, runs, _ACCURACY, branches)
    _legend(figure, 3 if len(runs) > 1 else 4)
    figure.suptitle(_of(runs, "bars"), fontsize=10)
    return figure


def curves_figure(run: Run) -> Figure:
    """Validation accuracy over training at a few densities, a panel a branch."""
    branches = [name for name in plots.branches(run.results) if name in run.branches]
    columns = min(4, len(branches))
    figure = Figure(figsize=(5 * columns, 4 * -(-len(branches) // columns)), layout="constrained")
    grid = figure.subplots(-(-len(branches) // columns), columns, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes, branch in zip(panels, branches, strict=False):
        plots.learning_curves(axes, run.curves, run.results, branch)
    for axes in panels[len(branches):]:
        axes.set_visible(False)
    late = run.curves[run.curves.step > run.curves.step.max() * 0.05]
    plots.zoom(panels[:1], late.val_accuracy)
    for row in grid:
        row[0].set_ylabel("validation accuracy")
    figure.suptitle(_of([run], "bands"), fontsize=10)
    return figure


def describe(figure: Figure) -> str:
    """A figure in words, for who cannot see it: where each line begins and ends."""
    said = []
    for axes in figure.axes:
        lines = []
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            line = handle[0] if isinstance(handle, tuple) else handle
            shown = axes.yaxis.get_major_formatter().format_data_short \
                if axes.get_ylabel() == _LABELS[_EARLY] else "{:.2%}".format
            first, last = (shown(line.get_ydata()[end]).strip() for end in (0, -1))
            lines.append(f"{label} from {first} to {last}")
        name = " ".join(filter(None, (axes.get_title(), axes.get_ylabel())))
        said.append(f"{name} against {axes.get_xlabel()}: {'; '.join(lines)}.")
    return " ".join(said).replace("\n", " ")
