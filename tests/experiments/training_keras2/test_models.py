import numpy as np
import pytest
import tf_keras as keras
from tiers import short_and_long

from lth_keras.errors import LotteryError
from lth_keras.experiments.config import presets
from lth_keras.experiments.training import networks
from lth_keras.experiments.training.networks import NETWORKS
from lth_keras.experiments.training_keras2 import models
from lth_keras.keras2.masking.weight_names import masked
from lth_keras.keras2.masking.wrap import prune_low_magnitude


def test_lenet_has_the_papers_layers():
    model = prune_low_magnitude(models.build(presets.get("lenet_300_100"), (28, 28, 1), 10))
    assert shapes(model) == {"fc1/kernel": (784, 300), "fc2/kernel": (300, 100),
                             "fc3/kernel": (100, 10)}
    assert [item.prunable.output for item in masked(model).values()] == [False, False, True]


def network(name, **settings):
    return prune_low_magnitude(models.build(
        presets.get("digits").replace(network=name, **settings), (32, 32, 3), 10))


def shapes(model):
    return {name: tuple(item.weight.shape) for name, item in masked(model).items()}


def test_conv6_has_the_papers_layers():
    assert shapes(network("conv6")) == {
        "conv1/kernel": (3, 3, 3, 64), "conv2/kernel": (3, 3, 64, 64),
        "conv3/kernel": (3, 3, 64, 128), "conv4/kernel": (3, 3, 128, 128),
        "conv5/kernel": (3, 3, 128, 256), "conv6/kernel": (3, 3, 256, 256),
        "fc1/kernel": (4096, 256), "fc2/kernel": (256, 256), "fc3/kernel": (256, 10)}
    for smaller, size in (("conv4", 4), ("conv2", 2)):
        found = shapes(network(smaller))
        assert list(found)[:size] == [f"conv{number}/kernel" for number in range(1, size + 1)]
        assert list(found)[size:] == ["fc1/kernel", "fc2/kernel", "fc3/kernel"]


@pytest.mark.parametrize(("name", "blocks"), short_and_long(
    [("resnet18", 3), ("resnet56", 9)], [("resnet18", 3)], pytest.mark.thorough))
def test_a_resnet_has_its_papers_layers(name, blocks):
    model = network(name)
    found = shapes(model)
    shortcuts = {weight: shape for weight, shape in found.items() if "shortcut" in weight}
    assert list(shortcuts.values()) == [(1, 1, 16, 32), (1, 1, 32, 64)]
    assert len(found) - len(shortcuts) == 6 * blocks + 2
    outputs = [item.prunable.output for item in masked(model).values()]
    assert outputs == [False] * (len(found) - 1) + [True]
    assert found["conv/kernel"] == (3, 3, 3, 16)
    assert found["stage2_block1_conv1/kernel"] == (3, 3, 16, 32)
    assert found[f"stage3_block{blocks}_conv2/kernel"] == (3, 3, 64, 64)
    assert found["fc/kernel"] == (64, 10)


@pytest.mark.parametrize(("name", "counts"), [
    ("vgg16", (2, 2, 3, 3, 3)), ("vgg19", (2, 2, 4, 4, 4))])
def test_a_vgg_has_its_papers_layers(name, counts):
    model = network(name)
    filters = [size for size, count in zip((64, 128, 256, 512, 512), counts, strict=True)
               for _ in range(count)]
    found = list(shapes(model).values())
    assert found == [(3, 3, before, after) for before, after
                     in zip([3, *filters], filters, strict=False)] + [(512, 10)]
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("MaxPooling2D") == 4 and kinds.count("BatchNormalization") == len(filters)


def test_dropout_follows_each_hidden_dense_layer_and_nothing_else():
    plain, dropped = (network("conv4", dropout=rate) for rate in (0.0, 0.25))
    found = {layer.name: layer.rate for layer in dropped.layers
             if isinstance(layer, keras.layers.Dropout)}
    assert found == {"fc1_dropout": 0.25, "fc2_dropout": 0.25}
    names = [layer.name for layer in dropped.layers]
    # Weights are drawn in the same order, so both start from the same ones.
    assert [name.partition("max_pooling")[0] for name in names if "dropout" not in name][-3:] == \
        [layer.name for layer in plain.layers][-3:]
    assert list(shapes(plain)) == list(shapes(dropped))
    hidden = [index for index, name in enumerate(names) if "dropout" in name]
    assert all("fc" in names[index - 1] for index in hidden)


def test_dropout_drops_its_share_of_the_hidden_units():
    config = presets.get("digits").replace(dropout=0.5)
    model = models.build(config, (8, 8), 10)
    inner = keras.Model(model.inputs, model.get_layer("fc1_dropout").output)
    kept = inner(np.ones((50, 8, 8), np.float32), training=True).numpy()
    whole = inner(np.ones((50, 8, 8), np.float32)).numpy()
    alive = whole > 0
    share = (kept[alive] > 0).mean()
    assert 0.45 < share < 0.55 and alive.any()
    np.testing.assert_allclose(kept[kept > 0], 2 * whole[kept > 0], rtol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "resnet56", "vgg16", "vgg19", "vgg16_fc512"])
def test_dropout_is_refused_by_a_network_without_hidden_dense_layers(name):
    with pytest.raises(LotteryError, match="conv2, conv4, conv6, lenet5 have. "
                                           f"Received: dropout=0.5 with {name}"):
        network(name, dropout=0.5)


def test_dropout_is_refused_by_a_network_that_does_not_take_it(monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "mine", lambda shape, classes: None)
    with pytest.raises(LotteryError, match="Received: dropout=0.5 with mine"):
        network("mine", dropout=0.5)


@pytest.mark.parametrize("name", short_and_long(
    NETWORKS, [name for name in NETWORKS if not name.startswith(("resnet56", "resnet110"))],
    pytest.mark.thorough))
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
        patch.setitem(NETWORKS, "noisy", noisy)
        with pytest.raises(KeyError):
            models.build(presets.get("digits").replace(network="noisy"), (8, 8), 10)
    assert seen == [True] and enabled() == before


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
    with pytest.raises(LotteryError, match=r"odd/table.*table_initializer"):
        models.initial_weights(model, np.random.default_rng(0))


@pytest.mark.parametrize(("initializer", "deviation"), [
    ("own", np.sqrt(2 / (64 + 300))), ("glorot_normal", np.sqrt(2 / (64 + 300))),
    ("he_normal", np.sqrt(2 / 64)), ("normal_0.1", 0.1), ("normal_2", 2)])
def test_kernels_are_drawn_from_the_initializer(initializer, deviation):
    config = presets.get("digits").replace(initializer=initializer)
    model = prune_low_magnitude(models.build(config, (8, 8), 10))
    drawn = models.initial_weights(model, np.random.default_rng(0))
    assert drawn["fc1/kernel"].std() == pytest.approx(deviation, rel=0.03)
    assert abs(drawn["fc1/kernel"].mean()) < 0.02 * deviation
    assert not drawn["fc1/bias"].any()
    again = models.initial_weights(model, np.random.default_rng(0))
    assert all((drawn[name] == again[name]).all() for name in drawn)


def test_convolutions_are_drawn_from_the_initializer_and_normalisation_is_not():
    drawn = models.initial_weights(network("resnet18", initializer="normal_0.1"),
                                   np.random.default_rng(0))
    assert drawn["stage3_block1_conv1/kernel"].std() == pytest.approx(0.1, rel=0.03)
    assert (drawn["conv_norm/gamma"] == 1).all() and not drawn["conv_norm/beta"].any()


def test_lenets_of_other_widths_have_names():
    model = models.build(presets.get("lenet_300_100").replace(network="lenet_25_9"), (28, 28), 10)
    assert model.name == "lenet_25_9"
    assert shapes(prune_low_magnitude(model)) == {
        "fc1/kernel": (784, 25), "fc2/kernel": (25, 9), "fc3/kernel": (9, 10)}
    dropped = network("lenet_25_9", dropout=0.5)
    assert [layer.name for layer in dropped.layers if "dropout" in layer.name] == [
        "fc1_dropout", "fc2_dropout"]


@pytest.mark.parametrize("name", ["lenet_0_5", "lenet_300", "lenet_1_2_3", "lenet_3_x", "lenet_3_",
                                  "lenet_03_4", "lenet_100000_1", "conv8"])
def test_other_names_are_no_networks(name):
    with pytest.raises(LotteryError, match=rf"lenet_150_50. Received: '{name}'"):
        models.build(presets.get("digits").replace(network=name), (8, 8), 10)


def test_an_unknown_network_lists_the_known():
    config = presets.get("digits").replace(network="nope")
    with pytest.raises(LotteryError, match="lenet_300_100.*Received: 'nope'"):
        models.build(config, (8, 8), 10)


def test_a_network_name_is_taken_once():
    with pytest.raises(LotteryError, match="already registered"):
        networks.register("lenet_300_100")(lambda shape, classes: None)
