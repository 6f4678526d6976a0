"""Branches of `lth run` that find their masks while they train."""

import dataclasses

import numpy as np
import pytest
import small
from small import CONFIG, run

from lth_keras.controls.known import CONTROLS
from lth_keras.core.masks import kept
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.results import store
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.results.store import Store
from lth_keras.files.ticket import Ticket

pytestmark = pytest.mark.usefixtures("tiny_network")
SUPERMASKS = ("edge_popup", "bernoulli", "biprop")
METHODS = tuple(name for name, control in CONTROLS.items() if control.method)
SETTINGS = CONFIG.replace(branches=("ticket", *METHODS), optimizer="sgd", learning_rate=0.5,
                          momentum=0.9, mask_update_every=2)


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_network):
    root, lab = tmp_path_factory.mktemp("run"), small.lab(SETTINGS)
    assert run(root, SETTINGS, trains=lab).ended == list(trainings(SETTINGS))
    return root, lab


def ticket(root, level):
    return Ticket.load(Store(root, SETTINGS).ticket(0, level))


def trained(lab, branch, level, root):
    """A training of a branch again: its plan and what came of it."""
    _, plan = lab._begun(Training(0, level, branch), StartingPoint(ticket(root, level)))
    found, = lab.trainer.train([plan], lambda *_: None)
    return plan, found


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_it_has_as_many_weights_in_each_layer_as_the_ticket(method, done):
    root, _ = done
    rows = store.results(root).set_index(["branch", "level"])
    for level in (1, 2):
        for layer in ("", "_a/kernel", "_b/kernel"):
            assert rows.loc[(method, level), f"density{layer}"] == \
                rows.loc[("ticket", level), f"density{layer}"]


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_a_training_repeats_with_the_same_bits_after_others(method, done):
    root, lab = done
    for level in (2, 1):
        _, found = trained(lab, method, level, root)
        row = store.results(root).set_index(["branch", "level"]).loc[(method, level)]
        assert row.test_accuracy_final == found.result["test_accuracy_final"]
        assert row.val_loss_min == found.result["val_loss_min"]


@pytest.mark.thorough
@pytest.mark.parametrize("method", SUPERMASKS)
def test_a_supermask_is_of_theta_0_and_zeros(method, done):
    root, lab = done
    theta = ticket(root, 0).weights
    plan, found = trained(lab, method, 2, root)
    assert all((plan.weights[name] == theta[name]).all() for name in theta)
    assert kept(found.masks) == kept(ticket(root, 2).masks)
    for name, mask in found.masks.items():
        effective = found.weights[name]
        if method == "biprop":
            effective = np.sign(effective)
            assert (effective == np.sign(theta[name]) * mask).all()
        else:
            assert (effective == theta[name] * mask).all()
    assert (found.weights["a/bias"] == 0).all()
    assert any((found.masks[name] != plan.masks[name]).any() for name in plan.masks)


def test_a_rewound_ticket_has_supermasks_of_step_0(tmp_path):
    late = SETTINGS.replace(rewind_step=4, rounds=1, branches=("ticket", "edge_popup"))
    lab = small.lab(late, rounds=1)
    run(tmp_path, late, trains=lab)
    theta_k = Ticket.load(Store(tmp_path, late).ticket(0, 1))
    _, plan = lab._begun(Training(0, 1, "edge_popup"), StartingPoint(theta_k))
    start = Ticket.load(Store(tmp_path, late).ticket(0, 0)).weights
    assert all((plan.weights[name] == start[name]).all() for name in start)
    assert any((plan.weights[name] != theta_k.weights[name]).any() for name in start)
    assert (plan.first, plan.steps) == (0, late.steps)


@pytest.mark.thorough
def test_a_schedule_begins_anew_with_every_training(tmp_path):
    settings = SETTINGS.replace(learning_rate_drops=(4,), rounds=1, branches=("edge_popup",))
    lab = small.lab(settings, rounds=1)
    run(tmp_path, settings, trains=lab)
    start = StartingPoint(Ticket.load(Store(tmp_path, settings).ticket(0, 1)))
    _, plan = lab._begun(Training(0, 1, "edge_popup"), start)
    # From step 8 of the schedule on, the rate has dropped from the first step.
    early, late = (lab.trainer.train([dataclasses.replace(
        plan, rate_first=place, order=np.random.default_rng(0))], lambda *_: None)[0]
        for place in (0, 8))
    assert any((early.masks[name] != mask).any() for name, mask in late.masks.items())


@pytest.mark.parametrize(("settings", "said"), [
    ({"dtype_policy": "mixed_float16"}, "scales no loss"),
    ({"branches": ("ticket", "rigl"), "mask_update_every": 10}, "within three quarters of steps"),
    ({"structure": "block_1x4_max"}, "draw single weights anywhere have not")])
def test_settings_without_sparse_trainings_are_refused(settings, said):
    with pytest.raises(LotteryError, match=said):
        CONFIG.replace(**{"branches": ("ticket", "edge_popup"), **settings})


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["gradual", "set", "rigl"])
def test_a_sparse_training_trains_the_weights_that_it_keeps(method, done):
    root, lab = done
    _, found = trained(lab, method, 2, root)
    assert kept(found.masks) == kept(ticket(root, 2).masks)
    theta = ticket(root, 0).weights
    for name, mask in found.masks.items():
        assert (found.weights[name][mask == 0] == 0).all()
        assert (found.weights[name] != theta[name])[mask != 0].all()
    assert (found.weights["a/bias"] != 0).any()


@pytest.mark.thorough
def test_masks_are_updated_as_often_as_the_setting_says(tmp_path):
    found = {}
    for every in (2, 8):
        settings = SETTINGS.replace(mask_update_every=every, rounds=1, branches=("rigl",))
        lab = small.lab(settings, rounds=1)
        run(tmp_path / str(every), settings, trains=lab)
        start = Ticket.load(Store(tmp_path / str(every), settings).ticket(0, 1))
        _, plan = lab._begun(Training(0, 1, "rigl"), StartingPoint(start))
        found[every] = lab.trainer.train([plan], lambda *_: None)[0].masks
    assert any((found[2][name] != mask).any() for name, mask in found[8].items())
