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


def network(name):
    return prune_low_magnitude(models.build(presets.get("digits").replace(network=name),
                                            (32, 32, 3), 10))


def sizes(model):
    return {name: int(np.prod(item.weight.shape)) for name, item in masked(model).items()}


def test_conv2_has_the_papers_4_300_992_weights():
    found = sizes(network("conv2"))
    assert found == {"conv1/kernel": 1728, "conv2/kernel": 36_864, "fc1/kernel": 4_194_304,
                     "fc2/kernel": 65_536, "fc3/kernel": 2560}
    assert sum(found.values()) == 4_300_992


def test_resnet18_has_20_layers_and_the_papers_weights():
    model = network("resnet18")
    found = sizes(model)
    assert sum(found.values()) == 270_896
    shortcuts = {name: size for name, size in found.items() if "shortcut" in name}
    assert list(shortcuts.values()) == [512, 2048]
    assert found["fc/kernel"] == 640
    assert len(found) - len(shortcuts) == 20
    # Of the paper's 274,042 in all; normalisation and the last bias beside kernels.
    names = [item.prunable.output for item in masked(model).values()]
    assert names == [False] * (len(found) - 1) + [True]
    shapes = {name: tuple(item.weight.shape) for name, item in masked(model).items()}
    assert shapes["conv/kernel"] == (3, 3, 3, 16)
    assert shapes["stage2_block1_conv1/kernel"] == (3, 3, 16, 32)
    assert shapes["stage3_block3_conv2/kernel"] == (3, 3, 64, 64)


@pytest.mark.parametrize("name", ["conv2", "resnet18"])
def test_a_convolutional_network_learns_in_one_step(name):
    model = network(name)
    models.compile_model(model, presets.get("digits"))
    model.compile(model.optimizer, model.loss, jit_compile=False)  # Compiling takes longer.
    x = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    assert model(x).shape == (2, 10)
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(x, np.array([3, 7])))
    kernels = {id(item.weight) for item in masked(model).values()}
    moved = [(old != new.numpy()).any() for old, new in zip(before, model.weights, strict=True)
             if id(new) in kernels]
    assert moved and all(moved)


@pytest.mark.parametrize("name", models.NETWORKS)
def test_initial_weights_of_every_network_can_be_drawn_and_logits_are_float32(name):
    config = presets.get("digits").replace(network=name, dtype_policy="mixed_bfloat16")
    model = models.build(config, (32, 32, 3), 10)
    drawn = models.initial_weights(model, np.random.default_rng(0))
    assert len(drawn) == len(model.weights)
    assert {value.dtype for value in drawn.values()} == {np.dtype(np.float32)}
    assert model.output.dtype == "float32" and model.output.shape == (None, 10)
    assert {layer.compute_dtype for layer in model.layers[1:-1]} == {"bfloat16"}
    assert keras.mixed_precision.global_policy().name == "float32"


def test_networks_are_made_with_generators_that_seeds_decide():
    enabled = keras.backend.experimental.is_tf_random_generator_enabled
    before, seen = enabled(), []

    def noisy(shape, classes):
        seen.append(enabled())
        raise KeyError("stop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.NETWORKS, "noisy", noisy)
        with pytest.raises(KeyError):
            models.build(presets.get("digits").replace(network="noisy"), (8, 8), 10)
    assert seen == [True] and enabled() == before


def test_float16_alone_needs_its_loss_scaled():
    for policy, scaled in (("float32", False), ("mixed_bfloat16", False), ("mixed_float16", True)):
        config = presets.get("digits").replace(dtype_policy=policy, learning_rate=0.25)
        model = models.build(config, (8, 8), 10)
        models.compile_model(model, config)
        kind = keras.mixed_precision.LossScaleOptimizer
        assert isinstance(model.optimizer, kind) == scaled
        assert float(model.optimizer.learning_rate) == 0.25


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
