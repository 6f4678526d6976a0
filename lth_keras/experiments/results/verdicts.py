"""Verdicts: whether a run found winning tickets, level by level and in one sentence.

The sentence compares means.  The verdict of a level is stricter: it tests three conditions with
Student's 95% interval of the paired differences over replicates.

    as early         early-stop step, ticket - dense: whole interval at or below the margin
    as accurate      test accuracy at early stop, ticket - dense: whole interval at or above
                     minus the margin
    beats reinit     test accuracy at early stop, ticket - reinit: whole interval above 0

A level is winning if all three hold, not winning if one fails (its whole interval is on the other
side), and inconclusive otherwise.  Margins are 0 by default: a ticket must then be at least as
good as the dense network, and no number of replicates can show that of one that is exactly as
good.  The intervals are not corrected for the number of levels.

A search in `fit` has no test set and no re-initialised control.  Its levels are compared with the
dense network by a measure on its validation data (`statistics.quality`).  None is called winning,
since the third condition cannot be tested; the sentence says so.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import pandas as pd

from lth_keras.experiments.config.branches import ranges
from lth_keras.experiments.results.statistics import (
    diverged,
    Estimate,
    MEASURES,
    paired,
    quality,
    replicates_needed,
    trained,
)

WINNING, NOT_WINNING, INCONCLUSIVE = "winning", "not winning", "inconclusive"
CONTROL = "reinit"
NO_REINIT = "no reinit"  # Why a level without this control is inconclusive.
_FAILURES = {"as early": "later than dense", "as accurate": "less accurate than dense",
             "beats reinit": "no better than reinit"}
_NO_CONTROL = ("Whether it wins is not known: a fit trains no re-initialised control, which an "
               "experiment of lth run does.")


@dataclasses.dataclass(frozen=True)
class Margins:
    """How much worse than the dense network a ticket may be and still count as equally good.

    Attributes:
      steps: by how many steps its early stop may be later, >= 0.
      accuracy: by how much its test accuracy may be lower, in [0, 1]; for a fit without accuracy,
        by how much its validation loss may be higher.

    Example:
      >>> Margins(accuracy=0.002)  # 0.2 percentage points.
      Margins(steps=0.0, accuracy=0.002)
    """

    steps: float = 0.0
    accuracy: float = 0.0


EXACT = Margins()


@dataclasses.dataclass(frozen=True)
class Condition:
    """One of the three conditions of a winning ticket.

    Attributes:
      name: "as early", "as accurate" or "beats reinit".
      difference: ticket less dense or re-initialised network, in steps or in the measure of
        `statistics.quality`; None if no replicate has both.
      holds: True, False, or None if the interval contains the bound.
      needed: if `holds` is None, with how many replicates the condition would be decided with 80%
        probability, if the true difference and deviation are those seen
        (`statistics.replicates_needed`); None if unknown or above 1,000.
    """

    name: str
    difference: Estimate | None
    holds: bool | None
    needed: int | None = None


@dataclasses.dataclass(frozen=True)
class LevelVerdict:
    """The verdict of one level.

    Attributes:
      level: the level, >= 1.
      density: the mean density over replicates, in [0, 1].
      outcome: "winning", "not winning" or "inconclusive".
      conditions: the three conditions, in the order above.
      needed: the number of replicates that an inconclusive level needs, which is the largest that
        a condition needs; None if the level is decided, or the number is unknown.
      why: why the level is not winning, in a few words; "" for a winning level.

    Example:
      >>> print(LevelVerdict(3, 0.512, INCONCLUSIVE, (), 8, "needs 8 replicates"))
      inconclusive: needs 8 replicates
    """

    level: int
    density: float
    outcome: str
    conditions: tuple[Condition, ...]
    needed: int | None
    why: str

    def __str__(self) -> str:
        return f"{self.outcome}: {self.why}" if self.why else self.outcome


def judge_levels(results: pd.DataFrame, margins: Margins = EXACT) -> list[LevelVerdict]:
    """Judges every level above 0 that has a trained ticket.

    Args:
      results: one row for each trained network, with the columns of `record.COLUMNS`.
      margins: how much worse than the dense network a ticket may be.

    Returns:
      A verdict for each level; empty for a fit without validation data.
    """
    if not results[quality(results).column].notna().any():
        return []
    tickets = results[(results.branch == "ticket") & (results.level > 0)]
    return [_judge_level(results, level, margins) for level in sorted(set(trained(tickets).level))]


def _judge_level(results: pd.DataFrame, level: int, margins: Margins) -> LevelVerdict:
    rows = results[(results.branch == "ticket") & (results.level == level)]
    good = quality(results)
    # Signs are chosen so that a higher value is better for the ticket.
    later = paired(results, "early_stop_step", level)
    conditions = (
        _condition("as early", later, -1, -margins.steps),
        _condition("as accurate", paired(results, good.column, level), good.sign,
                   -margins.accuracy),
        _condition("beats reinit", paired(results, good.column, level, CONTROL), good.sign, 0.0,
                   strict=True))
    outcome, needed, why = _decide(conditions, len(rows) - len(trained(rows)))
    if not good.is_share:
        why = why.replace(_FAILURES["as accurate"], "worse than dense")
    return LevelVerdict(level, float(trained(rows).density.mean()), outcome, conditions, needed,
                        why)


def _condition(name: str, difference: "Estimate | None", sign: int, bound: float,
               strict: bool = False) -> Condition:
    # Tests whether sign * difference is at or above a bound, or above it if strict. On a small test
    # set, a few replicates may be exactly equal: that does not disprove the strict condition.
    if difference is None or math.isnan(difference.low):
        return Condition(name, difference, None)
    low, high = sorted((sign * difference.low, sign * difference.high))
    if low > bound or (low == bound and not strict):
        return Condition(name, difference, True)
    if high < bound:
        return Condition(name, difference, False)
    return Condition(name, difference, None, replicates_needed(difference, sign * bound))


def _decide(conditions: Sequence[Condition], gone: int) -> tuple[str, "int | None", str]:
    failed = [condition.name for condition in conditions if condition.holds is False]
    opened = [condition for condition in conditions if condition.holds is None]
    if failed:
        return NOT_WINNING, None, ", ".join(_FAILURES[name] for name in failed)
    # The replicates that did not diverge are a selection in the level's favour.
    if gone:
        return INCONCLUSIVE, None, f"{gone} diverged"
    if not opened:
        return WINNING, None, ""
    return INCONCLUSIVE, *_what_settles(opened)


def _what_settles(opened: Sequence[Condition]) -> tuple["int | None", str]:
    # What an inconclusive level needs: another training first, otherwise more replicates.
    missing = [condition.name for condition in opened if condition.difference is None]
    if missing:
        return None, NO_REINIT if missing[0] == "beats reinit" else "dense not trained"
    if any(condition.difference and condition.difference.replicates < 2 for condition in opened):
        return None, "one replicate"
    counts = [condition.needed for condition in opened if condition.needed is not None]
    if len(counts) < len(opened):
        return None, "needs over 1,000 replicates"
    return max(counts), f"needs {max(counts)} replicates"


def levels_sentence(verdicts: Iterable[LevelVerdict]) -> str:
    """Returns a sentence that lists the levels by their verdict, or "" if there are no levels.

    Example:
      >>> levels_sentence([LevelVerdict(level, 0.5, outcome, (), None, "")
      ...                  for level, outcome in enumerate(["winning"] * 3 + ["inconclusive"], 1)])
      'By 95% intervals of paired differences: winning at levels 1-3, inconclusive at level 4.'
    """
    found = list(verdicts)
    parts = [f"{outcome} at {_named(levels)}" for outcome in (WINNING, NOT_WINNING, INCONCLUSIVE)
             if (levels := [item.level for item in found if item.outcome == outcome])]
    return f"By 95% intervals of paired differences: {', '.join(parts)}." if parts else ""


def _named(levels: list[int]) -> str:
    return f"level{'s'[:len(levels) > 1]} {', '.join(ranges(levels))}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a search found winning tickets.

    Attributes:
      level: the sparsest level that wins by intervals, otherwise the sparsest that wins by means,
        otherwise None; for a fit, the sparsest that is as good as the dense network by means.
      sentence: the verdict in one sentence, with its numbers and the number of replicates.

    Example:
      >>> verdict(pd.DataFrame({"early_stop_step": [], "branch": [], "level": []})).sentence
      'No verdict: the dense network is not trained yet.'
    """

    level: int | None
    sentence: str


def verdict(results: pd.DataFrame) -> Verdict:
    """Says whether a run found a winning ticket, by means over replicates.

    A level wins if its ticket stops no later than the dense network, its test accuracy at early
    stop is no lower, and, if the control was trained, it is higher than that of the re-initialised
    network.  (Frankle & Carbin, ICLR 2019, section 1, define the first two; the control shows that
    the initialisation matters.)  The sparsest level that also wins by intervals (`judge_levels`) is
    preferred, and the sentence says whether there is one.  Trainings that diverged count as not
    trained; the sentence says how many there are.
    """
    judged = _judge(trained(results))
    return dataclasses.replace(
        judged, sentence=f"{judged.sentence} {diverged(results)}".rstrip())


def _judge(results: pd.DataFrame) -> Verdict:
    if results.empty or not ((results.branch == "ticket") & (results.level == 0)).any():
        return Verdict(None, "No verdict: the dense network is not trained yet.")
    if "epochs" in results:
        return _judge_fit(results)
    # Means over different replicates cannot be compared: levels that lack one are left out.
    counts = results.groupby(["branch", "level"]).replicate.nunique()
    replicates = int(counts["ticket", 0])
    complete = counts[counts == replicates].index
    means = results.groupby(["branch", "level"])[list(MEASURES)].mean().loc[complete]
    tickets = means.loc["ticket"]
    dense, pruned = tickets.loc[0], tickets.drop(0)
    basis = "one replicate, so it may be chance" if replicates == 1 \
        else f"means of {replicates} replicates"
    if pruned.empty:
        return Verdict(None, "No verdict: no level but the dense network's is trained in each of "
                             f"the replicates ({replicates}).")
    wins = (pruned.early_stop_step <= dense.early_stop_step) & \
        (pruned.test_accuracy_early_stop >= dense.test_accuracy_early_stop)
    compared = "reinit" in means.index.get_level_values("branch")
    if compared:
        control = means.loc["reinit"].test_accuracy_early_stop.reindex(pruned.index)
        wins &= pruned.test_accuracy_early_stop > control
    if not wins.any():
        asked = " and beats its re-initialisation" if compared else ""
        return Verdict(None, "No winning ticket: at no level does the ticket stop as early as the "
                             f"dense network, with test accuracy as high{asked} ({basis}).")
    winning = set(wins[wins].index)
    told = winning & {item.level for item in judge_levels(results) if item.outcome == WINNING}
    level = int(max(told or winning))
    best = pruned.loc[level]
    if replicates > 1 and compared:
        basis += ", told from chance by 95% intervals" if told else ", not told from chance by them"
    against = f", re-initialised {control.loc[level]:.2%}" if compared \
        else "; not compared with a re-initialised network"
    return Verdict(level, (
        f"Winning ticket at level {level} with {best.density:.1%} of the weights: early stop at "
        f"step {best.early_stop_step:,.0f} (dense {dense.early_stop_step:,.0f}), test accuracy "
        f"{best.test_accuracy_early_stop:.2%} (dense {dense.test_accuracy_early_stop:.2%}"
        f"{against}); {basis}."))


def _judge_fit(results: pd.DataFrame) -> Verdict:
    # As _judge, by the measure that the fit has, and without a control.
    good = quality(results)
    if not results[good.column].notna().any():
        return Verdict(None, "No verdict: without validation data there is no early stop, and "
                             "nothing tells how good a level is; give fit validation_data.")
    replicates = results[results.level == 0].replicate.nunique()
    means = results.groupby("level")[["density", "early_stop_step", good.column]].mean()
    complete = results.groupby("level").replicate.nunique() == replicates
    dense, pruned = means.loc[0], means[complete].drop(0)
    basis = "one search, so it may be chance" if replicates == 1 \
        else f"means of {replicates} searches"
    if pruned.empty:
        return Verdict(None, "No verdict: no level but the dense network's is finished"
                             f"{' in each of the searches' if replicates > 1 else ''}.")
    keeps_up = (pruned.early_stop_step <= dense.early_stop_step) & \
        (good.sign * pruned[good.column] >= good.sign * dense[good.column])
    what = good.title.removesuffix(" at early stop")
    if not keeps_up.any():
        as_good = "as high" if good.sign > 0 else "as low"
        return Verdict(None, "At no level does the ticket stop as early as the dense network, with "
                             f"{what} {as_good} ({basis}).")
    level = int(max(keeps_up[keeps_up].index))
    best, form = pruned.loc[level], ".2%" if good.is_share else ".4g"
    return Verdict(level, (
        f"The ticket of level {level}, with {best.density:.1%} of the weights, keeps up with the "
        f"dense network: early stop at step {best.early_stop_step:,.0f} (dense "
        f"{dense.early_stop_step:,.0f}), {what} {best[good.column]:{form}} (dense "
        f"{dense[good.column]:{form}}); {basis}. {_NO_CONTROL}"))
