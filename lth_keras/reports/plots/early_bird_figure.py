"""The figure of an early bird: how far the masks of a round's epochs are apart."""

import os
import pathlib
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lth_keras.errors import LotteryError
from lth_keras.reports.plots import drawing
from lth_keras.reports.plots.drawing import BLUE, GREY, ORANGE

_MOST = 4  # Levels that are drawn: the first ones and the last.


def early_bird_figure(pairs: pd.DataFrame, history: pd.DataFrame, threshold: float) -> Figure:
    """Draws the distances of each epoch's mask, and the matrix of all that were compared.

    The matrix is that of You et al. (ICLR 2020), relative to chance: a bright square at its end
    means that the mask has settled.

    Args:
      pairs: a row for each two masks; see `EarlyBird.pairs`.
      history: a row for each epoch; see `EarlyBird.history`.
      threshold: the distance at which masks count as one.
    """
    levels = sorted(set(pairs.level))
    shown = levels if len(levels) <= _MOST else [*levels[:_MOST - 1], levels[-1]]
    figure = Figure(figsize=(1.5 + 3.4 * len(shown), 6.4), layout="constrained")
    drawing.head(figure, "distance of the masks that pruning after each epoch would give")
    panels = figure.subplots(2, len(shown), squeeze=False, sharey="row")
    image: Any = None
    for (lines, matrix), level in zip(panels.T, shown, strict=True):
        _lines(lines, history[history.level == level], threshold)
        image = distance_matrix(matrix, pairs[pairs.level == level])
        lines.set_title(f"level {level}", fontsize=10)
        for axes in (lines, matrix):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panels[0, 0].set_ylabel("largest to the last epochs' masks")
    panels[0, 0].legend(fontsize=7)
    panels[1, 0].set_ylabel("epoch")
    figure.colorbar(image, ax=list(panels[1]), shrink=0.8,
                    label="distance, 1 as by chance")
    return figure


def save(pairs: pd.DataFrame, history: pd.DataFrame, threshold: float,
         path: "str | os.PathLike[str]") -> pathlib.Path:
    """Writes the figure as a PNG.

    Args:
      pairs: as `early_bird_figure` takes them.
      history: likewise.
      threshold: likewise.
      path: the file; missing folders are created.

    Raises:
      LotteryError: if no two masks were compared.
      OSError: if the file cannot be written.
    """
    if pairs.empty:
        raise LotteryError("The figure of an early bird needs two masks that were compared. "
                           "Received: none. Draw it after `fit`.")
    drawing.save(early_bird_figure(pairs, history, threshold), pathlib.Path(path))
    return pathlib.Path(path)


def _lines(axes: Axes, rows: pd.DataFrame, threshold: float) -> None:
    for measure, colour, label in (("distance", BLUE, "relative to chance"),
                                   ("jaccard", ORANGE, "Jaccard"), ("hamming", GREY, "Hamming")):
        axes.plot(rows.epoch, rows[measure], color=colour, marker="o", markersize=3, label=label)
    axes.axhline(threshold, color=BLUE, linestyle="--", linewidth=1,
                 label=f"settled at {threshold:g}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)


def distance_matrix(axes: Axes, rows: pd.DataFrame) -> Any:
    """Draws the distances of the masks of each two epochs; those not compared stay white.

    Args:
      axes: the axes to draw into.
      rows: a row for each two epochs, with the columns epoch, other and distance.

    Returns:
      What a colour bar is made for.
    """
    last = int(rows.epoch.max())
    found = np.full((last, last), np.nan)
    np.fill_diagonal(found, 0)
    first, second = rows.epoch.to_numpy() - 1, rows.other.to_numpy() - 1
    found[first, second] = found[second, first] = rows.distance.to_numpy()
    image = axes.imshow(found, cmap="viridis_r", vmin=0, vmax=1, origin="lower",
                        extent=(0.5, last + 0.5, 0.5, last + 0.5), interpolation="none")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return image
