import json

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.schedule import LotteryTicketSchedule

SCHEDULES = [
    {"rounds": 3, "steps_per_round": 5},
    {"rounds": 0, "epochs_per_round": 2, "fraction": 0.5},
    {"rounds": 2, "epochs_per_round": 1, "fraction": {"default": 0.2, "output": 0.1}},
]


@pytest.mark.parametrize("parts", SCHEDULES)
def test_a_schedule_comes_back_equal_from_its_config_even_as_json(parts):
    schedule = LotteryTicketSchedule(**parts)
    config = json.loads(json.dumps(schedule.get_config()))
    for again in (LotteryTicketSchedule.from_config(config),
                  LotteryTicketSchedule.from_config(config["config"])):
        assert again == schedule
        assert hash(again) == hash(schedule)
        assert again.get_config() == schedule.get_config()
    assert config["config"]["fraction"] == parts.get("fraction", 0.2)
    assert all(config["config"][name] == value for name, value in parts.items())


def test_reading_a_config_leaves_it_as_it_was():
    config = LotteryTicketSchedule(rounds=1, steps_per_round=2).get_config()
    before = json.dumps(config)
    LotteryTicketSchedule.from_config(config)
    assert json.dumps(config) == before


def test_schedules_are_equal_by_their_parts_alone():
    schedule = LotteryTicketSchedule(rounds=1, steps_per_round=2, fraction=0.3)
    assert schedule == LotteryTicketSchedule(1, 2, fraction=0.3)
    assert schedule != LotteryTicketSchedule(2, 2, fraction=0.3)
    assert schedule != LotteryTicketSchedule(1, 3, fraction=0.3)
    assert schedule != LotteryTicketSchedule(1, epochs_per_round=2, fraction=0.3)
    assert schedule != LotteryTicketSchedule(1, 2, fraction=0.4)
    assert schedule != "schedule"
    assert len({schedule, LotteryTicketSchedule(1, 2, fraction=0.3)}) == 1


def test_a_schedule_prints_as_the_call_that_makes_it():
    schedule = LotteryTicketSchedule(rounds=1, steps_per_round=2, fraction={"default": 0.5})
    assert eval(repr(schedule)) == schedule


def test_the_mapping_given_can_change_later_without_the_schedule():
    fraction = {"default": 0.2}
    schedule = LotteryTicketSchedule(rounds=1, steps_per_round=2, fraction=fraction)
    fraction["default"] = 0.9
    assert schedule.fraction == {"default": 0.2}


@settings(max_examples=15)
@given(st.integers(0, 4), st.integers(1, 6), st.sampled_from([0.0, 0.07, 0.2, 0.5, 0.9]))
def test_it_prunes_at_the_first_step_after_each_round_and_at_no_other(rounds, length, fraction):
    schedule = LotteryTicketSchedule(rounds, length, fraction=fraction)
    steps = range(1, (rounds + 3) * length + 1)
    answers = [schedule(tf.constant(step, tf.int64)) for step in steps]
    fired = [step for step, (prune, _) in zip(steps, answers, strict=True) if prune]
    assert fired == [length * level + 1 for level in range(1, rounds + 1)]
    for step, (_, sparsity) in zip(steps, answers, strict=True):
        level = min((step - 1) // length, rounds)
        assert float(sparsity) == pytest.approx(1 - (1 - fraction) ** level, abs=1e-6)
    assert schedule.last_step == rounds * length + 1


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_it_answers_tensors_within_a_graph(dtype):
    schedule = LotteryTicketSchedule(rounds=2, steps_per_round=3, fraction=0.5)
    prune, sparsity = tf.function(schedule)(tf.constant(7, dtype))
    assert (prune.dtype, sparsity.dtype) == (tf.bool, tf.float32)
    assert prune.shape == sparsity.shape == ()
    assert bool(prune)
    assert float(sparsity) == 0.75


def test_it_does_not_prune_before_the_first_step():
    schedule = LotteryTicketSchedule(rounds=2, steps_per_round=3)
    for step in (-1, 0, 1):
        prune, sparsity = schedule(tf.constant(step, tf.int64))
        assert not prune
        assert float(sparsity) == 0


def test_rounds_end_by_steps_or_by_epochs():
    steps = LotteryTicketSchedule(rounds=1, steps_per_round=3)
    assert [steps.round_over(steps=n, epochs=9) for n in (2, 3, 4)] == [False, True, True]
    epochs = LotteryTicketSchedule(rounds=1, epochs_per_round=2)
    assert [epochs.round_over(steps=99, epochs=n) for n in (1, 2, 3)] == [False, True, True]


def test_density_after_a_level():
    schedule = LotteryTicketSchedule(rounds=1, steps_per_round=3, fraction={"default": 0.5})
    assert schedule.density(3, fraction=0.5) == 0.125
    with pytest.raises(LotteryError, match="fraction of one layer"):
        schedule.density(3)


@pytest.mark.parametrize("parts", [
    {"rounds": -1}, {"rounds": 1.0}, {"rounds": True}, {"rounds": "3"}, {"rounds": None},
    {"steps_per_round": 0}, {"steps_per_round": 2.5}, {"epochs_per_round": 1},
    {"steps_per_round": None}, {"steps_per_round": None, "epochs_per_round": 0},
    {"steps_per_round": None, "epochs_per_round": True},
    {"fraction": 1.0}, {"fraction": -0.1}, {"fraction": "many"}, {"fraction": float("nan")},
    {"fraction": {}}, {"fraction": {"default": 1.5}}, {"fraction": None},
])
def test_a_value_outside_its_range_is_refused(parts):
    with pytest.raises(LotteryError, match="Received: "):
        LotteryTicketSchedule(**{"rounds": 1, "steps_per_round": 3, **parts})


@pytest.mark.parametrize(("parts", "message"), [
    ({"epochs_per_round": 2}, "needs steps_per_round"),
    ({"steps_per_round": 2, "fraction": {"default": 0.2}}, "must have one fraction"),
])
def test_what_tfmot_cannot_follow_is_refused_when_it_asks(parts, message):
    with pytest.raises(LotteryError, match=message):
        LotteryTicketSchedule(rounds=1, **parts)(tf.constant(1))


def test_the_schedule_is_public():
    assert lth.LotteryTicketSchedule is LotteryTicketSchedule
