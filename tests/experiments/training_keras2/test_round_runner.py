import dataclasses
import itertools

import numpy as np
import pytest
import small
import tensorflow as tf
import tf_keras as keras
from small import blobs, CONFIG
from tiers import short_and_long

from lth_keras.core import criteria
from lth_keras.core.criteria import Criterion
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.training.networks import NETWORKS
from lth_keras.experiments.training_keras2.engine import round_runner

GRADIENTS = ("gradient", "initial_gradient")

layers = keras.layers
pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.mark.parametrize("settings", [{"validation_size": 50}, {"batch_size": 41}])
def test_data_too_small_for_the_settings_is_an_error(settings):
    config = dataclasses.replace(CONFIG, **settings)
    with pytest.raises(LotteryError, match="must leave examples.*blobs has 50"):
        round_runner(config, blobs())


def test_a_fraction_for_a_layer_that_is_not_there_is_an_error_before_training():
    with pytest.raises(LotteryError, match="matched by \\['c'\\]"):
        round_runner(CONFIG.replace(fraction="c:0.2,default:0.1"), blobs())


def test_fractions_that_leave_no_weight_are_an_error_before_training():
    with pytest.raises(LotteryError, match="prune all weights at level 2"):
        round_runner(CONFIG.replace(fraction=0.95, rounds=2), blobs())


def test_the_first_training_draws_the_ticket_and_a_later_one_is_given_it():
    lab = small.lab()
    drawn = lab.train(Training(0, 0), StartingPoint())
    again = lab.train(Training(0, 0), StartingPoint(drawn.drawn))
    assert again.drawn is None and drawn.drawn.level == 0
    assert all((drawn.following.masks[name] == again.following.masks[name]).all()
               for name in drawn.following.masks)
    control = lab.train(Training(0, 1, "reinit"), StartingPoint(drawn.following))
    assert control.drawn is None and control.following is None
    assert control.result["density"] == lab.train(
        Training(0, 1), StartingPoint(drawn.following)).result["density"] < 1


def test_steps_are_told_as_they_are_done():
    told = []
    small.lab(CONFIG.replace(steps=10)).train(Training(0, 0), StartingPoint(), told.append)
    assert told == [4, 4, 2]


def test_measuring_changes_nothing():
    used, fresh = round_runner(CONFIG, blobs()), small.lab()
    speed = used.measure()
    assert min(speed.compilation, speed.step, speed.validation, speed.evaluation) >= 0
    one, two = (lab.train(Training(0, 0), StartingPoint()) for lab in (used, fresh))
    assert one.curve.equals(two.curve)
    assert all((one.following.masks[name] == two.following.masks[name]).all()
               for name in one.following.masks)


@pytest.mark.thorough
@pytest.mark.parametrize("settings", short_and_long(
    [{}, {"strategy": "one_shot"}, {"rewind_step": 4}],
    [{"strategy": "one_shot"}, {"rewind_step": 4}]))
def test_a_gradient_that_a_run_provides_is_what_a_criterion_gets(settings, monkeypatch):
    """Each need is computed by the network of its weights and masks, over the training examples."""
    seen = {}

    def note(initial, final, rng, **needed):
        seen[final.shape] = initial, final, needed
        return np.abs(final)

    monkeypatch.setitem(criteria.CRITERIA, "note", Criterion("note", note, GRADIENTS))
    lab = round_runner(CONFIG.replace(criterion="note", **settings), blobs())
    first = lab.train(Training(0, 0), StartingPoint())
    lab.train(Training(0, 1), StartingPoint(first.following, taken={0: first.trained}))
    network, train = lab.trainer.model, np.sort(np.setdiff1d(np.arange(50), lab._split(0)[1]))
    dense = dict.fromkeys(first.following.masks, 1)

    def expected(weights, masks, name):
        for layer, kernel in (("a", "a/kernel"), ("b", "b/kernel")):
            inner = next(part.layer for part in network.layers if part.layer.name == layer)
            inner.kernel.assign(weights[kernel] * masks[kernel])
            inner.bias.assign(weights[f"{layer}/bias"])
        data = blobs()
        with tf.GradientTape() as tape:
            x = tf.nn.relu(data.x_train[train] @ network.layers[0].layer.kernel
                           + network.layers[0].layer.bias)
            logits = x @ network.layers[1].layer.kernel + network.layers[1].layer.bias
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
                data.y_train[train], logits)
        layer = network.layers[0 if name == "a/kernel" else 1].layer
        return tape.gradient(loss, layer.kernel).numpy() * masks[name]

    theta, masks = first.following.weights, first.following.masks
    for name in masks:
        initial, final, needed = seen[theta[name].shape]
        assert needed.keys() == {*GRADIENTS}
        np.testing.assert_array_equal(initial, theta[name])
        np.testing.assert_allclose(needed["initial_gradient"], expected(theta, masks, name),
                                   rtol=1e-4, atol=1e-6)
        if settings.get("strategy") == "one_shot":  # Pruned by the dense network, in its own masks.
            np.testing.assert_array_equal(final, first.trained.weights[name])
            np.testing.assert_allclose(needed["gradient"],
                                       expected(first.trained.weights, dense, name),
                                       rtol=1e-4, atol=1e-6)
        else:
            assert (needed["gradient"][masks[name] == 0] == 0).all()
            assert needed["gradient"].any()


def test_a_criterion_that_needs_what_no_run_provides_is_refused_before_anything(monkeypatch):
    monkeypatch.setitem(criteria.CRITERIA, "flow", Criterion(
        "flow", lambda *three, flow: flow, ("flow",)))
    with pytest.raises(LotteryError, match=(
            "lth run must provide.*'flow', which needs flow; provided is only activation, "
            "gradient, initial_gradient, mask")):
        CONFIG.replace(criterion="flow")


def tiny_convolutional(input_shape, classes):
    return keras.Sequential([
        layers.Input(input_shape), layers.Conv2D(4, 2, name="conv", activation="relu"),
        layers.BatchNormalization(), layers.Flatten(),
        layers.Dense(classes, name="b", dtype="float32")])


def as_images(data):
    return dataclasses.replace(data, x_train=data.x_train.reshape(-1, 3, 2, 1),
                               x_test=data.x_test.reshape(-1, 3, 2, 1))


@pytest.mark.thorough
@pytest.mark.parametrize(("network", "policy"), short_and_long(
    itertools.product(["tiny", "convolutional"], ["mixed_bfloat16", "mixed_float16"]),
    [("convolutional", "mixed_bfloat16"), ("tiny", "mixed_float16")]))
def test_two_levels_in_mixed_precision(policy, network, monkeypatch):
    monkeypatch.setitem(NETWORKS, "convolutional", tiny_convolutional)
    data = blobs() if network == "tiny" else as_images(blobs())
    lab = round_runner(CONFIG.replace(dtype_policy=policy, network=network), data)
    trained, train = [], lab.trainer._trainer.train

    def spy(plan, on_interval):
        trained.append((plan, train(plan, on_interval)))
        return trained[-1][1]
    monkeypatch.setattr(lab.trainer._trainer, "train", spy)
    first = lab.train(Training(0, 0), StartingPoint())
    lab.train(Training(0, 1), StartingPoint(first.following))
    assert not keras.mixed_precision.global_policy().name.startswith("mixed")
    assert keras.layers.Dense(1).compute_dtype == "float32"
    for plan, result in trained:
        for name, mask in plan.masks.items():
            assert result.weights[name].dtype == np.float32
            assert not result.weights[name][mask == 0].any()
            assert (result.weights[name][mask == 1] != plan.weights[name][mask == 1]).any()
    inner = lab.trainer.model.layers[0]
    assert inner.layer.compute_dtype == policy.removeprefix("mixed_")
    assert lab.trainer.model(data.x_test).dtype == tf.float32
    scaled = isinstance(lab.trainer.model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert first.following.masks["b/kernel"].sum() < first.following.masks["b/kernel"].size
