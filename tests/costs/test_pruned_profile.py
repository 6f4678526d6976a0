"""What `lth.profile` says of pruned models: with masks, with zeros, whole filters and heads."""

import keras as keras3
import numpy as np
import pytest
import tf_keras

import lth_keras as lth


@pytest.fixture(params=[tf_keras, keras3], ids=["tf_keras", "keras3"])
def keras(request):
    """The package that a test builds its models with."""
    return request.param


def convolutional(keras):
    layers = keras.layers
    return keras.Sequential([
        layers.Input((8, 8, 3)), layers.Conv2D(6, 3, name="conv1"), layers.ReLU(),
        layers.Conv2D(4, 3, name="conv2"), layers.BatchNormalization(name="norm"),
        layers.Flatten(), layers.Dense(5, name="fc")])


def pruned(model, keras, density=0.5):
    """A model with random masks, as a search leaves it: wrapped, or with masks in itself."""
    rng = np.random.default_rng(0)
    model.compile("sgd", "mse")
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            kernel, bias = layer.get_weights()
            layer.set_weights([np.where(rng.random(kernel.shape) < density, 1.0, 0), bias])
    return lth.keep_sparse(model)


def kept(model):
    return {layer.name: int(np.count_nonzero(layer.get_weights()[0])) for layer in model.layers
            if layer.name in ("conv1", "conv2", "fc")}


def test_masks_say_what_is_kept(keras):
    model = pruned(convolutional(keras), keras)
    left, found = kept(model), lth.profile(model)
    rows = found.layers.set_index("layer")
    positions = {"conv1": 36, "conv2": 16, "fc": 1}
    for name, count in left.items():
        assert rows.macs_kept[name] == positions[name] * count
        assert rows.parameters[name] - rows.parameters_kept[name] == \
            rows.macs[name] // positions[name] - count
        assert rows.density[name] == count / (rows.macs[name] // positions[name])
    assert np.isnan(rows.density["norm"])
    assert found.density == sum(left.values()) / (162 + 216 + 320)
    # A weight that becomes zero in training is kept still.
    if keras is keras3:
        model.layers[0].kernel.assign(np.zeros((3, 3, 3, 6)))
        assert lth.profile(model).macs_kept == found.macs_kept


def test_without_masks_zeros_say_it(keras):
    masked = pruned(convolutional(keras), keras)
    with_masks = lth.profile(masked)
    plain = convolutional(keras)
    bare = lth.strip_pruning(masked) if keras is tf_keras else masked
    plain.set_weights(bare.get_weights())
    found = lth.profile(plain)
    assert found.layers.equals(with_masks.layers) and found.density == with_masks.density
    # Biases are zero at first, and are not pruned; nor is what an initializer drew as zero.
    fresh = lth.profile(convolutional(keras))
    assert fresh.parameters_kept == fresh.parameters and fresh.density == 1
    wide = keras.Sequential([keras.layers.Input((100,)), keras.layers.Dense(100)])
    kernel, bias = wide.get_weights()
    for zeros, count in ((9, 10_000), (10, 9_990)):
        kernel.flat[:zeros] = 0
        wide.set_weights([kernel, bias])
        assert lth.profile(wide).macs_kept == count


def test_a_frozen_model_is_as_sparse_as_before(keras):
    model = convolutional(keras)
    kernel, bias = model.layers[0].get_weights()
    kernel[..., :3] = 0
    model.layers[0].set_weights([kernel, bias])
    before = lth.profile(model)
    model.trainable = False
    assert lth.profile(model).layers.equals(before.layers) and before.density < 1


@pytest.mark.parametrize("filters", [(0,), (1, 4), (0, 2, 3, 5)])
def test_whole_filters_cost_what_the_smaller_network_does(keras, filters):
    model = convolutional(keras)
    first, second = model.get_layer("conv1"), model.get_layer("conv2")
    for layer, axis in ((first, 3), (second, 2)):  # What makes a filter, and what reads it.
        kernel, bias = layer.get_weights()
        np.moveaxis(kernel, axis, 0)[list(filters)] = 0
        if layer is first:
            bias[list(filters)] = 0
        layer.set_weights([kernel, bias])
    found, small = lth.profile(model), lth.profile(lth.compact(model).model)
    assert found.macs_kept == small.macs < found.macs
    # Biases of the filters go too.
    assert found.parameters_kept - len(filters) == small.parameters


def test_whole_heads_and_features_of_attention_cost_what_fewer_do(keras):
    def built(heads, key_dim):
        inputs = keras.layers.Input((5, 8))
        attention = keras.layers.MultiHeadAttention(heads, key_dim, use_bias=False)
        return keras.Model(inputs, attention(inputs, inputs))
    model = built(3, 4)
    weights = model.get_weights()
    for kernel in weights[:3]:  # Of queries, keys and values.
        kernel[:, 1] = 0
    weights[3][1] = 0
    model.set_weights(weights)
    found, fewer = lth.profile(model), lth.profile(built(2, 4))
    assert (found.macs_kept, found.parameters_kept) == (fewer.macs, fewer.parameters)
    weights[0][:, 0, 1:3] = 0  # Two features of queries: their keys are multiplied no more.
    model.set_weights(weights)
    less = lth.profile(model)
    assert found.macs_kept - less.macs_kept == 5 * 8 * 2 + 5 * 5 * 2
    weights[1][:, 0, 3] = 0  # A feature of keys: likewise.
    weights[2][:, 2, 0] = 0  # One of values, and one that nobody reads.
    weights[3][2, 1] = 0
    model.set_weights(weights)
    assert less.macs_kept - lth.profile(model).macs_kept == 3 * (5 * 8 + 5 * 5)


def test_recurrent_kernels_are_used_every_step(keras):
    model = keras.Sequential([keras.layers.Input((7, 3)), keras.layers.LSTM(4, name="lstm")])
    kernel, recurrent, bias = model.get_weights()
    kernel[0], recurrent[:2] = 0, 0
    model.set_weights([kernel, recurrent, bias])
    row = lth.profile(model).layers.iloc[0]
    assert row.macs_kept == 7 * (2 * 16 + 2 * 16) and row.macs == 7 * 7 * 16
    assert row.density == 4 / 7


def test_a_pruned_model_shows_what_is_kept(keras):
    found = lth.profile(pruned(convolutional(keras), keras))
    head = str(found).splitlines()[0].split()
    assert head == ["layer", "type", "parameters", "kept", "density", "multiply-adds", "kept",
                    "activations", "(bytes)"]
    assert f"{found.macs_kept:,} of {found.macs:,} multiply-adds" in repr(found)
    assert f"{found.density:.1%}" in str(found).splitlines()[-1]
