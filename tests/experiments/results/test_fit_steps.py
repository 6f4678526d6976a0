"""Early stops of a search in `fit`: counted as those of `lth run`, and told where not reached."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_keras.experiments.results import fits, runs
from lth_keras.experiments.results.evidence import unreached
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


def with_schedule(losses, steps, epoch, frequency, seed=0):
    """A search whose rounds have so many steps; every frequency-th epoch of the fit is validated.

    Args:
      losses: level -> a validation loss for each of its steps.
      steps: of a round.
      epoch: the steps of an epoch, which may hold the end of one round and the beginning of the
        next.
      frequency: as Keras' validation_freq.
      seed: of the search.
    """
    rows, history = [], {"level": [], "val_loss": []}
    for level, curve in enumerate(losses):
        record = Round(level, 0.5 ** level)
        for step in range(level * steps + 1, (level + 1) * steps + 1):
            record.steps += 1
            if step % epoch == 0:
                validated = step // epoch % frequency == 0
                logs = {"val_loss": curve[record.steps - 1]} if validated else {}
                record.end_epoch({"loss": 0.5, **logs})
                if validated:
                    history["level"].append(level)
                    history["val_loss"].append(logs["val_loss"])
        rows.append(record.row())
    return Fit({"schedule": {"steps_per_round": steps}, "seed": seed}, rows, history,
               files={"start.safetensors": str(seed)})


def together(searches):
    found, = runs.together([*map(runs.of_fit, searches)])
    return found


@settings(max_examples=30)
@given(st.integers(5, 30), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_what_falls_to_the_last_validation_matches_nothing(steps, epoch, frequency, both):
    # Whatever the schedule: the ticket's falls and is better than dense, whose falls too or not.
    falling = [2.0 - step / steps for step in range(steps)]
    dense = falling if both else [3.0 + step for step in range(steps)]
    found = together([with_schedule([dense, [loss - 0.5 - seed / 1e4 for loss in falling]], steps,
                                    epoch, frequency, seed) for seed in range(6)])
    assert found.verdict.outcome in ("not winning", "inconclusive", "no verdict")
    tickets = found.results[found.results.early_stop_step.notna() & (found.results.level == 1)]
    assert unreached(tickets, None).all()
    if len(tickets):
        assert not found.verdict.levels[0].why.startswith("needs")


def test_what_is_lowest_before_the_last_validation_is_reached_though_steps_follow_it():
    curve = [1.0] * 9 + [0.4] * 3 + [0.9] * 8
    found = together([with_schedule([curve, [loss - seed / 1e4 for loss in curve]], 20, 6, 1, seed)
                      for seed in range(6)])
    assert found.verdict.outcome == "matching" and not found.unreached


def test_rounds_shorter_than_an_epoch_can_be_reported():
    found = together([with_schedule([[0.5] * 4] * 3, 4, 6, 1)])
    assert found.results.early_stop_step.isna().tolist() == [True, False, False]
    assert found.verdict.sentence.startswith("Inconclusive: ")


def test_a_search_that_does_not_say_what_was_validated_is_judged_by_its_steps():
    fit = trained_in_fit([[0.5, 0.4], [0.5, 0.4]])
    assert "In 2 of 2 trainings" in runs.of_fit(fit).unreached
    for row in fit.rows:
        del row["validated_step"]
    fit.rows[0]["steps"] = 25
    assert "In 2 of 2 trainings" in runs.of_fit(fit).unreached  # As the history tells.
    fit.history["level"].clear()
    assert "In 1 of 2 trainings" in runs.of_fit(fit).unreached


def test_a_round_that_is_resumed_knows_its_last_validation():
    record = Round(1, 0.5, steps=10)
    assert record.row()["validated_step"] is None and "validated" not in record.to_dict()
    record.end_epoch({"val_loss": 0.5})
    record.steps = 20
    record.end_epoch({"loss": 0.5})  # Not validated, as with validation_freq.
    assert Round.from_dict(record.to_dict()).row()["validated_step"] == 10
