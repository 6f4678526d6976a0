"""How far weights move in training, and whether away from zero: those kept, those pruned.

Frankle & Carbin (ICLR 2019, appendix F, figures 19 and 20) follow the dense network's weights:
those of the eventual winning ticket move more than the others, and more often away from zero.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from lth_keras import drawings
from lth_keras.analysis import ALL, Analysis, flat, in_order, mean_of, Run
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.masks import Array, Arrays, density, ones
from lth_keras.record import Training

_BINS = 40
_MEASURES = {"kept": ",.0f", "pruned": ",.0f", "moved_kept": ".4f", "moved_pruned": ".4f",
             "away_kept": ".1%", "away_pruned": ".1%"}


def figures(initial: Array, trained: Array, before: Array, after: Array) -> dict[str, float]:
    """How the weights that a pruning keeps had moved, and those that it prunes.

    Args:
      initial: the weights before training, of any shape.
      trained: the same after it.
      before: the mask under which they were trained: other weights do not count.
      after: the mask of the ticket that was made of them.

    Returns:
      kept, pruned: how many; moved_kept, moved_pruned: the mean of |trained - initial|;
      away_kept, away_pruned: the share whose magnitude rose, in [0, 1].  NaN over no weights.

    Raises:
      LotteryError: if `after` keeps a weight that `before` does not.

    Example:
      >>> found = figures(np.array([0.5, -0.5]), np.array([2.0, 0.25]),
      ...                 before=np.array([1, 1]), after=np.array([1, 0]))
      >>> found["moved_kept"], found["moved_pruned"], found["away_kept"], found["away_pruned"]
      (1.5, 0.75, 1.0, 0.0)
    """
    if np.any((after != 0) & (before == 0)):
        raise LotteryError("A ticket keeps only weights that were trained. Received: a mask that "
                           f"keeps {np.count_nonzero((after != 0) & (before == 0))} others.")
    moved = np.abs(trained.astype(np.float64) - initial)
    away = np.abs(trained) > np.abs(initial)
    groups = {"kept": after != 0, "pruned": (before != 0) & (after == 0)}
    return {**{name: int(np.count_nonzero(group)) for name, group in groups.items()},
            **{f"moved_{name}": _mean(moved[group]) for name, group in groups.items()},
            **{f"away_{name}": _mean(away[group]) for name, group in groups.items()}}


def _mean(values: Array) -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _pairs(run: Run, replicate: int, levels: "Iterable[int] | None") -> Iterator[tuple[int, int]]:
    # The level that is trained and that of the ticket: the next one, and for the dense network
    # every one, which is what the paper draws.
    for level in run.levels(replicate, levels):
        if level > 0:
            yield 0, level
            if run.parent(level) > 0:
                yield run.parent(level), level


def analyse(run: Run, levels: "Iterable[int] | None" = None) -> Analysis:
    """How far the weights moved of which tickets were made, by level and weight.

    Weights are followed from level 0's initial ones, through the training of the dense network
    (`trained_level` 0) or of the level that the ticket was pruned at.

    Args:
      run: the workdir.
      levels: of the tickets; by default all above 0.

    Raises:
      WorkdirError: if the workdir has no trained weights with a ticket made of them.
    """
    rows, drawn, edges = [], [], {}
    for replicate in run.replicates:
        initial = run.initial(replicate)
        kept: dict[int, Any] = {}
        for below, level in _pairs(run, replicate, levels):
            if below not in kept:
                kept = {0: kept.get(0), below: run.trained(
                    Training(replicate, below, run.config.chain(below)))}
            if kept[below] is None:
                continue
            trained, after = kept[below].weights, run.ticket(replicate, level).masks
            before = kept[below].masks if below else ones({
                name: np.shape(mask) for name, mask in after.items()})
            where = {"trained_level": below, "level": level, "density": density(after)}
            rows += [{"replicate": replicate, **where, "weight": name, **found}
                     for name, found in _figures(initial, trained, before, after)]
            if not below:
                drawn += _histograms(initial, trained, after, edges, level)
    if not rows:
        raise WorkdirError("Movement needs trained weights, and a ticket that was made of them. "
                           f"Received: {run.root}, where there are none: run it with "
                           "--set keep_trained=tickets and --rounds of at least 1.")
    table = pd.DataFrame(rows)
    histograms = mean_of(drawn, ["level", "weight", "group", "moved"]) if drawn else \
        pd.DataFrame(columns=["level", "weight", "group", "moved", "probability_density"])
    title = f"{run.title}: how weights move in training"
    return Analysis(title, table, ("trained_level", "level", "weight"), _MEASURES,
                    {"histogram": histograms}, drawings.movement_figure(histograms, table, title),
                    ("moved: mean of |w_T - w_0|; away: the share whose magnitude rose; of the "
                     "weights trained at trained_level that the ticket of the level keeps, and of "
                     "those that it has pruned.",))


def _figures(initial: Arrays, trained: Arrays, before: Arrays,
             after: Arrays) -> Iterator[tuple[str, dict[str, float]]]:
    names = in_order(after)
    for name in names:
        yield name, figures(initial[name], trained[name], before[name], after[name])
    yield ALL, figures(*(flat(arrays, names) for arrays in (initial, trained, before, after)))


def _histograms(initial: Arrays, trained: Arrays, after: Arrays, edges: dict[str, Array],
                level: int) -> Iterator[pd.DataFrame]:
    for name in in_order(after):
        moved = np.abs(trained[name] - initial[name])
        # One grid for all levels and replicates; the few beyond it would press it together.
        grid = edges.setdefault(name, np.linspace(
            0, float(np.quantile(moved, 0.995)) or 1.0, _BINS + 1))
        for group, chosen in (("kept", after[name] != 0), ("pruned", after[name] == 0)):
            counts, _ = np.histogram(moved[chosen], grid)
            share = counts / (max(1, np.count_nonzero(chosen)) * np.diff(grid))
            yield pd.DataFrame({"level": level, "weight": name, "group": group,
                                "moved": (grid[1:] + grid[:-1]) / 2,
                                "probability_density": share})
