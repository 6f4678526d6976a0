import math

import pytest
from rows import rows

from lth_keras.experiments.results import statistics, verdicts
from lth_keras.experiments.results.verdicts import judge_levels, Margins


def level_1(*replicates):
    """Rows of replicates, each (dense step, dense accuracy, ticket's, ticket's, reinit's)."""
    return rows(*(training for number, (step, accuracy, tickets, ticket, reinit)
                  in enumerate(replicates) for training in (
                      (number, "ticket", 0, step, accuracy), (number, "ticket", 1, tickets, ticket),
                      (number, "reinit", 1, 500, reinit))))


WINS = ((100, 0.90, 50, 0.93, 0.80), (110, 0.91, 70, 0.95, 0.82), (120, 0.90, 60, 0.93, 0.80))


def only(results, margins=verdicts.EXACT):
    (found,) = judge_levels(results, margins)
    return found


def test_a_level_wins_if_all_three_conditions_are_told_from_chance():
    found = only(level_1(*WINS))
    assert (found.level, found.outcome, found.needed, str(found)) == (1, "winning", None, "winning")
    assert found.density == 0.5
    assert [condition.holds for condition in found.conditions] == [True] * 3
    early, accurate, control = (condition.difference for condition in found.conditions)
    assert early.mean == pytest.approx(-50) and early.high < 0
    assert accurate.mean == pytest.approx(0.1 / 3) and accurate.low > 0
    assert control.mean == pytest.approx(0.13) and control.replicates == 3


@pytest.mark.parametrize("column, values, why", [
    (2, (150, 170, 160), "later than dense"),
    (3, (0.83, 0.85, 0.83), "less accurate than dense"),
    (4, (0.97, 0.98, 0.96), "no better than reinit"),
])
def test_a_condition_that_fails_flips_the_verdict(column, values, why):
    changed = [(*row[:column], value, *row[column + 1:])
               for row, value in zip(WINS, values, strict=True)]
    found = only(level_1(*changed))
    assert (found.outcome, found.why, found.needed) == ("not winning", why, None)


def test_exactly_as_early_and_as_accurate_as_dense_is_as_good():
    found = only(level_1((100, 0.90, 100, 0.90, 0.80), (110, 0.91, 110, 0.91, 0.82)))
    assert found.outcome == "winning"


def test_exactly_as_accurate_as_reinit_is_not_better_and_no_proof_of_worse():
    found = only(level_1(*((*row[:4], row[3]) for row in WINS)))
    assert (found.outcome, found.needed) == ("inconclusive", None)
    assert found.conditions[2].holds is None and found.conditions[2].difference.high == 0


def test_an_interval_that_includes_the_margin_is_inconclusive_with_the_replicates_needed():
    unsure = level_1((100, 0.90, 80, 0.93, 0.80), (100, 0.91, 100, 0.95, 0.82),
                     (100, 0.90, 60, 0.93, 0.80))  # Steps: -20, 0, -40; an effect of 1.
    found = only(unsure)
    assert (found.outcome, found.needed) == ("inconclusive", 10)
    assert str(found) == "inconclusive: needs 10 replicates"
    assert [condition.holds for condition in found.conditions] == [None, True, True]
    assert only(unsure, Margins(steps=50)).outcome == "winning"
    # A margin that the difference is further from takes fewer: an effect of 1.5.
    assert only(unsure, Margins(steps=10)).needed == \
        statistics.replicates_needed(statistics.student([-20, 0, -40]), margin=10) == 6


def test_more_replicates_of_the_same_spread_settle_an_inconclusive_level():
    rows_of = [(100, 0.90, 80, 0.93, 0.80), (100, 0.91, 100, 0.95, 0.82),
               (100, 0.90, 60, 0.93, 0.80)]
    assert only(level_1(*rows_of)).outcome == "inconclusive"
    assert only(level_1(*rows_of * 4)).outcome == "winning"


def test_a_margin_lets_a_ticket_be_a_little_worse():
    worse = level_1(*((step, accuracy, step + 5, accuracy - 0.002, 0.8)
                      for step, accuracy in ((100, 0.9), (120, 0.91), (110, 0.92))))
    found = only(worse)
    assert found.outcome == "not winning"
    assert found.why == "later than dense, less accurate than dense"
    assert only(worse, Margins(steps=5, accuracy=0.002)).outcome == "winning"
    assert only(worse, Margins(steps=4, accuracy=0.002)).why == "later than dense"
    assert only(worse, Margins(steps=5, accuracy=0.001)).why == "less accurate than dense"


def test_one_replicate_settles_nothing():
    found = only(level_1(WINS[0]))
    assert (str(found), found.needed) == ("inconclusive: one replicate", None)
    assert math.isnan(found.conditions[0].difference.low)


def test_without_its_control_a_level_does_not_win_but_it_can_fail():
    table = level_1(*WINS)
    assert str(only(table[table.branch == "ticket"])) == "inconclusive: no reinit"
    late = level_1(*((step, accuracy, step + late, 0.95, 0.5)
                     for late, (step, accuracy, *_) in enumerate(WINS, 50)))
    assert str(only(late[late.branch == "ticket"])) == "not winning: later than dense"
    assert str(only(table[table.level == 1])) == "inconclusive: dense not trained"


def test_a_level_at_which_a_ticket_diverged_does_not_win_whatever_the_others_do():
    diverged = level_1(*WINS, (100, 0.90, None, None, 0.80))
    assert str(only(diverged)) == "inconclusive: 1 diverged"
    assert [c.difference.replicates for c in only(diverged).conditions] == [3, 3, 3]
    # Of the dense network or the control, it is a pair less.
    assert only(level_1(*WINS, (None, None, 50, 0.93, None))).outcome == "winning"


def test_no_number_of_replicates_tells_a_ticket_that_is_exactly_as_good():
    found = only(level_1((100, 0.9, 90, 0.95, 0.5), (100, 0.9, 110, 0.95, 0.5)))
    assert (found.outcome, found.needed) == ("inconclusive", None)
    assert found.why == "needs over 1,000 replicates"


def test_the_sentence_names_the_levels_of_each_outcome():
    table = rows(*((replicate, "ticket", level, step + replicate, 0.9 + accuracy)
                   for replicate in range(3)
                   for level, step, accuracy in ((0, 100, 0), (1, 50, 0), (2, 150, 0))),
                 *((replicate, "reinit", 1, 50, 0.5) for replicate in range(3)))
    assert verdicts.levels_sentence(judge_levels(table)) == (
        "By 95% intervals of paired differences: winning at level 1, not winning at level 2.")
    assert verdicts.levels_sentence([]) == "" and judge_levels(table[:1]) == []


def test_the_verdict_is_the_sparsest_level_that_wins():
    verdict = verdicts.verdict(rows(
        (0, "ticket", 0, 100, 0.90), (0, "ticket", 1, 80, 0.95), (0, "ticket", 2, 100, 0.90),
        (0, "reinit", 1, 200, 0.80), (0, "reinit", 2, 200, 0.80)))
    assert verdict.level == 2
    assert "25.0% of the weights" in verdict.sentence
    assert "step 100 (dense 100)" in verdict.sentence
    assert "90.00% (dense 90.00%, re-initialised 80.00%)" in verdict.sentence
    assert "one replicate, so it may be chance" in verdict.sentence


@pytest.mark.parametrize("step, accuracy, control", [
    (101, 0.95, 0.80),  # stops later
    (80, 0.89, 0.80),  # less accurate than dense
    (80, 0.95, 0.95),  # no better than its re-initialisation
])
def test_a_ticket_that_fails_one_condition_does_not_win(step, accuracy, control):
    verdict = verdicts.verdict(rows((0, "ticket", 0, 100, 0.90), (0, "ticket", 1, step, accuracy),
                                 (0, "reinit", 1, 200, control)))
    assert verdict.level is None and verdict.sentence.startswith("No winning ticket")


def test_the_verdict_rests_on_means_over_replicates():
    verdict = verdicts.verdict(rows(
        (0, "ticket", 0, 100, 0.90), (1, "ticket", 0, 200, 0.92),
        (0, "ticket", 1, 120, 0.93), (1, "ticket", 1, 180, 0.93)))
    assert verdict.level == 1
    assert "step 150 (dense 150)" in verdict.sentence and "means of 2 repl" in verdict.sentence
    assert "not compared with a re-initialised network" in verdict.sentence


@pytest.mark.parametrize("trainings", [[], [(0, "ticket", 0, 100, 0.9)], [(0, "reinit", 1, 1, 1)]])
def test_there_is_no_verdict_without_dense_and_pruned_networks(trainings):
    verdict = verdicts.verdict(rows(*trainings))
    assert verdict.level is None and verdict.sentence.startswith("No verdict")


def test_a_level_whose_control_is_not_trained_yet_does_not_win():
    verdict = verdicts.verdict(rows((0, "ticket", 0, 100, 0.90), (0, "ticket", 1, 90, 0.95),
                                 (0, "reinit", 1, 200, 0.80), (0, "ticket", 2, 90, 0.95)))
    assert verdict.level == 1


def test_only_levels_that_every_replicate_has_reached_are_judged():
    verdict = verdicts.verdict(rows(
        (0, "ticket", 0, 100, 0.90), (1, "ticket", 0, 100, 0.90),
        (0, "ticket", 1, 90, 0.95), (1, "ticket", 1, 90, 0.95), (0, "ticket", 2, 90, 0.95)))
    assert verdict.level == 1
    unfinished = rows((0, "ticket", 0, 100, 0.9), (1, "ticket", 0, 100, 0.9),
                      (0, "ticket", 1, 90, 0.95))
    assert verdicts.verdict(unfinished).sentence.startswith("No verdict: no level")


def test_a_level_at_which_a_replicate_diverged_does_not_win_and_is_counted():
    all_of_them = rows((0, "ticket", 0, 100, 0.90), (1, "ticket", 0, 100, 0.90),
                       (0, "ticket", 1, 90, 0.95), (1, "ticket", 1, 90, 0.95),
                       (0, "ticket", 2, 90, 0.95), (1, "ticket", 2, None, None))
    verdict = verdicts.verdict(all_of_them)
    assert verdict.level == 1 and verdict.sentence.endswith(". 1 of 6 trainings diverged.")
    assert verdicts.verdict(all_of_them[:4]).sentence.endswith("means of 2 replicates.")


@pytest.mark.parametrize(("apart", "said"), [(0, "told from chance by 95% intervals."),
                                             (30, "not told from chance by them.")])
def test_the_sentence_says_whether_the_means_are_told_from_chance(apart, said):
    table = rows(*((replicate, "ticket", 0, 100 + replicate * apart, 0.90)
                   for replicate in range(3)),
                 *((replicate, branch, 1, 90 + (replicate == 1) * apart, accuracy)
                   for replicate in range(3) for branch, accuracy in
                   (("ticket", 0.95), ("reinit", 0.85))))
    assert verdicts.verdict(table).level == 1
    assert verdicts.verdict(table).sentence.endswith(said)


def test_a_level_that_is_told_from_chance_goes_before_a_sparser_one_that_is_not():
    table = rows(*((replicate, "ticket", 0, 100, 0.90) for replicate in range(3)),
                 *((replicate, branch, level, 90 + (level == 2) * 9 * replicate, accuracy)
                   for replicate in range(3) for level in (1, 2)
                   for branch, accuracy in (("ticket", 0.95), ("reinit", 0.85))))
    assert verdicts.verdict(table).level == 1
    assert verdicts.verdict(table[table.level != 1]).level == 2
