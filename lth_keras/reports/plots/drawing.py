"""What pictures are drawn with, in the manner of Frankle & Carbin 2019: axes in, axes out."""

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

from lth_keras.core.controls import CONTROLS
from lth_keras.core.mode_connectivity import STABLE
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.strategies import chain_branches
from lth_keras.experiments.results.statistics import summarise, trained
from lth_keras.files import atomic
from lth_keras.reports.plots import styles

# Densities whose curves the paper draws in its figure 3.
CURVE_DENSITIES = (1.0, 0.513, 0.211, 0.07, 0.036, 0.019)
BLUE, ORANGE, GREY = *styles.COLOURS[:2], "#777777"
_MOST_PANELS = 6


def branches(results: pd.DataFrame) -> list[str]:
    """The branches of results, the ticket first, then in the order of the controls."""
    order = (TICKET, *chain_branches(), *CONTROLS)
    return sorted(set(results.branch), key=lambda name: (
        order.index(name) if name in order else len(order), name))


def against_density(axes: Axes, results: pd.DataFrame, measure: str,
                    looks: "Mapping[str, Mapping[str, Any]] | None" = None) -> Axes:
    """Draws a measure against density: the mean over trainings, bars from least to greatest.

    Args:
      axes: where to draw, on top of what is there already.
      results: a row a trained network, with the columns of `record.COLUMNS`.
      measure: the column to draw.
      looks: branch -> style of the branches to draw; by default all of them.
    """
    summary = summarise(results)
    if looks is None:
        looks = {branch: styles.style(branch) for branch in branches(trained(results))}
    for branch, look in looks.items():
        if branch not in summary.index.get_level_values("branch"):
            continue
        lines = summary.loc[branch]
        if branch != TICKET:  # Level 0 is dense: a control of it is the same network.
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
    """Draws a line of means with bars from the least to the greatest value.

    Args:
      axes: where to draw.
      x: shape (points,).
      mean: the same shape.
      low: the same shape.
      high: the same shape.
      **look: of the line, as `Axes.errorbar` takes it.
    """
    # The mean of equal values may differ from them in the last bit.
    return axes.errorbar(x, mean, yerr=np.maximum(0, [mean - low, high - mean]), capsize=2,
                         elinewidth=0.8, **look)


def density_axis(axes: Axes, percents: np.ndarray, most: int = 9) -> None:
    """Makes the horizontal axis one of weights remaining: falling, on a log scale.

    Args:
      axes: where; if it has such an axis already, the limits are widened to hold both.
      percents: the levels' densities in percent, in (0, 100], falling.
      most: how many ticks at most; they are at some of the percents.
    """
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
    """Those of falling numbers that have room beside each other on a log axis."""
    kept: list[float] = []
    for number in falling:
        if not kept or kept[-1] / number >= ratio:
            kept.append(number)
    return kept


def nearest_levels(results: pd.DataFrame, densities: Iterable[float]) -> dict[int, float]:
    """The levels whose densities are nearest to given ones: level -> its density.

    Given densities far below the sparsest level's are left out.
    """
    found = results[results.branch == TICKET].groupby("level").density.mean()
    levels = {int(found.index[int(np.abs(found.to_numpy() - wanted).argmin())])
              for wanted in densities if wanted >= found.min() * 0.9}
    return {level: float(found[level]) for level in sorted(levels)}


def curve_lines(axes: Axes, curves: pd.DataFrame, results: pd.DataFrame,
                lines: Sequence[tuple[str, int, Mapping[str, Any]]],
                measure: str = "val_accuracy") -> Axes:
    """Draws validation accuracy over training: means, with bands from least to greatest.

    Args:
      axes: where to draw.
      curves: as `store.curves` gives them.
      results: the run's rows; trainings that diverged are left out.
      lines: (branch, level, style) of each line; those without curves are left out.
      measure: the column to draw, "val_accuracy" or "val_loss".
    """
    kept = trained(results)[["replicate", "branch", "level", "branch_index"]]
    for branch, level, look in lines:
        chosen = curves[(curves.branch == branch) & (curves.level == level)].merge(kept)
        if chosen.empty:
            continue
        # A training that diverged is left out whole: its curve ends early, and the mean over the
        # replicates that are left would jump where no training did.
        steps = chosen.groupby("step")[measure].agg(["mean", "min", "max"])
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
                    measure: str = "val_accuracy") -> Axes:
    """Draws validation accuracy over training at the paper's densities.

    Args:
      axes: where to draw.
      curves: as `store.curves` gives them.
      results: the run's rows, for the densities.
      branch: whose curves to draw; at level 0 those of the ticket.
      measure: as `curve_lines` takes it.
    """
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
    """Limits panels of learning curves to the accuracies after the first steps.

    The low accuracies of the first steps would press everything else into a line.

    Args:
      panels: the panels that get the limits.
      accuracies: all that are drawn, without those of the first steps.
    """
    values = np.fromiter(itertools.chain(accuracies), float)
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, best = np.quantile(values, 0.02), values.max()
    if low < best:
        for axes in panels:
            axes.set_ylim(low - 0.1 * (best - low), best + 0.05 * (best - low))


def percent_axis(axes: Axes, label: str) -> None:
    """Makes the vertical axis one of shares, in percent."""
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(top=min(axes.get_ylim()[1], 1.01))


def shown_levels(rows: pd.DataFrame) -> list[int]:
    """The levels that a picture shows: those nearest to the paper's densities, and the ends.

    Args:
      rows: with columns level and density.

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
    """The level whose density is nearest to one.

    Args:
      rows: with columns level and density.
      density: in [0, 1].
    """
    means = rows.groupby("level").density.mean()
    return int(means.index[int(np.abs(means.to_numpy(float) - density).argmin())])


def shown_weights(names: Sequence[str]) -> list[str]:
    """The weights that get a panel: all if they are few, else the first, the last, some between."""
    places = np.linspace(0, len(names) - 1, min(len(names), _MOST_PANELS)).round().astype(int)
    return [names[place] for place in places]


def distribution(axes: Axes, frame: pd.DataFrame, densities: "pd.Series[float]", x: str,
                 y: str, *, step: bool = False) -> Axes:
    """Draws a distribution, one line a level.

    Args:
      axes: where to draw.
      frame: rows with the columns level, x and y.
      densities: level -> density in [0, 1] of the levels to draw.
      x: the column on the horizontal axis.
      y: the column on the vertical axis.
      step: whether x holds the middles of bins.
    """
    shades = styles.shades(len(densities))
    for shade, (level, density) in zip(shades, densities.items(), strict=True):
        line = frame[frame.level == level]
        axes.plot(line[x], line[y], color=shade, linewidth=1.2, label=f"{density:.1%}",
                  drawstyle="steps-mid" if step else "default")
    axes.grid(alpha=0.25)
    return axes


def level_line(axes: Axes, rows: pd.DataFrame, measure: str, **look: Any) -> Axes:
    """Draws a measure against density: a level's mean, bars from least to greatest.

    Args:
      axes: where to draw.
      rows: with columns level, density and the measure; rows without the measure are left out.
      measure: the column.
      **look: of the line, as `Axes.errorbar` takes it.
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
    """Makes the horizontal axis one of the densities of some rows' levels.

    Args:
      axes: where.
      rows: with columns level and density.
    """
    percents = rows.groupby("level").density.mean().sort_values().to_numpy(float)[::-1] * 100
    density_axis(axes, percents, most=6)


def stable_line(axes: Axes) -> None:
    """Draws the instability below which training is stable (Frankle et al. 2020)."""
    axes.axhline(STABLE, color=GREY, linestyle="--", linewidth=1,
                 label=f"stable below {STABLE:.0%}")
    axes.set_title("instability", fontsize=10)
    axes.set_ylabel("highest error less the ends' mean")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)


def head(figure: Figure, text: str, size: float = 12.0) -> None:
    """Gives a figure a title, and breaks its lines where the figure is too narrow for them.

    Args:
      figure: the figure.
      text: the title, of one line or more.
      size: of its letters in points, > 0.
    """
    most = int(figure.get_figwidth() * 72 / (0.6 * size))  # Letters are 0.6 as wide as high.
    figure.suptitle("\n".join(part for line in text.splitlines()
                              for part in textwrap.wrap(line, most)), fontsize=size)


def png(figure: Figure) -> bytes:
    """A figure as a PNG picture."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    return picture.getvalue()


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes a figure as PNG, whole or not at all; its folder is made as needed."""
    atomic.write(path, png(figure))
