"""Statistics of replicates: means, intervals, paired differences.

A replicate is one observation.  Where a branch is trained several times at a level, their mean
within the replicate is what counts: they share its ticket, so they are not independent.
Trainings that diverged count as not trained.
"""

import dataclasses
import math
import re
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lth_keras.experiments.results.record import COLUMNS, DENSITY, STEP

CONFIDENCE = 0.95
MEASURES = ("density", "early_stop_step", "val_loss_min", "test_accuracy_early_stop",
            "test_accuracy_final", "train_accuracy_final", "seconds")
STEP_MEASURE = re.compile(f"{STEP}([0-9]+)")
_KEYS = ["branch", "level"]
MOST_REPLICATES = 1000


@dataclasses.dataclass(frozen=True)
class Quality:
    """The measure that says how good a network is at its early stop.

    Attributes:
      column: its column.
      title: what a table calls it.
      sign: 1 if more is better, -1 if less is.
      is_share: whether it is a share in [0, 1], such as an accuracy.
    """

    column: str
    title: str
    sign: int
    is_share: bool


TEST = Quality("test_accuracy_early_stop", "test accuracy at early stop", 1, True)
_LOSS = Quality("val_loss_min", "least validation loss", -1, False)
_VALIDATION = re.compile(r"val_\w*acc\w*_early_stop")


def quality(results: pd.DataFrame) -> Quality:
    """The measure that says how good the networks of some results are.

    It is the test accuracy, which every run of `lth run` has.  A search in `fit` has what it
    measured on its validation data: an accuracy, or else the loss.

    Example:
      >>> quality(pd.DataFrame({"val_loss_min": [0.5], "val_acc_early_stop": [0.9]})).column
      'val_acc_early_stop'
    """
    there = [name for name in map(str, results.columns) if results[name].notna().any()]
    if TEST.column in there:
        return TEST
    for name in there:
        if _VALIDATION.fullmatch(name) and results[name].dropna().between(0, 1).all():
            return Quality(name, "validation accuracy at early stop", 1, True)
    return _LOSS if _LOSS.column in there else TEST


def own_metrics(results: pd.DataFrame) -> list[str]:
    """The columns that a search in `fit` has beyond those of every run: what it measured itself.

    Example:
      >>> own_metrics(pd.DataFrame(columns=["level", "density_w", "loss", "val_auc"]))
      ['loss', 'val_auc']
    """
    return [name for name in map(str, results.columns) if name not in COLUMNS
            and not name.startswith(DENSITY) and not STEP_MEASURE.fullmatch(name)]


def trained(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the trainings that did not diverge."""
    if "epochs" in results:  # A search in `fit`, which may have no validation: no early stop.
        return results[results.diverged_at_step.isna()]
    return results[results.early_stop_step.notna()]


def diverged(results: pd.DataFrame) -> str:
    """How many trainings diverged, as a sentence; nothing if none did."""
    count = len(results) - len(trained(results))
    return f"{count} of {len(results)} trainings diverged." if count else ""


def measures(results: pd.DataFrame) -> list[str]:
    """The columns to average: those of every run, test accuracies at chosen steps, a fit's own.

    Example:
      >>> measures(pd.DataFrame(columns=["test_accuracy_step_20", "test_accuracy_step_5"]))[-2:]
      ['test_accuracy_step_5', 'test_accuracy_step_20']
    """
    steps = [(int(match[1]), name) for name in map(str, results.columns)
             if (match := STEP_MEASURE.fullmatch(name))]
    return [*MEASURES, *(name for _, name in sorted(steps)), *own_metrics(results)]


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Mean, least and greatest of every measure over the trainings that did not diverge.

    This is what the paper plots: a control's mean is over all its trainings, such as fifteen of
    three repeats in five replicates.

    Args:
      results: a row a trained network, with the columns of `record.COLUMNS`.

    Returns:
      Indexed by (branch, level); columns (measure, "mean" | "min" | "max"), and
      ("replicates", "count").

    Example:
      >>> rows = pd.DataFrame({"replicate": [0, 1], "branch": "ticket", "level": 0,
      ...                      **{name: [1.0, 3.0] for name in MEASURES}})
      >>> summarise(rows).loc[("ticket", 0), "early_stop_step"].tolist()
      [2.0, 1.0, 3.0]
    """
    groups = trained(results).groupby(_KEYS)
    summary = groups[measures(results)].agg(["mean", "min", "max"])
    summary[("replicates", "count")] = groups["replicate"].nunique()
    return summary


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over replicates, and how sure it is.

    Attributes:
      mean: in the measure's unit.
      low: lower bound of its interval; NaN with one replicate, which gives none.
      high: upper bound.
      deviation: standard deviation over replicates (divisor n - 1); NaN with one.
      replicates: how many, >= 1.
    """

    mean: float
    low: float
    high: float
    deviation: float
    replicates: int


def by_replicate(results: pd.DataFrame, measure: str, branch: str, level: int) -> pd.Series:
    """A measure of a branch at a level in each replicate, its repeats averaged.

    Returns:
      Indexed by replicate; without those in which all repeats diverged, or none is trained.
    """
    rows = trained(results)
    rows = rows[(rows.branch == branch) & (rows.level == level)]
    found: pd.Series = rows.groupby("replicate")[measure].mean().dropna()
    return found


def student(values: Iterable[float], confidence: float = CONFIDENCE) -> Estimate:
    """A mean with Student's t-interval: mean +- t s / sqrt(n).

    Args:
      values: one a replicate, at least one.
      confidence: share of such intervals that hold the true mean, in (0, 1).

    Example:
      >>> found = student([1.0, 2.0, 3.0])
      >>> found.mean, round(found.low, 3), round(found.high, 3)
      (2.0, -0.484, 4.484)
    """
    # Differences of equal decimals are not quite zero in binary.
    array = np.round(np.asarray(list(values), float), 12)
    mean, count = float(array.mean()), len(array)
    if count < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, count)
    from scipy import stats
    deviation = 0.0 if np.ptp(array) == 0 else float(array.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * deviation / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half, deviation, count)


def bootstrap(values: Iterable[float], confidence: float = CONFIDENCE, resamples: int = 9999,
              rng: "np.random.Generator | None" = None) -> Estimate:
    """A mean with its bootstrap interval: BCa, or percentiles where the data allow no BCa.

    With few replicates it is too narrow: of 95% intervals over 3, 5 and 10 normal values, 72%,
    83% and 89% held the mean when tried.  So it is shown, and nothing is judged by it.

    Args:
      values: one a replicate, at least one.
      confidence: in (0, 1).
      resamples: how many, >= 1.
      rng: what they are drawn with; by default seeded with 0, so that the same results give the
        same interval.

    Example:
      >>> found = bootstrap([1.0, 2.0, 3.0, 6.0])
      >>> 1 <= found.low < found.mean < found.high <= 6
      True
    """
    array = np.asarray(list(values), float)
    exact = student(array, confidence)
    if exact.replicates < 2 or exact.deviation == 0:
        return exact
    from scipy import stats
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of data that allow no BCa.
            found = stats.bootstrap(
                (array,), np.mean, confidence_level=confidence, n_resamples=resamples,
                method=method, rng=np.random.default_rng(0) if rng is None else rng)
        low, high = map(float, found.confidence_interval)
        if math.isfinite(low) and math.isfinite(high):
            break
    return dataclasses.replace(exact, low=low, high=high)


def paired(results: pd.DataFrame, measure: str, level: int,
           against: str = "dense") -> "Estimate | None":
    """The ticket's measure less another network's, over the replicates that have both.

    Pairing takes out what a replicate's initial weights and data give both networks alike.

    Args:
      results: a row a trained network.
      measure: a column.
      level: of the ticket, and of a control.
      against: "dense", the network of level 0, or a control's name.

    Returns:
      The mean difference and Student's interval of it; None if no replicate has both.
    """
    ticket = by_replicate(results, measure, "ticket", level)
    other = by_replicate(results, measure, "ticket", 0) if against == "dense" \
        else by_replicate(results, measure, against, level)
    differences = (ticket - other).dropna()
    return student(differences) if len(differences) else None


def compared(results: pd.DataFrame, branches: Iterable[str]) -> list[int]:
    """The levels at which the ticket is trained, and one of some controls.

    Example:
      >>> rows = pd.DataFrame({"branch": ["ticket", "ticket", "ticket", "reinit"],
      ...                      "level": [0, 1, 2, 2], "early_stop_step": 100})
      >>> compared(rows, ["reinit"])
      [2]
    """
    rows = trained(results)
    of_controls = rows[rows.branch.isin([*branches])]
    return sorted({*rows[rows.branch == "ticket"].level} & {*of_controls.level})


def differences(results: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The paired differences of every level: ticket less dense, ticket less each control.

    Returns:
      Indexed by (against, level), without level 0; columns are those of `Estimate`.
    """
    levels = sorted(set(results.level) - {0})
    others = ["dense", *sorted(set(results.branch) - {"ticket"})]
    found = {(against, level): paired(results, measure, level, against)
             for against in others for level in levels}
    names = [field.name for field in dataclasses.fields(Estimate)]
    kept = {key: dataclasses.astuple(value) for key, value in found.items() if value}
    index = pd.MultiIndex.from_tuples(kept, names=["against", "level"]) if kept else \
        pd.MultiIndex.from_arrays([[], []], names=["against", "level"])
    return pd.DataFrame(list(kept.values()), index, names)


def replicates_needed(difference: Estimate, margin: float = 0.0, power: float = 0.8,
                      confidence: float = CONFIDENCE) -> "int | None":
    """How many replicates would tell a difference from a margin.

    The least n for which a paired two-sided t-test of level 1 - confidence finds, with the given
    power, a difference that is truly as large as the one seen, with the deviation seen:
    P(T > t(n - 1)) >= power, T non-central t with n - 1 degrees of freedom and non-centrality
    |mean - margin| sqrt(n) / deviation.

    Args:
      difference: of at least two replicates.
      margin: in the measure's unit.
      power: in (0, 1).
      confidence: in (0, 1).

    Returns:
      At least 2; None if it is unknown (one replicate) or above 1,000.

    Example:
      >>> replicates_needed(Estimate(mean=1.0, low=0, high=0, deviation=1.0, replicates=3))
      10
    """
    if math.isnan(difference.deviation) or difference.mean == margin:
        return None
    from scipy import stats
    if difference.deviation == 0:
        return 2
    counts = np.arange(2, MOST_REPLICATES + 1)
    effect = abs(difference.mean - margin) / difference.deviation
    bounds = stats.t.ppf((1 + confidence) / 2, counts - 1)
    enough = stats.nct.sf(bounds, counts - 1, effect * np.sqrt(counts)) >= power
    return int(counts[enough.argmax()]) if enough.any() else None
