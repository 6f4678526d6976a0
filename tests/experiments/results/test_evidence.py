import numpy as np
import pytest
from rows import rows

from lth_keras.experiments.config.margins import Margins
from lth_keras.experiments.results.evidence import (
    Condition,
    ERROR,
    evidence_of,
    INTERVAL,
    Pairs,
    replicates_to_decide,
)
from lth_keras.experiments.results.significance import chance
from lth_keras.experiments.results.statistics import quality, relative, STEPS, student

GOOD, BETTER, BAD = [1.0, 2.0, 3.0], [1.1, 1.2, 1.3], [-1.0, 2.0, 0.5]


def test_all_claims_of_a_way_must_hold_and_several_ways_share_the_error():
    assert Condition("", ((GOOD, BETTER),), ()).p_holds == chance(GOOD) > chance(BETTER)
    assert Condition("", ((GOOD,), (BETTER,)), ()).p_holds == 2 * chance(BETTER)
    assert Condition("", ((BAD,), (BAD,)), ()).p_holds <= 1.0
    assert Condition("", ((GOOD,),), ((BETTER, GOOD),)).p_fails == chance(GOOD)
    assert Condition("", ((GOOD,),), ((BETTER,), (GOOD,))).p_fails == 2 * chance(BETTER)
    assert Condition("", ((GOOD,),), ()).p_fails == 1.0


@pytest.mark.parametrize(("late", "fails"), [
    ("ticket", (1, 1, 3)), ("dense", (0, 1, 3)), ("reinit", (1, 1, 1))])
def test_no_ticket_is_later_than_what_stops_later_than_the_last_step(late, fails):
    # A ticket that is later and worse than both, in all ways.
    found = rows(*(training for number in range(6) for training in (
        (number, "ticket", 0, 100 + number, 0.9), (number, "ticket", 1, 300 + 9 * number, 0.8),
        (number, "reinit", 1, 150 - number, 0.88 + number / 1e4))))
    network = {"ticket": ("ticket", 1), "dense": ("ticket", 0), "reinit": ("reinit", 1)}[late]
    level = evidence_of(Pairs(found, Margins()), 1, None)
    assert [item.p_fails < 0.05 for item in level.conditions] == [True] * 3 and not level.open
    found.loc[(found.branch == network[0]) & (found.level == network[1]) & (found.replicate == 0),
              "early_stop_step"] = 1000
    level = evidence_of(Pairs(found, Margins()), 1, 1000)
    shown = tuple(len(item.against) for item in level.conditions)
    assert shown == fails and level.p_winning == 1.0
    assert level.open == "early stop " + ("" if late == "ticket" else f"of {late} ") + \
        "not reached in 1 of 6"


def table(steps=(100, 120, 110), controls=(200, 200, 210)):
    return rows(*(training for number, (dense, control) in enumerate(
        zip((110, 115, 125), controls, strict=True)) for training in (
            (number, "ticket", 0, dense, 0.9), (number, "ticket", 1, steps[number], 0.91),
            (number, "reinit", 1, control, 0.8 + number / 100))))


def test_a_replicate_counts_if_it_has_both_networks():
    pairs = Pairs(table()[lambda found: ~((found.replicate == 1) & (found.level == 0))], Margins())
    assert [values.tolist() for values in pairs.pair(STEPS, 1, "dense")] == [[100, 110], [110, 125]]
    assert pairs.pair(STEPS, 1, "reinit")[1].tolist() == [200, 200, 210]
    assert pairs.advantage(STEPS, 1, "dense", 0.1).tolist() == pytest.approx([21, 27.5])
    good = quality(pairs.results)
    assert pairs.advantage(good, 1, "reinit", 0.01).tolist() == pytest.approx([0.12, 0.11, 0.1])


@pytest.mark.parametrize("measure", ["early_stop_step", "test_accuracy_early_stop"])
def test_the_ends_of_the_intervals_are_where_the_tests_decide(measure):
    rng = np.random.default_rng(0)
    one, other = rng.normal(90, 9, 7), rng.normal(100, 9, 7)
    if measure == "early_stop_step":
        found = relative(one, other, INTERVAL)
        assert chance((1 + found.high) * other - one) == pytest.approx(ERROR)
        assert chance(one - (1 + found.low) * other) == pytest.approx(ERROR)
        assert found.mean == pytest.approx(one.mean() / other.mean() - 1)
    else:
        found = student(one - other, INTERVAL)
        assert chance(found.high - (one - other)) == pytest.approx(ERROR)
        assert chance(one - other - found.low) == pytest.approx(ERROR)


def test_a_ratio_to_what_may_be_nothing_has_no_interval():
    found = relative([1.0, 2.0], [-5.0, 6.0])
    assert np.isnan(found.low) and np.isnan(found.high) and found.mean == pytest.approx(2.0)
    assert np.isnan(relative([1.0], [2.0]).low) and relative([1.0], [2.0]).mean == -0.5


def test_more_levels_ask_for_more_replicates():
    level = evidence_of(Pairs(table(), Margins()), 1, None)
    assert level.seems_to_win and level.replicates == 3
    needed = [replicates_to_decide(level, tried) for tried in (1, 4, 16)]
    assert needed == sorted(needed) and needed[0] < needed[-1]
    late = evidence_of(Pairs(table(steps=(400, 100, 900)), Margins()), 1, None)
    assert not late.seems_to_win and replicates_to_decide(late, 1) > 3
