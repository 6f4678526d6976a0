"""Statistics over replicates: means, confidence intervals and paired differences.

A replicate is one observation.  If a branch is trained several times at a level, the mean within
the replicate is used: these trainings share a ticket, so they are not independent.  Trainings that
diverged count as not trained.
"""

import dataclasses
import math
import re
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lth_keras.core.best_level import judged_by
from lth_keras.experiments.results.fits import EARLY
from lth_keras.experiments.results.record import (
    AT_LAST_STEP,
    COLUMNS,
    COSTS,
    DENSITY,
    ENDED,
    STEP,
    VALIDATED,
)

CONFIDENCE = 0.95
MEASURES = ("density", "early_stop_step", "val_loss_min", "test_accuracy_early_stop",
            "test_accuracy_final", "train_accuracy_final", "seconds")
STEP_MEASURE = re.compile(f"{STEP}([0-9]+)")
_KEYS = ["branch", "level"]


@dataclasses.dataclass(frozen=True)
class Quality:
    """The measure by which networks are compared at their early stop.

    Attributes:
      column: its column in the results.
      title: its name in tables.
      sign: 1 if higher is better, -1 if lower is.
      is_share: whether it is a share in [0, 1], such as an accuracy.

    Example:
      >>> TEST.column, TEST.sign
      ('test_accuracy_early_stop', 1)
    """

    column: str
    title: str
    sign: int
    is_share: bool


TEST = Quality("test_accuracy_early_stop", "test accuracy at early stop", 1, True)
STEPS = Quality("early_stop_step", "early stop", -1, False)
_LOSS = Quality("val_loss_min", "least validation loss", -1, False)


def quality(results: pd.DataFrame) -> Quality:
    """Returns the measure by which networks are compared in some results.

    It is the test accuracy, which all results of `lth run` have.  For a search in `fit` it is the
    metric by which `lottery.best` goes: an accuracy on validation data, or the validation loss.

    Example:
      >>> quality(pd.DataFrame({"val_loss_min": [0.5], "val_acc_early_stop": [0.9]})).column
      'val_acc_early_stop'
    """
    # By what was measured, not by where results come from: a fit may lack any of it.
    there = {name: found for name in map(str, results.columns)
             if len(found := results[name].dropna())}
    if TEST.column in there:
        return TEST
    # An accuracy in percent may be below 1 at an early stop, and above it at the round's end.
    measured = {last: pd.concat([values, there.get(last, values)]) for name, values in there.items()
                if name.startswith("val_") and name.endswith(EARLY)
                and (last := name.removesuffix(EARLY))}
    judged = judged_by(measured | ({"val_loss": math.nan} if _LOSS.column in there else {}))
    return Quality(judged + EARLY, f"{in_words(judged)} at early stop", 1, True) \
        if judged in measured else _LOSS if judged else TEST


def in_words(metric: str) -> str:
    """Returns the name of a metric of a search in `fit` as words, such as those on an axis.

    Example:
      >>> [in_words(name) for name in ("val_acc", "val_top5_acc", "val_loss", "accuracy")]
      ['validation accuracy', 'validation top5 acc', 'validation loss', 'accuracy']
    """
    name = metric.removeprefix("val_")
    words = "accuracy" if name == "acc" else name.replace("_", " ")
    return words if name == metric else f"validation {words}"


def own_metrics(results: pd.DataFrame) -> list[str]:
    """Returns the columns that only a search in `fit` has: the metrics of its own model.

    Example:
      >>> own_metrics(pd.DataFrame(columns=["level", "density_w", "loss", "val_auc"]))
      ['loss', 'val_auc']
    """
    return [name for name in map(str, results.columns) if name not in COLUMNS
            and not name.startswith(DENSITY) and not STEP_MEASURE.fullmatch(name)
            and name not in (ENDED, VALIDATED, *COSTS)]


def trained(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of trainings that did not diverge.

    Where patience has ended a training, those of its branch and level have no measures of later
    steps: a mean over the others would be over those that went on improving.

    Example:
      >>> len(trained(pd.DataFrame({"early_stop_step": [100, None]})))
      1
    """
    # A search in `fit` may have no validation data, and then has no early stop either.
    if "epochs" in results:
        return results[results.diverged_at_step.isna()]
    results = results[results.early_stop_step.notna()]
    if ENDED not in results or results[ENDED].isna().all():
        return results
    late = [name for name in map(str, results.columns)
            if name in AT_LAST_STEP or STEP_MEASURE.fullmatch(name)]
    missed = results[late].isna() & results[[ENDED]].notna().to_numpy()
    anyone = missed.groupby([results[key] for key in _KEYS]).transform("any")
    return results.assign(**results[late].mask(anyone))


def diverged(results: pd.DataFrame) -> str:
    """Returns a sentence that says how many trainings diverged, or "" if none did.

    Example:
      >>> diverged(pd.DataFrame({"early_stop_step": [100, None]}))
      '1 of 2 trainings diverged.'
    """
    count = len(results) - len(trained(results))
    return f"{count} of {len(results)} trainings diverged." if count else ""


def measures(results: pd.DataFrame) -> list[str]:
    """Returns the columns to average: standard ones, costs, accuracies at steps, a fit's metrics.

    Example:
      >>> measures(pd.DataFrame(columns=["test_accuracy_step_20", "test_accuracy_step_5"]))[-2:]
      ['test_accuracy_step_5', 'test_accuracy_step_20']
    """
    steps = [(int(match[1]), name) for name in map(str, results.columns)
             if (match := STEP_MEASURE.fullmatch(name))]
    return [*MEASURES, *(name for name in COSTS if name in results),
            *(name for _, name in sorted(steps)), *own_metrics(results)]


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Computes mean, minimum and maximum of every measure over trainings that did not diverge.

    This is what the paper plots: a control's mean is over all its trainings, for example 15 for
    three repeats in five replicates.

    Args:
      results: one row for each trained network, with the columns of `record.COLUMNS`.

    Returns:
      A table indexed by (branch, level), with the columns (measure, "mean" | "min" | "max") and
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
    """A mean over replicates with its confidence interval.

    Attributes:
      mean: the mean, in the measure's unit.
      low: the lower bound of the interval; NaN with one replicate.
      high: the upper bound of the interval; NaN with one replicate.
      deviation: the standard deviation over replicates (divisor n - 1); NaN with one replicate.
      replicates: the number of replicates, >= 1.

    Example:
      >>> student([1.0, 2.0, 3.0]).replicates
      3
    """

    mean: float
    low: float
    high: float
    deviation: float
    replicates: int


def by_replicate(results: pd.DataFrame, measure: str, branch: str, level: int) -> pd.Series:
    """Returns a measure of a branch at a level for each replicate, averaged over repeats.

    Returns:
      A series indexed by replicate, without replicates in which no repeat is trained, or all
      diverged.

    Example:
      >>> rows = pd.DataFrame({"replicate": [0, 0, 1], "branch": "reinit", "level": 2,
      ...                      "early_stop_step": [100, 300, 500]})
      >>> by_replicate(rows, "early_stop_step", "reinit", 2).tolist()
      [200.0, 500.0]
    """
    rows = trained(results)
    rows = rows[(rows.branch == branch) & (rows.level == level)]
    found: pd.Series = rows.groupby("replicate")[measure].mean().dropna()
    return found


def student(values: Iterable[float], confidence: float = CONFIDENCE) -> Estimate:
    """Computes a mean with Student's t-interval: mean +- t s / sqrt(n).

    Args:
      values: one value for each replicate, at least one.
      confidence: the share of such intervals that contain the true mean, in (0, 1).

    Example:
      >>> found = student([1.0, 2.0, 3.0])
      >>> found.mean, round(found.low, 3), round(found.high, 3)
      (2.0, -0.484, 4.484)
    """
    # 0.3 - 0.1 and 0.2 differ in the last bit: without rounding, equal differences of accuracies
    # would have a tiny deviation, and an interval around it.
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
    """Computes a mean with its bootstrap interval (BCa, or percentiles if BCa is not possible).

    With few replicates it is too narrow: of 95% intervals over 3, 5 and 10 normal values, 72%,
    83% and 89% contained the true mean in a simulation.  It is therefore shown, but no verdict is
    based on it.

    Args:
      values: one value for each replicate, at least one.
      confidence: the nominal share of intervals that contain the true mean, in (0, 1).
      resamples: the number of resamples, >= 1.
      rng: the random generator. Defaults to one seeded with 0, so that the same results give the
        same interval.

    Example:
      >>> found = bootstrap([1.0, 2.0, 3.0, 6.0])
      >>> 1 <= found.low < found.mean < found.high <= 6
      True
    """
    array = np.asarray(list(values), float)
    exact = student(array, confidence)
    if exact.replicates < 2 or exact.deviation == 0:  # BCa divides by the deviation.
        return exact
    from scipy import stats
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns if BCa is not possible.
            found = stats.bootstrap(
                (array,), np.mean, confidence_level=confidence, n_resamples=resamples,
                method=method, rng=np.random.default_rng(0) if rng is None else rng)
        low, high = map(float, found.confidence_interval)
        if math.isfinite(low) and math.isfinite(high):
            break
    return dataclasses.replace(exact, low=low, high=high)


def paired(results: pd.DataFrame, measure: str, level: int,
           against: str = "dense") -> "Estimate | None":
    """Computes the ticket's measure less another network's, paired by replicate.

    Pairing removes the variation that a replicate's initial weights and data cause in both.

    Args:
      results: one row for each trained network.
      measure: the column to compare.
      level: the level of the ticket and of the control.
      against: "dense" for the network of level 0, or the name of a control.

    Returns:
      The mean difference with its t-interval; None if no replicate has both networks.

    Example:
      >>> rows = pd.DataFrame({"replicate": [0, 0, 1, 1], "branch": "ticket",
      ...                      "level": [0, 1, 0, 1], "early_stop_step": [100, 80, 120, 90]})
      >>> paired(rows, "early_stop_step", level=1).mean
      -25.0
    """
    ticket = by_replicate(results, measure, "ticket", level)
    other = by_replicate(results, measure, "ticket", 0) if against == "dense" \
        else by_replicate(results, measure, against, level)
    differences = (ticket - other).dropna()
    return student(differences) if len(differences) else None


def compared(results: pd.DataFrame, branches: Iterable[str]) -> list[int]:
    """Returns the levels at which the ticket and at least one of the given controls are trained.

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
    """Computes the paired differences of every level: ticket less dense and less each control.

    Returns:
      A table indexed by (against, level), without level 0, with the fields of `Estimate` as
      columns.
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


def relative(one: Iterable[float], other: Iterable[float],
             confidence: float = CONFIDENCE) -> Estimate:
    """By how much the mean of one is above that of another, as a share of the other's size.

    The interval is Fieller's: the shares r that a paired t-test of one - (1 + r) other leaves.

    Args:
      one: values, one a replicate.
      other: as many, of the same replicates; all > 0, or of a loss that is negative all < 0.
      confidence: in (0, 1).

    Returns:
      The share; its interval is NaN with one replicate, or where the other's mean is not told
      from 0, and its deviation that of one - (1 + mean) other, as a share of the other's mean.

    Example:
      >>> found = relative([90, 110, 100], [100, 110, 120])
      >>> round(found.mean, 3), round(found.low, 2), round(found.high, 2)
      (-0.091, -0.29, 0.15)
      >>> round(relative([-0.9, -0.9], [-0.8, -0.8]).mean, 3)  # Below it, as a loss should be.
      -0.125
    """
    pairs = np.array([list(one), list(other)], float)
    count, (mean, base) = pairs.shape[1], pairs.mean(axis=1)
    if base < 0:
        turned = relative(-pairs[0], -pairs[1], confidence)
        return dataclasses.replace(turned, mean=-turned.mean, low=-turned.high, high=-turned.low)
    if base == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, count)
    share = float(mean / base) - 1
    around = student(pairs[0] - (1 + share) * pairs[1], confidence)
    if count < 2:
        return dataclasses.replace(around, mean=share)
    from scipy import special
    scale = float(special.stdtrit(count - 1, (1 + confidence) / 2)) ** 2 / count
    (of_one, of_both), (_, of_other) = np.cov(pairs) * scale
    # The roots of (mean - q base)^2 = of_one - 2 q of_both + q^2 of_other, with q = 1 + r.
    first, half, last = base ** 2 - of_other, mean * base - of_both, mean ** 2 - of_one
    root = max(0.0, half ** 2 - first * last) ** 0.5
    low, high = ((half - root) / first - 1, (half + root) / first - 1) if first > 0 \
        else (math.nan, math.nan)
    return Estimate(share, float(low), float(high), around.deviation / float(base), count)
