"""`lth.verify` on Keras 3 models: that a correct one passes, and that each fault is named."""

import keras
import networks3 as networks
import numpy as np
import pytest
from faults3 import (
    compiled,
    DATA,
    Drifts,
    keras_draws,
    mlp,
    numpy_draws,
    scaled,
    second_in_an_attribute,
    second_in_an_object,
    second_out_of_sight,
    seeded_draws,
    SEQUENCES,
    stateful,
    two_optimizers,
    VariableCounter,
    X,
    Y,
)
from faults3 import Counter as PythonCounter

import lth_keras as lth
from lth_keras.errors import InvariantError, LotteryError
from lth_keras.keras3 import gradient_masks, model_masks, optimizer_state
from lth_keras.keras3.verification.recorded import batches_of
from lth_keras.search.training_checks import TrainingChecks

STEPS = 2
BACKEND = keras.backend.backend()
# On JAX a step is a function of its state: what it changes besides is lost, as Keras says.
BY_SIDE_EFFECTS = pytest.mark.skipif(BACKEND == "jax", reason="JAX trains without side effects")


def dense():
    return compiled(mlp())


def verified(build, data=DATA, **options):
    return lth.verify(build, data, STEPS, **options)


def broken(report):
    return {finding.check for finding in report.findings}


def held_by(report):
    return {finding.held_by for finding in report.findings}


def test_a_model_without_fault_passes_and_the_report_speaks_of_no_wrapping():
    report = verified(dense, exclude="head")
    assert report.ok and not report.skipped, str(report)
    assert report.notes == ("left dense, of rank 2 or more: head/kernel",)
    assert [line.split()[:2] for line in str(report).splitlines()[1:5]] == [
        [check, "passed"] for check in ("masking", "rewinding", "pruning", "saving")]
    assert "wrap" not in str(report) and "strip" not in str(report)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "optimizer"), [
    *((name, "AdamW") for name in networks.MODELS), ("convolutional", "loss scale"),
    ("convolutional", "accumulation"), ("convolutional", "Muon"), ("convolutional", "several")])
def test_models_and_optimizers_pass_as_they_are_compiled(name, optimizer):
    report = verified(lambda: networks.compiled(name, optimizer)[0], networks.MODELS[name][1:3])
    assert report.ok and not report.skipped, str(report)


# Faults of a model.

def test_a_kernel_that_is_moved_past_the_optimizer_is_named():
    report = verified(lambda: compiled(mlp(Drifts)))
    assert broken(report) == {"pruning"}
    assert {finding.variable for finding in report.findings} == {"dense/kernel"}
    assert "dense/kernel: has pruned weights that are not zero, from step 1 on" in str(report)
    with pytest.raises(InvariantError, match="dense/kernel: has pruned weights"):
        report.raise_if_failed()


@pytest.mark.thorough
@BY_SIDE_EFFECTS
def test_an_optimizer_that_the_model_holds_is_masked_and_rewound():
    report = verified(two_optimizers(second_in_an_attribute))
    assert report.ok, str(report)


@BY_SIDE_EFFECTS
def test_an_optimizer_that_the_model_does_not_hold_is_found_by_what_it_does():
    report = verified(two_optimizers(second_out_of_sight))
    assert broken(report) == {"rewinding"}  # What it prunes stays zero by the weight's constraint.
    assert held_by(report) >= {"something that no variable holds, such as a number that Python "
                               "counts"}


@pytest.mark.thorough
@BY_SIDE_EFFECTS
def test_an_optimizer_that_the_search_does_not_know_is_named():
    report = verified(two_optimizers(second_in_an_object))
    assert broken(report) == {"rewinding"}
    assert "an optimizer (helper.optimizer, Adam), not rewound" in held_by(report)


@pytest.mark.thorough
def test_a_number_that_python_counts_is_found():
    report = verified(scaled(PythonCounter))
    assert "rewinding" in broken(report)
    assert held_by(report) == {"something that no variable holds, such as a number that Python "
                               "counts"}


@pytest.mark.thorough
@BY_SIDE_EFFECTS
def test_a_variable_that_no_layer_tracks_is_rewound_or_named(monkeypatch):
    assert verified(scaled(VariableCounter)).ok
    monkeypatch.setattr(optimizer_state, "states", lambda model: [])
    report = verified(scaled(VariableCounter))
    assert "rewinding" in broken(report)
    assert "scaled.scale.count), not rewound" in str(report)


@pytest.mark.thorough
def test_draws_that_no_seed_repeats_are_said_not_judged():
    report = verified(scaled(numpy_draws))
    assert "rewinding" not in broken(report)
    assert "draws without a seed" in report.skipped["rewinding"]


@pytest.mark.thorough
@pytest.mark.parametrize("draws", [
    pytest.param(seeded_draws), pytest.param(keras_draws, marks=BY_SIDE_EFFECTS)])
def test_draws_of_keras_with_a_seed_generator_or_without_are_repeated(draws):
    report = verified(scaled(draws))
    assert report.ok and not report.skipped.get("rewinding"), str(report)


@pytest.mark.thorough
@BY_SIDE_EFFECTS
def test_a_compiled_step_that_draws_without_a_seed_is_repeated_too():
    def build():
        model = scaled(keras_draws)()
        model.compile("adam", "mse")
        return model
    report = verified(build)
    assert report.ok and not report.skipped.get("rewinding"), str(report)


@pytest.mark.thorough
@pytest.mark.skipif(BACKEND == "torch", reason="Keras cannot train a stateful RNN with torch")
def test_a_state_that_goes_over_to_the_next_round_is_named(monkeypatch):
    report = verified(stateful, SEQUENCES)
    assert report.ok, str(report)
    if BACKEND == "jax":
        return  # Where Keras drops the states after a step.
    monkeypatch.setattr(optimizer_state, "states", lambda model: [])
    report = verified(stateful, SEQUENCES)
    assert "rewinding" in broken(report)
    assert "a state (recurrent.states[0]), not rewound" in held_by(report)


# Faults of this package.

def test_a_gradient_that_is_not_masked_is_found_with_its_slots(monkeypatch):
    monkeypatch.setattr(gradient_masks, "_masked", lambda value, mask: value)
    report = verified(dense)
    assert broken(report) == {"pruning"}
    said = str(report)
    assert "pruned weights that are not zero" in said and "optimizer slots (" in said


@pytest.mark.thorough
def test_masks_that_prune_nothing_and_change_the_training_are_found(monkeypatch):
    monkeypatch.setattr(gradient_masks, "_masked", lambda value, mask: value * 0)
    report = verified(dense)
    assert {"masking", "pruning"} <= broken(report)
    assert "dense/kernel, head/kernel: does not train" in str(report)


def test_masks_in_the_file_are_found(monkeypatch):
    for module in (gradient_masks, model_masks):
        monkeypatch.setattr(module, "leave_out", lambda optimizer, masks: None)
    report = verified(dense)
    assert broken(report) == {"saving"}
    assert "is not loaded as it was saved" in str(report)


@pytest.mark.thorough
def test_weights_that_no_known_optimizer_moved_are_refused(monkeypatch):
    monkeypatch.setattr(optimizer_state, "iterations", lambda *given: 0)
    assert "must know the optimizer that trains" in str(verified(dense))
    monkeypatch.setattr(TrainingChecks, "optimizer_is_known", lambda *given: None)
    assert verified(dense).ok


# What cannot be checked.

def pruned():
    model = dense()
    lth.Search(model)
    return model


@pytest.mark.parametrize(("build", "data", "options", "said"), [
    (mlp, DATA, {}, "not compiled|built and compiled"),
    (lambda: compiled(keras.Sequential([keras.layers.Dense(2)])), DATA, {}, "built and compiled"),
    (pruned, DATA, {}, "which has masks. Apply no ticket"),
    (dense, DATA, {"wrap": lth.prune_low_magnitude}, "is not wrapped .*include="),
    (lambda: 7, DATA, {}, "build must return a model of Keras 3 or of tf_keras. Received: 7"),
    (dense, (), {}, "data must be"), (dense, 7, {}, "data must be"),
    (dense, iter(()), {}, "data must be")])
def test_what_cannot_be_checked_is_refused(build, data, options, said):
    with pytest.raises(LotteryError, match=said):
        verified(build, data, **options)


def test_a_model_in_place_of_a_function_that_makes_it_is_refused():
    with pytest.raises(LotteryError, match="build must be a function .*Received: <.*Sequential"):
        lth.verify(dense(), DATA)


def test_names_that_a_second_build_does_not_repeat_are_refused():
    names = iter(("one", "other", "third", "fourth"))

    def build():
        return compiled(keras.Sequential([
            keras.layers.Input((6,)), keras.layers.Dense(2, name=next(names))]))
    with pytest.raises(LotteryError, match="same weights every time, under the same names"):
        verified(build)


class Pairs(keras.utils.PyDataset):
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
    assert all((one == -other).all() for one, other in batches)


@pytest.mark.thorough
def test_inputs_alone_come_to_a_train_step_as_they_are():
    class Encoder(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            assert y is None and sample_weight is None
            return keras.ops.mean((self(x) - x[:, :2]) ** 2)
    report = verified(lambda: compiled(mlp(Encoder)), X)
    assert report.ok, str(report)
    assert verified(dense, [(X[:32], Y[:32]), (X[32:40], Y[32:40])]).ok
