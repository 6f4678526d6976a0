import fit_workdirs
import numpy as np
import pandas as pd
import pytest
from fit_workdirs import HISTORY, SETTINGS

from lth_keras.errors import WorkdirError
from lth_keras.experiments.results import fits, runs, statistics, verdicts
from lth_keras.experiments.results.record import COLUMNS
from lth_keras.experiments.results.runs import about


def without(*names):
    return {name: values for name, values in HISTORY.items() if name not in names}


def test_a_fit_has_the_columns_of_a_run_and_its_own_after_them(tmp_path):
    found = fits.results(fits.read(fit_workdirs.fill(tmp_path)), replicate=3)
    assert tuple(found.columns[:len(COLUMNS)]) == COLUMNS
    assert [*found.columns[len(COLUMNS):]] == [
        "steps", "epochs", "validated_step", "loss", "accuracy", "val_loss", "val_accuracy",
        "val_accuracy_early_stop"]
    assert found.replicate.tolist() == [3] * 3 and found.branch.tolist() == ["ticket"] * 3
    assert found.level.tolist() == [0, 1, 2] and found.density.tolist() == [1, 0.5, 0.25]
    assert found.early_stop_step.tolist() == [20, 10, 10]
    assert found.val_loss_min.tolist() == [0.4, 0.3, 0.6]
    assert found.val_accuracy_early_stop.tolist() == [0.8, 0.9, 0.75]
    assert found.val_accuracy.tolist() == [0.8, 0.85, 0.7]
    measured = [name for name in COLUMNS if "accuracy" in name]
    assert found[[*measured, "diverged_at_step"]].isna().all(axis=None)
    assert statistics.own_metrics(found) == [*found.columns.drop("validated_step")[len(COLUMNS):]]
    # A workdir of an earlier version has the losses only.
    assert found.validated_step.fillna(-1).tolist() == [20, -1, -1]


def test_curves_are_of_the_finished_levels_with_steps_from_the_rounds_start(tmp_path):
    found = fits.curves(fits.read(fit_workdirs.fill(tmp_path, levels=2)))
    assert found.level.tolist() == [0, 0, 1, 1] and found.step.tolist() == [10, 20, 10, 20]
    assert found.val_accuracy.tolist() == HISTORY["val_accuracy"][:4]
    assert found.accuracy.tolist() == HISTORY["accuracy"][:4]


def test_no_curve_of_a_loss_is_drawn_as_an_accuracy(tmp_path):
    history = {**without("accuracy", "val_accuracy"), "acceleration_loss": HISTORY["val_loss"]}
    found = fits.curves(fits.read(fit_workdirs.fill(tmp_path, history=history)))
    assert len(found) and found.accuracy.isna().all()


@pytest.mark.parametrize(("settings", "history", "why"), [
    ({"epochs_per_round": None, "steps_per_round": 30}, HISTORY, "counted in steps"),
    ({}, without("val_loss", "val_accuracy"), "no validation_data"),
    ({}, {**HISTORY, "level": []}, "not one validation an epoch")])
def test_why_there_are_no_curves_is_said(tmp_path, settings, history, why):
    schedule = {**SETTINGS["schedule"], **settings}
    found = fits.read(fit_workdirs.fill(tmp_path, history=history,
                                        settings={**SETTINGS, "schedule": schedule}))
    assert why in found.lacks_curves and not len(fits.curves(found))


def test_the_accuracy_at_the_early_stop_is_unknown_where_the_history_is_not_whole(tmp_path):
    found = fits.results(fits.read(fit_workdirs.fill(tmp_path, history={**HISTORY, "level": []})))
    assert "val_accuracy_early_stop" not in found and found.early_stop_step.tolist() == [20, 10, 10]


def test_a_round_that_diverged_is_told_by_the_last_row_of_results_csv(tmp_path):
    text = pd.DataFrame([fit_workdirs.row(0), {
        **fit_workdirs.row(1), "steps": 13, "diverged": True}]).to_csv(index=False)
    root = fit_workdirs.fill(tmp_path, results=text)
    assert fits.results(fits.read(root)).diverged_at_step.isna().all()  # Level 1 is finished.
    root = fit_workdirs.fill(tmp_path / "other", levels=1, results=text)
    assert fits.results(fits.read(root)).level.tolist() == [0]  # Not the level in training.
    root = fit_workdirs.fill(tmp_path / "third", levels=2, results=text, over=False)
    found = runs.read(root)
    assert found.diverged == ["replicate 0, level 1, ticket: diverged at step 13"]
    assert found.results.density.tolist() == [1.0, 0.5] and found.verdict.levels == ()
    assert found.verdict.sentence == (
        "No verdict: all pruned tickets diverged. 1 of 2 trainings diverged.")


@pytest.mark.parametrize("name", ["state.safetensors", "level_01/ticket.safetensors"])
@pytest.mark.parametrize("how", ["flipped", "gone", "link"])
def test_what_is_damaged_is_named(tmp_path, name, how):
    path = fit_workdirs.fill(tmp_path) / name
    data = path.read_bytes()
    path.unlink()
    if how == "flipped":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkdirError, match=str(path)):
        fits.read_ticket(tmp_path, fits.read(tmp_path), 1)


def test_a_level_that_is_not_reached_has_no_ticket(tmp_path):
    fit_workdirs.fill(tmp_path, levels=1)
    with pytest.raises(WorkdirError, match="once its level is reached.*level 1"):
        fits.read_ticket(tmp_path, fits.read(tmp_path), 1)
    ticket = fits.read_ticket(tmp_path, fits.read(tmp_path), 0)
    np.testing.assert_array_equal(ticket.masks["w"], 1)


def test_fits_that_differ_in_seed_or_initial_weights_are_one_run(tmp_path):
    roots = [fit_workdirs.fill(tmp_path / name, seed, theta)
             for name, seed, theta in (("a", 0, 1.5), ("b", 1, 1.5), ("c", 0, 2.5))]
    found, = runs.read_all(roots)
    assert found.label == "fit" and found.roots == tuple(roots)
    assert found.results.replicate.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert found.curves.replicate.nunique() == 3
    assert about([found], "") == "2 epochs a round, mean of 3 replicates"
    assert found.versions == ["tensorflow 9.9"]
    copy = fit_workdirs.fill(tmp_path / "copy", 1)
    both = runs.read_all([roots[1], copy])
    assert [run.label for run in both] == [f"fit ({roots[1]})", f"fit ({copy})"]
    assert "same seed and the same initial weights" in runs.apart(both)[0]


def test_fits_of_other_settings_are_told_apart_by_them(tmp_path):
    fit_workdirs.fill(tmp_path / "a")
    fit_workdirs.fill(tmp_path / "b", settings={**SETTINGS, "scope": "global"})
    found = runs.read_all([tmp_path / "a", tmp_path / "b"])
    assert [run.label for run in found] == ["fit, scope layer", "fit, scope global"]


def test_a_fit_is_compared_with_dense_alone_and_never_wins(tmp_path):
    found = runs.read(fit_workdirs.fill(tmp_path))
    assert [str(level) for level in found.verdict.levels] == ["inconclusive: one replicate"] * 2
    steps, good = found.verdict.levels[0].differences
    assert (steps.estimate.mean, good.estimate.mean) == (-0.5, pytest.approx(0.1))
    assert (found.verdict.outcome, found.verdict.level) == ("inconclusive", None)
    assert found.verdict.sentence == (
        "Inconclusive: one search is too few for any statistical test; repeat the search with "
        "other seeds and report the workdirs together; by its numbers alone the sparsest that is "
        "within the margins of 19% of the dense network's steps and 0.2 points is level 1, with "
        "50.0% of the weights (early stop of dense not reached in 1 of 1).")


def test_searches_that_repeat_say_which_levels_match_the_dense_network(tmp_path):
    def judged(name, history):
        return pd.concat([fits.results(fits.read(fit_workdirs.fill(
            tmp_path / name / str(seed), seed, history=history)), seed) for seed in range(8)])
    # While the dense network still improves at its last epoch, nothing can match it.
    assert str(verdicts.judge(judged("falls", HISTORY)).levels[0]) == \
        "inconclusive: early stop of dense not reached in 8 of 8"
    table = judged("rises", {**HISTORY, "val_loss": [0.4, 0.5, *HISTORY["val_loss"][2:]],
                             "val_accuracy": [0.8, 0.7, *HISTORY["val_accuracy"][2:]]})
    verdict = verdicts.judge(table)
    assert [str(item) for item in verdict.levels] == [
        "matching", "not winning: less accurate than dense"]
    assert (verdict.outcome, verdict.level) == ("matching", 1)
    assert verdict.sentence == (
        "Matching ticket at level 1 with 50.0% of the weights: as fast and as accurate as the "
        "dense network, within 19% of its steps and 0.2 points (early stop at step 10, dense 10; "
        "validation accuracy 90.00%, dense 80.00%; 8 searches, error at most 5% over the 2 levels "
        "tried); whether it wins is not known, since no re-initialised network was trained.")
    verdict = verdicts.judge(table.drop(columns="val_accuracy_early_stop"))
    assert str(verdict.levels[1]) == "not winning: worse than dense"
    assert "within 19% of its steps and 1% of its loss" in verdict.sentence
    assert "least validation loss 0.3, dense 0.4; 8 searches" in verdict.sentence


def test_a_search_that_begins_with_a_pruned_network_is_not_compared_with_a_dense_one(tmp_path):
    def judged(name, history):
        table = pd.concat([fits.results(fits.read(fit_workdirs.fill(
            tmp_path / name / str(seed), seed, history=history)), seed) for seed in range(8)])
        table = table[table.level < 2]
        return verdicts.judge(table.assign(density=0.3 * table.density.to_numpy()))
    rises = {**HISTORY, "val_loss": [0.4, 0.5, *HISTORY["val_loss"][2:]],
             "val_accuracy": [0.8, 0.7, *HISTORY["val_accuracy"][2:]]}
    assert judged("rises", rises).sentence == (
        "Matching ticket at level 1 with 15.0% of the weights: as fast and as accurate as the "
        "network of level 0 (30.0% of the weights), within 19% of its steps and 0.2 points (early "
        "stop at step 10, level 0: 10; validation accuracy 90.00%, level 0: 80.00%; 8 searches, "
        "error at most 5%); whether it wins is not known, since no re-initialised network was "
        "trained.")
    lost = judged("worse", {**rises, "val_accuracy": [0.95, 0.9, *HISTORY["val_accuracy"][2:]]})
    assert str(lost.levels[0]) == "not winning: less accurate than level 0"
    assert "beyond the margins of 19% of level 0's steps" in lost.sentence
    for name, history in (("falls", HISTORY), ("both", {**HISTORY, "val_loss": [
            0.5, 0.4, 0.35, 0.3, 0.6, 0.7]})):
        still = judged(name, history)
        assert "matches the network of level 0 (30.0% of the weights)" in still.sentence
        assert "dense" not in still.sentence and "dense" not in str(still.levels[0])


def test_no_level_that_keeps_up_is_said(tmp_path):
    history = {**HISTORY, "val_loss": [0.4, 0.5, 0.6, 0.6, 0.7, 0.7],
               "val_accuracy": [0.9, 0.8, 0.7, 0.7, 0.6, 0.6]}
    found = runs.read(fit_workdirs.fill(tmp_path, history=history))
    assert found.verdict.sentence.endswith(
        "by its numbers alone none is within the margins of 19% of the dense network's steps and "
        "0.2 points.")


def test_without_validation_nothing_is_judged(tmp_path):
    found = runs.read(fit_workdirs.fill(tmp_path, history=without("val_loss", "val_accuracy")))
    assert found.verdict.levels == () and found.drawable and not found.validated
    assert found.verdict.sentence.startswith("No verdict: without validation data")


def test_a_fit_without_a_finished_level_has_no_report(tmp_path):
    fit_workdirs.fill(tmp_path, levels=1, over=False)
    with pytest.raises(WorkdirError, match="needs a finished training"):
        runs.read(tmp_path)
