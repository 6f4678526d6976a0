"""The networks of Liu et al. 2019, section 6: as in their code, and the same with either Keras."""

import math

import filter_counts
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tiers import short_and_long

from lth_keras.experiments.training.networks import get

LIUS = ("vgg16_fc512", "resnet56_padded", "resnet110_padded")


def layers_named(model, *names):
    """The layers of a model that have a kernel and one of these names, or all, in its order."""
    return [layer for layer in model.layers if hasattr(layer, "kernel")
            and (not names or layer.name in names)]


@pytest.mark.parametrize("name", short_and_long(
    LIUS, [name for name in LIUS if name != "resnet110_padded"], pytest.mark.thorough))
def test_a_network_has_as_many_parameters_as_theirs(name):
    model = get(name)((32, 32, 3), 10, keras=tf_keras)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert trained == filter_counts.counted(name).parameters


@pytest.mark.parametrize(("name", "depth"), short_and_long(
    [("resnet56_padded", 56), ("resnet110_padded", 110)], [("resnet56_padded", 56)],
    pytest.mark.thorough))
def test_a_convolution_has_its_number_in_their_code(name, depth):
    model = get(name)((32, 32, 3), 10, keras=tf_keras)
    kernels = [layer.name for layer in layers_named(model)]
    numbers = [int(named.rpartition("conv")[2]) for named in kernels[:-1]]
    assert numbers == [*range(1, depth)] and kernels[-1] == "fc"
    blocks = (depth - 2) // 6
    for block in range(3 * blocks):
        stage, filters = block // blocks + 1, 16 * 2**(block // blocks)
        first, second = (model.get_layer(f"stage{stage}_conv{2 * (block + 1) + place}")
                         for place in (0, 1))
        assert first.filters == second.filters == filters
        # What a pruned filter of the first touches: its normalisation, and the second.
        assert second.kernel.shape[2] == filters
        assert first.strides == ((2, 2) if block in (blocks, 2 * blocks) else (1, 1))


def test_the_classifier_of_vgg_comes_after_one_pixel():
    model = get("vgg16_fc512")((32, 32, 3), 10, keras=tf_keras)
    assert [layer.name for layer in layers_named(model)] == [
        *(f"conv{number}" for number in range(1, 14)), "fc1", "fc2"]
    order = [layer.name.partition("_pooling2d")[0] for layer in model.layers
             if ("conv" in layer.name and not layer.name.endswith("_norm"))
             or "pooling" in layer.name]
    pooled = [order[place - 1] for place, name in enumerate(order) if name == "max"]
    assert pooled == ["conv2", "conv4", "conv7", "conv10"] and order[-1] == "average"
    assert model.get_layer("fc1").kernel.shape == (512, 512)


@pytest.mark.parametrize("package", [tf_keras, keras], ids=["tf_keras", "keras"])
def test_weights_are_drawn_as_in_their_code(package):
    model = get("vgg16_fc512")((32, 32, 3), 10, keras=package)
    arrays = {layer.name: np.asarray(layer.get_weights()[0]) for layer in model.layers
              if layer.get_weights()}
    for number, filters in ((3, 128), (8, 512), (13, 512)):
        drawn = arrays[f"conv{number}"]
        assert drawn.std() == pytest.approx(math.sqrt(2 / (9 * filters)), rel=0.01)
        assert abs(drawn).max() > 2.5 * drawn.std()  # It is not truncated.
    assert arrays["fc1"].std() == pytest.approx(0.01, rel=0.02)
    assert all((arrays[name] == 0.5).all() for name in arrays if name.endswith("_norm"))
    resnet = get("resnet56_padded")((32, 32, 3), 10, keras=package)
    kernel, bias = resnet.get_layer("fc").get_weights()
    assert 0.11 < abs(kernel).max() <= 0.125 and 0 < abs(bias).max() <= 0.125


@pytest.mark.parametrize("name", short_and_long(
    ["resnet56_padded", "lenet5"], ["lenet5"], pytest.mark.thorough))
def test_both_kerases_compute_the_same(name):
    shape = (28, 28, 1) if name == "lenet5" else (16, 16, 3)
    one, other = (get(name)(shape, 10, keras=package) for package in (tf_keras, keras))
    rng = np.random.default_rng(0)
    values = [rng.normal(size=weight.shape) / math.sqrt(math.prod(weight.shape[:-1]))
              if len(weight.shape) > 1 else rng.uniform(0.5, 1, weight.shape)
              for weight in one.weights]
    assert [tuple(weight.shape) for weight in one.weights] == [
        tuple(weight.shape) for weight in other.weights]
    for model in (one, other):
        model.set_weights(values)
    images = rng.random((2, *shape)).astype(np.float32)
    found, wanted = (model.predict(images, verbose=0) for model in (one, other))
    np.testing.assert_allclose(found, wanted, atol=1e-4 * abs(wanted).max())


def test_a_shortcut_between_stages_is_an_average_beside_zeros_and_has_a_gradient():
    model = get("resnet56_padded")((32, 32, 3), 10, keras=tf_keras)
    joined, _ = (layer for layer in model.layers if isinstance(layer, tf_keras.layers.Concatenate))
    pooled = joined.input[0]
    before = model.get_layer("stage1_conv19_norm").output
    inner = tf_keras.Model(model.input, [before, pooled, joined.output])
    with tf.GradientTape() as tape:
        images = tf.constant(np.random.default_rng(0).random((1, 32, 32, 3), np.float32))
        tape.watch(images)
        _, average, both = inner(images)
        loss = tf.reduce_sum(both)
    assert both.shape == (1, 16, 16, 32)
    np.testing.assert_array_equal(both[..., :16], average)
    assert not np.any(both[..., 16:])
    assert np.any(tape.gradient(loss, images))
