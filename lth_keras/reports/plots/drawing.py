"""Draws into matplotlib axes, in the style of Frankle & Carbin 2019.

Each function takes axes and data, and neither creates nor saves a figure.
"""

import io
import itertools
import pathlib
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter, StrMethodFormatter

from lth_keras.controls.known import CONTROLS
from lth_keras.core.mode_connectivity import STABLE
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.strategies import chain_branches
from lth_keras.experiments.results.statistics import summarise, trained
from lth_keras.files import atomic
from lth_keras.reports.plots import styles

# The densities whose learning curves the paper draws in its figure 3.
CURVE_DENSITIES = (1.0, 0.513, 0.211, 0.07, 0.036, 0.019)
BLUE, ORANGE, GREY = *styles.COLOURS[:2], "#777777"
_MOST_PANELS = 6


def branches(results: pd.DataFrame) -> list[str]:
    """Returns the branches of results: the ticket first, then controls in their order.

    Example:
      >>> branches(pd.DataFrame({"branch": ["reinit", "ticket", "reinit"]}))
      ['ticket', 'reinit']
    """
    order = (TICKET, *chain_branches(), *CONTROLS)
    return sorted(set(results.branch), key=lambda name: (
        order.index(name) if name in order else len(order), name))


def against_density(axes: Axes, results: pd.DataFrame, measure: str,
                    looks: "Mapping[str, Mapping[str, Any]] | None" = None) -> Axes:
    """Draws the mean of a measure over trainings against density, with bars for the range.

    Args:
      axes: the axes to draw into; what was drawn there before stays.
      results: one row for each trained network, with the columns of `record.COLUMNS`.
      measure: the column to draw.
      looks: branch -> style, for the branches to draw. Defaults to all branches.
    """
    summary = summarise(results)
    if looks is None:
        looks = {branch: styles.style(branch) for branch in branches(trained(results))}
    for branch, look in looks.items():
        if branch not in summary.index.get_level_values("branch"):
            continue
        lines = summary.loc[branch]
        # Level 0 is not pruned, so every control starts from the same point as the ticket.
        if branch != TICKET:
            tickets = summary.loc[TICKET]
            lines = pd.concat([tickets[tickets.index == 0], lines])
        mean, low, high = (lines[(measure, part)].to_numpy(float)
                           for part in ("mean", "min", "max"))
        drawn = mean_and_range(axes, lines[("density", "mean")].to_numpy(float) * 100, mean, low,
                               high, **{"markersize": 4, "linewidth": 1.4, **look})
        for part in (*drawn[1], *drawn[2]):
            part.set_alpha(0.6)
    density_axis(axes, summary.loc[TICKET][("density", "mean")].to_numpy() * 100)
    return axes


def mean_and_range(axes: Axes, x: np.ndarray, mean: np.ndarray, low: np.ndarray,
                   high: np.ndarray, **look: Any) -> ErrorbarContainer:
    """Draws a line of means with bars from the smallest to the largest value.

    Args:
      axes: the axes to draw into.
      x: shape (points,).
      mean: the same shape.
      low: the same shape.
      high: the same shape.
      **look: the style of the line, as `Axes.errorbar` takes it.
    """
    # The mean of equal values may differ from them in the last bit, and errorbar refuses bars of
    # negative length.
    return axes.errorbar(x, mean, yerr=np.maximum(0, [mean - low, high - mean]), capsize=2,
                         elinewidth=0.8, **look)


def density_axis(axes: Axes, percents: np.ndarray, most: int = 9) -> None:
    """Makes the horizontal axis a falling log axis of weights remaining, as in the paper.

    Args:
      axes: the axes; if they have such an axis already, its limits are widened.
      percents: the levels' densities in percent, in (0, 100], falling.
      most: the largest number of ticks; each is at a level's density.
    """
    # Several runs share an axis: its ticks and limits must hold the densities of all.
    drawn_before = axes.get_xscale() == "log" and axes.xaxis_inverted()
    before = axes.get_xlim() if drawn_before else (0.0, np.inf)
    ticks = {*percents[::-(-len(percents) // most)], *(axes.get_xticks() if drawn_before else ())}
    axes.set_xscale("log")
    left, right = max(max(percents) * 1.15, before[0]), min(min(percents) / 1.15, before[1])
    axes.set_xlim(left, right)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(_apart(sorted(ticks, reverse=True), (left / right) ** (0.8 / most)))
    # As the paper writes them: 51.3, 7.0, 0.89.
    axes.xaxis.set_major_formatter(FuncFormatter(
        lambda value, _: f"{value:.1f}" if 1 <= value < 10 else f"{value:.3g}"))
    axes.set_xlabel("weights remaining (%)")
    axes.grid(alpha=0.25)


def _apart(falling: Sequence[float], ratio: float) -> list[float]:
    # The ticks whose labels do not overlap on a log axis.
    kept: list[float] = []
    for number in falling:
        if not kept or kept[-1] / number >= ratio:
            kept.append(number)
    return kept


def nearest_levels(results: pd.DataFrame, densities: Iterable[float]) -> dict[int, float]:
    """Returns the levels nearest to given densities, as level -> density.

    Given densities far below the sparsest level are ignored.

    Example:
      >>> results = pd.DataFrame({"branch": "ticket", "level": [0, 1, 2],
      ...                         "density": [1.0, 0.5, 0.25]})
      >>> nearest_levels(results, [0.513, 0.01])
      {1: 0.5}
    """
    found = results[results.branch == TICKET].groupby("level").density.mean()
    # Two densities may have the same nearest level: it is drawn once.
    levels = {int(found.index[int(np.abs(found.to_numpy() - wanted).argmin())])
              for wanted in densities if wanted >= found.min() * 0.9}
    return {level: float(found[level]) for level in sorted(levels)}


def curve_lines(axes: Axes, curves: pd.DataFrame, results: pd.DataFrame,
                lines: Sequence[tuple[str, int, Mapping[str, Any]]],
                measure: str = "val_accuracy") -> Axes:
    """Draws learning curves: the mean validation accuracy at each step, with a band for the range.

    Args:
      axes: the axes to draw into.
      curves: the curves, as `store.curves` returns them.
      results: the run's rows; curves of trainings that diverged are left out.
      lines: (branch, level, style) of each line; lines without curves are left out.
      measure: the column to draw, "val_accuracy" or "val_loss".
    """
    kept = trained(results)[["replicate", "branch", "level", "branch_index"]]
    for branch, level, look in lines:
        chosen = curves[(curves.branch == branch) & (curves.level == level)].merge(kept)
        if chosen.empty:
            continue
        # A curve that diverged ends early, as one that patience ends. Averaged in until then, it
        # would make the mean jump at a step at which no training jumped.
        ends = chosen.groupby(["replicate", "branch_index"]).step.max()
        together = chosen[chosen.step <= ends.min()].groupby("step")[measure]
        steps = together.agg(["mean", "min", "max"])
        axes.plot(steps.index, steps["mean"], linewidth=1.3, **look)
        axes.fill_between(steps.index, steps["min"], steps["max"], color=look["color"],
                          alpha=0.15, linewidth=0)
    if measure == "val_accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("training step")
    axes.grid(alpha=0.25)
    return axes


def learning_curves(axes: Axes, curves: pd.DataFrame, results: pd.DataFrame, branch: str,
                    measure: str = "val_accuracy", *,
                    levels: "Mapping[int, float] | None" = None) -> Axes:
    """Draws the learning curves of one branch at a few densities.

    Args:
      axes: the axes to draw into.
      curves: the curves, as `store.curves` returns them.
      results: the run's rows, for the densities.
      branch: the branch; at level 0 the ticket's curve is drawn.
      measure: the column to draw, "val_accuracy" or "val_loss".
      levels: level -> density, of the levels to draw. Defaults to those nearest to the paper's.
    """
    if levels is None:
        levels = nearest_levels(results, CURVE_DENSITIES)
    colours = styles.shades(len(levels))
    curve_lines(axes, curves, results, [
        (TICKET if level == 0 else branch, level, {"color": colour, "label": f"{density:.1%}"})
        for colour, (level, density) in zip(colours, levels.items(), strict=True)], measure)
    axes.set_title(styles.title(branch))
    axes.legend(title="weights remaining", fontsize=8, title_fontsize=8,
                loc="upper right" if measure == "val_loss" else "lower right")
    return axes


def zoom(panels: Sequence[Axes], accuracies: Iterable[float]) -> None:
    """Limits the vertical axis to the accuracies after the first steps.

    With the low accuracies of the first steps in view, all curves would look like one line.

    Args:
      panels: the axes to limit.
      accuracies: all accuracies that are drawn, without those of the first steps.
    """
    values = np.fromiter(itertools.chain(accuracies), float)
    values = values[np.isfinite(values)]
    if not len(values):
        return
    # A quantile, since a single bad validation would stretch the axis again.
    low, best = np.quantile(values, 0.02), values.max()
    if low < best:
        for axes in panels:
            axes.set_ylim(low - 0.1 * (best - low), best + 0.05 * (best - low))


def percent_axis(axes: Axes, label: str) -> None:
    """Makes the vertical axis an axis of shares in [0, 1], shown in percent."""
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.01))  # No accuracy is above 100%.


def shown_levels(rows: pd.DataFrame) -> list[int]:
    """Returns the levels to show: those nearest to the paper's densities, the first and the last.

    Args:
      rows: rows with the columns level and density.

    Example:
      >>> shown_levels(pd.DataFrame({"level": range(8), "density": 0.8 ** np.arange(8)}))
      [0, 3, 7]
    """
    densities = rows.groupby("level").density.mean()
    values = densities.to_numpy(float)
    places = {int(np.abs(values - wanted).argmin()) for wanted in CURVE_DENSITIES
              if values.min() * 0.9 <= wanted <= values.max() / 0.9} | {
        int(values.argmax()), int(values.argmin())}
    return sorted(int(densities.index[place]) for place in places)


def level_near(rows: pd.DataFrame, density: float) -> int:
    """Returns the level whose density is nearest to a given density.

    Args:
      rows: rows with the columns level and density.
      density: the density, in [0, 1].

    Example:
      >>> level_near(pd.DataFrame({"level": [0, 1, 2], "density": [1.0, 0.5, 0.25]}), 0.3)
      2
    """
    means = rows.groupby("level").density.mean()
    return int(means.index[int(np.abs(means.to_numpy(float) - density).argmin())])


# A deep network has too many weights for a figure: the first and last layers behave differently.
def shown_weights(names: Sequence[str]) -> list[str]:
    """Returns the weights that get a panel: all, or of many the first, the last and some between.

    Example:
      >>> shown_weights([f"conv{number}" for number in range(1, 12)])
      ['conv1', 'conv3', 'conv5', 'conv7', 'conv9', 'conv11']
    """
    places = np.linspace(0, len(names) - 1, min(len(names), _MOST_PANELS)).round().astype(int)
    return [names[place] for place in places]


def distribution(axes: Axes, frame: pd.DataFrame, densities: "pd.Series[float]", x: str,
                 y: str, *, step: bool = False) -> Axes:
    """Draws a distribution with one line for each level.

    Args:
      axes: the axes to draw into.
      frame: rows with the columns level, x and y.
      densities: level -> density in [0, 1], for the levels to draw.
      x: the column of the horizontal axis.
      y: the column of the vertical axis.
      step: whether x holds the centres of bins, so that lines are drawn in steps.
    """
    shades = styles.shades(len(densities))
    for shade, (level, density) in zip(shades, densities.items(), strict=True):
        line = frame[frame.level == level]
        axes.plot(line[x], line[y], color=shade, linewidth=1.2, label=f"{density:.1%}",
                  drawstyle="steps-mid" if step else "default")
    axes.grid(alpha=0.25)
    return axes


def level_line(axes: Axes, rows: pd.DataFrame, measure: str, **look: Any) -> Axes:
    """Draws each level's mean of a measure against density, with bars for the range.

    Args:
      axes: the axes to draw into.
      rows: rows with the columns level, density and the measure; NaN is left out.
      measure: the column to draw.
      **look: the style of the line, as `Axes.errorbar` takes it.
    """
    rows = rows[rows[measure].notna()]
    levels = rows.groupby("level")
    mean, low, high = (levels[measure].agg(part).to_numpy(float) for part in ("mean", "min", "max"))
    percents = levels.density.mean().to_numpy(float) * 100
    mean_and_range(axes, percents, mean, low, high,
                   **{"marker": "o", "markersize": 3, "linewidth": 1.3, **look})
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.25)
    return axes


def level_density_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Makes the horizontal axis a log axis of the densities of the rows' levels.

    Args:
      axes: the axes.
      rows: rows with the columns level and density.
    """
    percents = rows.groupby("level").density.mean().sort_values().to_numpy(float)[::-1] * 100
    density_axis(axes, percents, most=6)


def stable_line(axes: Axes, title: str = "instability", word: str = "stable",
                label: str = "highest error less the ends' mean") -> None:
    """Draws the instability below which training is stable (Frankle et al. 2020).

    Args:
      axes: the axes.
      title: the measure that is drawn.
      word: what networks with less are.
      label: what the measure is.
    """
    axes.axhline(STABLE, color=GREY, linestyle="--", linewidth=1,
                 label=f"{word} below {STABLE:.0%}")
    axes.set_title(title, fontsize=10)
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)


def head(figure: Figure, text: str, size: float = 12.0) -> None:
    """Sets the title of a figure, and breaks lines that are wider than the figure.

    Args:
      figure: the figure.
      text: the title, one line or more.
      size: the font size in points, > 0.
    """
    most = int(figure.get_figwidth() * 72 / (0.6 * size))  # Letters are 0.6 as wide as high.
    figure.suptitle("\n".join(part for line in text.splitlines()
                              for part in textwrap.wrap(line, most)), fontsize=size)


def png(figure: Figure) -> bytes:
    """Returns a figure as the bytes of a PNG.

    Example:
      >>> png(Figure())[1:4]
      b'PNG'
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    return picture.getvalue()


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes a figure as a PNG, completely or not at all; creates the folder if needed."""
    atomic.write(path, png(figure))
