"""How many connections each unit keeps, and how uneven that is compared with random masks.

Frankle & Carbin (ICLR 2019, appendix F, figures 21 to 24): incoming connections are pruned at
about the same rate for every unit, outgoing ones very unevenly.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from lth_keras.arguments import check_choice
from lth_keras.core.masks import Array, density
from lth_keras.errors import LotteryError
from lth_keras.reports.analyses.analysis import Analysis, in_order, mean_of, WorkdirReader
from lth_keras.reports.plots import analysis_figures

DIRECTIONS = ("incoming", "outgoing")
_MEASURES = {"without": ".1%", "unevenness": ".3f", "ratio": ".2f"}


def counts(mask: Array, direction: str) -> "npt.NDArray[np.int64]":
    """The connections that each unit keeps.

    Args:
      mask: 0/1 of shape (..., inputs, outputs), as Keras' kernels of dense layers and of
        convolutions have it.
      direction: "incoming": of each unit (channel) that the weight leads to; "outgoing": of each
        that it comes from.

    Returns:
      Whole numbers of shape (outputs,) or (inputs,).

    Raises:
      LotteryError: for another direction, or a mask of fewer than two axes.

    Example:
      >>> mask = np.array([[1, 1, 1], [0, 0, 1]])  # From 2 units to 3.
      >>> counts(mask, "incoming").tolist(), counts(mask, "outgoing").tolist()
      ([1, 1, 2], [3, 1])
    """
    check_choice("direction", direction, DIRECTIONS)
    if np.ndim(mask) < 2:
        raise LotteryError("Connections are those of a weight of shape (..., inputs, outputs). "
                           f"Received: shape {np.shape(mask)}.")
    unit = np.ndim(mask) - (1 if direction == "incoming" else 2)
    others = tuple(axis for axis in range(np.ndim(mask)) if axis != unit)
    return np.asarray(np.sum(mask != 0, axis=others), np.int64)


def unevenness(kept: "npt.NDArray[np.int64]") -> float:
    """The coefficient of variation of units' connections: 0 if all have as many, NaN if none has.

    Example:
      >>> unevenness(np.array([1, 3]))
      0.5
    """
    return float(np.std(kept) / np.mean(kept)) if np.any(kept) else float("nan")


def chance(size: int, units: int, kept: int) -> float:
    """The unevenness of random masks: root mean square over all with as many weights kept.

    A unit of size / units connections keeps a hypergeometric number of them, of variance
    n p (1 - p) (size - n) / (size - 1) with n = size / units and p = kept / size.

    Args:
      size: number of weights.
      units: that share them evenly; divides size.
      kept: how many are kept.

    Example:
      Of two weights of two units one is kept: always one unit has it, and one has none.

      >>> chance(size=2, units=2, kept=1)
      1.0
    """
    if not kept:
        return float("nan")
    if size == 1:
        return 0.0
    share, each = kept / size, size / units
    variance = each * share * (1 - share) * (size - each) / (size - 1)
    return float(np.sqrt(variance) / (each * share))


def measures(mask: Array, direction: str) -> dict[str, float]:
    """How evenly one weight's units keep their connections.

    Returns:
      units: how many there are; connections: the mean a unit keeps; without: the share of units
      that keep none; unevenness: the coefficient of variation; chance: that of random masks;
      ratio: of the two, 1 for a random mask.

    Example:
      >>> measures(np.array([[1, 1], [0, 0]]), "outgoing")["without"]
      0.5
    """
    kept = counts(mask, direction)
    uneven, random = unevenness(kept), chance(np.size(mask), len(kept), int(kept.sum()))
    return {"units": len(kept), "connections": float(np.mean(kept)),
            "without": float(np.mean(kept == 0)), "unevenness": uneven, "chance": random,
            "ratio": uneven / random if random else float("nan")}


def analyse(run: WorkdirReader, levels: "Iterable[int] | None" = None) -> Analysis:
    """The connections that units keep, by level, weight and direction.

    Args:
      run: the workdir.
      levels: which; by default all that have tickets.
    """
    rows, drawn = [], []
    for replicate, chosen in run.levels(levels).items():
        for level in chosen:
            masks = run.ticket(replicate, level).masks
            for name in [name for name in in_order(masks) if np.ndim(masks[name]) > 1]:
                for direction in DIRECTIONS:
                    rows.append({"replicate": replicate, "level": level,
                                 "density": density(masks), "weight": name,
                                 "direction": direction, **measures(masks[name], direction)})
                    kept = np.sort(counts(masks[name], direction))[::-1]
                    drawn.append(pd.DataFrame({
                        "level": level, "weight": name, "direction": direction,
                        "place": np.arange(1, len(kept) + 1),
                        "share": kept / (masks[name].size / len(kept))}))
    table = pd.DataFrame(rows)
    # Units have no order of their own: the one with most connections in each replicate is averaged
    # with its like, then the second, and so on.
    units = mean_of(drawn, ["level", "weight", "direction", "place"])
    title = f"{run.title}: connections that units keep"
    return Analysis(title, table, ("level", "weight", "direction"), _MEASURES, {"units": units},
                    analysis_figures.connections_figure(units, table, title), (
        "without: units that keep none; unevenness: standard deviation over mean of units' "
        "connections; ratio: to that of random masks of the same density.",))
