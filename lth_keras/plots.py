"""The pictures, in the manner of Frankle & Carbin 2019: axes in, axes out."""

import io
import pathlib
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from lth_keras import files
from lth_keras.stats import summarise, trained

# Colours of Okabe & Ito, which colour-blind readers can tell apart.
STYLES: dict[str, dict[str, Any]] = {
    "ticket": {"color": "#0072B2", "marker": "o", "label": "ticket"},
    "reinit": {"color": "#D55E00", "marker": "s", "label": "re-initialised", "linestyle": "--"},
}
# Densities whose curves the paper draws in its figure 3.
_CURVE_DENSITIES = (1.0, 0.513, 0.211, 0.07, 0.036, 0.019)


def against_density(axes: Axes, results: pd.DataFrame, measure: str) -> Axes:
    """A measure against density: mean over replicates, bars from least to greatest.

    Args:
      axes: where to draw.
      results: a row a trained network, with the columns of `store.COLUMNS`.
      measure: the column to draw.
    """
    summary = summarise(results)
    for branch in [name for name in STYLES if name in summary.index.get_level_values("branch")]:
        lines = summary.loc[branch]
        if branch != "ticket":  # A control of the dense network is the dense network.
            tickets = summary.loc["ticket"]
            lines = pd.concat([tickets[tickets.index == 0], lines])
        mean, low, high = (lines[(measure, part)].to_numpy(float)
                           for part in ("mean", "min", "max"))
        axes.errorbar(lines[("density", "mean")].to_numpy(float) * 100, mean,
                      yerr=[mean - low, high - mean], capsize=2, elinewidth=0.8, markersize=4,
                      linewidth=1.4, **STYLES[branch])
    _density_axis(axes, summary.loc["ticket"][("density", "mean")].to_numpy() * 100)
    return axes


def _density_axis(axes: Axes, percents: np.ndarray) -> None:
    axes.set_xscale("log")
    axes.set_xlim(max(percents) * 1.15, min(percents) / 1.15)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(percents[::-(-len(percents) // 9)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_xlabel("weights remaining (%)")
    axes.grid(alpha=0.25)


def learning_curves(axes: Axes, curves: pd.DataFrame, results: pd.DataFrame, branch: str) -> Axes:
    """Validation accuracy over training at a few levels: mean, band from least to greatest.

    Args:
      axes: where to draw.
      curves: as `store.curves` gives them.
      results: the run's rows, for the densities.
      branch: whose curves to draw; those of level 0 are always the ticket's.
    """
    densities = results[results.branch == "ticket"].groupby("level").density.mean()
    nearest = [np.abs(densities.to_numpy() - wanted).argmin() for wanted in _CURVE_DENSITIES
               if wanted >= densities.min() * 0.9]
    levels = sorted({int(densities.index[int(place)]) for place in nearest})
    colours = _shades(len(levels))
    for colour, level in zip(colours, levels, strict=True):
        of = "ticket" if level == 0 else branch
        chosen = curves[(curves.branch == of) & (curves.level == level)]
        # A mean over fewer replicates from some step on would show a jump that none made.
        kept = trained(results)[["replicate", "branch", "level", "branch_index"]]
        chosen = chosen.merge(kept)
        if chosen.empty:
            continue
        steps = chosen.groupby("step").val_accuracy.agg(["mean", "min", "max"])
        axes.plot(steps.index, steps["mean"], color=colour, linewidth=1.3,
                  label=f"{densities[level]:.1%}")
        axes.fill_between(steps.index, steps["min"], steps["max"], color=colour, alpha=0.15,
                          linewidth=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.set_xlabel("training step")
    axes.set_title(STYLES[branch]["label"])
    axes.grid(alpha=0.25)
    axes.legend(title="weights remaining", fontsize=8, title_fontsize=8, loc="lower right")
    return axes


def _shades(count: int) -> list[Any]:
    from matplotlib import colormaps
    return list(colormaps["viridis"](np.linspace(0, 0.9, count)))


def summary_figure(results: pd.DataFrame, title: str) -> Figure:
    """Early-stop step and test accuracy against density, ticket against controls."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    against_density(left, results, "early_stop_step").set_ylabel("early-stop step")
    left.set_ylim(bottom=0)
    against_density(right, results, "test_accuracy_early_stop")
    right.set_ylabel("test accuracy at early stop")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    handles, labels = right.get_legend_handles_labels()
    right.legend(handles, labels, loc="lower left")
    figure.suptitle(f"{title}: {_replicates(results, 'bars')}")
    return figure


def curves_figure(curves: pd.DataFrame, results: pd.DataFrame, title: str) -> Figure:
    """Learning curves at a few levels, one panel a branch."""
    branches = [name for name in STYLES if name in set(results.branch)]
    figure = Figure(figsize=(5 * len(branches), 4), layout="constrained")
    panels = figure.subplots(1, len(branches), sharey=True, squeeze=False)[0]
    for axes, branch in zip(panels, branches, strict=True):
        learning_curves(axes, curves, results, branch)
    best = curves.val_accuracy.max()
    # The first steps would press everything else into a line.
    low = curves[curves.step > curves.step.max() * 0.05].val_accuracy.quantile(0.02)
    if low < best:
        panels[0].set_ylim(low - 0.1 * (best - low), best + 0.05 * (best - low))
    panels[0].set_ylabel("validation accuracy")
    figure.suptitle(f"{title}: {_replicates(results, 'bands')}")
    return figure


def _replicates(results: pd.DataFrame, spread: str) -> str:
    count = results.replicate.nunique()
    if count == 1:
        return "one replicate"
    return f"mean of {count} replicates, {spread} from least to greatest"


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes a figure as PNG, whole or not at all; its folder is made as needed."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    files.write(path, picture.getvalue())
