"""What is trained, in which order, and what each training needs: no store, no network."""

import numpy as np
import pytest

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import CONSTANT, RETRAININGS, Span, STRATEGIES
from lth_keras.experiments.config.trainings import (
    at_level,
    chain,
    maker,
    repeats_from_k,
    span,
    stands_on,
    steps_of,
    takes_from,
    Training,
    trainings,
)

CONFIG = Config(preset="p", network="n", dataset="d", steps=1000, rounds=2, rewind_step=100,
                validation_every=50,
                branches=("ticket:2@0-1", "reinit@1", "scratch@2", "reshuffle"))
EVERY = [CONFIG.replace(strategy=strategy, retraining=retraining)
         for strategy in STRATEGIES if strategy != "transfer" for retraining in RETRAININGS
         if strategy in ("iterative", "one_shot") or RETRAININGS[retraining].rewinds]
NAMES = [f"{config.strategy}-{config.retraining}" for config in EVERY]


def names(config, level):
    return [f"{training.branch}{training.branch_index or ''}"
            for training in at_level(config, 0, level)]


def test_a_level_has_its_branches_and_what_the_next_is_made_from():
    assert [names(CONFIG, level) for level in range(3)] == [
        ["ticket", "ticket1"], ["ticket", "ticket1", "reinit", "reshuffle"],
        ["ticket", "scratch", "reshuffle"]]
    continued = CONFIG.replace(strategy="continued")
    assert [names(continued, level) for level in (1, 2)] == [
        ["continued", "ticket", "ticket1", "reinit", "reshuffle"],
        ["continued", "scratch", "reshuffle"]]


def test_trainings_go_level_by_level_over_all_replicates():
    config = CONFIG.replace(replicates=2, first_replicate=3, branches=("ticket",))
    assert list(trainings(config)) == [
        Training(replicate, level) for level in range(3) for replicate in (3, 4)]


@pytest.mark.parametrize("config", EVERY, ids=NAMES)
def test_what_a_training_needs_comes_before_it_and_every_level_stands_on_its_chain(config):
    done = []
    for training in trainings(config):
        needs = {stands_on(config, training), *takes_from(config, training)} - {None}
        assert needs <= {*done}
        if training.level:
            assert stands_on(config, training) == chain(config, 0, training.level - 1)
        done.append(training)
    assert len(done) == len({*done})


def test_only_the_chain_takes_from_others():
    config = CONFIG.replace(strategy="continued")
    assert takes_from(config, Training(0, 2, "continued")) == (Training(0, 1, "continued"),)
    assert takes_from(config, Training(0, 1, "continued")) == (Training(0, 0),)
    for training in (Training(0, 0), Training(0, 2), Training(0, 2, "reinit")):
        assert takes_from(config, training) == ()


@pytest.mark.parametrize(("strategy", "made_by"), [
    ("iterative", Training(1, 2)), ("one_shot", Training(1, 0)),
    ("continued", Training(1, 2, "continued"))])
def test_a_control_takes_the_network_that_made_its_mask_if_it_needs_it(strategy, made_by):
    config = CONFIG.replace(strategy=strategy)
    assert takes_from(config, Training(1, 3, "reinit_trained_signs", 2)) == (made_by,)
    assert maker(config, 1, 3) == made_by


@pytest.mark.parametrize(("changes", "repeats"), [
    ({}, True), ({"rewind_step": 0}, False), ({"retraining": "learning_rate_rewinding"}, False)])
def test_the_dense_network_is_repeated_from_k_only_where_theta_k_is_kept(changes, repeats):
    config, again = CONFIG.replace(**changes), Training(0, 0, branch_index=1)
    assert repeats_from_k(config, again) == repeats
    assert stands_on(config, again) == (Training(0, 0) if repeats else None)
    assert not repeats_from_k(config, Training(0, 0))
    assert not repeats_from_k(config, Training(0, 1, branch_index=1))


@pytest.mark.parametrize(("changes", "training", "expected"), [
    ({}, Training(0, 0), Span(1000)), ({}, Training(0, 0, branch_index=1), Span(1000, 100, 100)),
    ({}, Training(0, 1), Span(1000, 100, 100)), ({}, Training(0, 1, "reinit"), Span(1000)),
    ({}, Training(0, 1, "reshuffle"), Span(1000, 100, 100)),
    ({"strategy": "continued"}, Training(0, 1, "continued"), Span(1000)),
    ({"retraining": "fine_tuning"}, Training(0, 1), Span(1000, 100, 999, CONSTANT)),
    ({"retraining": "fine_tuning"}, Training(0, 0, branch_index=1), Span(1000)),
    ({"retraining": "fine_tuning"}, Training(0, 1, "reinit"), Span(1000))])
def test_the_steps_of_a_training_and_where_its_schedule_begins(changes, training, expected):
    config = CONFIG.replace(**changes)
    assert span(config, training) == expected
    assert steps_of(config, training) == expected.steps - expected.first


def test_a_control_with_a_budget_is_trained_for_as_much_as_its_masks_save():
    training, half = Training(0, 2, "scratch"), {"w": np.array([1, 1, 1, 0])}
    assert span(CONFIG, training, half) == Span(1333, rate_stretch=1.333)
    assert span(CONFIG, training) == Span(2000, rate_stretch=2.0)  # At most.
    assert steps_of(CONFIG, training) == 2000
