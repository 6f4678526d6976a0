"""`lth.verify`: what it finds, by breaking what it looks at, and models that once went wrong."""

import types

import faults
import networks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import lth_keras as lth
from lth_keras.errors import InvariantError, LotteryError
from lth_keras.keras2 import optimizer_state
from lth_keras.keras2.masking import masked_layer, wrap_weights
from lth_keras.keras2.masking.masked_weights import MaskedVariable
from lth_keras.keras2.verification.trained import batches_of
from lth_keras.search import training_checks

STEPS = 3
UNMASKED = ("recompute_grad", "custom_gradient")  # What cannot be masked, and is refused.


# Whose graph is not what went wrong: these run eagerly, since most of the time goes to graphs.
EAGER = ("add_loss, Sequential", "add_loss, own class", "name", "get_layer",
         "trainable_weights[0]", *UNMASKED)


def found(name, wrap=lth.prune_low_magnitude):
    build, data = faults.FAULTS[name]
    return lth.verify(eager(build) if name in EAGER else build, data, STEPS, wrap=wrap)


def eager(build):
    return lambda: faults.compiled(build(), run_eagerly=True)


def dense():
    return networks.compiled(networks.mlp(), run_eagerly=True)


def broken(report):
    return {finding.check for finding in report.findings}


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in faults.FAULTS if name not in UNMASKED])
def test_a_model_of_the_kind_that_once_went_wrong_passes(name):
    report = found(name)
    assert report.ok, str(report)
    assert not report.skipped, report.skipped


@pytest.mark.thorough
@pytest.mark.parametrize("name", UNMASKED)
def test_a_gradient_that_passes_by_the_mask_is_found_and_a_search_refuses_it(name):
    report = found(name)
    assert broken(report) == {"pruning"}
    assert "get a gradient" in str(report)
    build, (x, y) = faults.FAULTS[name]
    for eagerly in (False, True):
        model = lth.prune_low_magnitude(build())
        model.compile("adam", "mse", run_eagerly=eagerly)
        lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, verbose=0)
        with pytest.raises(LotteryError, match=r"none reaches the weights of (recomp|doub)"):
            model.fit(x, y, epochs=2, verbose=0, callbacks=[lottery])


def test_a_layer_that_recomputes_trains_where_the_layer_within_is_wrapped():
    class Inside(faults.Recomputed):
        def build(self, shape):
            super().build(shape)
            self.dense = lth.prune_low_magnitude(self.dense)
            self.dense.build(shape)

    def build():
        return faults.compiled(keras.Sequential([
            keras.layers.Input((6,)), Inside(), keras.layers.Dense(2)]))
    report = lth.verify(eager(build), faults.DATA, STEPS)
    assert "rewinding" not in broken(report) and "pruning" not in broken(report), str(report)


@pytest.mark.thorough
def test_an_optimizer_that_is_not_rewound_is_named(monkeypatch):
    monkeypatch.setattr(optimizer_state, "optimizers", lambda model: [model.optimizer])
    monkeypatch.setattr(training_checks.TrainingChecks, "optimizer_is_known", lambda *given: None)
    report = found("two optimizers")
    assert broken(report) == {"rewinding"}
    assert {finding.held_by for finding in report.findings} == {
        "an optimizer (d_opt, Adam), an optimizer (g_opt, Adam), not rewound"}
    assert {finding.step for finding in report.findings} == {1}


def test_weights_that_no_known_optimizer_moved_are_refused(monkeypatch):
    monkeypatch.setattr(optimizer_state, "optimizers", lambda model: [model.optimizer])
    report = found("two optimizers")
    assert "must know the optimizer that trains" in str(report)


@pytest.mark.thorough
def test_a_state_that_goes_over_to_the_next_round_is_named(monkeypatch):
    monkeypatch.setattr(optimizer_state, "states", lambda model: [])
    report = found("stateful")
    assert broken(report) == {"rewinding"}
    assert all("a state (recurrent.layer._states[0])" in finding.held_by
               for finding in report.findings)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in faults.FAULTS if name.startswith("add_loss")])
def test_a_loss_that_wrapping_drops_is_named(name):
    def wrap(model):
        wrapped = lth.prune_low_magnitude(model)
        wrapped._callable_losses = []
        return wrapped
    report = lth.verify(eager(faults.FAULTS[name][0]), faults.DATA, STEPS, wrap=wrap)
    assert broken(report) == {"wrapping"}
    assert "a loss: the model adds 1 losses, wrapped 0" in str(report)


def test_another_way_of_a_models_code_is_found(monkeypatch):
    outside = types.SimpleNamespace(in_call=False, training=None)
    monkeypatch.setattr(masked_layer, "base_layer_utils",
                        types.SimpleNamespace(call_context=lambda: outside))
    monkeypatch.setattr(wrap_weights, "check_outputs", lambda model, before: None)
    report = found("isinstance")
    assert "predictions" in {finding.variable for finding in report.findings
                             if finding.check == "wrapping"}


def test_a_weight_without_gradient_is_found(monkeypatch):
    def stopped(self, value):
        return keras.backend.stop_gradient(value)
    monkeypatch.setattr(MaskedVariable, "_masked", stopped)
    report = lth.verify(eager(faults.added_loss_functional), faults.DATA, STEPS)
    assert {"wrapping", "pruning"} <= broken(report)
    assert "does not train" in str(report)


def test_a_gradient_that_is_not_masked_is_found_with_its_slots(monkeypatch):
    monkeypatch.setattr(MaskedVariable, "_masked", lambda self, value: value)
    report = lth.verify(dense, (networks.X, networks.Y), STEPS)
    assert broken(report) == {"pruning"}
    said = str(report)
    assert "get a gradient" in said and "optimizer slots (" in said


def test_what_stripping_leaves_is_found(monkeypatch):
    monkeypatch.setattr(masked_layer.MaskedLayer, "detach", lambda self: None)
    report = lth.verify(dense, (networks.X, networks.Y), STEPS, strict=False)
    assert broken(report) == {"stripping"}
    assert "its constraint is still the package's" in str(report)
    with pytest.raises(InvariantError, match="constraint is still"):
        lth.verify(dense, (networks.X, networks.Y), STEPS, strict=True)


def test_a_round_that_cannot_be_repeated_is_said_not_judged():
    draws = np.random.default_rng()

    def build():
        model = dense()
        noise = keras.layers.Lambda(lambda x: x + tf.numpy_function(
            lambda: np.float32(draws.normal()), [], tf.float32))
        noisy = keras.Sequential([keras.layers.Input((6,)), noise, *model.layers])
        noisy.compile("adam", "mse", run_eagerly=True)
        return noisy
    report = lth.verify(build, (networks.X, networks.Y), STEPS)
    assert "rewinding" not in broken(report)
    assert "train differently" in report.skipped["rewinding"]


@pytest.mark.parametrize(("build", "data", "says"), [
    (networks.mlp, (networks.X, networks.Y), "not compiled"),
    (dense, (), "data must be"),
    (dense, 7, "data must be"),
    (dense, iter(()), "data must be")])
def test_what_cannot_be_checked_is_refused(build, data, says):
    with pytest.raises(LotteryError, match=says):
        lth.verify(build, data, STEPS)


def test_a_model_in_place_of_a_function_that_makes_it_is_refused():
    with pytest.raises(LotteryError, match="build must be a function .*Received: <tf_keras"):
        lth.verify(dense(), (networks.X, networks.Y))


def test_names_that_a_second_build_does_not_repeat_are_refused():
    names = iter(("one", "other", "third"))

    def build():
        return faults.compiled(keras.Sequential([
            keras.layers.Input((6,)), keras.layers.Dense(2, name=next(names))]))
    with pytest.raises(LotteryError, match="same weights every time, under the same names"):
        lth.verify(build, (networks.X, networks.Y), STEPS)


class Pairs(keras.utils.Sequence):
    def __len__(self):
        return 3

    def __getitem__(self, place):
        return np.full((2, 6), place), np.full(2, place)


@pytest.mark.parametrize("data", [
    (np.zeros((70, 6)), np.zeros(70)), (np.zeros((70, 6)), np.zeros(70), np.ones(70)),
    np.zeros((70, 6)), {"a": np.zeros((70, 6))}, Pairs(), [(np.zeros((2, 6)), np.zeros(2))] * 2,
    iter([np.zeros((4, 6))])], ids=lambda data: type(data).__name__)
def test_data_of_every_kind_become_as_many_batches_as_steps(data):
    assert len(batches_of(data, 5)) == 5


def test_arrays_come_in_their_order_in_batches_of_32():
    x = np.arange(70)
    batches = batches_of((x, -x), 4)
    assert [list(one) for one, _ in batches] == [
        list(range(32)), list(range(32, 64)), list(range(64, 70)), list(range(32))]
    assert all((one.numpy() == -other.numpy()).all() for one, other in batches)
