"""Measures how far kept and pruned weights move in training, and how often away from zero.

Frankle & Carbin (ICLR 2019, appendix F, figures 19 and 20) follow the dense network's weights:
those that the winning ticket keeps move more than the others, and more often away from zero.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lth_keras.core.masks import Array, Arrays, density
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.strategies import STRATEGIES
from lth_keras.experiments.config.trainings import chain, Training
from lth_keras.files.ticket import Ticket
from lth_keras.reports.analyses.analysis import (
    ALL,
    Analysis,
    flat,
    in_order,
    mean_of,
    WorkdirReader,
)
from lth_keras.reports.plots import analysis_figures

_BINS = 40
_MEASURES = {"moved_kept": ".4f", "moved_pruned": ".4f", "away_kept": ".1%",
             "away_pruned": ".1%"}


def measures(initial: Array, trained: Array, before: Array, after: Array) -> dict[str, float]:
    """Measures how far the weights that a round keeps, and those that it prunes, have moved.

    Args:
      initial: the weights before training, any shape.
      trained: the weights after training, same shape.
      before: the mask that they were trained with; weights pruned in it are not counted.
      after: the mask of the ticket that was made from them.

    Returns:
      kept, pruned: the numbers of weights; moved_kept, moved_pruned: the mean of
      |trained - initial|; away_kept, away_pruned: the share of weights whose magnitude grew, in
      [0, 1].  Means over no weights are NaN.

    Raises:
      LotteryError: if `after` keeps a weight that `before` does not.

    Example:
      >>> found = measures(np.array([0.5, -0.5]), np.array([2.0, 0.25]),
      ...                 before=np.array([1, 1]), after=np.array([1, 0]))
      >>> found["moved_kept"], found["moved_pruned"], found["away_kept"], found["away_pruned"]
      (1.5, 0.75, 1.0, 0.0)
    """
    if np.any((after != 0) & (before == 0)):
        raise LotteryError("A ticket keeps only weights that were trained. Received: a mask that "
                           f"keeps {np.count_nonzero((after != 0) & (before == 0))} others.")
    moved = _moved(initial, trained)
    away = np.abs(trained) > np.abs(initial)
    groups = {"kept": after != 0, "pruned": (before != 0) & (after == 0)}
    return {**{name: int(np.count_nonzero(group)) for name, group in groups.items()},
            **{f"moved_{name}": _mean(moved[group]) for name, group in groups.items()},
            **{f"away_{name}": _mean(away[group]) for name, group in groups.items()}}


def _moved(initial: Array, trained: Array) -> "npt.NDArray[np.float64]":
    return np.abs(np.asarray(trained, np.float64) - np.asarray(initial, np.float64))


def _mean(values: "npt.NDArray[Any]") -> float:
    return float(np.mean(values)) if values.size else float("nan")


def _pairs(run: WorkdirReader, replicate: int,
           levels: Iterable[int]) -> Iterator[tuple[Training, int]]:
    # Each training with the level of a ticket made from it. The dense network is paired with
    # every level too, since that is what the paper draws.
    dense = chain(run.config, replicate, 0)
    for level in levels:
        if level > 0:
            yield from ((training, level) for training in dict.fromkeys(
                (dense, run.maker(replicate, level))))


def analyse(run: WorkdirReader, levels: "Iterable[int] | None" = None) -> Analysis:
    """Analyses how far the weights moved that a ticket keeps or has pruned, by level and weight.

    Weights are followed from their initial values, through the training of the dense network
    (`trained_level` 0) and of the level that the ticket was pruned at.

    Args:
      run: the workdir.
      levels: the levels of the tickets. Defaults to all above 0.

    Raises:
      WorkdirError: if the workdir has no trained weights from which a ticket was made.
    """
    run.check_trained("Movement")
    rows: list[dict[str, Any]] = []
    drawn: list[pd.DataFrame] = []
    edges: dict[str, npt.NDArray[np.float64]] = {}
    for replicate, chosen in run.levels(levels).items():
        initial = run.initial(replicate)
        dense = run.trained(chain(run.config, replicate, 0))
        for training, level in _pairs(run, replicate, chosen):
            kept = run.trained(training) if training.level else dense
            if kept is None:
                continue
            after = run.ticket(replicate, level).masks
            where = {"trained_level": training.level, "level": level, "density": density(after)}
            rows += [{"replicate": replicate, **where, "weight": name, **found}
                     for name, found in _measures(initial, kept, after)]
            if not training.level:
                drawn += _histograms(initial, kept.weights, after, level, edges)
    if not rows:
        raise WorkdirError("Movement needs trained weights, and a ticket that was made from them. "
                           f"Received: {run.root}, without them. Run with --set "
                           "keep_trained=tickets and at least one round (--rounds 1).")
    table = pd.DataFrame(rows)
    histograms = mean_of(drawn, ["level", "weight", "group", "moved"]) if drawn else \
        pd.DataFrame(columns=["level", "weight", "group", "moved", "probability_density"])
    title = f"{run.title}: how weights move in training"
    return Analysis(title, table, ("trained_level", "level", "weight"), _MEASURES,
                    {"histogram": histograms},
                    analysis_figures.movement_figure(histograms, table, title),
                    tuple(_notes(run.config.strategy)))


def _notes(strategy: str) -> Iterator[str]:
    yield ("moved: mean of |w_T - w_0|; away: share of weights whose magnitude grew; kept and "
           "pruned: weights trained at trained_level that the ticket of the level keeps or has "
           "pruned.")
    if not STRATEGIES[strategy].scores_trained:
        yield (f"The masks were not made from these trained weights (strategy={strategy}): what "
               "moves more has not decided what is kept.")


def _measures(initial: Arrays, kept: Ticket,
             after: Arrays) -> Iterator[tuple[str, dict[str, float]]]:
    names, arrays = in_order(after), (initial, kept.weights, kept.masks, after)
    for name in names:
        yield name, measures(*(array[name] for array in arrays))
    yield ALL, measures(*(flat(array, names) for array in arrays))


def _histograms(initial: Arrays, trained: Arrays, after: Arrays, level: int,
                edges: dict[str, "npt.NDArray[np.float64]"]) -> Iterator[pd.DataFrame]:
    # Of the dense network's training: all its weights are kept or pruned at the level.
    for name in in_order(after):
        moved = _moved(initial[name], trained[name])
        # One grid for all levels and replicates. It ends at a quantile: a few weights that move
        # very far would leave all others in the first bin.
        grid = edges.setdefault(name, np.linspace(
            0, float(np.quantile(moved, 0.995)) or 1.0, _BINS + 1))
        for group, chosen in (("kept", after[name] != 0), ("pruned", after[name] == 0)):
            counts, _ = np.histogram(moved[chosen], grid)
            total = max(1, int(np.count_nonzero(chosen)))
            yield pd.DataFrame({"level": level, "weight": name, "group": group,
                                "moved": (grid[1:] + grid[:-1]) / 2,
                                "probability_density": counts / (total * np.diff(grid))})
