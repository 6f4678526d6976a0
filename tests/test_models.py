import numpy as np
import pytest
import tf_keras as keras

from lth_keras import models, presets
from lth_keras.errors import LotteryError
from lth_keras.weights import masked
from lth_keras.wrap import prune_low_magnitude


def test_lenet_has_the_papers_266_200_weights():
    model = prune_low_magnitude(models.build(presets.get("lenet_300_100"), (28, 28, 1), 10))
    sizes = {name: int(np.prod(item.weight.shape)) for name, item in masked(model).items()}
    assert sizes == {"fc1/kernel": 235_200, "fc2/kernel": 30_000, "fc3/kernel": 1_000}
    assert [item.prunable.output for item in masked(model).values()] == [False, False, True]


def test_initial_weights_are_glorot_normal_with_zero_biases():
    model = models.build(presets.get("lenet_300_100"), (28, 28, 1), 10)
    drawn = models.initial_weights(model, np.random.default_rng(0))
    assert drawn["fc1/kernel"].std() == pytest.approx(np.sqrt(2 / (784 + 300)), rel=0.02)
    assert abs(drawn["fc1/kernel"].mean()) < 1e-3
    assert not drawn["fc1/bias"].any()


def test_initial_weights_depend_on_the_generator_alone():
    model = models.build(presets.get("digits"), (8, 8), 10)
    first = models.initial_weights(model, np.random.default_rng(3))
    keras.utils.set_random_seed(99)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 0)
    again = models.initial_weights(models.build(presets.get("digits"), (8, 8), 10),
                                   np.random.default_rng(3))
    other = models.initial_weights(model, np.random.default_rng(4))
    assert list(first) == list(again)
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["fc1/kernel"] != other["fc1/kernel"]).any()
    assert first["fc1/kernel"].std() > 0 and first["fc3/kernel"].std() > 0


def test_layers_of_one_shape_are_drawn_differently():
    layers = keras.layers
    model = keras.Sequential([layers.Input((4,)), layers.Dense(4), layers.Dense(4)])
    drawn = models.initial_weights(model, np.random.default_rng(0))
    assert (drawn["dense/kernel"] != drawn["dense_1/kernel"]).any()


def test_batch_norm_convolutions_and_rnns_are_drawn_from_their_own_initializers():
    layers = keras.layers
    model = keras.Sequential([
        layers.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.DepthwiseConv2D(3),
        layers.SeparableConv2D(4, 3), layers.BatchNormalization(gamma_initializer="zeros"),
        layers.Reshape((2, 8)), layers.LSTM(3)])
    drawn = models.initial_weights(model, np.random.default_rng(0))
    assert not drawn["batch_normalization/gamma"].any()
    assert drawn["batch_normalization/moving_variance"].all()
    assert set(drawn) == {name for name in drawn if drawn[name].size}
    assert len(drawn) == len(model.weights)


def test_a_weight_without_initializer_is_named():
    class Odd(keras.layers.Layer):
        def build(self, input_shape):
            self.table = self.add_weight("table", shape=(2, 2))

        def call(self, inputs):
            return inputs @ self.table
    model = keras.Sequential([keras.layers.Input((2,)), Odd()])
    with pytest.raises(LotteryError, match=r"table_initializer.*odd/table"):
        models.initial_weights(model, np.random.default_rng(0))


def test_an_unknown_network_lists_the_known():
    config = presets.get("digits").replace(network="nope")
    with pytest.raises(LotteryError, match="lenet_300_100.*Received: 'nope'"):
        models.build(config, (8, 8), 10)


def test_a_network_name_is_taken_once():
    with pytest.raises(LotteryError, match="taken once"):
        models.register("lenet_300_100")(lambda shape, classes: None)


@pytest.mark.parametrize("optimizer, momentum, kind", [("adam", 0.0, "Adam"), ("sgd", 0.9, "SGD")])
def test_the_optimizer_is_the_configurations(optimizer, momentum, kind):
    config = presets.get("digits").replace(optimizer=optimizer, momentum=momentum,
                                           learning_rate=0.25)
    model = models.build(config, (8, 8), 10)
    models.compile_model(model, config)
    assert type(model.optimizer).__name__ == kind
    assert float(model.optimizer.learning_rate) == 0.25
    assert getattr(model.optimizer, "momentum", 0.0) == momentum
