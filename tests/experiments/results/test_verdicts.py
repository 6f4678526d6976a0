import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from rows import rows

from lth_keras.experiments.config.margins import DEFAULT, Margins
from lth_keras.experiments.results.evidence import ERROR
from lth_keras.experiments.results.verdicts import judge

EXACT = Margins(accuracy=0.0, steps=0.0)


def level_1(*replicates):
    """Rows of replicates, each (dense step, dense accuracy, ticket's, ticket's, reinit's)."""
    return rows(*(training for number, (step, accuracy, tickets, ticket, reinit)
                  in enumerate(replicates) for training in (
                      (number, "ticket", 0, step, accuracy), (number, "ticket", 1, tickets, ticket),
                      (number, "reinit", 1, 500, reinit))))


WINS = ((100, 0.90, 50, 0.93, 0.80), (110, 0.91, 70, 0.95, 0.82), (120, 0.90, 60, 0.93, 0.79))
# Exactly as good as dense in the mean, with a spread that the margins allow for.
AS_GOOD = tuple((100, 0.90, 100 + late, 0.90 + better, 0.80) for late, better in
                ((-4, 0.001), (4, -0.001), (-2, 0.0), (2, 0.0), (0, 0.0005), (0, -0.0005)))


def diverged(results):
    """The same rows; trainings without an accuracy have diverged."""
    gone = results.test_accuracy_early_stop.isna()
    return results.assign(early_stop_step=results.early_stop_step.mask(gone),
                          diverged_at_step=np.where(gone, 7.0, np.nan))


def only(results, margins=DEFAULT, steps=None):
    (found,) = judge(results, margins, steps).levels
    return found


def test_a_level_wins_if_all_three_are_told_from_chance():
    verdict = judge(level_1(*WINS))
    (found,) = verdict.levels
    assert (verdict.outcome, verdict.level, str(found)) == ("winning", 1, "winning")
    assert (found.level, found.density, found.needed) == (1, 0.5, None)
    later, better, later_than_reinit, above_reinit = (
        difference.estimate for difference in found.differences)
    assert later.mean == pytest.approx(180 / 330 - 1) and later.high < 0
    assert better.mean == pytest.approx(0.1 / 3) and better.low > 0
    assert later_than_reinit.mean == pytest.approx(180 / 1500 - 1)
    assert above_reinit.mean == pytest.approx(0.4 / 3) and above_reinit.replicates == 3


@pytest.mark.parametrize("column, values, why", [
    (2, (150, 170, 160), "later than dense"),
    (3, (0.83, 0.85, 0.83), "less accurate than dense")])
def test_a_condition_that_is_told_to_fail_makes_a_level_not_winning(column, values, why):
    changed = [(*row[:column], value + (number == 3) * value / 50, *row[column + 1:])
               for number, (row, value) in enumerate(zip(WINS * 2, values * 2, strict=True))]
    verdict = judge(level_1(*changed))
    assert (verdict.outcome, verdict.level) == ("not winning", None)
    assert verdict.levels[0].why == why and verdict.sentence.startswith(
        f"No winning ticket: that of level 1, with 50.0% of the weights, is {why}, beyond the "
        "margins of 19% of the dense network's steps and 0.2 points (early stop at step ")


def test_a_ticket_that_is_exactly_as_good_as_dense_wins_within_the_margins_and_not_without():
    assert only(level_1(*AS_GOOD)).outcome == "winning"
    assert str(only(level_1(*AS_GOOD), EXACT)) == "inconclusive: needs over 1,000 replicates"


def test_a_ticket_no_better_than_reinit_to_within_the_margins_does_not_win():
    same = level_1(*((100, 0.90, 100, 0.90, 0.90 + off) for off in (0.0003, -0.0003, 0, 0.0001, 0)))
    same.loc[same.branch == "reinit", "early_stop_step"] = [98, 102, 103, 98, 100]
    assert str(only(same)) == "not winning: no better than reinit"
    # One of the two is enough to be better, and is not if the other is worse.
    faster = same.copy()
    faster.loc[faster.branch == "reinit", "early_stop_step"] *= 2
    assert str(only(faster)) == "winning"
    faster.loc[faster.branch == "reinit", "test_accuracy_early_stop"] += 0.01
    assert only(faster).outcome != "winning"


def test_margins_are_shares_of_steps_and_points_of_accuracy():
    worse = level_1(*((step, accuracy, round(step * late), accuracy - lower, 0.7 + lower)
                      for step, accuracy, late, lower in (
                          (100, 0.90, 1.05, 0.0020), (200, 0.91, 1.06, 0.0021),
                          (150, 0.92, 1.04, 0.0019), (100, 0.90, 1.05, 0.0020))
                      for _ in range(2)))
    assert only(worse, Margins(steps=0.07, accuracy=0.0025)).outcome == "winning"
    assert only(worse, Margins(steps=0.03, accuracy=0.0025)).why == "later than dense"
    assert only(worse, Margins(steps=0.07, accuracy=0.0015)).why == "less accurate than dense"
    assert "within 7% of its steps and 0.25 points" in \
        judge(worse, Margins(steps=0.07, accuracy=0.0025)).sentence


def test_one_replicate_says_what_is_needed_and_what_its_numbers_say():
    verdict = judge(level_1(WINS[0]))
    assert (verdict.outcome, verdict.level) == ("inconclusive", None)
    assert str(verdict.levels[0]) == "inconclusive: one replicate"
    assert math.isnan(verdict.levels[0].differences[0].estimate.low)
    assert verdict.sentence == (
        "Inconclusive: one replicate is too few for any statistical test; take five or more, as "
        "the paper does (--replicates 5); by its numbers alone the sparsest that is within the "
        "margins of 19% of the dense network's steps and 0.2 points is level 1, with 50.0% of the "
        "weights.")
    late = judge(level_1((100, 0.9, 150, 0.9, 0.8)))
    assert "by its numbers alone none is within" in late.sentence


def test_an_inconclusive_level_says_how_many_replicates_would_tell_and_they_do():
    spread = [(100, 0.90, 100 + late, 0.93, 0.80) for late in (-30, 15, 30)]
    found = judge(level_1(*spread))
    (level,) = found.levels
    assert str(level) == f"inconclusive: needs {level.needed} replicates" and 3 < level.needed < 99
    assert found.sentence.startswith(
        "Inconclusive: 3 replicates are too few to tell whether the ticket of level 1, with 50.0% "
        f"of the weights, wins; about {level.needed} would be enough (early stop at step 105, "
        "dense 100, re-initialised 500; test accuracy ")
    assert only(level_1(*spread * (level.needed // 3 + 1))).outcome == "winning"


def test_only_levels_whose_control_is_trained_are_judged_unless_there_is_none():
    table = rows(*((replicate, branch, level, 90 + replicate, accuracy)
                   for replicate in range(3) for branch, level, accuracy in (
                       ("ticket", 0, 0.90), ("ticket", 1, 0.93), ("reinit", 2, 0.80),
                       ("ticket", 2, 0.94 + replicate / 99))))
    verdict = judge(table)
    assert [str(level) for level in verdict.levels] == ["not judged: no reinit", "winning"]
    assert verdict.level == 2 and "levels tried" not in verdict.sentence
    alone = judge(table[table.branch == "ticket"])
    assert {level.outcome for level in alone.levels} <= {"matching", "inconclusive"}
    assert "winning" not in alone.sentence.lower()


@pytest.mark.filterwarnings("error")
def test_networks_that_share_no_replicate_show_nothing():
    apart = level_1(*WINS)
    apart.loc[apart.branch == "reinit", "replicate"] += 10
    verdict = judge(apart)
    assert str(verdict.levels[0]) == "inconclusive: no replicate has both networks"
    assert verdict.sentence == (
        "Inconclusive: it is not known whether the ticket of level 1, with 50.0% of the weights, "
        "wins: no replicate has both networks (margins 19% of the dense network's steps and 0.2 "
        "points).")
    assert verdict.levels[0].differences[2].estimate is None


def test_levels_that_are_tried_together_share_the_error():
    one = level_1(*((100 + number, 0.90, 60, 0.93 + number / 1000, 0.8) for number in range(3)))
    one.loc[one.branch == "reinit", "early_stop_step"] += [1, 2, 0]
    alone = judge(one).levels[0].p_winning
    for count in (1, 5, int(ERROR / alone), int(ERROR / alone) + 1):
        together = judge(pd.concat([one, *(one[one.level == 1].assign(level=level)
                                           for level in range(2, count + 1))], ignore_index=True))
        assert [level.p_winning for level in together.levels] == pytest.approx(
            [min(1, count * alone)] * count)
        assert together.outcome == ("winning" if count * alone <= ERROR else "inconclusive")


def test_a_level_at_which_a_ticket_diverged_does_not_win_whatever_the_others_do():
    verdict = judge(level_1(*WINS, (100, 0.90, None, None, 0.80)))
    assert str(verdict.levels[0]) == "inconclusive: 1 diverged"
    assert "it is not known whether the ticket of level 1" in verdict.sentence
    assert "wins: 1 diverged (" in verdict.sentence
    assert verdict.sentence.endswith(". 1 of 12 trainings diverged.")
    # Of the dense network or the control, it is a pair less.
    assert only(level_1(*WINS, (None, None, 50, 0.93, None))).outcome == "winning"


@pytest.mark.filterwarnings("error")
def test_what_diverged_is_not_called_untrained():
    gone = diverged(level_1(*((*row[:4], None) for row in WINS)))
    verdict = judge(gone)
    assert str(verdict.levels[0]) == "inconclusive: 3 of reinit diverged"
    assert verdict.sentence.startswith(
        "Inconclusive: it is not known whether the ticket of level 1, with 50.0% of the weights, "
        "wins: 3 of reinit diverged (margins ")
    # A level that was chosen, whose tickets all diverged, is judged; those beside it are not.
    chosen = pd.concat([level_1(*((*row[:2], None, None, row[4]) for row in WINS)).assign(
        level=lambda found: 2 * found.level), level_1(*WINS).query("branch == 'ticket' & level")])
    verdict = judge(diverged(chosen))
    assert [str(level) for level in verdict.levels] == [
        "not judged: no reinit", "inconclusive: 3 diverged"]
    assert verdict.outcome == "inconclusive"
    assert judge(diverged(level_1(*((None, None, *row[2:]) for row in WINS)))).sentence.startswith(
        "No verdict: the dense network diverged in every replicate.")
    lost = diverged(level_1(*((*row[:2], None, None, row[4]) for row in WINS)))
    assert judge(lost).sentence.startswith(
        "No verdict: all pruned tickets diverged.")
    # Four of five have no control: that is no single replicate.
    few = diverged(level_1(WINS[0], *((*row[:4], None) for row in WINS)))
    assert str(judge(few).levels[0]) == "inconclusive: only one replicate has both networks"
    assert "--replicates" not in judge(few).sentence


@pytest.mark.filterwarnings("error")
def test_figures_are_of_the_networks_that_did_not_diverge():
    worse = judge(diverged(level_1(*((*row[:2], row[2], row[3] - 0.2, None) for row in WINS))))
    assert worse.sentence.startswith(
        "No winning ticket: that of level 1, with 50.0% of the weights, is less accurate than "
        "dense, beyond the margins of 19% of the dense network's steps and 0.2 points (early stop "
        "at step 60, dense 110; test accuracy 73.67%, dense 90.33%; 3 replicates, error at most ")
    assert "nan" not in worse.sentence


def test_levels_with_other_numbers_of_replicates_are_not_said_to_have_the_same():
    lost = tuple((*row[:3], row[3] - 0.2, row[4] + 0.1) for row in WINS)
    few = level_1(*lost).query("level == 1")
    several = pd.concat([level_1(*lost, *lost), few.assign(level=2, density=0.25)])
    assert "at none of the 2 levels tried" in judge(several).sentence
    assert "(3 to 6 replicates, error at most 5% over the 2 levels tried)" in \
        judge(several).sentence


def test_a_sentence_counts_the_replicates_of_the_condition_that_has_the_fewest_or_decides():
    more = tuple((step + 1, *row) for step, *row in WINS)
    few = level_1(*WINS, *((*row[:4], None) for row in more)).dropna(subset="early_stop_step")
    won = few[few.test_accuracy_early_stop.notna()]
    assert "; 3 replicates, error" in judge(won).sentence  # Six beside dense.
    lost = won.assign(test_accuracy_early_stop=won.test_accuracy_early_stop.where(
        (won.branch != "ticket") | (won.level == 0), won.test_accuracy_early_stop - 0.2))
    assert "; 6 replicates, error" in judge(lost).sentence


# Survivors that keep what they have learned.

KEPT = {"retraining": "fine tuning"}


def test_what_is_not_rewound_is_no_ticket_and_its_steps_are_not_compared():
    # Later than dense by far, and as accurate; then earlier by far, and less accurate.
    late = tuple((*row[:2], 10 * row[2], *row[3:]) for row in WINS)
    assert judge(level_1(*late)).outcome == "not winning"
    found = judge(level_1(*late), **KEPT)
    assert (found.outcome, found.level) == ("matching", 1)
    assert found.sentence == (
        "Matching network at level 1 with 50.0% of the weights: as accurate as the dense network, "
        "within 0.2 points, and better than re-initialised (test accuracy 93.67%, dense 90.33%, "
        "re-initialised 80.33%; 3 replicates, error at most 5%); by fine tuning: weights are not "
        "rewound, so that it is no ticket, and how soon it stops tells nothing.")
    worse = judge(level_1(*((*row[:3], row[3] - 0.2, row[4]) for row in WINS)), **KEPT)
    assert worse.outcome == "not winning"
    assert worse.sentence.startswith("No matching network: that of level 1")
    alone = level_1(*late).query("branch == 'ticket'")
    assert judge(alone, **KEPT).sentence.startswith("Matching network at level 1")
    # As good as dense, and no better than re-initialised, which a fast one would have been.
    same = ((*row[:4], row[3] + off) for row, off in zip(
        AS_GOOD, (0.0003, -0.0003, 0, 0.0001, 0, 0), strict=True))
    assert judge(level_1(*same), **KEPT).levels[0].why == "no better than reinit"


@pytest.mark.parametrize("table", [
    level_1(*WINS), level_1(WINS[0]), level_1(*AS_GOOD[:2]), level_1(*AS_GOOD),
    level_1(*((*row[:3], row[3] - 0.2, row[4]) for row in WINS)),
    diverged(level_1(*((*row[:4], None) for row in WINS)))])
@pytest.mark.filterwarnings("error")
def test_no_sentence_about_what_is_not_rewound_speaks_of_tickets_that_win_or_of_speed(table):
    said = judge(table, **KEPT).sentence
    for word in ("inning", "fast", "wins", "early stop at", "network's steps", "nan"):
        assert word not in said, said
    assert said.rstrip(".").count("is no ticket") == 1, said


def test_a_level_whose_ticket_did_not_reach_its_early_stop_does_not_win():
    assert only(level_1(*WINS), steps=501).outcome == "winning"
    late = level_1(*WINS)
    late.loc[(late.branch == "ticket") & (late.level == 1), "early_stop_step"] = [50, 70, 600]
    assert str(only(late, steps=600)) == "inconclusive: early stop not reached in 1 of 3"


@pytest.mark.parametrize(("branch", "level", "name"), [("ticket", 0, "dense"),
                                                       ("reinit", 1, "reinit")])
def test_no_level_wins_against_a_network_that_would_get_better(branch, level, name):
    late = level_1(*WINS)
    late.loc[(late.branch == branch) & (late.level == level), "early_stop_step"] = [600, 590, 600]
    assert str(only(late, steps=600)) == \
        f"inconclusive: early stop of {name} not reached in 2 of 3"


def test_a_ticket_that_is_worse_than_reinit_does_not_win_however_early_it_stops():
    worse = level_1(*((1000 + number, 0.9, 632 + number, 0.905 + number / 1e4, 0.925)
                      for number in range(10)))
    worse.loc[worse.branch == "reinit", "early_stop_step"] = range(950, 960)
    assert str(only(worse)) == "not winning: no better than reinit"
    later = level_1(*((1000 + number, 0.9, 632 + number, 0.905 + number / 1e4, 0.9)
                      for number in range(10)))
    later.loc[later.branch == "reinit", "early_stop_step"] = range(400, 410)
    assert str(only(later)) == "not winning: no better than reinit"


def test_the_sentence_says_margins_figures_replicates_and_error():
    assert judge(level_1(*WINS)).sentence == (
        "Winning ticket at level 1 with 50.0% of the weights: as fast and as accurate as the dense "
        "network, within 19% of its steps and 0.2 points, and better than re-initialised (early "
        "stop at step 60, dense 110, re-initialised 500; test accuracy 93.67%, dense 90.33%, "
        "re-initialised 80.33%; 3 replicates, error at most 5%).")


def test_figures_are_of_the_replicates_that_have_all_networks():
    table = pd.concat([level_1(*WINS), rows((9, "ticket", 0, 9000, 0.1))], ignore_index=True)
    assert "dense 110," in judge(table).sentence


def test_the_sparsest_level_that_wins_is_the_runs_and_others_are_named():
    table = rows(*((replicate, branch, level, step + 7 * replicate, accuracy + replicate / 1000)
                   for replicate in range(8) for branch, level, step, accuracy in (
                       ("ticket", 0, 100, 0.90), ("ticket", 1, 50, 0.93), ("ticket", 2, 60, 0.93),
                       ("reinit", 1, 500, 0.80), ("reinit", 2, 500, 0.80))))
    verdict = judge(table)
    assert (verdict.level, [str(level) for level in verdict.levels]) == (2, ["winning"] * 2)
    assert verdict.sentence.startswith(
        "Winning tickets at levels 1-2; the sparsest, with 25.0% of the weights, is as fast")
    assert verdict.sentence.endswith("8 replicates, error at most 5% over the 2 levels tried).")
    late = table.copy()
    late.loc[(late.branch == "ticket") & (late.level > 0), "early_stop_step"] *= 9
    assert judge(late).sentence == (
        "No winning ticket: at none of the 2 levels tried is it as fast and as accurate as the "
        "dense network, within 19% of its steps and 0.2 points, and better than re-initialised "
        "(8 replicates, error at most 5% over the 2 levels tried).")


@pytest.mark.parametrize(("trainings", "why"), [
    ([], "the dense network"), ([(0, "ticket", 0, 100, 0.9)], "no pruned ticket"),
    ([(0, "reinit", 1, 1, 1)], "the dense network")])
def test_there_is_no_verdict_without_dense_and_pruned_networks(trainings, why):
    verdict = judge(rows(*trainings))
    assert (verdict.outcome, verdict.level, verdict.levels) == ("no verdict", None, ())
    assert verdict.sentence.startswith(f"No verdict: {why}")


def test_a_verdict_is_plain_data():
    plain = json.loads(json.dumps(judge(level_1(*WINS)).plain()))
    assert plain["outcome"] == "winning" and plain["margins"] == dataclasses.asdict(DEFAULT)
    assert plain["levels"][0]["outcome"] == "winning" and plain["error"] == 0.05


# Fabricated histories: early stops in steps of 20, accuracies in images of 400.


def fabricate(rng, *, levels, replicates, early=0.0, good=0.0, reinit=(0.5, -0.01), spread=0.2):
    """A run whose tickets stop later by a share `early` and are better by `good`.

    A replicate's dense network, tickets and controls share what is easy or hard in it; `reinit`
    says by how much the control stops later and is better than dense.
    """
    shared, found = rng.normal(0, spread, replicates), []

    def network(replicate, branch, level, late, better):
        step = 1000 * (1 + late) * math.exp(shared[replicate] + rng.normal(0, spread / 2))
        accuracy = 0.9 + better + rng.normal(0, 0.003)
        return {"replicate": replicate, "branch": branch, "level": level, "density": 0.8 ** level,
                "early_stop_step": max(20, round(step / 20) * 20),
                "test_accuracy_early_stop": round(accuracy * 400) / 400, "diverged_at_step": None}
    for replicate in range(replicates):
        found.append(network(replicate, "ticket", 0, 0, 0))
        for level in range(1, levels + 1):
            found.append(network(replicate, "ticket", level, early, good))
            found.append(network(replicate, "reinit", level, *reinit))
    return pd.DataFrame(found).assign(branch_index=0, val_loss_min=0.1)


def outcomes(runs, **settings):
    """How often each outcome comes, of so many fabricated runs."""
    rng = np.random.default_rng(0)
    counts = pd.Series([judge(fabricate(rng, **settings)).outcome for _ in range(runs)])
    return counts.value_counts(normalize=True).reindex(
        ["winning", "not winning", "inconclusive"], fill_value=0.0)


RUNS = pytest.mark.parametrize("runs", [80, pytest.param(1000, marks=pytest.mark.long)])


@pytest.mark.thorough
@pytest.mark.parametrize("null", [
    {"early": DEFAULT.steps}, {"good": -DEFAULT.accuracy},
    {"reinit": (0.0, 0.0)}], ids=["as late as the margin", "as bad", "as reinit"])
@pytest.mark.parametrize(("levels", "replicates"), [(1, 5), (4, 8)])
@RUNS
def test_no_more_runs_win_by_chance_than_the_error_allows(null, levels, replicates, runs):
    # All else speaks for the ticket, so that the one test alone has to hold it back.
    best = {"early": -0.3, "good": 0.01, "reinit": (0.5, -0.02)} | null
    if "reinit" in null:
        best |= {"early": 0.0, "good": 0.0}
    won = outcomes(runs, levels=levels, replicates=replicates, **best).winning
    assert won <= ERROR + 2 * math.sqrt(ERROR / runs)


@RUNS
def test_no_more_runs_lose_by_chance_than_the_error_allows(runs):
    # True at the very edge of the margins, and better than the control by them.
    lost = outcomes(runs, levels=1, replicates=8, early=DEFAULT.steps, good=-DEFAULT.accuracy)
    assert lost["not winning"] <= ERROR + 2 * math.sqrt(ERROR / runs)


def test_runs_with_an_effect_are_decided():
    effect = {"early": -0.2, "good": 0.003}
    assert outcomes(30, levels=1, replicates=10, **effect).winning > 0.9
    assert outcomes(15, levels=4, replicates=10, **effect).winning > 0.9
    assert outcomes(30, levels=1, replicates=10, early=0.6)["not winning"] > 0.9


def test_a_ticket_as_good_as_dense_is_called_so_with_enough_replicates():
    assert outcomes(20, levels=1, replicates=50).winning > 0.9
