"""What the pictures of the analyses are drawn with: axes in, axes out; a colour a level."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, PercentFormatter

from lth_keras.core.mode_connectivity import STABLE
from lth_keras.reports.plots import plots, styles

_MOST_PANELS = 6
BLUE, ORANGE, GREY = *styles.COLOURS[:2], "#777777"


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
    places = {int(np.abs(values - wanted).argmin()) for wanted in plots.CURVE_DENSITIES
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
    """The weights that have panels: all, or the first, the last and some between."""
    places = np.linspace(0, len(names) - 1, min(len(names), _MOST_PANELS)).round().astype(int)
    return [names[place] for place in places]


def distribution(axes: Axes, frame: pd.DataFrame, densities: "pd.Series[float]", x: str,
                 y: str, *, step: bool = False) -> Axes:
    """A line a level of something's distribution.

    Args:
      axes: where to draw.
      frame: rows with columns level, x and y.
      densities: level -> density in [0, 1], of the levels to draw.
      x: the column along.
      y: the column up.
      step: whether x is the middle of bins.
    """
    shades = styles.shades(len(densities))
    for shade, (level, density) in zip(shades, densities.items(), strict=True):
        line = frame[frame.level == level]
        axes.plot(line[x], line[y], color=shade, linewidth=1.2, label=f"{density:.1%}",
                  drawstyle="steps-mid" if step else "default")
    axes.grid(alpha=0.25)
    return axes


def against_density(axes: Axes, rows: pd.DataFrame, measure: str, **style: Any) -> Axes:
    """A measure against density: mean over a level's rows, bars from least to greatest.

    Args:
      axes: where to draw.
      rows: with columns level, density and the measure.
      measure: the column.
      **style: of the line, as of `errorbar`.
    """
    rows = rows[rows[measure].notna()]
    levels = rows.groupby("level")
    mean, low, high = (levels[measure].agg(part).to_numpy(float) for part in ("mean", "min", "max"))
    percents = levels.density.mean().to_numpy(float) * 100
    bars = [np.maximum(0, mean - low), np.maximum(0, high - mean)]  # A mean is rounded.
    axes.errorbar(percents, mean, yerr=bars, capsize=2, elinewidth=0.8,
                  linewidth=1.3, **{"marker": "o", "markersize": 3, **style})
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.25)
    return axes


def density_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """The densities of some rows' levels along the axis, falling.

    Args:
      axes: where.
      rows: with columns level and density.
    """
    percents = rows.groupby("level").density.mean().sort_values().to_numpy(float)[::-1] * 100
    plots.density_axis(axes, percents, most=6)


def stable_line(axes: Axes) -> None:
    """The instability below which networks are stable, in a picture of instabilities."""
    axes.axhline(STABLE, color=GREY, linestyle="--", linewidth=1,
                 label=f"stable below {STABLE:.0%}")
    axes.set_title("instability", fontsize=10)
    axes.set_ylabel("greatest error less the ends'")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)
