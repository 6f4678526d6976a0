"""The figures of `lth analyse`: panels for weights or kinds of pairs, or a line for each layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter, StrMethodFormatter

from lth_keras.reports.plots.drawing import (
    BLUE,
    distribution,
    GREY,
    head,
    level_density_axis,
    level_line,
    level_near,
    mean_and_range,
    ORANGE,
    percent_axis,
    shown_levels,
    shown_weights,
    stable_line,
)
from lth_keras.reports.plots.styles import MARKERS, series_style, shades

_FAR = 5  # Margins, beyond which differences are drawn on a log axis.
_NAMED = 8  # So many lines of layers can be told apart by a legend.
_PROFILED = 0.211  # The density at which the distributions of movement are drawn.
_BETWEEN = {"data orders": BLUE, "parent and ticket": ORANGE}


def survivors_figure(histograms: pd.DataFrame, rows: pd.DataFrame, title: str) -> Figure:
    """Draws the distributions of surviving initial weights (as the paper's figures 15 to 18)."""
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
    """Draws how far kept and pruned weights move in training, and how often away from zero.

    As in the paper's figures 19 and 20, the weights are followed through the training of the
    dense network, if its trained weights were kept.
    """
    # The paper follows the dense network's weights; other rows are of the levels' own trainings.
    rows = rows[rows.trained_level == 0] if (rows.trained_level == 0).any() else rows
    names = list(dict.fromkeys(rows.weight))
    weights, level = shown_weights(names[:-1]), level_near(rows, _PROFILED)
    some = histograms[histograms.level == level]
    figure, panels = _panels(1 if some.empty else 2, len(weights),
                             _titled(title, weights, names[:-1]))
    for column, name in zip(panels.T, weights, strict=True):
        for group, colour, of in (("kept", BLUE, "kept in the ticket"),
                                  ("pruned", ORANGE, "pruned")):
            level_line(column[-1], rows[rows.weight == name], f"away_{group}", color=colour,
                            label=of)
            if not some.empty:
                line = some[(some.weight == name) & (some.group == group)]
                column[0].plot(line.moved, line.probability_density, color=colour,
                               drawstyle="steps-mid", linewidth=1.2)
        column[0].set_title(name, fontsize=10)
        column[0].grid(alpha=0.25)
        level_density_axis(column[-1], rows)
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
    """Draws the share of connections that each unit keeps (as the paper's figures 21 to 24)."""
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
    """Draws the overlap of masks against density, and the overlap of random masks."""
    names = list(dict.fromkeys(rows.weight))
    weights = [*shown_weights(names[:-1]), *names[-1:]]
    between = list(dict.fromkeys(rows.between))
    figure, panels = _panels(len(between), len(weights),
                             _titled(title, weights[:-1], names[:-1]), sharey=True)
    for row, of in zip(panels, between, strict=True):
        for axes, name in zip(row, weights, strict=True):
            chosen = rows[(rows.between == of) & (rows.weight == name)]
            level_line(axes, chosen, "overlap", color=BLUE, label="overlap")
            level_line(axes, chosen, "chance", color=GREY, label="by chance", marker="",
                            linestyle="--")
            level_density_axis(axes, chosen)
            axes.set_title(f"{name}, between {of}", fontsize=10)
        row[0].set_ylabel("overlap (Jaccard)")
        row[0].set_ylim(0, 1.03)
    _legend(figure, panels[0, 0])
    return figure


def signs_figure(rows: pd.DataFrame, title: str) -> Figure:
    """Draws the share of survivors whose sign turned, since step 0, the start and the level below.

    Args:
      rows: rows with the columns level, density, weight, flipped_initial, flipped_start and
        flipped_below; those of all weights together come last.
      title: the title of the figure.
    """
    names = list(dict.fromkeys(rows.weight))
    weights = [*shown_weights(names[:-1]), *names[-1:]]
    figure, panels = _panels(1, len(weights), _titled(title, weights[:-1], names[:-1]), sharey=True)
    # Where tickets are rewound to step 0, the first two are one line: the second is dashed.
    for axes, name in zip(panels[0], weights, strict=True):
        chosen = rows[rows.weight == name]
        for word, look in (("initial", {"color": BLUE, "label": "since step 0"}),
                           ("start", {"color": GREY, "label": "since the level's start",
                                      "linestyle": "--", "marker": ""}),
                           ("below", {"color": ORANGE, "label": "since the level below"})):
            if chosen[f"flipped_{word}"].notna().any():
                level_line(axes, chosen, f"flipped_{word}", **look)
        level_density_axis(axes, chosen)
        axes.set_title(name, fontsize=10)
        axes.set_ylim(bottom=0)
    panels[0, 0].set_ylabel("survivors with another sign")
    panels[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _legend(figure, panels[0, -1])
    return figure


def barrier_figure(paths: pd.DataFrame, rows: pd.DataFrame, title: str) -> Figure:
    """Draws the error along the lines between networks, and the instability against density."""
    between = list(dict.fromkeys(rows.between))
    figure, panels = _panels(1, len(between) + 1, title)
    for axes, of in zip(panels[0], between, strict=False):
        _lines_between(axes, paths, rows, of)
    last = panels[0, -1]
    for of in between:
        level_line(last, rows[rows.between == of], "instability", label=of,
                        color=_BETWEEN[of])
    level_density_axis(last, rows)
    stable_line(last)
    return figure


def levels_barrier_figure(paths: pd.DataFrame, rows: pd.DataFrame, title: str) -> Figure:
    """Draws the lines between the networks of successive levels, their errors and barriers.

    Errors and barriers stand side by side, to show whether both rise at one density (Paul et al.,
    ICLR 2023).
    """
    figure, panels = _panels(1, 3, title)
    lines, errors, barriers = panels[0]
    _lines_between(lines, paths, rows, rows.between.iloc[0])
    lines.set_xlabel("alpha, from the level below to the level")
    level_line(errors, rows, "error", label="of the level", color=BLUE)
    level_line(errors, rows, "error_before", label="of the level below", color=GREY, marker="",
               linestyle="--")
    errors.set_title("error of the two networks", fontsize=10)
    errors.set_ylabel("test error")
    errors.set_ylim(bottom=0)
    errors.yaxis.set_major_formatter(PercentFormatter(1))
    errors.legend(fontsize=7)
    level_line(barriers, rows, "barrier", label="barrier to the level below", color=ORANGE)
    stable_line(barriers, "barrier", "connected", "highest rise above the straight line")
    for axes in (errors, barriers):
        level_density_axis(axes, rows)
    return figure


def _lines_between(axes: Axes, paths: pd.DataFrame, rows: pd.DataFrame, of: str) -> None:
    # The mean error over replicates along the lines of one kind of pair, a line for each level.
    chosen = rows[rows.between == of]
    lines = paths[paths.between == of].groupby(["level", "alpha"], as_index=False)
    distribution(axes, lines[["error"]].mean(), _densities(chosen), "alpha", "error")
    axes.set_title(f"between {of}", fontsize=10)
    axes.set_xlabel("alpha")
    axes.set_ylabel("test error")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(title="weights remaining", fontsize=7, title_fontsize=7)


def rewinding_figure(choice: pd.DataFrame, title: str) -> Figure:
    """Draws the dense network's instability against rewind_step, with bars for the range."""
    figure, panels = _panels(1, 1, title)
    axes, steps = panels[0, 0], choice.rewind_step.to_numpy(float)
    mean, low, high = (choice[part].to_numpy(float) for part in ("mean", "min", "max"))
    mean_and_range(axes, steps, mean, low, high, marker="o", markersize=4, color=BLUE,
                   label="between data orders")
    if len(steps) > 1:
        # A log scale from the first step after 0 on, since rewind_step may be 0.
        axes.set_xscale("symlog", linthresh=max(1.0, steps[steps > 0].min()))
        axes.set_xticks(steps, [f"{step:,.0f}" for step in steps])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("rewind_step k")
    stable_line(axes)
    return figure


def sensitivity_figure(rows: pd.DataFrame, title: str) -> Figure:
    """Draws test accuracy against the pruned share of one layer, a line for each layer.

    As in figure 2b of Li et al. (ICLR 2017).  Colours go with depth; a deep network's legend names
    only the layers that lose most.

    Args:
      rows: rows with the columns layer, share, test_accuracy and accuracy_lost, the layers in the
        order of the model.
      title: the title of the figure.
    """
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    head(figure, title)
    axes = figure.subplots()
    names = list(dict.fromkeys(rows.layer))
    whole = float((rows.test_accuracy + rows.accuracy_lost).mean())
    means = rows.groupby(["layer", "share"]).test_accuracy.mean()
    worst = means.groupby("layer").mean().sort_values(kind="stable").index[:_NAMED]
    few, lines = len(names) <= _NAMED, {}
    named = names if few else list(worst)
    for name, colour in zip(names, shades(len(names)), strict=True):
        line = means[name]
        # Neighbours in depth have nearly the same colour: the markers tell the named ones apart.
        look = {"marker": MARKERS[named.index(name)], "markersize": 5, "linewidth": 1.4} \
            if name in named else {"linewidth": 0.9, "alpha": 0.7}
        lines[name], = axes.plot([0, *line.index], [whole, *line], color=colour, label=name, **look)
    axes.axhline(whole, color=GREY, linestyle="--", linewidth=1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of one layer that is pruned, the others whole")
    axes.grid(alpha=0.25)
    percent_axis(axes, "test accuracy without retraining")
    figure.legend(handles=[lines[name] for name in named], fontsize=8,
                  title="layer" if few else f"most sensitive\nof {len(names)} layers",
                  title_fontsize=8, loc="outside right upper")
    if not few:
        _depth_bar(figure, axes, names)
    return figure


def untrained_figure(rows: pd.DataFrame, title: str) -> Figure:
    """Draws the accuracy of each kind of masks before training against density.

    Args:
      rows: rows with the columns level, density, masks and test_accuracy.
      title: the title of the figure.
    """
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    head(figure, title)
    axes = figure.subplots()
    for place, name in enumerate(dict.fromkeys(rows.masks)):
        level_line(axes, rows[rows.masks == name], "test_accuracy", **series_style(place, name))
    level_density_axis(axes, rows)
    percent_axis(axes, "test accuracy before training")
    _legend(figure, axes)
    return figure


def differences_figure(rows: pd.DataFrame, margin: float, title: str) -> Figure:
    """Draws the differences of each level with their intervals, and the margin as a band.

    Args:
      rows: rows with the columns level, network, density, and difference, low and high in points.
      margin: the largest difference that counts as none, as a share, >= 0.
      title: the title of the figure.
    """
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    head(figure, title)
    axes = figure.subplots()
    axes.axhspan(-100 * margin, 100 * margin, color=GREY, alpha=0.15, linewidth=0,
                 label=f"within {100 * margin:g} points")
    axes.axhline(0, color=GREY, linewidth=1)
    names = list(dict.fromkeys(rows.network))
    levels = sorted(set(rows.level))
    for place, name in enumerate(names):
        line = rows[rows.network == name]
        # Side by side, since networks of a level have the same density.
        x = [levels.index(level) + 0.6 * ((place + 0.5) / len(names) - 0.5) for level in line.level]
        look = series_style(place, name)
        mean_and_range(axes, np.array(x), line.difference.to_numpy(float),
                       line.low.fillna(line.difference).to_numpy(float),
                       line.high.fillna(line.difference).to_numpy(float),
                       **{**look, "marker": MARKERS[place % len(MARKERS)], "linestyle": ""})
    densities = rows.groupby("level").density.mean()
    axes.set_xticks(range(len(levels)), [f"{level}\n{densities[level]:.1%}" for level in levels])
    axes.set_xlabel("level, weights remaining")
    axes.set_ylabel("difference of test accuracies, points")
    furthest = float(np.nanmax(np.abs(rows[["difference", "low", "high"]].to_numpy(float))))
    # One bad network would make a line of all the others; a log axis is linear within the margin.
    if margin and furthest > _FAR * 100 * margin:
        axes.set_yscale("symlog", linthresh=100 * margin, linscale=2)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        # The space that matplotlib leaves by itself is that of a linear axis.
        drawn = rows[["difference", "low", "high"]].to_numpy(float)
        axes.set_ylim(1.5 * min(np.nanmin(drawn), -100 * margin),
                      1.5 * max(np.nanmax(drawn), 100 * margin))
    axes.grid(alpha=0.25, axis="y")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _depth_bar(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    # Which colour is how deep, since the legend names a few layers only.
    scale = ListedColormap(shades(len(names)))
    bar = figure.colorbar(ScalarMappable(Normalize(0, len(names)), scale), ax=axes,
                          location="bottom", shrink=0.6, aspect=40)
    bar.set_ticks([0.5, len(names) - 0.5], labels=[names[0], names[-1]], fontsize=8)
    bar.set_label("layers in the order of the model", fontsize=8)
    bar.outline.set_visible(False)


def _densities(rows: pd.DataFrame) -> "pd.Series[float]":
    # Level -> density of the levels to draw: more lines than the paper's six cannot be told apart.
    return rows.groupby("level").density.mean().loc[shown_levels(rows)]


def _panels(rows: int, columns: int, title: str, sharey: Any = False) -> tuple[Figure, Any]:
    figure = Figure(figsize=(max(5.5, 3.6 * columns + 1), 3.2 * rows + 0.5), layout="constrained")
    head(figure, title)
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def _legend(figure: Figure, axes: Axes, title: "str | None" = None) -> None:
    figure.legend(*axes.get_legend_handles_labels(), title=title, loc="outside right upper",
                  fontsize=8, title_fontsize=8)


def _titled(title: str, weights: Sequence[str], all_of: Sequence[str]) -> str:
    # Says so if a deep network has more weights than there are panels.
    some = f" ({len(weights)} of {len(all_of)} weights)" if len(weights) < len(all_of) else ""
    return title + some
