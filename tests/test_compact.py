"""Compaction: smaller models, the same predictions."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

import lth_keras as lth

layers = keras.layers
ACTIVATIONS = ("linear", "relu", "sigmoid", "softplus", "tanh", "elu")


@pytest.fixture(autouse=True)
def exact():
    """Models in float64, in which equal predictions are told from rounding."""
    keras.utils.set_random_seed(0)
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx("float32")


def sparsen(model, seed, density=0.3):
    """Gives a model random weights, most of its kernels' zero, some of whole channels."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name, shape = weight.name.split("/")[-1], tuple(weight.shape)
        value = rng.normal(0, 0.5, shape)
        if len(shape) > 1 and "alpha" not in name:
            value *= rng.random(shape) < density
            value *= rng.random((shape[-2], shape[-1] if "depthwise" in name else 1)) < 0.7
            value *= rng.random(shape[-1]) < 0.7
        elif "variance" in name:
            value = 0.1 + rng.random(shape)
        elif "gamma" in name:
            value *= rng.random(shape) < 0.8
        elif "bias" in name or "alpha" in name:
            value *= rng.random(shape[-1]) < 0.5
        weight.assign(value)
    return model


def batch(model, seed=0, size=3):
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, (size, *tensor.shape[1:])).astype(tensor.dtype.as_numpy_dtype)
            for tensor in model.inputs]


def check(model, take_inputs=False, within=1e-10):
    """Compacts a model, and holds its promises against it."""
    before = [weight.numpy() for weight in model.weights]
    done = lth.compact(model, take_inputs)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight)
    x = batch(model)
    expected, got = model(x), done.model(x)
    tf.nest.assert_same_structure(expected, got)
    for one, other in zip(tf.nest.flatten(expected), tf.nest.flatten(got), strict=True):
        assert other.shape == one.shape and other.dtype == one.dtype
        scale = max(1, np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=0, atol=within * scale)
    assert [t.name for t in done.model.inputs] == [t.name for t in model.inputs]
    names = [layer.name for layer in done.model.layers if not layer.name.endswith("_inputs")]
    assert names == [layer.name for layer in model.layers]
    assert done.weights == (model.count_params(), done.model.count_params())
    assert type(done.model) is type(model)
    again = lth.compact(done.model, take_inputs)
    assert not again.removed and not again.inputs, "all of it at once"
    return done


# A network is drawn as a list of pieces: what each makes of an image of any number of channels.
def _convolution(kind, **options):
    def piece(x, rng):
        size = int(rng.integers(1, 4))
        return kind(int(rng.integers(1, 7)), size, activation=rng.choice(ACTIVATIONS),
                    padding=rng.choice(["same", "valid"]) if x.shape[1] >= 3 else "same",
                    use_bias=bool(rng.random() < 0.6), **options)(x)
    return piece


def _residual(x, rng):
    y = layers.Conv2D(x.shape[-1], 3, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    merge = rng.choice([layers.Add, layers.Subtract, layers.Multiply, layers.Average,
                        layers.Maximum, layers.Minimum])
    return layers.Activation(rng.choice(ACTIVATIONS))(merge()([x, y]))


def _shortcut(x, rng):
    filters = int(rng.integers(1, 6))
    strides = 2 if x.shape[1] > 2 else 1
    y = layers.Conv2D(filters, 3, padding="same", strides=strides)(x)
    y = layers.BatchNormalization()(layers.ReLU()(layers.BatchNormalization()(y)))
    x = layers.Conv2D(filters, 1, strides=strides, use_bias=False)(x)
    return layers.ReLU()(layers.Add()([x, y]))


def _dense_block(x, rng):
    y = layers.Conv2D(int(rng.integers(1, 5)), 3, padding="same", activation="relu")(x)
    return layers.Concatenate()([x, y])


def _excited(x, rng):
    y = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(x.shape[-1], "sigmoid")(layers.Dense(3, "relu")(y))
    return layers.Multiply()([x, layers.Reshape((1, 1, x.shape[-1]))(y)])


def _depthwise(x, rng):
    return layers.DepthwiseConv2D(
        int(rng.integers(1, 4)), padding="same", depth_multiplier=int(rng.integers(1, 3)),
        activation=rng.choice(ACTIVATIONS), use_bias=bool(rng.random() < 0.5))(x)


def _layer(make):
    return lambda x, rng: make()(x)


PIECES = {
    "conv": _convolution(layers.Conv2D),
    "dilated": lambda x, rng: layers.Conv2D(4, 2, dilation_rate=2, padding="same")(x),
    "separable": _convolution(layers.SeparableConv2D, depth_multiplier=2),
    "depthwise": _depthwise,
    "dense": lambda x, rng: layers.Dense(int(rng.integers(1, 7)), rng.choice(ACTIVATIONS))(x),
    "norm": _layer(layers.BatchNormalization),
    "unscaled": _layer(lambda: layers.BatchNormalization(center=False, scale=False)),
    "residual": _residual,
    "shortcut": _shortcut,
    "dense_block": _dense_block,
    "excited": _excited,
    "relu": _layer(layers.ReLU),
    "relu6": _layer(lambda: layers.ReLU(6.0, negative_slope=0.1)),
    "leaky": _layer(layers.LeakyReLU),
    "elu": _layer(layers.ELU),
    "softplus": _layer(lambda: layers.Activation("softplus")),
    "prelu": lambda x, rng: layers.PReLU(shared_axes=[[1, 2], [1, 2, 3], []][rng.integers(3)])(x),
    "softmax": _layer(layers.Softmax),
    "layer_norm": _layer(layers.LayerNormalization),
    "dropout": _layer(lambda: layers.Dropout(0.5)),
    "spatial": _layer(lambda: layers.SpatialDropout2D(0.5)),
    "noise": _layer(lambda: layers.GaussianNoise(0.5)),
    "pad": _layer(layers.ZeroPadding2D),
    "crop": lambda x, rng: layers.Cropping2D(1)(x) if x.shape[1] > 3 else x,
    "pool": lambda x, rng: rng.choice([layers.MaxPooling2D, layers.AveragePooling2D])(
        2, padding="same")(x),
    "grow": lambda x, rng: layers.UpSampling2D(
        interpolation=rng.choice(["nearest", "bilinear"]))(x) if x.shape[1] < 6 else x,
    "rescale": _layer(lambda: layers.Rescaling(2.0, 1.0)),
    "operator": lambda x, rng: x + 1.0,
}
ENDS = {
    "flatten": layers.Flatten,
    "reshape": lambda: layers.Reshape((-1,)),
    "average": layers.GlobalAveragePooling2D,
    "max": layers.GlobalMaxPooling2D,
}


def drawn(pieces, end, seed):
    rng = np.random.default_rng(seed)
    x = inputs = layers.Input((5, 5, 3))
    for name in pieces:
        x = PIECES[name](x, rng)
    x = ENDS[end]()(x)
    x = layers.Dense(5, rng.choice(ACTIVATIONS))(x)
    model = keras.Model(inputs, layers.Dense(3, rng.choice(["linear", "softmax"]))(x))
    return sparsen(model, seed, density=float(rng.choice([0.1, 0.3, 0.6])))


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=5),
       st.sampled_from(sorted(ENDS)), st.integers(0, 10**6), st.booleans())
def test_predictions_stay_and_a_second_compaction_finds_nothing(pieces, end, seed, take):
    check(drawn(["conv", *pieces, "conv"], end, seed), take)
