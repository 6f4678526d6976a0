"""Linear mode connectivity: barriers between trained networks, and which step k to rewind to.

A network is trained twice with different data orders.  If the error does not rise on the line
between the two results (no barrier), both have found the same minimum, and training is called
stable.  Tickets match the dense network if they are rewound to a step k at or after which the
dense network's training is stable (Frankle, Dziugaite, Roy & Carbin, ICML 2020, arXiv:1912.05671,
sections 3 and 4).

The trained networks of two successive levels have no barrier between them if, and at high sparsity
only if, both match the dense network (Paul et al., ICLR 2023, arXiv:2210.03044): `between_levels`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from lth_keras.core.masks import apply, Arrays, density
from lth_keras.core.mode_connectivity import Path, POINTS, STABLE, walk
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.branches import ranges
from lth_keras.experiments.config.strategies import STRATEGIES
from lth_keras.experiments.config.trainings import repeats_from_k, Training
from lth_keras.reports.analyses.analysis import Analysis, WorkdirReader
from lth_keras.reports.plots import analysis_figures

ORDERS, PARENT, LEVELS = "data orders", "parent and ticket", "successive levels"
_MEASURES = {"ends": ".2%", "highest": ".2%", "instability": ".2%"}
_OF_LEVELS = {"error_before": ".2%", "error": ".2%", "barrier": ".2%"}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two trained networks to compare.

    Attributes:
      between: "data orders" for two trainings of one ticket, or of the dense network from step k
        on; "parent and ticket" for the network that a ticket was pruned from, and the trained
        ticket; "successive levels" for the trained tickets of a level and of the next.
      first, second: the two trainings; the pair's level is that of the second.

    Example:
      >>> Pair(ORDERS, Training(0, 0), Training(0, 0, "ticket", 1)).second.branch_index
      1
    """

    between: str
    first: Training
    second: Training


def pairs(run: WorkdirReader, levels: "Iterable[int] | None" = None) -> list[Pair]:
    """Returns the pairs of networks of a run whose trained weights were kept, by kind and level.

    Args:
      run: the workdir.
      levels: the levels. Defaults to all.
    """
    found = []
    # A ticket has no parent if no trained weights made its masks.
    scored = STRATEGIES[run.config.strategy].scores_trained
    for replicate, chosen in run.levels(levels).items():
        for level in chosen:
            # All pairs of repeats: three trainings of a ticket give three values of instability.
            repeats = [training for training in run.repeats(replicate, level)
                       if run.has_trained(training)]
            found += [Pair(ORDERS, *two) for two in itertools.combinations(repeats, 2)]
            if level and scored and Training(replicate, level) in repeats:
                parent = run.maker(replicate, level)
                if run.has_trained(parent):
                    found.append(Pair(PARENT, parent, Training(replicate, level)))
    return sorted(found, key=lambda pair: (pair.between, pair.second.level))


def successive(run: WorkdirReader, levels: "Iterable[int] | None" = None) -> list[Pair]:
    """Returns the pairs of trained tickets of a level and of the next, by level.

    Args:
      run: the workdir.
      levels: the higher levels of the pairs. Defaults to all.
    """
    found = [Pair(LEVELS, Training(replicate, level - 1), Training(replicate, level))
             for replicate, chosen in run.levels(levels).items() for level in chosen if level]
    return sorted((pair for pair in found
                   if run.has_trained(pair.first) and run.has_trained(pair.second)),
                  key=lambda pair: pair.second.level)


def choose(rows: pd.DataFrame) -> tuple[pd.DataFrame, "int | None"]:
    """Chooses the step to rewind to: the smallest k at which the dense network is stable.

    Args:
      rows: one row for each pair of networks that were trained from step k of the dense network
        on, of any replicate, with the columns rewind_step and instability.

    Returns:
      A table with one row for each rewind_step, rising, and the columns rewind_step, pairs, mean,
      min, max (of the instability) and stable (the mean is below 2%); and the smallest stable
      rewind_step, or None.

    Example:
      >>> rows = pd.DataFrame({"rewind_step": [0, 0, 500], "instability": [0.5, 0.3, 0.01]})
      >>> table, k = choose(rows)
      >>> k, table["mean"].tolist()
      (500, [0.4, 0.01])
    """
    groups = rows.groupby("rewind_step").instability
    table = groups.agg(["size", "mean", "min", "max"]).reset_index()
    table = table.rename(columns={"size": "pairs"}).assign(stable=table["mean"] < STABLE)
    stable = table.rewind_step[table.stable]
    return table, None if stable.empty else int(stable.min())


def analyse(runs: Sequence[WorkdirReader], error: Callable[[Arrays], float],
            levels: "Iterable[int] | None" = None, points: int = POINTS,
            track: Callable[[list[Pair]], Iterable[Pair]] = iter) -> Analysis:
    """Measures the barriers between the trained networks of one run, or of several runs.

    Batch normalisation's moving means and variances are interpolated like weights.

    Args:
      runs: workdirs that differ only in rewind_step.
      error: a function that returns the error of weights on the test set, in [0, 1].
      levels: the levels. Defaults to all levels of one run, and to level 0 of several.
      points: how many networks are evaluated on each line, >= 2.
      track: wraps the list of pairs of each run, to show a progress bar.

    Raises:
      WorkdirError: if the workdirs do not belong together, or hold no pair of trained networks.
    """
    for run in runs:
        run.check_trained("A barrier")
    _check_same(runs)
    # Runs with different rewind steps have the dense network in common, and nothing else.
    levels = [0] if levels is None and len(runs) > 1 else levels
    rows, paths = [], []
    found = [pairs(run, levels) for run in runs]
    _check_dense(runs, found)
    for run, two in zip(runs, found, strict=True):
        for pair, of, path in _walks(run, track(two), error, points):
            where = {"rewind_step": _shared(run, pair), **of}
            rows.append({**where, "ends": path.ends, "highest": path.highest,
                         "instability": path.instability, "stable": path.stable})
            paths.append(_line(where, path))
    if not rows:
        raise WorkdirError(
            "A barrier needs two trained networks whose weights were kept: of one ticket that was "
            "trained twice (--branches ticket:2@0/5), or of one level and the next. Received: "
            f"{', '.join(str(run.root) for run in runs)}, without such a pair"
            f"{'' if levels is None else ' at these levels'}.")
    return _given(runs, pd.DataFrame(rows), pd.concat(paths, ignore_index=True), points)


def between_levels(run: WorkdirReader, error: Callable[[Arrays], float],
                   levels: "Iterable[int] | None" = None, points: int = POINTS,
                   track: Callable[[list[Pair]], Iterable[Pair]] = iter) -> Analysis:
    """Measures the barrier between the trained tickets of each level and of the level below.

    Each network has its own mask, so along the line the weights that the round pruned go to zero.
    Batch normalisation's moving means and variances are interpolated like weights.

    Args:
      run: the workdir.
      error: a function that returns the error of weights on the test set, in [0, 1].
      levels: the higher levels of the pairs. Defaults to all above 0.
      points: how many networks are evaluated on each line, >= 2.
      track: wraps the list of pairs, to show a progress bar.

    Raises:
      WorkdirError: if the workdir holds no two trained tickets of successive levels.
    """
    run.check_trained("A barrier")
    rows, paths = [], []
    for _, where, path in _walks(run, track(successive(run, levels)), error, points):
        rows.append({**where, "error_before": path.errors[0], "error": path.errors[-1],
                     "barrier": path.barrier, "connected": path.barrier < STABLE})
        paths.append(_line(where, path))
    if not rows:
        raise WorkdirError(
            "A barrier between levels needs the trained weights of a level's ticket and of the "
            f"next level's. Received: {run.root}, without such a pair"
            f"{'' if levels is None else ' at these levels'}. Run with keep_trained=tickets and "
            "at least one round (--rounds 1).")
    table, lines = pd.DataFrame(rows), pd.concat(paths, ignore_index=True)
    title = f"{run.title}: barriers between successive levels"
    return Analysis(title, table, ("between", "level"), _OF_LEVELS, {"paths": lines},
                    analysis_figures.levels_barrier_figure(lines, table, title), (
        f"{points} networks on each line, from the trained ticket of the level below "
        "(error_before) to that of the level (error); barrier: the highest rise of the test error "
        "above the straight line between these two. The moving statistics of batch normalisation "
        "are interpolated too.", _connected(table)))


def _connected(rows: pd.DataFrame) -> str:
    means = rows.groupby("level").barrier.mean()
    levels = {said: ", ".join(ranges(means.index[chosen])) for said, chosen in (
        ("connected", means < STABLE), ("not connected", means >= STABLE))}
    return f"Connected with the level below (mean barrier below {STABLE:.0%}): " \
           f"{levels['connected'] or 'none'}; not connected: {levels['not connected'] or 'none'}."


def _walks(run: WorkdirReader, found: Iterable[Pair], error: Callable[[Arrays], float],
           points: int) -> Iterator[tuple[Pair, dict[str, Any], Path]]:
    # One pair at a time: all trained networks of a run may not fit into memory.
    for pair in found:
        first, second = run.trained(pair.first), run.trained(pair.second)
        assert first is not None and second is not None
        path = walk(error, apply(first.weights, first.masks),
                    apply(second.weights, second.masks), points)
        yield pair, {"between": pair.between, "level": pair.second.level,
                     "density": density(second.masks), "replicate": pair.second.replicate,
                     "first": str(pair.first), "second": str(pair.second)}, path


def _line(where: dict[str, Any], path: Path) -> pd.DataFrame:
    return pd.DataFrame({**where, "alpha": path.alphas, "error": path.errors})


def _shared(run: WorkdirReader, pair: Pair) -> int:
    # The number of first steps that the two networks of a pair share. Two dense networks share
    # k steps only if the second was trained from step k on.
    return run.config.rewind_step if pair.second.level or repeats_from_k(run.config, pair.second) \
        else 0


def _given(runs: Sequence[WorkdirReader], rows: pd.DataFrame, paths: pd.DataFrame,
           points: int) -> Analysis:
    title = f"{runs[0].title}: linear mode connectivity"
    notes = [f"{points} networks on each line; instability: the highest error on the line less the "
             f"mean error of its ends; stable below {STABLE:.0%}. The moving statistics of batch "
             "normalisation are interpolated too."]
    dense = rows[(rows.level == 0) & (rows.between == ORDERS)]
    details, keys = {"paths": paths}, ("between", "level")
    if dense.empty:
        notes.append("The step to rewind to cannot be chosen: no dense network was trained with "
                     "two data orders. Run with --branches ticket:2@0.")
    else:
        choice, k = choose(dense)
        details["rewinding"] = choice
        notes.append(_sentence(choice, k))
    if len(runs) == 1:
        return Analysis(title, rows, keys, _MEASURES, details,
                        analysis_figures.barrier_figure(paths, rows, title), tuple(notes))
    return Analysis(title, rows, ("rewind_step", *keys), _MEASURES, details,
                    analysis_figures.rewinding_figure(choice, title), tuple(notes))


def _check_dense(runs: Sequence[WorkdirReader], found: Sequence[Sequence[Pair]]) -> None:
    for run, two in zip(runs, found, strict=True):
        if len(runs) > 1 and not any(pair.between == ORDERS and not pair.second.level
                                     for pair in two):
            raise WorkdirError("Several workdirs need dense networks that were each trained with "
                               f"two data orders and kept. Received: {run.root}, without such a "
                               "pair at level 0. Run with --branches ticket:2@0.")


def _sentence(choice: pd.DataFrame, k: "int | None") -> str:
    tried = ", ".join(f"{row['rewind_step']:,} ({row['mean']:.2%}, {row['pairs']} "
                      f"pair{'s'[:row['pairs'] > 1]})" for row in choice.to_dict("records"))
    if k is None:
        return f"No rewind_step is stable, of those tried: {tried}. Try a later one."
    return f"The smallest stable rewind_step is {k:,}, of those tried: {tried}."


def _check_same(runs: Sequence[WorkdirReader]) -> None:
    if not runs:
        raise LotteryError("A barrier needs a workdir. Received: none.")
    settings = [{name: value for name, value in run.config.identity.items()
                 if name != "rewind_step"} for run in runs]
    for run, other in zip(runs, settings, strict=True):
        if other != settings[0]:
            differ = sorted(name for name in {*other, *settings[0]}
                            if other.get(name) != settings[0].get(name))
            raise WorkdirError("Workdirs to compare must differ only in rewind_step. Received: "
                               f"{runs[0].root} and {run.root}, which differ in "
                               f"{', '.join(differ)}.")
