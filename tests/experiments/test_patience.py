"""Controls that end when their validation loss has not fallen for long."""

import dataclasses
import pathlib
import types

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st
from small import CONFIG, run

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import record, store
from lth_keras.experiments.results import runs as results_runs
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.results.statistics import by_replicate, summarise
from lth_keras.experiments.training.spec import TrainingRecord
from lth_keras.experiments.training_keras2.engine import round_runner
from lth_keras.files.ticket import Ticket
from lth_keras.reports.analyses import differences
from lth_keras.reports.plots import drawing

pytestmark = pytest.mark.usefixtures("tiny_network")
FINALS = ["test_accuracy_final", "train_accuracy_final"]
LONG = CONFIG.replace(steps=80, learning_rate=0.3, branches=("ticket", "reinit:3"))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 4))
def test_a_record_ends_where_no_loss_was_lower_for_as_long(losses, patience):
    patient, whole = TrainingRecord(10 * patience, 10 * len(losses)), TrainingRecord()
    for place, loss in enumerate(losses, 1):
        whole.add(10 * place, {"val_loss": float(loss)})
        if not patient.over:
            patient.add(10 * place, {"val_loss": float(loss)})
            assert patient.early_stop_step == whole.early_stop_step
            waited = place - patient.early_stop_step // 10
            ends = waited >= patience and place < len(losses)
            assert patient.ended == (10 * place if ends else None)
    # Nothing is lost by a patience that no later fall is as far away as.
    falls = [place for place, loss in enumerate(losses) if loss < min(losses[:place], default=10)]
    if all(np.diff([*falls]) <= patience):
        assert patient.early_stop_step == whole.early_stop_step


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_network):
    """A run with patience and the same without."""
    roots = {}
    for patience in (0, 8):
        settings = LONG.replace(patience=patience)
        roots[patience] = tmp_path_factory.mktemp("run")
        run(roots[patience], settings, trains=small.lab(settings))
    return roots


def rows(root):
    found = store.results(root).set_index(["branch", "level", "branch_index"])
    return found.drop(columns="seconds")


def test_a_control_ends_early_and_is_the_same_until_then(runs):
    found, whole = rows(runs[8]), rows(runs[0])
    ended = found.ended_at_step.dropna()
    assert len(ended) >= 3 and {branch for branch, _, _ in ended.index} == {"reinit"}
    for key, step in ended.items():
        level, index = key[1:]
        curves = [pd.read_csv(root / "replicate_0" / f"level_{level:02d}" / f"reinit_{index}"
                              / "curve.csv") for root in runs.values()]
        pd.testing.assert_frame_equal(curves[0][curves[0].step <= step].reset_index(drop=True),
                                      curves[1])
        assert curves[1].step.iloc[-1] == step
        assert found.loc[key, "early_stop_step"] == step - 8
        assert found.loc[key, FINALS].isna().all()
        if whole.loc[key, "early_stop_step"] <= step:
            assert found.loc[key, "test_accuracy_early_stop"] == \
                whole.loc[key, "test_accuracy_early_stop"]
    others = found.index.difference(ended.index)
    pd.testing.assert_frame_equal(found.loc[others, whole.columns], whole.loc[others])


def test_tickets_are_those_of_a_run_without(runs):
    for level in range(3):
        files = [root / "replicate_0" / f"level_{level:02d}" / "ticket.safetensors"
                 for root in runs.values()]
        one, other = map(Ticket.load, files)
        assert all((one.masks[name] == mask).all() for name, mask in other.masks.items())


def table(ended):
    return record.table([
        {"replicate": replicate, "branch": branch, "branch_index": 0, "level": 1, "density": 0.5,
         "early_stop_step": 50, "val_loss_min": 1.0, "test_accuracy_early_stop": 0.9,
         **dict.fromkeys(FINALS, None if step else 0.8),
         "seconds": 1.0, "diverged_at_step": None, "test_accuracy_step_60": None if step == 60
         else 0.7, "ended_at_step": step}
        for branch, steps in (("ticket", (None, None)), ("reinit", ended))
        for replicate, step in enumerate(steps)])


def test_a_mean_is_not_of_those_that_went_on_alone():
    for ended, at_60 in (((None, 70), 2), ((None, 60), 0), ((None, None), 2)):
        found = table(ended)
        ends = 2 if ended == (None, None) else 0
        for name, count in ((FINALS[0], ends), (FINALS[1], ends), ("test_accuracy_step_60", at_60),
                            ("test_accuracy_early_stop", 2)):
            assert len(by_replicate(found, name, "reinit", 1)) == count
            assert summarise(found).notna().loc[("reinit", 1), (name, "mean")] == bool(count)
            assert len(by_replicate(found, name, "ticket", 1)) == 2


def test_accuracies_at_the_end_are_not_compared_where_some_have_ended():
    one = types.SimpleNamespace(root=pathlib.Path("r"), config=LONG, title="made",
                                results=table((None, 70)))
    with pytest.raises(WorkdirError, match="reinit, of which patience ended 1 of 2 trainings"):
        differences.analyse([one], at="end")
    assert len(differences.analyse([one], at="early_stop").rows) == 1
    one.results = table((None, None))
    assert len(differences.analyse([one], at="end").rows) == 1


def test_a_mean_curve_ends_with_the_first_of_its_curves():
    curves = pd.DataFrame([
        {"replicate": replicate, "branch": "reinit", "level": 1, "branch_index": 0, "step": step,
         "val_accuracy": 0.5 + replicate / 10}
        for replicate, last in enumerate((30, 50)) for step in range(10, last + 1, 10)])
    axes = matplotlib.figure.Figure().subplots()
    drawing.curve_lines(axes, curves, table((30, None)), [("reinit", 1, {"color": "k"})])
    line, = axes.get_lines()
    assert [*line.get_xdata()] == [10, 20, 30] and set(line.get_ydata()) == {0.55}


def test_a_report_says_how_many_have_ended(runs):
    count = int(rows(runs[8]).ended_at_step.notna().sum())
    assert f"{count} of 9 trainings ended before the last step, after 8 steps" in \
        results_runs.read(runs[8]).ended
    assert results_runs.read(runs[0]).ended == ""


@pytest.mark.parametrize("patience", [-4, 3])
def test_patience_that_is_no_number_of_validations_is_refused(patience):
    with pytest.raises(LotteryError, match="multiple of validation_every"):
        CONFIG.replace(patience=patience)


def test_patience_is_scaled_with_the_steps():
    config = dataclasses.replace(CONFIG, steps=4000, validation_every=100, patience=800)
    assert config.scaled(0.25).patience == 200


def test_masks_that_are_found_in_training_are_those_of_its_last_step():
    settings = CONFIG.replace(patience=4, branches=("ticket", "reinit", "rigl"),
                              mask_update_every=2)
    lab = round_runner(settings, small.blobs())
    specs = {branch: lab._begun(Training(0, 1, branch), StartingPoint(lab._first_ticket(0)))[1]
             for branch in ("ticket", "reinit", "rigl")}
    assert {branch: spec.patience for branch, spec in specs.items()} == {
        "ticket": 0, "reinit": 4, "rigl": 0}
