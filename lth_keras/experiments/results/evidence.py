"""Evidence: what the replicates say of each condition that a winning ticket meets.

    results -> Pairs -> Evidence of a level: its conditions, each with a p-value for and against it

A condition is a set of claims that means over replicates lie above 0, such as "ticket's accuracy -
dense network's accuracy + margin", each tested by `significance.chance`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.controls.known import CONTROLS
from lth_keras.experiments.config.margins import Margins
from lth_keras.experiments.results.record import MACS_LEFT, VALIDATED
from lth_keras.experiments.results.significance import chance, replicates_of_chance
from lth_keras.experiments.results.statistics import (
    Estimate,
    Quality,
    quality,
    relative,
    STEPS,
    student,
    trained,
)

CONTROL = "reinit"
DENSE = "dense"
ERROR = 0.05  # Of all the claims of a run together.
INTERVAL = 1 - 2 * ERROR  # Its ends are the bounds of one-sided tests at ERROR.
_Values = Sequence[Any]  # Of float, one a replicate: above 0 speaks for what is claimed.


@dataclasses.dataclass(frozen=True)
class Difference:
    """A ticket less another network, in the mean over replicates that have both.

    Attributes:
      against: "dense" or "reinit".
      measure: `statistics.STEPS`, or the measure of how good a network is.
      estimate: of accuracies their difference, of steps and losses a share of the other's, each
        with its 90% interval; None if no replicate has both.
    """

    against: str
    measure: Quality
    estimate: Estimate | None


@dataclasses.dataclass(frozen=True, eq=False)
class Condition:
    """One of the statements that make a winning ticket.

    Attributes:
      failure: what is wrong with a level that fails it, in a few words.
      ways: claims, all of which hold in at least one of the ways if the condition holds.
      against: likewise if it fails; none if the runs cannot show that.
    """

    failure: str
    ways: tuple[tuple[_Values, ...], ...]
    against: tuple[tuple[_Values, ...], ...]

    @property
    def p_holds(self) -> float:
        """The p-value of the condition; several ways share the error (Bonferroni)."""
        return _p_of_one(self.ways)

    @property
    def p_fails(self) -> float:
        """The p-value of its failure, likewise."""
        return _p_of_one(self.against)

    @property
    def seems_to_hold(self) -> bool:
        """Whether the means alone say so."""
        return any(all(len(values) and np.mean(values) > 0 for values in way)
                   for way in self.ways)

    @property
    def pairs(self) -> int:
        """How many replicates it rests on."""
        return min(len(values) for way in self.ways for values in way)


def _p_of_one(ways: Sequence[Sequence[_Values]]) -> float:
    return min(1.0, max(1, len(ways)) * min((max(map(chance, way)) for way in ways), default=1.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What the verdict of a level rests on.

    Attributes:
      level: >= 1.
      density: in [0, 1], mean over replicates.
      conditions: those that a winning ticket meets.
      differences: steps and accuracy less the dense network's, then less the control's.
      open: why the level cannot win whatever the tests say; "" if it can.
    """

    level: int
    density: float
    conditions: tuple[Condition, ...]
    differences: tuple[Difference, ...]
    open: str

    @property
    def p_winning(self) -> float:
        """The p-value of all conditions together, not corrected for other levels."""
        return 1.0 if self.open else max(item.p_holds for item in self.conditions)

    @property
    def p_not(self) -> float:
        """The p-value of the failure of at least one of them."""
        return min(1.0, len(self.conditions) * min(item.p_fails for item in self.conditions))

    @property
    def replicates(self) -> int:
        """How many replicates all of them rest on."""
        return min(item.pairs for item in self.conditions)

    @property
    def decided_by(self) -> int:
        """How many the condition rests on that fails most surely: another may have lost all."""
        return min(self.conditions, key=lambda item: item.p_fails).pairs

    @property
    def seems_to_win(self) -> bool:
        """Whether the means alone say so."""
        return all(item.seems_to_hold for item in self.conditions)


class Pairs:
    """The tickets of a run beside the networks that they are compared with, by replicate.

    Attributes:
      good: the measure of how good a network is.
      margins: how much worse still counts as good.
      results: a row a trained network.
      levels: those of tickets that were trained or diverged, but the dense network's.
      controlled: whether a control was trained, or diverged, at any level.
      judged: the levels that are judged: those with a control, or all if there is none.
      retraining: how survivors are trained on, in words, if not from theta_k; "" if so.
      dense: what to call the network of level 0 in full, and in a word: a search in `fit` may begin
        with one that is pruned already.
    """

    def __init__(self, results: pd.DataFrame, margins: Margins, retraining: str = ""):
        self.good, self.margins = quality(results), margins
        self.results, self.retraining = results, retraining
        columns = ["density", STEPS.column, self.good.column]
        means = trained(results).groupby(["branch", "level", "replicate"])[columns].mean()
        tables = {column: means[column].unstack("replicate") for column in columns}
        keys = [(str(branch), int(level)) for branch, level in tables["density"].index]
        self._values = {column: dict(zip(keys, table.to_numpy(float), strict=True))
                        for column, table in tables.items()}
        begun = {(str(branch), int(level)) for branch, level
                 in zip(results.branch, results.level, strict=True)}
        self.levels = sorted(level for branch, level in begun if branch == "ticket" and level)
        controlled = [level for level in self.levels if (CONTROL, level) in begun]
        self.controlled, self.judged = bool(controlled), controlled or self.levels
        density = self.density(0)
        self.dense = (f"the network of level 0 ({density:.1%} of the weights)", "level 0") \
            if "epochs" in results and density < 1 else ("the dense network", DENSE)

    @property
    def wins(self) -> bool:
        """Whether a level that is good enough wins, rather than only matches the dense network."""
        return self.controlled and not self.retraining

    @property
    def compared(self) -> list[Quality]:
        """What is compared: steps too, unless survivors begin with what they have learned."""
        return [self.good] if self.retraining else [STEPS, self.good]

    def of(self, column: str, *networks: tuple[str, int]) -> list[Any]:
        """A measure of each of some networks, in the replicates that have all of them."""
        values = self._values[column]
        if any(network not in values for network in networks):
            return [np.empty(0) for _ in networks]
        rows = np.stack([values[network] for network in networks])
        return list(rows[:, ~np.isnan(rows).any(axis=0)])

    def density(self, level: int) -> float:
        """Of the tickets of a level, in the mean over replicates."""
        return float(self.rows("ticket", level).density.mean())

    def rows(self, branch: str, level: int) -> pd.DataFrame:
        """The rows of the networks of a branch at a level, those that diverged too."""
        return self.results[(self.results.branch == branch) & (self.results.level == level)]

    def margin(self, measure: Quality) -> float:
        """The margin of a measure."""
        return self.margins.steps if measure == STEPS else \
            self.margins.accuracy if measure.is_share else self.margins.loss

    def pair(self, measure: Quality, level: int, against: str) -> list[Any]:
        """A measure of a level's ticket, and of the dense network or the control there."""
        return self.of(measure.column, ("ticket", level),
                       ("ticket", 0) if against == DENSE else (CONTROL, level))

    def advantage(self, measure: Quality, level: int, against: str, slack: float) -> Any:
        """How much better the ticket is than the other network, and by how much it may be worse."""
        ticket, other = self.pair(measure, level, against)
        allowed = slack if measure.is_share else slack * abs(other)
        return measure.sign * (ticket - other) + allowed

    def difference(self, measure: Quality, level: int, against: str) -> Difference:
        """The ticket less the other network, in the mean over replicates."""
        ticket, other = self.pair(measure, level, against)
        found = None if not len(ticket) else student(ticket - other, INTERVAL) \
            if measure.is_share else relative(ticket, other, INTERVAL)
        return Difference(against, measure, found)


def evidence_of(pairs: Pairs, level: int, steps: "int | None") -> Evidence:
    """What the replicates say of a level; `verdicts` has the conditions in words.

    An early stop that is not reached is later than it looks.  So no ticket wins with or against
    one, and none is shown to stop later than such a network.  That it is less accurate in as many
    steps can be shown.

    Args:
      pairs: of the run.
      level: that is judged.
      steps: of each training, where known; an early stop there is not reached.
    """
    def ahead(measure: Quality, against: str, slack: float) -> Any:
        return pairs.advantage(measure, level, against, slack)
    good, conditions, (_, dense) = pairs.good, [], pairs.dense
    margin, lost = pairs.margin(good), pairs.margin(STEPS)
    late = {against: _late(rows, steps) for against, rows in (
        ("ticket", pairs.rows("ticket", level)), (DENSE, pairs.rows("ticket", 0)),
        (CONTROL, pairs.rows(CONTROL, level)))}
    for measure in pairs.compared:
        found = ahead(measure, DENSE, pairs.margin(measure))
        failure = "later" if measure == STEPS else "less accurate" if good.is_share else "worse"
        failure += f" than {dense}"
        unknown = measure == STEPS and late[DENSE]
        conditions.append(Condition(failure, ((found,),), () if unknown else ((-found,),)))
    if pairs.controlled and pairs.retraining:
        conditions.append(Condition(
            "no better than reinit", ((ahead(good, CONTROL, 0),),),
            ((-ahead(good, CONTROL, -margin),),)))
    elif pairs.controlled:
        faster = (ahead(STEPS, CONTROL, 0), ahead(good, CONTROL, margin))
        better = (ahead(good, CONTROL, 0), ahead(STEPS, CONTROL, lost))
        slower, worse = -ahead(STEPS, CONTROL, lost), -ahead(good, CONTROL, margin)
        same = (-ahead(STEPS, CONTROL, -lost), -ahead(good, CONTROL, -margin))
        against = ((worse,),) if late[CONTROL] else (same, (slower,), (worse,))
        conditions.append(Condition("no better than reinit", (faster, better), against))
    return Evidence(level, pairs.density(level), tuple(conditions),
                    differences_of(pairs, level), _why_open(pairs, level, late))


def unreached(rows: pd.DataFrame, steps: "int | None") -> "pd.Series[bool]":
    """Whether the early stop of each training is its last validation, so that it is not reached.

    The validation loss was still falling there, so the early-stop step is only a lower bound.

    Args:
      rows: a row a training, with the columns of `record.COLUMNS`.
      steps: of each training of `lth run`, whose last step is validated; None if not known.

    Example:
      >>> unreached(pd.DataFrame({"branch": "ticket", "density": 0.5,
      ...                         "early_stop_step": [10, 20]}), 20).tolist()
      [False, True]
    """
    if "epochs" in rows and "steps" in rows:
        # Not the round's last step: with `validation_freq`, and where a round ends within an
        # epoch, that is not validated. A fit by an earlier version does not say what was.
        last = rows.steps if VALIDATED not in rows else rows[VALIDATED].fillna(rows.steps)
    elif steps is None:
        last = pd.Series(math.inf, rows.index)
    else:  # Controls with the dense network's budget go on for longer.
        left = rows.density if MACS_LEFT not in rows else rows[MACS_LEFT].fillna(rows.density)
        longer = rows.branch.isin([name for name, control in CONTROLS.items() if control.budget])
        last = (steps / left.where(longer, 1.0).clip(lower=0.5)).round() - longer
    return rows.early_stop_step >= last


def _late(rows: pd.DataFrame, steps: "int | None") -> str:
    late = int(unreached(rows, steps).sum())
    return f"not reached in {late} of {len(rows)}" if late else ""


def _why_open(pairs: Pairs, level: int, late: Mapping[str, str]) -> str:
    tickets, controls = pairs.rows("ticket", level), pairs.rows(CONTROL, level)
    if gone := len(tickets) - len(trained(tickets)):
        return f"{gone} diverged"
    if pairs.controlled and trained(controls).empty:
        return f"{len(controls)} of reinit diverged"
    of = {"ticket": "", DENSE: f"of {pairs.dense[1]} ", CONTROL: f"of {CONTROL} "}
    return next((f"early stop {of[network]}{found}" for network, found in late.items() if found),
                "")


def differences_of(pairs: Pairs, level: int) -> tuple[Difference, ...]:
    """Steps and accuracy of a level's ticket less the dense network's, then less the control's."""
    return tuple(pairs.difference(measure, level, against)
                 for against in ((DENSE, CONTROL) if pairs.controlled else (DENSE,))
                 for measure in (STEPS, pairs.good))


def replicates_to_decide(level: Evidence, tried: int) -> "int | None":
    """How many replicates would decide a level with 80% probability, were all as it is seen.

    That is for the first of Holm's steps; the others ask for less.

    Args:
      level: that is not decided.
      tried: how many levels are judged together.

    Returns:
      At least 2; None if it is above 1,000.
    """
    if level.seems_to_win:
        return max((_least([_enough(way, ERROR / tried / len(item.ways)) for way in item.ways])
                    for item in level.conditions), key=lambda count: count or math.inf)
    return _least([_enough(way, ERROR / tried / len(level.conditions) / len(item.against))
                   for item in level.conditions for way in item.against])


def _enough(claims: Sequence[_Values], error: float) -> "int | None":
    # Replicates for all of some claims; None if one of them does not look true.
    counts = []
    for values in claims:
        found = student(values)
        if found.mean <= 0:
            return None
        counts.append(replicates_of_chance(found, error))
    return None if None in counts else max(filter(None, counts))


def _least(counts: Sequence["int | None"]) -> "int | None":
    return min(filter(None, counts), default=None)
