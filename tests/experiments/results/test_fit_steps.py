"""Early stops of a search in `fit`: counted as those of `lth run`."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_keras.experiments.results import fits, runs
from lth_keras.experiments.results.fits import Fit
from lth_keras.experiments.results.verdicts import judge
from lth_keras.experiments.training.spec import TrainingRecord
from lth_keras.search.fit.round_record import Round

EVERY = 10  # Steps between two validations.


def trained_in_fit(losses, every=EVERY, **settings):
    """A search in which the rounds of the levels have these validation losses."""
    rows, history = [], {"level": [], "val_loss": []}
    for level, curve in enumerate(losses):
        record = Round(level, 0.5 ** level)
        for loss in curve:
            record.steps += every
            record.end_epoch({"val_loss": loss})
            history["level"].append(level)
            history["val_loss"].append(loss)
        rows.append(record.row())
    return Fit({"schedule": {"epochs_per_round": len(losses[0])}, **settings}, rows, history)


def early_stop_of_run(losses, first):
    """The early stop of a training by `lth run` with these losses, that begins with a step."""
    record = TrainingRecord()
    for number, loss in enumerate(losses, 1):
        record.add(first + number * EVERY, {"val_loss": loss})
    return record.early_stop_step


CURVES = st.integers(1, 6).flatmap(lambda length: st.lists(
    st.lists(st.floats(0.1, 9), min_size=length, max_size=length), min_size=2, max_size=3))


@given(CURVES, st.integers(0, 60))
def test_the_same_curve_has_the_same_early_stop_in_a_fit_and_in_a_run(losses, first):
    found = fits.results(trained_in_fit(losses, rewind_step=first))
    assert found.early_stop_step.tolist() == [
        early_stop_of_run(curve, first if level else 0) for level, curve in enumerate(losses)]


@given(CURVES, st.integers(0, 60))
def test_the_least_loss_of_a_learning_curve_lies_at_the_early_stop(losses, first):
    fit = trained_in_fit(losses, rewind_step=first)
    rows = fits.results(fit)
    for level, curve in fits.curves(fit).groupby("level"):
        assert curve.step[curve.val_loss.idxmin()] == rows.early_stop_step[level]
        assert curve.step.max() == rows.steps[level]


def test_a_ticket_that_stops_later_than_dense_does_not_look_as_fast_from_step_k():
    def judged(first):
        return judge(pd.concat([fits.results(trained_in_fit(
            [[0.5, 0.4 + seed / 1e4, 0.6], [0.5, 0.4, 0.6]], rewind_step=first), seed)
            for seed in range(6)]))
    assert str(judged(0).levels[0]) == "matching"
    assert str(judged(15).levels[0]) == "not winning: later than dense"


def test_a_round_that_diverged_is_said_to_at_the_step_counted_from_step_0():
    fit = trained_in_fit([[0.5, 0.4], [0.5, 0.4]], rewind_step=15)
    fit.rows[1]["diverged"] = True
    assert runs.of_fit(fit).diverged == ["replicate 0, level 1, ticket: diverged at step 35"]


@pytest.mark.parametrize("settings", [{}, {"rewind_step": None}])
def test_a_search_that_does_not_name_its_step_k_is_counted_from_0(settings):
    found = fits.results(trained_in_fit([[0.5, 0.4], [0.5, 0.4]], **settings))
    assert found.early_stop_step.tolist() == [20, 20]
