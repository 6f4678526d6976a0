"""Branches that find their masks in training, on the backend that Keras 3 runs on."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_trainings_on_keras3 import config, DATA, known, on_jax, spec, TOGETHER

from lth_keras.controls.known import CONTROLS
from lth_keras.core.masks import kept
from lth_keras.experiments.training_keras3.sparse_trainer import BranchTrainer

SUPERMASKS = ("edge_popup", "bernoulli", "biprop")
METHODS = tuple(name for name, control in CONTROLS.items() if control.method)
SETTINGS = {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1, "mask_update_every": 2}
__all__ = ["known"]  # The networks of the other file.
_TRAINERS = {}


def trainer(together=1, **changed):
    key = together, tuple(changed.items())
    if key not in _TRAINERS:
        _TRAINERS[key] = BranchTrainer(config(**{**SETTINGS, **changed}), DATA, 100, together)
    return _TRAINERS[key]


def trained(method, together=1, seeds=(0,), **changed):
    one = trainer(together)
    specs = [spec(one, seed, method=method, **changed) for seed in seeds]
    return specs, one.train(specs, lambda *_: None)


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_it_keeps_as_many_weights_as_it_is_given_masks_of(method):
    (given,), (found,) = trained(method)
    assert kept(found.masks) == kept(given.masks)
    assert any((found.masks[name] != mask).any() for name, mask in given.masks.items())
    for name, mask in found.masks.items():
        weights, theta = found.weights[name], given.weights[name]
        assert (weights[mask == 0] == 0).all()
        if method == "biprop":
            assert_array_equal(np.sign(weights), np.sign(theta) * mask)
        elif method in SUPERMASKS:
            assert_array_equal(weights, theta * mask)
        else:
            assert (weights != theta)[mask != 0].mean() > 0.9  # Units that never fire stay.
    assert (found.weights["a/bias"] == 0).all() == (method in SUPERMASKS)
    assert found.result["test_accuracy_final"] >= 0


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_a_training_repeats_after_others(method):
    _, (first,) = trained(method)
    trained(method, seeds=(1,))
    trained("")
    _, (again,) = trained(method)
    for name, value in first.weights.items():
        assert_array_equal(value, again.weights[name])
    assert first.result["test_accuracy_early_stop"] == again.result["test_accuracy_early_stop"]


@on_jax
@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_networks_trained_together_are_those_trained_alone(method):
    seeds = range(TOGETHER - 1)  # One place is filled.
    _, together = trained(method, TOGETHER, seeds)
    for seed, found in zip(seeds, together, strict=True):
        _, (alone,) = trained(method, 1, (seed,))
        for name, mask in alone.masks.items():
            assert_array_equal(found.masks[name], mask)
        for name, value in alone.weights.items():
            assert_allclose(found.weights[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
def test_branches_of_one_level_come_back_in_their_places():
    one = trainer()
    specs = [spec(one, 0, method=method) for method in ("edge_popup", "", "rigl")]
    popup, plain, rigl = one.train(specs, lambda *_: None)
    assert plain.masks is None
    for name, mask in specs[0].masks.items():
        assert_array_equal(popup.weights[name], specs[0].weights[name] * popup.masks[name])
        assert (plain.weights[name][mask == 0] == 0).all()
        assert (rigl.masks[name] != popup.masks[name]).any()


@pytest.mark.thorough
def test_a_training_that_diverges_has_no_masks():
    one = trainer(learning_rate=1e30)
    found, = one.train([spec(one, method="rigl")], lambda *_: None)
    assert found.diverged and found.masks is None


def test_each_training_begins_with_the_state_of_none():
    (given,), (found,) = trained("edge_popup")
    assert not np.array_equal(found.weights["norm/moving_mean"], given.weights["norm/moving_mean"])
    _, (again,) = trained("edge_popup")
    assert_array_equal(again.weights["norm/moving_mean"], found.weights["norm/moving_mean"])
