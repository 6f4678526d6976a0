"""The pictures of the analyses: axes in, axes out; a panel a weight, a colour a level."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from lth_keras.barrier import STABLE

_MOST_PANELS = 6
# Densities of which the paper draws distributions and curves, more or less; at most so many lines.
_DENSITIES = (1.0, 0.513, 0.211, 0.07, 0.036, 0.019)
_PROFILED = 0.211  # Of the ticket whose weights' movements are drawn.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#777777"  # Okabe & Ito.
_BETWEEN = {"data orders": _BLUE, "parent and ticket": _ORANGE}


def shown_levels(rows: pd.DataFrame) -> list[int]:
    """The levels that a picture shows: those nearest to the paper's densities, and the sparsest.

    Args:
      rows: with columns level and density.

    Example:
      >>> shown_levels(pd.DataFrame({"level": range(8), "density": 0.8 ** np.arange(8)}))
      [0, 3, 7]
    """
    densities = rows.groupby("level").density.mean()
    values = densities.to_numpy(float)
    places = {int(np.abs(values - wanted).argmin()) for wanted in _DENSITIES
              if values.min() * 0.9 <= wanted <= values.max() / 0.9} | {int(values.argmin())}
    return sorted(int(densities.index[place]) for place in places)


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
    shades = colormaps["viridis"](np.linspace(0, 0.9, len(densities)))
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


def _density_axis(axes: Axes, densities: Sequence[float]) -> None:
    percents = np.unique(np.asarray(densities, float))[::-1] * 100
    axes.set_xlim(percents[0] * 1.15, percents[-1] / 1.15)
    axes.set_xticks(percents[::-(-len(percents) // 6)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_xlabel("weights remaining (%)")


def _densities(rows: pd.DataFrame) -> "pd.Series[float]":
    return rows.groupby("level").density.mean().loc[shown_levels(rows)]


def _panels(rows: int, columns: int, title: str, sharey: Any = False) -> tuple[Figure, Any]:
    figure = Figure(figsize=(max(5.5, 3.6 * columns + 1), 3.2 * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def _legend(figure: Figure, axes: Axes, title: "str | None" = None) -> None:
    figure.legend(*axes.get_legend_handles_labels(), title=title, loc="outside right upper",
                  fontsize=8, title_fontsize=8)


def _level_near(rows: pd.DataFrame, density: float) -> int:
    densities = rows.groupby("level").density.mean()
    return int(densities.index[int(np.abs(densities.to_numpy(float) - density).argmin())])


def _titled(title: str, weights: Sequence[str], all_of: Sequence[str]) -> str:
    some = f" ({len(weights)} of {len(all_of)} weights)" if len(weights) < len(all_of) else ""
    return title + some


def survivors_figure(histograms: pd.DataFrame, rows: pd.DataFrame, title: str) -> Figure:
    """The survivors' distributions, a panel a weight (as the paper's figures 15 to 18)."""
    names = list(dict.fromkeys(rows.weight))
    weights, densities = shown_weights(names), _densities(rows)
    figure, panels = _panels(-(-len(weights) // 3), min(3, len(weights)),
                             _titled(title, weights, names))
    for axes, name in zip(panels.flat, weights, strict=False):
        distribution(axes, histograms[histograms.weight == name], densities, "value",
                     "probability_density", step=True)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("initial value")
        axes.set_ylim(bottom=0)
    for axes in panels.flat[len(weights):]:
        axes.set_axis_off()
    panels[0, 0].set_ylabel("probability density")
    _legend(figure, panels[0, 0], "weights remaining")
    return figure


def movement_figure(histograms: pd.DataFrame, rows: pd.DataFrame, title: str) -> Figure:
    """How far weights move that are kept or pruned, and how often away from zero.

    As the paper's figures 19 and 20: of the dense network where its weights were kept.
    """
    rows = rows[rows.trained_level == 0] if (rows.trained_level == 0).any() else rows
    names = list(dict.fromkeys(rows.weight))
    weights, level = shown_weights(names[:-1]), _level_near(rows, _PROFILED)
    some = histograms[histograms.level == level]
    figure, panels = _panels(1 if some.empty else 2, len(weights),
                             _titled(title, weights, names[:-1]))
    for column, name in zip(panels.T, weights, strict=True):
        for group, colour, of in (("kept", _BLUE, "kept in the ticket"),
                                  ("pruned", _ORANGE, "pruned")):
            against_density(column[-1], rows[rows.weight == name], f"away_{group}", color=colour,
                            label=of)
            if not some.empty:
                line = some[(some.weight == name) & (some.group == group)]
                column[0].plot(line.moved, line.probability_density, color=colour,
                               drawstyle="steps-mid", linewidth=1.2)
        column[0].set_title(name, fontsize=10)
        column[0].grid(alpha=0.25)
        _density_axis(column[-1], list(rows.density))
        column[-1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        if not some.empty:
            column[0].set_xlabel("distance moved in training")
            column[0].set_ylim(bottom=0)
    if not some.empty:
        density = rows[rows.level == level].density.mean()
        panels[0, 0].set_ylabel(f"probability density,\n{density:.1%} kept")
    panels[-1, 0].set_ylabel("moved away from zero")
    _legend(figure, panels[-1, 0])
    return figure


def connections_figure(units: pd.DataFrame, rows: pd.DataFrame, title: str) -> Figure:
    """The share of connections that each unit keeps, units in its order (figures 21 to 24)."""
    names = list(dict.fromkeys(rows.weight))
    weights, densities = shown_weights(names), _densities(rows)
    figure, panels = _panels(2, len(weights), _titled(title, weights, names), sharey="row")
    for row, direction in zip(panels, ("incoming", "outgoing"), strict=True):
        for axes, name in zip(row, weights, strict=True):
            distribution(axes, units[(units.weight == name) & (units.direction == direction)],
                         densities, "place", "share")
            axes.set_title(name, fontsize=10)
            axes.set_xlabel("units, the most connected first")
        row[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        row[0].set_ylabel(f"{direction} connections kept")
    _legend(figure, panels[0, 0], "weights remaining")
    return figure


def overlap_figure(rows: pd.DataFrame, title: str) -> Figure:
    """The overlap of masks against density, and what chance would give, a panel a weight."""
    names = list(dict.fromkeys(rows.weight))
    weights = [*shown_weights(names[:-1]), *names[-1:]] if names else ["all"]
    between = list(dict.fromkeys(rows.between)) or ["replicates"]
    figure, panels = _panels(len(between), len(weights),
                             _titled(title, weights[:-1], names[:-1]), sharey=True)
    for row, of in zip(panels, between, strict=True):
        for axes, name in zip(row, weights, strict=True):
            chosen = rows[(rows.between == of) & (rows.weight == name)]
            if chosen.empty:
                continue
            against_density(axes, chosen, "overlap", color=_BLUE, label="overlap")
            against_density(axes, chosen, "chance", color=_GREY, label="by chance", marker="",
                            linestyle="--")
            _density_axis(axes, list(chosen.density))
            axes.set_title(f"{name}, between {of}", fontsize=10)
        row[0].set_ylabel("overlap (Jaccard)")
        row[0].set_ylim(0, 1.03)
    if not rows.empty:
        _legend(figure, panels[0, 0])
    return figure


def barrier_figure(paths: pd.DataFrame, rows: pd.DataFrame, title: str) -> Figure:
    """The error along the lines between networks, a panel a pairing, and the instability."""
    between = list(dict.fromkeys(rows.between))
    figure, panels = _panels(1, len(between) + 1, title)
    for axes, of in zip(panels[0], between, strict=False):
        chosen = rows[rows.between == of]
        mean = paths[paths.between == of].groupby(["level", "alpha"], as_index=False).error.mean()
        distribution(axes, mean, _densities(chosen), "alpha", "error")
        axes.set_title(f"between {of}", fontsize=10)
        axes.set_xlabel("alpha")
        axes.set_ylabel("test error")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.legend(title="weights remaining", fontsize=7, title_fontsize=7)
    last = panels[0, -1]
    for of in between:
        against_density(last, rows[rows.between == of], "instability", label=of,
                        color=_BETWEEN[of])
    _density_axis(last, list(rows.density))
    _stable(last)
    return figure


def rewinding_figure(choice: pd.DataFrame, title: str) -> Figure:
    """The dense network's instability against rewind_step: mean, bars from least to greatest."""
    figure, panels = _panels(1, 1, title)
    axes, steps = panels[0, 0], choice.rewind_step.to_numpy(float)
    mean = choice["mean"].to_numpy(float)
    axes.errorbar(steps, mean, yerr=[np.maximum(0, mean - choice["min"].to_numpy(float)),
                                     np.maximum(0, choice["max"].to_numpy(float) - mean)],
                  marker="o", markersize=4, capsize=2, color=_BLUE, label="between data orders")
    if len(steps) > 1:
        axes.set_xscale("symlog", linthresh=max(1.0, steps[steps > 0].min()))
        axes.set_xticks(steps, [f"{step:,.0f}" for step in steps])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("rewind_step k")
    _stable(axes)
    return figure


def _stable(axes: Axes) -> None:
    axes.axhline(STABLE, color=_GREY, linestyle="--", linewidth=1,
                 label=f"stable below {STABLE:.0%}")
    axes.set_title("instability", fontsize=10)
    axes.set_ylabel("greatest error less the ends'")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7)
