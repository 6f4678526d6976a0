import pandas as pd
import pytest

from lth_keras import stats
from lth_keras.store import COLUMNS

DENSITIES = {0: 1.0, 1: 0.5, 2: 0.25}


def rows(*trainings):
    """Rows of (replicate, branch, level, early-stop step, test accuracy there)."""
    return pd.DataFrame([
        {"replicate": replicate, "branch": branch, "branch_index": 0, "level": level,
         "density": DENSITIES[level], "early_stop_step": step, "val_loss_min": 0.1,
         "test_accuracy_early_stop": accuracy, "test_accuracy_final": accuracy,
         "train_accuracy_final": 1.0, "seconds": 1.0, "diverged_at_step": None}
        for replicate, branch, level, step, accuracy in trainings], columns=list(COLUMNS))


def test_the_summary_is_mean_least_and_greatest_over_replicates():
    summary = stats.summarise(rows((0, "ticket", 0, 100, 0.9), (1, "ticket", 0, 300, 0.8),
                                   (0, "reinit", 1, 50, 0.7)))
    dense = summary.loc[("ticket", 0)]
    assert dense["early_stop_step"].tolist() == [200, 100, 300]
    assert dense["test_accuracy_early_stop"].tolist() == pytest.approx([0.85, 0.8, 0.9])
    assert dense[("replicates", "count")] == 2
    assert summary.loc[("reinit", 1), ("replicates", "count")] == 1


def test_the_verdict_is_the_sparsest_level_that_wins():
    verdict = stats.verdict(rows(
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
    verdict = stats.verdict(rows((0, "ticket", 0, 100, 0.90), (0, "ticket", 1, step, accuracy),
                                 (0, "reinit", 1, 200, control)))
    assert verdict.level is None and verdict.sentence.startswith("No winning ticket")


def test_the_verdict_rests_on_means_over_replicates():
    verdict = stats.verdict(rows(
        (0, "ticket", 0, 100, 0.90), (1, "ticket", 0, 200, 0.92),
        (0, "ticket", 1, 120, 0.93), (1, "ticket", 1, 180, 0.93)))
    assert verdict.level == 1
    assert "step 150 (dense 150)" in verdict.sentence and "means of 2 repl" in verdict.sentence
    assert "not compared with a re-initialised network" in verdict.sentence


@pytest.mark.parametrize("trainings", [[], [(0, "ticket", 0, 100, 0.9)], [(0, "reinit", 1, 1, 1)]])
def test_there_is_no_verdict_without_dense_and_pruned_networks(trainings):
    verdict = stats.verdict(rows(*trainings))
    assert verdict.level is None and verdict.sentence.startswith("No verdict")


def test_a_level_whose_control_is_not_trained_yet_does_not_win():
    verdict = stats.verdict(rows((0, "ticket", 0, 100, 0.90), (0, "ticket", 1, 90, 0.95),
                                 (0, "reinit", 1, 200, 0.80), (0, "ticket", 2, 90, 0.95)))
    assert verdict.level == 1


def test_only_levels_that_every_replicate_has_reached_are_judged():
    verdict = stats.verdict(rows(
        (0, "ticket", 0, 100, 0.90), (1, "ticket", 0, 100, 0.90),
        (0, "ticket", 1, 90, 0.95), (1, "ticket", 1, 90, 0.95), (0, "ticket", 2, 90, 0.95)))
    assert verdict.level == 1
    unfinished = rows((0, "ticket", 0, 100, 0.9), (1, "ticket", 0, 100, 0.9),
                      (0, "ticket", 1, 90, 0.95))
    assert stats.verdict(unfinished).sentence.startswith("No verdict: no level")


def test_a_level_at_which_a_replicate_diverged_does_not_win_and_is_counted():
    all_of_them = rows((0, "ticket", 0, 100, 0.90), (1, "ticket", 0, 100, 0.90),
                       (0, "ticket", 1, 90, 0.95), (1, "ticket", 1, 90, 0.95),
                       (0, "ticket", 2, 90, 0.95), (1, "ticket", 2, None, None))
    verdict = stats.verdict(all_of_them)
    assert verdict.level == 1 and verdict.sentence.endswith(". 1 of 6 trainings diverged.")
    assert stats.summarise(all_of_them).loc[("ticket", 2), ("replicates", "count")] == 1
    assert stats.verdict(all_of_them[:4]).sentence.endswith("means of 2 replicates.")
