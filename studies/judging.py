"""How results decide a claim: the rules, fixed before the runs but for three, which say so.

An effect e of the paper (a difference, or a relative one) is looked for in the paired differences
over replicates, with mean d and Student's 95% interval [low, high], signed so that e > 0:

    reproduced       low > 0 and d >= e / 2: there, and at least half as large
    not reproduced   high < e / 2: smaller than that
    inconclusive     neither: more replicates would tell

A claim of a difference without a size, such as "earlier than dense", is reproduced if low > 0,
and not reproduced if high < 0.  On LeNet-300-100 a difference of accuracies, or of early stops but
for L4's, is not reproduced either if high lies within what "back to the dense network" allows, 0.15
points and 19% of steps: what is equal there is no difference here.  (This was added when
LeNet-300-100 had ten replicates, and applied to them: until then a difference of nothing stayed
open, however many there were.  It decides L7 and L8, against the paper.)

"Back to the dense network" is equivalence within half the best effect that the paper reports:
reproduced if the interval lies within that margin, not reproduced if it lies outside.  "Nothing is
lost" is reproduced if low lies above minus that margin, and not reproduced if high < 0.  (Until
after the first replicate of Conv-2 at two fifths of the steps it was reproduced unless high < 0,
which a wide interval always did; no claim's verdict has changed by it.)  "At least b" is reproduced
if low >= b, and not reproduced if high < b.  A claim of several parts is reproduced if all are, and
not reproduced if one is not.

A run whose protocol says how many replicates it has decides nothing before they are there: who
looks at each and stops when a test decides errs more often than 5%.  (This was added when there was
one replicate of Conv-2 at two fifths of the steps, of five; no claim's verdict changed by it.)
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from lth_keras.experiments.results import significance, statistics
from lth_keras.experiments.results.statistics import Estimate

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"

STEP, ACCURACY = "early_stop_step", "test_accuracy_early_stop"
FINAL, TRAIN = "test_accuracy_final", "train_accuracy_final"
DENSE = ("ticket", 0)

Runs = Mapping[str, pd.DataFrame]


@dataclasses.dataclass(frozen=True)
class Part:
    """One figure that a claim rests on.

    Attributes:
      said: our number and its interval, in words.
      verdict: one of the four.
      replicates: that it rests on.
      needed: of an open one, how many would tell, in words.
    """

    said: str
    verdict: str
    replicates: int
    needed: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A row of the scoreboard.

    Attributes:
      name: as in the list of claims, "L1".
      text: what the paper says.
      runs: names of the results that decide it, in studies/results.
      judge: from those to its parts; None if it is not decided by a program yet.
      note: what is to be said of what came of it; Markdown.
      given: what must be reproduced first, or all stays open.
      planned: how many replicates there must be, or all stays open.
    """

    name: str
    text: str
    runs: tuple[str, ...] = ()
    judge: "Callable[..., Iterable[Part]] | None" = None
    note: str = ""
    given: "Claim | None" = None
    planned: int = 0


def decide(claim: Claim, runs: Runs) -> tuple[str, list[Part]]:
    """The verdict on a claim, and the parts it rests on.

    Args:
      claim: the claim.
      runs: name -> its results; what is not there was not run.
    """
    if claim.judge is None or any(name not in runs for name in claim.runs):
        return NOT_RUN, []
    parts = list(claim.judge(*(runs[name] for name in claim.runs)))
    if claim.given:
        before, _ = decide(claim.given, runs)
        if before == NOT_RUN:
            return NOT_RUN, []
        parts = opened(parts, "" if before == REPRODUCED else f"{claim.given.name} is not shown")
    there = min((runs[name].replicate.nunique() for name in claim.runs if claim.planned), default=0)
    if there < claim.planned:
        parts = opened(parts, f"{there} of {claim.planned} replicates")
    verdicts = [part.verdict for part in parts]
    for verdict in (NOT_REPRODUCED, NOT_RUN, INCONCLUSIVE):
        if verdict in verdicts or not verdicts:
            return verdict if verdicts else NOT_RUN, parts
    return REPRODUCED, parts


def opened(parts: Iterable[Part], why: str) -> list[Part]:
    """The parts, each inconclusive if there is a reason why none can be told."""
    return [dataclasses.replace(part, verdict=INCONCLUSIVE, needed="", said=f"{part.said} ({why})")
            if why else part for part in parts]


def of_one(part: Part) -> Part:
    """A part whose interval is over the networks of one replicate."""
    return dataclasses.replace(part, replicates=1, needed="")


def series(results: pd.DataFrame, measure: str, which: tuple[str, int]) -> pd.Series:
    """A measure of (branch, level) in each replicate."""
    return statistics.by_replicate(results, measure, *which)


def at_density(results: pd.DataFrame, measure: str, percent: float) -> pd.Series:
    """A measure of the ticket in each replicate at a share of the weights.

    Between the two levels nearest to it, along the logarithm of P_m.

    Args:
      results: a row a trained network.
      measure: which.
      percent: of the weights.

    Returns:
      Indexed by replicate; empty if no level is as sparse.
    """
    found = results[results.branch == "ticket"].groupby("level").density.mean() * 100
    denser, sparser = found[found >= percent], found[found < percent]
    if sparser.empty:
        return pd.Series(dtype=float)
    above, below = denser.index[-1], sparser.index[0]
    share = math.log(denser[above] / percent) / math.log(denser[above] / sparser[below])
    return series(results, measure, ("ticket", above)) * (1 - share) \
        + series(results, measure, ("ticket", below)) * share


def mean(values: pd.Series) -> "Estimate | None":
    """The mean over replicates; None if there are none."""
    found = values.dropna()
    return statistics.student(found) if len(found) else None


def gain(one: pd.Series, other: pd.Series) -> "Estimate | None":
    """Paired differences of accuracies, in points: one less the other."""
    return mean((one - other) * 100)


def earlier(one: pd.Series, other: pd.Series) -> "Estimate | None":
    """By how much one stops earlier than another, in percent of the other's steps."""
    return mean((1 - one / other) * 100)


def faster(one: pd.Series, other: pd.Series) -> "Estimate | None":
    """By how much one is faster than another, in percent: 100 for twice as fast."""
    return mean((other / one - 1) * 100)


def effect(what: str, found: "Estimate | None", paper: float, unit: str = "pt") -> Part:
    """A part that claims an effect of a size.

    Example:
      >>> effect("gain", Estimate(0.4, 0.1, 0.7, 0.2, 5), 0.3).verdict
      'reproduced'
      >>> effect("gain", Estimate(0.1, -0.1, 0.3, 0.2, 5), 0.3).verdict
      'inconclusive'
      >>> effect("gain", Estimate(0.0, -0.1, 0.1, 0.1, 5), 0.3).verdict
      'not reproduced'
    """
    if found is None:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    verdict = INCONCLUSIVE
    if found.high < paper / 2:
        verdict = NOT_REPRODUCED
    elif found.low > 0 and found.mean >= paper / 2:
        verdict = REPRODUCED
    return _part(what, found, unit, verdict, 0 if found.mean >= paper / 2 else paper / 2)


def sign(what: str, found: "Estimate | None", unit: str = "pt", none: float = 0.0) -> Part:
    """A part that claims a difference above 0 of any size.

    Args:
      what: is claimed.
      found: the difference; None if there is none.
      unit: of it.
      none: how large it may be and still be none.

    Example:
      >>> sign("above", Estimate(0.4, -0.1, 0.9, 0.2, 5)).verdict
      'inconclusive'
      >>> sign("above", Estimate(0.0, -0.1, 0.1, 0.2, 5), none=0.15).verdict
      'not reproduced'
      >>> sign("above", Estimate(0.1, 0.05, 0.14, 0.2, 5), none=0.15).verdict
      'reproduced'
    """
    if found is None:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    verdict = REPRODUCED if found.low > 0 else \
        NOT_REPRODUCED if found.high < none else INCONCLUSIVE
    return _part(what, found, unit, verdict, 0, none)


def not_below(what: str, found: "Estimate | None", margin: float, unit: str = "pt") -> Part:
    """A part that claims that nothing is lost: at most a margin.

    Args:
      what: is claimed.
      found: the difference; None if there is none.
      margin: how much may be lost and still be nothing.
      unit: of both.

    Example:
      >>> not_below("above", Estimate(0.1, -0.1, 0.3, 0.2, 5), 0.15).verdict
      'reproduced'
      >>> not_below("above", Estimate(-0.1, -0.5, 0.3, 0.2, 5), 0.15).verdict
      'inconclusive'
      >>> not_below("above", Estimate(-0.4, -0.5, -0.3, 0.2, 5), 0.15).verdict
      'not reproduced'
    """
    if found is None:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    verdict = NOT_REPRODUCED if found.high < 0 else \
        REPRODUCED if found.low > -margin else INCONCLUSIVE
    return _part(what, found, unit, verdict, -margin)


def equal(what: str, found: "Estimate | None", margin: float, unit: str = "pt") -> Part:
    """A part that claims equality within a margin.

    Example:
      >>> equal("same", Estimate(0.0, -0.1, 0.1, 0.1, 5), 0.15).verdict
      'reproduced'
      >>> equal("same", Estimate(0.3, 0.2, 0.4, 0.1, 5), 0.15).verdict
      'not reproduced'
    """
    if found is None:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    verdict = INCONCLUSIVE
    if -margin <= found.low and found.high <= margin:
        verdict = REPRODUCED
    elif found.low > margin or found.high < -margin:
        verdict = NOT_REPRODUCED
    return _part(what, found, unit, verdict, margin if found.mean > 0 else -margin)


def at_least(what: str, values: pd.Series, bound: float) -> Part:
    """A part that claims that a mean over replicates is at least so much, in percent.

    Example:
      >>> at_least("share", pd.Series([0.75, 0.76, 0.77]), 70).verdict
      'reproduced'
      >>> at_least("share", pd.Series([0.99, 0.50]), 70).verdict
      'inconclusive'
    """
    found = mean(values * 100)
    if found is None:
        return Part(f"{what}: not trained", NOT_RUN, 0)
    verdict = REPRODUCED if found.low >= bound else \
        NOT_REPRODUCED if found.high < bound else INCONCLUSIVE
    return dataclasses.replace(_part(what, found, "%", verdict, bound),
                               said=f"{what}: {found.mean:.2f}{_interval(found, '.2f')}%")


def _part(what: str, found: Estimate, unit: str, verdict: str, *bounds: float) -> Part:
    # Of what is open: how many replicates would tell it from one of the bounds.
    needed = ""
    form = "+.2f" if unit else "+.3f"  # Shares and ratios are small.
    said = f"{what}: {found.mean:{form}}{_interval(found, form)} {unit}".rstrip()
    if verdict == INCONCLUSIVE and found.replicates > 1:
        counts = [count for bound in bounds
                  if (count := significance.replicates_needed(found, bound))]
        needed = f"about {min(counts):,} replicates would tell" if counts else \
            f"not told by {significance.MOST_REPLICATES:,} replicates"
    return Part(said, verdict, found.replicates, needed)


def _interval(found: Estimate, form: str) -> str:
    return "" if found.replicates < 2 else f" [{found.low:{form}}, {found.high:{form}}]"
