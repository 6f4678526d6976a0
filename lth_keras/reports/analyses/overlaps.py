"""Measures how many of the same weights searches keep, compared with chance.

The overlap is the Jaccard index (`core.masks.overlap`), between the replicates of a level and
between the levels of a replicate.
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
    """Returns the expected overlap of random masks that keep as many weights of each layer.

    If one mask keeps a of the n values of a weight and the other keeps b, both keep a b / n on
    average, and at least one keeps a + b - a b / n.  The result is the ratio of the sums over all
    weights, in [0, 1].  (The expected ratio differs from it by less than 1 / n.)

    Args:
      first: weight name -> 0/1 array.
      second: weight name -> 0/1 array, with the same names and shapes.

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
    """Analyses the overlap of masks between replicates, and between a level and the one before.

    Args:
      run: the workdir.
      levels: the levels, each of which is compared with the one before it in this list. Defaults
        to all levels that have a ticket.

    Raises:
      WorkdirError: if there is only one replicate and one level.
    """
    wanted = run.levels(levels)
    # Level by level, so that only the masks of two levels are in memory at a time.
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
        raise WorkdirError("An overlap needs two replicates or two levels. Received: "
                           f"{run.root}, with one of each.")
    columns = ["between", "replicate", "level", "first", "second", "density", "weight",
               "weight_density", *_MEASURES]
    table = pd.DataFrame(rows, columns=columns).astype({"replicate": "Int64"})
    table = table.sort_values(["between", "level"], ascending=[False, True], kind="stable",
                              ignore_index=True)
    title = f"{run.title}: overlap of masks"
    return Analysis(title, table, ("between", "level", "weight"), _MEASURES, {},
                    analysis_figures.overlap_figure(table, title), (
        "overlap: weights kept by both masks divided by weights kept by at least one (Jaccard); "
        "chance: overlap of random masks with as many weights in each layer. Between levels: a "
        "level and the one before it, of those that are compared.",))
