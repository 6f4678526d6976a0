"""Counts the connections that each unit keeps, and compares their spread with random masks.

Frankle & Carbin (ICLR 2019, appendix F, figures 21 to 24) find that incoming connections are
pruned at about the same rate for every unit, outgoing ones at very different rates.
"""

from collections.abc import Iterable, Mapping

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
    """Counts the connections that each unit keeps.

    Args:
      mask: 0/1 array, shape (..., inputs, outputs), as kernels of Keras' dense layers and
        convolutions have.
      direction: "incoming" counts for each output unit (channel), "outgoing" for each input unit.

    Returns:
      Whole numbers, shape (outputs,) or (inputs,).

    Raises:
      LotteryError: for another direction, or a mask with fewer than two axes.

    Example:
      >>> mask = np.array([[1, 1, 1], [0, 0, 1]])  # From 2 units to 3.
      >>> counts(mask, "incoming").tolist(), counts(mask, "outgoing").tolist()
      ([1, 1, 2], [3, 1])
    """
    check_choice("direction", direction, DIRECTIONS)
    if np.ndim(mask) < 2:
        raise LotteryError("A mask must have the shape (..., inputs, outputs) to count "
                           f"connections. Received: shape {np.shape(mask)}.")
    # In Keras' kernels the last axis is the outputs, the one before it the inputs.
    unit = np.ndim(mask) - (1 if direction == "incoming" else 2)
    others = tuple(axis for axis in range(np.ndim(mask)) if axis != unit)
    return np.asarray(np.sum(mask != 0, axis=others), np.int64)


def unevenness(kept: "npt.NDArray[np.int64]") -> float:
    """Returns the coefficient of variation of the units' numbers of connections.

    It is 0 if all units have equally many, and NaN if no connection is left.

    Example:
      >>> unevenness(np.array([1, 3]))
      0.5
    """
    return float(np.std(kept) / np.mean(kept)) if np.any(kept) else float("nan")


def chance(size: int, units: int, kept: int) -> float:
    """Returns the unevenness of random masks: the root mean square over all with as many weights.

    A unit with n = size / units connections keeps a hypergeometric number of them, with variance
    n p (1 - p) (size - n) / (size - 1), where p = kept / size.

    Args:
      size: the number of weights.
      units: the number of units, which share the weights evenly; a divisor of size.
      kept: the number of weights kept.

    Example:
      Two units have one weight each, and one of the two weights is kept.

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
    """Measures how evenly the units of one weight keep their connections.

    Returns:
      units: the number of units; connections: the mean number that a unit keeps; without: the
      share of units that keep none; unevenness: the coefficient of variation; chance: the
      unevenness of random masks; ratio: unevenness / chance, about 1 for a random mask.

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
    """Analyses the connections that units keep, by level, weight and direction.

    Args:
      run: the workdir.
      levels: the levels to analyse. Defaults to all levels that have a ticket.
    """
    rows, drawn = [], []
    shapes: dict[str, tuple[int, ...]] = {}
    for replicate, chosen in run.levels(levels).items():
        for level in chosen:
            masks = run.ticket(replicate, level).masks
            for name in [name for name in in_order(masks) if np.ndim(masks[name]) > 1]:
                shapes[name] = np.shape(masks[name])
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
    # Units of different replicates do not correspond: the most connected units of all replicates
    # are averaged, then the second most connected, and so on.
    units = mean_of(drawn, ["level", "weight", "direction", "place"])
    title = f"{run.title}: connections that units keep"
    return Analysis(title, table, ("level", "weight", "direction"), _MEASURES, {"units": units},
                    analysis_figures.connections_figure(units, table, title), (
        "without: share of units that keep no connection; unevenness: standard deviation of the "
        "units' numbers of connections, divided by their mean; ratio: unevenness divided by that "
        "of random masks with the same density.", *_of_axes(shapes)))


def _of_axes(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    # A ticket has the shapes of its weights, and not the layers that they belong to.
    more = [name for name, shape in shapes.items() if len(shape) > 2]
    return [f"{', '.join(more)}: taken as kernels of convolutions, whose last two axes are inputs "
            "and outputs. Of a transposed convolution incoming and outgoing are exchanged; of "
            "attention and of a depthwise kernel an axis is another one."] if more else []
