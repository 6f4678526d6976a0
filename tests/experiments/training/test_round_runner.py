import dataclasses

import numpy as np
import pytest
import small
import tensorflow as tf
import tf_keras as keras
from small import blobs, CONFIG

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import Start
from lth_keras.experiments.training import models
from lth_keras.experiments.training.round_runner import RoundRunner

layers = keras.layers
pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.mark.parametrize("settings", [{"validation_size": 50}, {"batch_size": 41}])
def test_data_too_small_for_the_settings_is_an_error(settings):
    config = dataclasses.replace(CONFIG, **settings)
    with pytest.raises(LotteryError, match="must leave examples.*blobs has 50"):
        RoundRunner(config, blobs())


def test_a_fraction_for_a_layer_that_is_not_there_is_an_error_before_training():
    with pytest.raises(LotteryError, match="no prunable layer by \\['c'\\]"):
        RoundRunner(CONFIG.replace(fraction="c:0.2,default:0.1"), blobs())


def test_fractions_that_leave_no_weight_are_an_error_before_training():
    with pytest.raises(LotteryError, match="keep none at level 2"):
        RoundRunner(CONFIG.replace(fraction=0.95, rounds=2), blobs())


def test_the_first_training_draws_the_ticket_and_a_later_one_is_given_it():
    lab = small.lab()
    drawn = lab.train(Training(0, 0), Start())
    again = lab.train(Training(0, 0), Start(drawn.drawn))
    assert again.drawn is None and drawn.drawn.level == 0
    assert all((drawn.following.masks[name] == again.following.masks[name]).all()
               for name in drawn.following.masks)
    control = lab.train(Training(0, 1, "reinit"), Start(drawn.following))
    assert control.drawn is None and control.following is None
    assert control.result["density"] == lab.train(
        Training(0, 1), Start(drawn.following)).result["density"] < 1


def test_steps_are_told_as_they_are_done():
    told = []
    small.lab(CONFIG.replace(steps=10)).train(Training(0, 0), Start(), told.append)
    assert told == [4, 4, 2]


def test_measuring_changes_nothing():
    used, fresh = RoundRunner(CONFIG, blobs()), small.lab()
    assert min(dataclasses.astuple(used.measure())) >= 0
    one, two = (lab.train(Training(0, 0), Start()) for lab in (used, fresh))
    assert one.curve.equals(two.curve)
    assert all((one.following.masks[name] == two.following.masks[name]).all()
               for name in one.following.masks)


def tiny_convolutional(input_shape, classes):
    return keras.Sequential([
        layers.Input(input_shape), layers.Conv2D(4, 2, name="conv", activation="relu"),
        layers.BatchNormalization(), layers.Flatten(),
        layers.Dense(classes, name="b", dtype="float32")])


def as_images(data):
    return dataclasses.replace(data, x_train=data.x_train.reshape(-1, 3, 2, 1),
                               x_test=data.x_test.reshape(-1, 3, 2, 1))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("network", ["tiny", "convolutional"])
def test_two_levels_in_mixed_precision(policy, network, monkeypatch):
    monkeypatch.setitem(models.NETWORKS, "convolutional", tiny_convolutional)
    data = blobs() if network == "tiny" else as_images(blobs())
    lab = RoundRunner(CONFIG.replace(dtype_policy=policy, network=network), data)
    trained, train = [], lab._trainer.train

    def spy(plan, on_interval):
        trained.append((plan, train(plan, on_interval)))
        return trained[-1][1]
    monkeypatch.setattr(lab._trainer, "train", spy)
    first = lab.train(Training(0, 0), Start())
    lab.train(Training(0, 1), Start(first.following))
    assert not keras.mixed_precision.global_policy().name.startswith("mixed")
    assert keras.layers.Dense(1).compute_dtype == "float32"
    for plan, result in trained:
        for name, mask in plan.masks.items():
            assert result.weights[name].dtype == np.float32
            assert not result.weights[name][mask == 0].any()
            assert (result.weights[name][mask == 1] != plan.weights[name][mask == 1]).any()
    inner = lab._model.layers[0]
    assert inner.layer.compute_dtype == policy.removeprefix("mixed_")
    assert lab._model(data.x_test).dtype == tf.float32
    scaled = isinstance(lab._model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert first.following.masks["b/kernel"].sum() < first.following.masks["b/kernel"].size
