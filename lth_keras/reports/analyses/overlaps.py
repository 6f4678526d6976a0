"""Do searches keep the same weights?  The overlap of masks, compared with chance.

The Jaccard index of `core.masks.overlap`, between the replicates of a level and between
the levels of a replicate.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from lth_keras.core.masks import Arrays, density, kept, overlap, size
from lth_keras.errors import WorkdirError
from lth_keras.reports.analyses.analysis import ALL, Analysis, in_order, WorkdirReader
from lth_keras.reports.plots import analysis_figures

_MEASURES = {"overlap": ".3f", "chance": ".3f", "ratio": ".2f"}


def chance(first: Arrays, second: Arrays) -> float:
    """The expected overlap of random masks that keep as many weights of each layer.

    Of a weight of n values of which one mask keeps a and the other b, a b / n are kept by both
    in the mean, and a + b - a b / n by either; the figure is the ratio of their sums over the
    weights, in [0, 1].  (The mean of the ratio differs from it by less than 1 / n.)

    Args:
      first: weight name -> 0/1 array.
      second: the same names and shapes.

    Example:
      >>> import numpy as np
      >>> half = {"w": np.array([1, 1, 0, 0])}
      >>> round(chance(half, half), 3)
      0.333
    """
    both = sum(kept({name: mask}) * kept({name: second[name]}) / mask.size
               for name, mask in first.items())
    either = kept(first) + kept(second) - both
    return both / either if either else 1.0


def _measures(first: Arrays, second: Arrays) -> Iterator[dict[str, Any]]:
    for name in (*in_order(first), ALL):
        pair = [masks if name == ALL else {name: masks[name]} for masks in (first, second)]
        seen, expected = overlap(*pair), chance(*pair)
        yield {"weight": name, "weight_density": kept(pair[0]) / size(pair[0]), "overlap": seen,
               "chance": expected, "ratio": seen / expected if expected else float("nan")}


def analyse(run: WorkdirReader, levels: "Iterable[int] | None" = None) -> Analysis:
    """The overlap of masks between replicates, and between one level and the one before.

    Args:
      run: the workdir.
      levels: which; by default all that have tickets.  Each is compared with the one before it
        of these, within a replicate.

    Raises:
      WorkdirError: if there are no two replicates or levels.
    """
    wanted = run.levels(levels)
    before: dict[int, tuple[int, Arrays]] = {}
    rows = []
    for level in sorted({level for found in wanted.values() for level in found}):
        masks = {replicate: run.ticket(replicate, level).masks
                 for replicate in wanted if level in wanted[replicate]}
        for one, other in itertools.combinations(masks, 2):
            where = {"between": "replicates", "level": level, "first": one, "second": other,
                     "density": density(masks[one])}
            rows += [{**where, **found} for found in _measures(masks[one], masks[other])]
        for replicate, now in masks.items():
            if replicate in before:
                where = {"between": "levels", "level": level, "first": before[replicate][0],
                         "second": level, "density": density(now), "replicate": replicate}
                rows += [{**where, **found} for found in _measures(before[replicate][1], now)]
            before[replicate] = level, now
    if not rows:
        raise WorkdirError("An overlap is that of two replicates, or of two levels. Received: "
                           f"{run.root}, with one of each.")
    columns = ["between", "replicate", "level", "first", "second", "density", "weight",
               "weight_density", *_MEASURES]
    table = pd.DataFrame(rows, columns=columns).astype({"replicate": "Int64"})
    table = table.sort_values(["between", "level"], ascending=[False, True], kind="stable",
                              ignore_index=True)
    title = f"{run.title}: overlap of masks"
    return Analysis(title, table, ("between", "level", "weight"), _MEASURES, {},
                    analysis_figures.overlap_figure(table, title), (
        "overlap: weights kept by both over weights kept by either (Jaccard); chance: of masks "
        "with as many weights of each layer, but any. Between levels: a level and the one before "
        "it.",))
