"""Verdicts: whether a run found a winning ticket, in one sentence, and what each level adds to it.

A ticket of a level wins if three statements are statistically significant, by one-sided tests of
differences that are paired within replicates (`significance.chance`):

    as early         its early stop is not later than the dense network's by more than the margin
    as good          its test accuracy there is not lower by more than the margin
    beats reinit     against the same network re-initialised it is better in one of the two, and not
                     worse in the other by more than the margin

The first two are the hypothesis' "commensurate" (Frankle & Carbin, ICLR 2019, section 1) as a test
of non-inferiority; the margins are stated (`config.margins`).  The third is the paper's control:
re-initialised, "winning tickets no longer match" - they learn more slowly or less well (section 2),
so that either way counts, at half the error each.

A level does not win if one of the three is significantly wrong: later, or worse, by more than the
margin; or later or worse than the control by more than the margin, or ahead of it by less than the
margin in both.  Otherwise it is inconclusive.

The levels that are judged are those at which the control is trained: `--branches ticket,reinit@7`
makes the claim for level 7, chosen beforehand.  Where there are several they are corrected for
(`significance.holm`), so that with 95% probability no level is called winning that is not, and
likewise none "not winning" that wins.  A run wins if a level does.

Where survivors are not rewound (`--set retraining=learning_rate_rewinding`), they begin with what
they have learned: steps are not compared, and what is as good as the dense network, and better than
the control where one is trained, is called "matching" and no ticket.

A search in `fit` trains no control.  Its levels are judged by the first two, on its validation data
(`statistics.quality`), and called "matching" (Frankle et al., ICML 2020), not winning.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from lth_keras.experiments.config.branches import ranges
from lth_keras.experiments.config.margins import DEFAULT, Margins
from lth_keras.experiments.results.evidence import (
    CONTROL,
    DENSE,
    Difference,
    differences_of,
    ERROR,
    Evidence,
    evidence_of,
    Pairs,
    replicates_to_decide,
)
from lth_keras.experiments.results.significance import holm, MOST_REPLICATES
from lth_keras.experiments.results.statistics import (
    diverged,
    Quality,
    quality,
    STEPS,
    trained,
)

WINNING, MATCHING, NOT_WINNING, INCONCLUSIVE = "winning", "matching", "not winning", "inconclusive"
NOT_JUDGED, NO_VERDICT = "not judged", "no verdict"


@dataclasses.dataclass(frozen=True)
class LevelVerdict:
    """Whether the tickets of a level are winning.

    Attributes:
      level: >= 1.
      density: in [0, 1], mean over replicates.
      outcome: "winning", "matching", "not winning", "inconclusive" or "not judged".
      why: what decided it if it does not win, in a few words; "" if it does.
      needed: replicates that would settle an inconclusive level with 80% probability were the true
        differences and deviations those seen; None if it is settled, or that is unknown.
      differences: steps and accuracy less the dense network's, then less the control's.
      p_winning: of the claim that it wins (of a fit: matches), corrected for the levels judged;
        None if it is not judged.
      p_not: likewise of the claim that it does not.
    """

    level: int
    density: float
    outcome: str
    why: str
    needed: int | None
    differences: tuple[Difference, ...]
    p_winning: float | None = None
    p_not: float | None = None

    def __str__(self) -> str:
        return f"{self.outcome}: {self.why}" if self.why else self.outcome


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a run found a winning ticket; all that prints a verdict prints this one.

    Attributes:
      outcome: "winning", "matching", "not winning", "inconclusive" or "no verdict".
      level: the sparsest level that wins (of a fit: matches), or None.
      sentence: the verdict in one sentence, with its figures, margins and replicates.
      levels: the verdict of every level that has a trained ticket, but the dense network's.
      margins: what counts as good.
      retraining: how survivors are trained on, in words, if not from theta_k; "" if so.
    """

    outcome: str
    level: int | None
    sentence: str
    levels: tuple[LevelVerdict, ...]
    margins: Margins
    retraining: str = ""

    def plain(self) -> dict[str, Any]:
        """The verdict as plain data that JSON can hold."""
        levels = [{"level": item.level, "density": item.density, "outcome": item.outcome,
                   "why": item.why, "p_winning": item.p_winning, "p_not": item.p_not}
                  for item in self.levels]
        return {"outcome": self.outcome, "level": self.level, "sentence": self.sentence,
                "margins": dataclasses.asdict(self.margins), "error": ERROR, "levels": levels}


def judge(results: pd.DataFrame, margins: Margins = DEFAULT, steps: int | None = None,
          retraining: str = "") -> Verdict:
    """The verdict of a run, and that of each of its levels.

    Trainings that diverged count as not trained; a level at which a ticket diverged does not win,
    since the replicates that are left would flatter it.  Nor does one at which an early stop is the
    last step, of a ticket, of the dense network or of the control: it is not reached, and the
    network later and better than it looks.

    Args:
      results: a row a trained network, with the columns of `record.COLUMNS`.
      margins: what still counts as good.
      steps: of each training, where known; a fit's are in its results.
      retraining: how survivors are trained on, in words, if not from theta_k; "" if so.
    """
    why = _nothing_to_judge(results)
    said = f" {diverged(results)}".rstrip()
    if why:
        return Verdict(NO_VERDICT, None, f"No verdict: {why}{said}", (), margins)
    pairs = Pairs(results, margins, retraining)
    tried = [evidence_of(pairs, level, steps) for level in pairs.judged]
    winning = holm(level.p_winning for level in tried)
    losing = holm(level.p_not for level in tried)
    judged = [_decide(level, won, lost, pairs, len(tried))
              for level, won, lost in zip(tried, winning, losing, strict=True)]
    levels = {item.level: item for item in judged}
    for level in pairs.levels:
        if level not in levels:
            levels[level] = LevelVerdict(
                level, pairs.density(level), NOT_JUDGED, "no reinit", None,
                differences_of(pairs, level))
    outcome = _of_run([item.outcome for item in judged])
    winner = max((item.level for item in judged if item.outcome in (WINNING, MATCHING)),
                 default=None)
    sentence = _SENTENCES[outcome](judged, tried, pairs)
    return Verdict(outcome, winner, sentence + said,
                   tuple(levels[level] for level in pairs.levels), margins, retraining)


def _nothing_to_judge(results: pd.DataFrame) -> str:
    rows = trained(results)
    tickets = rows[rows.branch == "ticket"]
    if not (tickets.level == 0).any():
        gone = ((results.branch == "ticket") & (results.level == 0)).any()
        return "the dense network diverged in every replicate." if gone else \
            "the dense network is not trained yet."
    if not rows[quality(results).column].notna().any():
        return ("without validation data there is no early stop, and nothing tells how good a "
                "level is; give fit validation_data.")
    if (tickets.level > 0).any():
        return ""
    gone = ((results.branch == "ticket") & (results.level > 0)).any()
    return "all pruned tickets diverged." if gone else "no pruned ticket is trained yet."


def _decide(level: Evidence, won: float, lost: float, pairs: Pairs, tried: int) -> LevelVerdict:
    outcome, needed, why = INCONCLUSIVE, None, ""
    if won <= ERROR:
        outcome = WINNING if pairs.wins else MATCHING
    elif lost <= ERROR:
        outcome = NOT_WINNING
        why = ", ".join(item.failure for item in level.conditions
                        if len(level.conditions) * item.p_fails <= ERROR)
    elif _is_one(pairs) and level.replicates:
        why = "one replicate"
    elif level.open:
        why = level.open
    elif level.replicates < 2:
        why = f"{'only one' if level.replicates else 'no'} replicate has both networks"
    else:
        needed = replicates_to_decide(level, tried)
        why = f"needs over {MOST_REPLICATES:,} replicates" if needed is None else \
            f"needs {needed} replicates"
    return LevelVerdict(level.level, level.density, outcome, why, needed, level.differences, won,
                        lost)


def _is_one(pairs: Pairs) -> bool:
    return pairs.results.replicate.nunique() == 1


def _of_run(outcomes: Sequence[str]) -> str:
    for outcome in (WINNING, MATCHING):
        if outcome in outcomes:
            return outcome
    return NOT_WINNING if {*outcomes} == {NOT_WINNING} else INCONCLUSIVE


# The sentences.


def _said_won(judged: Sequence[LevelVerdict], tried: Sequence[Evidence], pairs: Pairs) -> str:
    winners = [item.level for item in judged if item.outcome in (WINNING, MATCHING)]
    best = next(level for level in tried if level.level == winners[-1])
    what = f"{'Winning' if pairs.wins else 'Matching'} {_noun(pairs)}"
    opening = f"{what} at level {best.level} with {best.density:.1%} of the weights: " \
        if len(winners) == 1 else (f"{what}s at levels {', '.join(ranges(winners))}; the "
                                   f"sparsest, with {best.density:.1%} of the weights, is ")
    unknown = "" if pairs.controlled or pairs.retraining else \
        "; whether it wins is not known, since no re-initialised network was trained"
    return (f"{opening}{_good_enough(pairs)} ({_figures(best, pairs)}; "
            f"{_basis([best.replicates], tried, pairs)}){unknown}{_not_rewound(pairs)}.")


def _said_lost(judged: Sequence[LevelVerdict], tried: Sequence[Evidence], pairs: Pairs) -> str:
    what = f"No {'winning' if pairs.wins else 'matching'} {_noun(pairs)}"
    if len(judged) > 1:
        return (f"{what}: at none of the {len(judged)} levels tried is it {_good_enough(pairs)} "
                f"({_basis([level.decided_by for level in tried], tried, pairs)})"
                f"{_not_rewound(pairs)}.")
    level = tried[0]
    return (f"{what}: that of level {level.level}, with {level.density:.1%} of the "
            f"weights, is {judged[0].why.replace('reinit', 're-initialised')}, beyond the margins "
            f"of {_margins(pairs)} ({_figures(level, pairs)}; "
            f"{_basis([level.decided_by], tried, pairs)}){_not_rewound(pairs)}.")


def _said_open(judged: Sequence[LevelVerdict], tried: Sequence[Evidence], pairs: Pairs) -> str:
    still = [item.level for item in judged if item.outcome == INCONCLUSIVE]
    found = {level.level: level for level in tried}
    most = max(found[level].replicates for level in still)
    verb, noun = "wins" if pairs.wins else f"matches {pairs.dense[0]}", _noun(pairs)
    what = f"the {noun} of level {still[0]}, with {found[still[0]].density:.1%} of the weights, " \
        f"{verb}" if len(still) == 1 else f"a {noun} of levels {', '.join(ranges(still))} {verb}"
    lost = [item.level for item in judged if item.outcome == NOT_WINNING]
    others = f"; not winning at {_named(lost)}" if lost else ""
    if _is_one(pairs):
        return _said_of_one([found[level] for level in still], pairs, others)
    easiest = min((item for item in judged if item.level in still),
                  key=lambda item: (item.needed or math.inf, item.p_winning or 0.0))
    where = f" at level {easiest.level}" if len(still) > 1 else ""
    enough = f"about {easiest.needed} would be enough{where}" if easiest.needed else \
        f"even {MOST_REPLICATES:,} would not be enough"
    why = f"it is not known whether {what}: {easiest.why}{where}" \
        if found[easiest.level].open or most < 2 else \
        f"{_count(most, pairs)} are too few to tell whether {what}; {enough}"
    figures = f"{_figures(found[easiest.level], pairs)}; " \
        if len(judged) == 1 and found[easiest.level].replicates else ""
    return (f"Inconclusive: {why}{others} ({figures}margins {_margins(pairs)})"
            f"{_not_rewound(pairs)}.")


def _said_of_one(still: Sequence[Evidence], pairs: Pairs, others: str) -> str:
    means = [level for level in still if level.seems_to_win]
    best = f"none is within the margins of {_margins(pairs)}"
    if means:
        but = f" ({means[-1].open})" if means[-1].open else ""
        best = f"the sparsest that is within the margins of {_margins(pairs)} is level " \
            f"{means[-1].level}, with {means[-1].density:.1%} of the weights{but}"
    remedy = "repeat the search with other seeds and report the workdirs together" \
        if "epochs" in pairs.results else "take five or more, as the paper does (--replicates 5)"
    one = "one search" if "epochs" in pairs.results else "one replicate"
    return (f"Inconclusive: {one} is too few for any statistical test; {remedy}; by its numbers "
            f"alone {best}{others}{_not_rewound(pairs)}.")


def _noun(pairs: Pairs) -> str:
    return "network" if pairs.retraining else "ticket"


def _not_rewound(pairs: Pairs) -> str:
    return f"; by {pairs.retraining}: weights are not rewound, so that it is no ticket, and how " \
        "soon it stops tells nothing" if pairs.retraining else ""


def _good_enough(pairs: Pairs) -> str:
    fast = "as fast and " if STEPS in pairs.compared else ""
    ending = ", and better than re-initialised" if pairs.controlled else ""
    return (f"{fast}as {'accurate' if pairs.good.is_share else 'good'} as {pairs.dense[0]}, "
            f"within {_margins(pairs, 'its')}{ending}")


def _margins(pairs: Pairs, whose: str = "") -> str:
    _, word = pairs.dense
    whose = whose or ("the dense network's" if word == DENSE else f"{word}'s")
    return margins_text(pairs.margins, pairs.good, whose, pairs.retraining)


def margins_text(margins: Margins, good: Quality, whose: str = "the dense network's",
                 retraining: str = "") -> str:
    """Margins in words: the steps if they are compared, and what says how good a network is.

    Example:
      >>> from lth_keras.experiments.results.statistics import TEST
      >>> margins_text(DEFAULT, TEST)
      "19% of the dense network's steps and 0.2 points"
    """
    worse = f"{margins.accuracy * 100:g} point{'s'[:margins.accuracy != 0.01]}" \
        if good.is_share else f"{margins.loss * 100:g}% of {whose} loss"
    return worse if retraining else f"{margins.steps * 100:g}% of {whose} steps and {worse}"


def _figures(level: Evidence, pairs: Pairs) -> str:
    _, word = pairs.dense
    networks = {"": ("ticket", level.level),
                f"{word} " if word == DENSE else f"{word}: ": ("ticket", 0)} | (
        {"re-initialised ": (CONTROL, level.level)} if pairs.controlled else {})
    # All replicates of a network may have diverged.
    networks = {name: network for name, network in networks.items()
                if len(trained(pairs.rows(*network)))}
    lines = []
    for measure in pairs.compared:
        title, form = ("early stop at step", ",.0f") if measure == STEPS else (
            pairs.good.title.removesuffix(" at early stop"), ".2%" if measure.is_share else ".4g")
        values = zip(networks, pairs.of(measure.column, *networks.values()), strict=True)
        lines.append(f"{title} " + ", ".join(
            f"{name}{of_one.mean():{form}}" for name, of_one in values))
    return "; ".join(lines)


def _basis(counts: Sequence[int], tried: Sequence[Evidence], pairs: Pairs) -> str:
    over = f" over the {len(tried)} levels tried" if len(tried) > 1 else ""
    span = f"{min(counts)} to " if min(counts) < max(counts) else ""
    return f"{span}{_count(max(counts), pairs)}, error at most {ERROR:.0%}{over}"


def _count(replicates: int, pairs: Pairs) -> str:
    what = "search" if "epochs" in pairs.results else "replicate"
    plural = {"search": "searches", "replicate": "replicates"}[what]
    return f"one {what}" if replicates == 1 else f"{replicates} {plural}"


def _named(levels: Sequence[int]) -> str:
    return f"level{'s'[:len(levels) > 1]} {', '.join(ranges(levels))}"


_SENTENCES: dict[str, Callable[[Sequence[LevelVerdict], Sequence[Evidence], Pairs], str]] = {
    WINNING: _said_won, MATCHING: _said_won, NOT_WINNING: _said_lost, INCONCLUSIVE: _said_open}
