"""Compaction: smaller models, the same predictions, of tf_keras and of Keras 3 alike."""

import sys

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

import lth_keras as lth
from lth_keras.deployment.models.gather_layer import GatherFeatures
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.errors import LotteryError
from lth_keras.experiments.training import networks

# Which of the two the tests work with; `either` sets them for each test.
keras, layers = tf_keras, tf_keras.layers
ACTIVATIONS = ("linear", "relu", "sigmoid", "softplus", "tanh", "elu")


def precision(name):
    """The precision of all models to come; once a policy was set, floatx alone says nothing."""
    keras.backend.set_floatx(name)
    keras.mixed_precision.set_global_policy(name)


@pytest.fixture(autouse=True, params=[tf_keras, keras3], ids=["tf_keras", "keras3"])
def either(request):
    """Models of each Keras, in float64, in which equal predictions are told from rounding."""
    this = sys.modules[__name__]
    this.keras, this.layers = request.param, request.param.layers
    keras.utils.set_random_seed(0)
    precision("float64")
    yield
    precision("float32")
    # With a collection of garbage after each, Keras 3 would take longer for it than for the test.
    keras.backend.clear_session(**{"free_memory": False} if is_keras3() else {})


@pytest.fixture
def of_tf_keras(either):
    """For what is tf_keras' own."""
    if keras is not tf_keras:
        pytest.skip("of tf_keras alone")


def is_keras3():
    return keras is keras3


def flat(form):
    return keras3.tree.flatten(form)


def array(tensor):
    """Of either Keras, on any backend."""
    return np.asarray(keras3.ops.convert_to_numpy(tensor) if is_keras3() else tensor)


def sparsen(model, seed, density=0.3):
    """Gives a model random weights, most of its kernels' zero, some of whole channels."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        # A depthwise convolution has a kernel in Keras 3, a depthwise_kernel in tf_keras.
        name = weight.path if is_keras3() else weight.name.split("/")[-1]
        shape = tuple(weight.shape)
        value = rng.normal(0, 0.5, shape)
        if len(shape) > 1 and "alpha" not in name:
            value *= rng.random(shape) < density
            value *= rng.random((shape[-2], shape[-1] if "depthwise" in name else 1)) < 0.85
            value *= rng.random(shape[-1]) < 0.75
        elif "variance" in name:
            value = 0.1 + rng.random(shape)
        elif "gamma" in name:
            value *= rng.random(shape) < 0.9
        elif "bias" in name or "alpha" in name:
            value *= rng.random(shape[-1]) < 0.5
        weight.assign(value)
    return model


def batch(model, seed=0, size=3):
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, (size, *tensor.shape[1:])).astype(
        getattr(tensor.dtype, "as_numpy_dtype", tensor.dtype)) for tensor in model.inputs]


def input_names(model):
    if is_keras3():
        return [tensor._keras_history.operation.name for tensor in model.inputs]
    return model.input_names


def called(model, x):
    """What a model returns for a list of inputs."""
    return model(x if len(x) > 1 else x[0])


def check(model, take_inputs=False, within=1e-10):
    """Compacts a model, and holds its promises against it."""
    if is_keras3() and keras.backend.backend() != "tensorflow":
        within = max(within, 1e-5)  # JAX has no float64; Keras normalises batches without on torch.
    before = model.get_weights()
    done = lth.compact(model, take_inputs)
    for old, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, weight)
    x = batch(model)
    expected, got = called(model, x), called(done.model, x)
    keras3.tree.assert_same_structure(expected, got)
    for one, other in zip(map(array, flat(expected)), map(array, flat(got)), strict=True):
        assert other.shape == one.shape and other.dtype == one.dtype
        scale = max(1, np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=0, atol=within * scale)
    assert input_names(done.model) == input_names(model)
    names = [layer.name for layer in done.model.layers if not layer.name.endswith("_inputs")]
    if is_keras3() and done.inputs:
        # What gathers is an operation of Keras, which a Sequential model cannot hold.
        known = {layer.name for layer in model.layers}
        names = [name for name in names if name in known]
    else:
        assert type(done.model) is type(model)
    # Models within the model are taken apart.
    assert names == [layer.name for each in model.layers for layer in getattr(
        each, "layers", [each]) if layer is each or layer.weights]
    assert done.weights == (model.count_params(), done.model.count_params())
    weights, own = (kind_of(each).named_weights(each) for each in (model, done.model))
    left = done.places.all_of({name: array(weight) for name, weight in weights.items()})
    assert {name: value.shape for name, value in left.items()} == {
        name: tuple(weight.shape) for name, weight in own.items()}
    again = lth.compact(done.model, take_inputs)
    assert not again.removed and not again.inputs, "all of it at once"
    return done


# A network is drawn as a list of pieces: what each makes of an image of any number of channels.
def _convolution(kind, **options):
    def piece(x, rng):
        size = int(rng.integers(1, 4))
        return getattr(layers, kind)(
            int(rng.integers(3, 8)), size, activation=rng.choice(ACTIVATIONS),
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
    filters = int(rng.integers(3, 8))
    strides = 2 if x.shape[1] > 2 else 1
    y = layers.Conv2D(filters, 3, padding="same", strides=strides)(x)
    y = layers.BatchNormalization()(layers.ReLU()(layers.BatchNormalization()(y)))
    x = layers.Conv2D(filters, 1, strides=strides, use_bias=False)(x)
    return layers.ReLU()(layers.Add()([x, y]))


def _dense_block(x, rng):
    y = layers.Conv2D(int(rng.integers(2, 5)), 3, padding="same", activation="relu")(x)
    return layers.Concatenate()([x, y])


def _excited(x, rng):
    y = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(x.shape[-1], "sigmoid")(layers.Dense(3, "relu")(y))
    return layers.Multiply()([x, layers.Reshape((1, 1, x.shape[-1]))(y)])


def _depthwise(x, rng):
    return layers.DepthwiseConv2D(
        int(rng.integers(1, 4)), padding="same", depth_multiplier=int(rng.integers(1, 3)),
        activation=rng.choice(ACTIVATIONS), use_bias=bool(rng.random() < 0.5))(x)


def _layer(name, *arguments, **options):
    return lambda x, rng: getattr(layers, name)(*arguments, **options)(x)


PIECES = {
    "conv": _convolution("Conv2D"),
    "dilated": lambda x, rng: layers.Conv2D(4, 2, dilation_rate=2, padding="same")(x),
    "separable": _convolution("SeparableConv2D", depth_multiplier=2),
    "depthwise": _depthwise,
    "dense": lambda x, rng: layers.Dense(int(rng.integers(3, 8)), rng.choice(ACTIVATIONS))(x),
    "norm": _layer("BatchNormalization"),
    "unscaled": _layer("BatchNormalization", center=False, scale=False),
    "residual": _residual,
    "shortcut": _shortcut,
    "dense_block": _dense_block,
    "excited": _excited,
    "relu": _layer("ReLU"),
    "relu6": _layer("ReLU", 6.0, negative_slope=0.1),
    "leaky": _layer("LeakyReLU"),
    "elu": _layer("ELU"),
    "softplus": _layer("Activation", "softplus"),
    "prelu": lambda x, rng: layers.PReLU(shared_axes=[[1, 2], [1, 2, 3], []][rng.integers(3)])(x),
    "softmax": _layer("Softmax"),
    "layer_norm": _layer("LayerNormalization"),
    "dropout": _layer("Dropout", 0.5),
    "spatial": _layer("SpatialDropout2D", 0.5),
    "noise": _layer("GaussianNoise", 0.5),
    "pad": _layer("ZeroPadding2D"),
    "crop": lambda x, rng: layers.Cropping2D(1)(x) if x.shape[1] > 3 else x,
    "pool": lambda x, rng: rng.choice([layers.MaxPooling2D, layers.AveragePooling2D])(
        2, padding="same")(x),
    "grow": lambda x, rng: layers.UpSampling2D(
        interpolation=rng.choice(["nearest", "bilinear"]))(x) if x.shape[1] < 6 else x,
    "rescale": _layer("Rescaling", 2.0, 1.0),
    "operator": lambda x, rng: x + 1.0,
}
ENDS = {
    "flatten": _layer("Flatten"),
    "reshape": _layer("Reshape", (-1,)),
    "average": _layer("GlobalAveragePooling2D"),
    "max": _layer("GlobalMaxPooling2D"),
}


def drawn(pieces, end, seed):
    rng = np.random.default_rng(seed)
    x = inputs = layers.Input((5, 5, 3))
    for name in pieces:
        x = PIECES[name](x, rng)
    x = ENDS[end](x, rng)
    x = layers.Dense(5, rng.choice(ACTIVATIONS))(x)
    model = keras.Model(inputs, layers.Dense(3, rng.choice(["linear", "softmax"]))(x))
    return sparsen(model, seed, density=float(rng.choice([0.2, 0.5, 1.0])))


@pytest.mark.thorough
@settings(max_examples=12)
@given(st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=5),
       st.sampled_from(sorted(ENDS)), st.integers(0, 10**6), st.booleans())
def test_predictions_stay_and_a_second_compaction_finds_nothing(pieces, end, seed, take):
    check(drawn(["conv", *pieces, "conv"], end, seed), take)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_many_networks(seed):
    rng = np.random.default_rng(seed)
    for _ in range(25):
        keras.backend.clear_session()
        pieces = ["conv", *rng.choice(sorted(PIECES), rng.integers(1, 7)), "conv"]
        check(drawn(pieces, rng.choice(sorted(ENDS)), int(rng.integers(10**6))),
              bool(rng.random() < 0.5))


def dense(*sizes, activation="relu", **options):
    """A dense network with no connections: 1, 2, ... is what its layers are called."""
    stack = [layers.Input((sizes[0],))]
    for number, size in enumerate(sizes[1:], start=1):
        last = number == len(sizes) - 1
        stack.append(layers.Dense(size, None if last else activation, name=f"{number}",
                                  kernel_initializer="zeros", **options))
    return keras.Sequential(stack)


def connect(model, name, *places, value=1.0):
    kernel = model.get_layer(name).kernel
    new = np.array(array(kernel))
    for place in places:
        new[(..., *place)] = value
    kernel.assign(new)


def sizes(done):
    return {layer.name: layer.kernel.shape[-1] for layer in done.model.layers
            if hasattr(layer, "kernel")}


def test_what_dies_takes_what_leads_to_it_and_what_it_leads_to_along():
    model = dense(4, 5, 5, 5, 2)
    connect(model, "1", (0, 0), (1, 1), (2, 2), (3, 4))  # Unit 3 has no input.
    connect(model, "2", (0, 0), (1, 1), (3, 3), (4, 4))  # So 3 has none here, and 2 is not read.
    connect(model, "3", (0, 0), (1, 1), (3, 3))          # 4 is not read, and 3 is constant.
    connect(model, "4", (0, 0), (3, 1))                  # 1 is not read.
    done = check(model)
    assert done.removed == {"1": (5, 1), "2": (5, 1), "3": (5, 1)}
    assert done.left == ("1: keeps 3 inputs without connection of 4, which only gathering the "
                         "others would remove",)
    assert done.weights == (4 * 5 + 2 * 5 * 5 + 5 * 2 + 17, 4 + 1 + 1 + 2 + 5)
    taken = check(model, take_inputs=True)
    assert taken.inputs == {"1": (4, 1)} and not taken.left
    if not is_keras3():
        assert [layer.name for layer in taken.model.layers] == ["1_inputs", "1", "2", "3", "4"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("use_bias", [True, False])
def test_a_unit_without_inputs_becomes_part_of_the_next_layers_bias(activation, use_bias):
    model = dense(2, 3, 2, activation=activation)
    connect(model, "1", (0, 0))
    connect(model, "2", (0, 0), (1, 0), (2, 1), value=3.0)
    model.get_layer("1").bias.assign([0.3, -0.7, 0.9])
    if not use_bias:
        bare = dense(2, 3, 2, activation=activation, use_bias=False)
        for name in "12":
            bare.get_layer(name).kernel.assign(model.get_layer(name).kernel)
        model = bare
    done = check(model)
    assert sizes(done) == {"1": 1, "2": 2}
    if activation in ("sigmoid", "softplus"):  # f(0) is not 0, so that a bias must be made.
        assert done.model.get_layer("2").use_bias
    elif not use_bias:
        assert not done.model.get_layer("2").use_bias


@pytest.mark.parametrize("take_inputs", [True, False])
def test_a_network_that_is_dead_works(take_inputs):
    model = dense(4, 5, 5, 2, activation="sigmoid")
    model.get_layer("3").bias.assign([1.0, 2.0])
    connect(model, "3", (0, 0))
    done = check(model, take_inputs)
    np.testing.assert_allclose(array(called(done.model, batch(model))), [[1.5, 2.0]] * 3)
    assert sizes(done) == {"1": 1, "2": 1, "3": 2}
    said = ": keeps one of its 5 units at zero, since a layer needs at least one"
    assert [sentence for sentence in done.left if said in sentence] == [f"1{said}", f"2{said}"]


def test_the_unit_that_stays_in_a_layer_that_nobody_reads_is_zero():
    model = sparsen(dense(4, 5, 2), 0, density=1.0)
    model.get_layer("1").bias.assign(np.ones(5))
    model.get_layer("2").kernel.assign(np.zeros((5, 2)))
    done = check(model)
    assert sizes(done) == {"1": 1, "2": 2}
    assert not any(weight.any() for weight in done.model.get_layer("1").get_weights())


def test_outputs_stay_though_they_are_constant():
    model = dense(3, 4, 3)
    connect(model, "1", (0, 0))
    connect(model, "2", (0, 1))
    assert sizes(check(model)) == {"1": 1, "2": 3}


def image(*stack, channels=2, size=5):
    return keras.Sequential([layers.Input((size, size, channels)), *stack])


@pytest.mark.parametrize(("padding", "size", "kept"), [
    ("valid", 3, 1), ("same", 1, 1), ("same", 3, 2)])
def test_constants_that_meet_a_border_go_into_one(padding, size, kept):
    model = image(layers.Conv2D(4, 3, name="a", kernel_initializer="zeros", activation="relu"),
                  layers.Conv2D(1, size, padding=padding, name="b"), size=7)
    connect(model, "a", (0, 0))
    model.get_layer("a").bias.assign([0.1, 2.0, 3.0, -1.0])  # relu leaves -1 nothing.
    done = check(model)
    assert sizes(done) == {"a": kept, "b": 1}
    assert ("b: keeps 1 constant channel of its input, since zero padding makes its border differ"
            in done.left) == (kept == 2)


def test_an_addition_ties_channels():
    x = inputs = layers.Input((6,))
    for name in "ab":
        y = layers.Dense(6, "relu", name=name, kernel_initializer="zeros")(x)
        x = layers.Add()([x, y]) if name == "b" else y
    outputs = layers.Dense(1, name="c", kernel_initializer="zeros")(x)
    model = keras.Model(inputs, outputs)
    connect(model, "a", (0, 0), (1, 1), (2, 2), (3, 3))
    connect(model, "b", (0, 1), (3, 4), (5, 4))
    connect(model, "c", (0, 0), (1, 0), (4, 0), (5, 0))
    # 2 is not read after the addition, nor by b; 3 is read by b alone; 5 is constant.
    done = check(model)
    assert sizes(done) == {"a": 4, "b": 4, "c": 1}
    assert done.left[0] == "a: keeps 1 constant unit, since the next layer cannot add it " \
        "to a bias"


def test_constants_go_through_normalisation_and_pooling_to_a_flattened_bias():
    model = image(layers.Conv2D(4, 3, padding="same", name="a", use_bias=False,
                                kernel_initializer="zeros"),
                  layers.BatchNormalization(name="norm"), layers.Activation("softplus"),
                  layers.MaxPooling2D(), layers.AveragePooling2D(2, padding="same"),
                  layers.Dropout(0.5), layers.Flatten(), layers.Dense(3, name="b"))
    sparsen(model, 1, density=1.0)
    kernel = model.get_layer("a").kernel
    kernel.assign(array(kernel) * np.array([1.0, 0, 1, 0]))
    model.get_layer("norm").gamma.assign([1.0, 1.0, 0.0, 1.0])  # Times zero: constant too.
    done = check(model)
    assert sizes(done) == {"a": 1, "b": 3}
    assert done.model.get_layer("norm").gamma.shape == (1,)
    assert done.model.get_layer("b").kernel.shape == (1, 3)


def test_a_flattened_map_loses_channels_and_by_taking_positions_too():
    model = image(layers.Conv2D(3, 2, name="a"), layers.Flatten(), layers.Dense(2, name="b"))
    sparsen(model, 0)
    model.get_layer("a").kernel.assign(np.ones((2, 2, 2, 3)))
    kernel = np.zeros((4, 4, 3, 2))
    kernel[1, 2, 0], kernel[3, 3, 2] = 1, 1
    model.get_layer("b").kernel.assign(kernel.reshape(-1, 2))
    assert check(model).model.get_layer("b").kernel.shape == (32, 2)
    taken = check(model, take_inputs=True)
    assert taken.model.get_layer("b").kernel.shape == (2, 2)
    if not is_keras3():
        assert taken.model.get_layer("b_inputs").positions == [12, 31]
    assert taken.inputs == {"b": (48, 2)} and taken.removed == {"a": (3, 2)}


def test_every_input_of_a_concatenation_goes_its_own_way():
    inputs = layers.Input((3,))
    parts = [layers.Dense(2, name=name)(inputs) for name in "ab"]
    model = keras.Model(inputs, layers.Dense(1, name="c")(layers.Concatenate()(parts)))
    model.get_layer("c").kernel.assign([[1.0], [0], [0], [0]])
    assert sizes(check(model)) == {"a": 1, "b": 1, "c": 1}
    model.get_layer("c").kernel.assign([[1.0], [0], [1], [1]])
    assert sizes(check(model)) == {"a": 1, "b": 2, "c": 1}


LINES = {
    "causal": lambda: layers.Conv1D(4, 2, padding="causal", activation="sigmoid"),
    "strided": lambda: layers.Conv1D(4, 3, strides=2, padding="same", use_bias=False),
    "separable": lambda: layers.SeparableConv1D(4, 2, depth_multiplier=2, activation="softplus"),
    "depthwise": lambda: layers.DepthwiseConv1D(2, depth_multiplier=2),
    "padded": lambda: layers.ZeroPadding1D(1),
    "pooled": lambda: layers.AveragePooling1D(2, padding="same"),
    "grown": lambda: layers.UpSampling1D(2),
    "permuted": lambda: layers.Permute((1, 2)),
    "grouped": lambda: layers.Conv1D(4, 2, groups=2),
    "recurrent": lambda: layers.LSTM(4, return_sequences=True),
    "attention": lambda: layers.TimeDistributed(layers.Dense(4)),
    "moved": lambda: layers.Permute((2, 1)),
    "dense": lambda: layers.Dense(4, "softmax"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("kind", LINES)
def test_sequences(kind):
    model = keras.Sequential([
        layers.Input((6, 4)), layers.Conv1D(8, 2, activation="sigmoid", name="a"),
        LINES[kind](), layers.Conv1D(6, 1, name="b"), layers.GlobalMaxPooling1D(),
        layers.RepeatVector(2), layers.Flatten(), layers.Dense(2, name="c")])
    done = check(sparsen(model, 4 if kind == "recurrent" else 3, density=0.5),
                 take_inputs=kind == "strided")
    assert 1 < done.removed.get("b", (6, 6))[1] < 6
    held = kind in ("attention", "moved")
    assert held == ("a" not in done.removed)
    name = model.layers[1].name
    assert any(sentence.startswith(f"{name}: ") for sentence in done.left) \
        >= (held or kind == "dense")


def test_volumes():
    precision("float32")  # TensorFlow pools volumes in no other.
    model = keras.Sequential([
        layers.Input((4, 4, 4, 1)), layers.Conv3D(5, 2, padding="same", activation="sigmoid"),
        layers.BatchNormalization(), layers.MaxPooling3D(), layers.Conv3D(5, 2),
        layers.Flatten(), layers.Dense(2)])
    assert len(check(sparsen(model, 1, density=0.5), within=1e-5).removed) == 2


def test_what_is_called_twice_gets_smaller_and_models_within_too():
    inputs = [layers.Input((3,), name="x"), layers.Input((3,), name="y")]
    shared, relu = layers.Dense(4, name="shared"), layers.ReLU()
    first, second = (relu(layers.Dense(5, name=f"{n}")(relu(shared(x))))
                     for n, x in enumerate(inputs))
    inner = keras.Sequential([layers.Input((5,)), layers.Dense(4, name="within")], name="inner")
    outputs = {"sum": layers.Dense(2, name="last")(layers.Concatenate()([inner(first), second])),
               "parts": layers.Dense(3, name="parts")(second)}
    model = sparsen(keras.Model(inputs, outputs), 0)
    done = check(model)
    assert {*done.removed} >= {"shared", "0", "1", "within"}
    assert "within" in {layer.name for layer in done.model.layers}


def test_masks_arguments_and_layers_of_ones_own_are_left_and_said():
    class Double(layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    words = layers.Input((3,), dtype="int32")
    x = layers.Dense(4, name="masked")(layers.Embedding(5, 4, mask_zero=True)(words))
    x = layers.Dense(4, name="free")(layers.Flatten(name="flat")(x))
    x = layers.Dropout(0.0, name="training")(x, training=True)
    model = keras.Model(words, layers.Dense(2, name="last")(Double(4, name="own")(x)))
    done = check(sparsen(model, 0))
    assert not done.removed
    assert [sentence.partition(":")[0] for sentence in done.left
            if sentence.endswith("channels are kept")] == [
        "masked", "flat", "training", "own"]


@pytest.mark.parametrize("make", [
    lambda: layers.Conv2D(4, 1, groups=2),
    lambda: layers.BatchNormalization(axis=1),
    lambda: layers.Rescaling([1.0, 2.0, 3.0, 4.0]),
    lambda: lambda x: layers.Concatenate(axis=1)([x, x]),
    lambda: lambda x: layers.Add()([x, layers.Conv2D(1, 1)(x)]),
    lambda: layers.Activation(lambda value: keras3.ops.cumsum(value, axis=-1)),
    lambda: layers.DepthwiseConv2D(1, activation="softmax"),
    lambda: layers.UpSampling2D(interpolation="bicubic"),
    lambda: layers.Reshape((-1, 2)),
    lambda: layers.Dropout(0.5, noise_shape=(None, 1, 1, 4)),
    lambda: lambda x: x[..., ::-1],
])
def test_what_is_not_known_is_opaque(make):
    inputs = layers.Input((4, 4, 3))
    x = make()(layers.Conv2D(4, 1, name="a")(inputs))
    model = sparsen(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), 0)
    done = check(model)
    assert "a" not in done.removed and done.left


def test_a_layer_within_a_channels_first_network_is_left():
    inputs = layers.Input((3, 4))
    x = layers.ZeroPadding2D(data_format="channels_first")(layers.Reshape((3, 4, 1))(inputs))
    done = check(sparsen(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), 0))
    assert any("not on the last axis" in sentence for sentence in done.left)


def test_models_that_cannot_be_built_again_are_returned_as_they_are():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    class Halved(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs) / 2

    own = Own()
    with pytest.raises(LotteryError, match=r"must be built.*Own"):
        lth.compact(own)
    own(np.zeros((1, 3)))
    halved = Halved([layers.Input((3,)), layers.Dense(2)])
    for model in (own, halved):
        done = lth.compact(model)
        assert done.model is model and not done.removed and done.weights == (8, 8)
        assert len(done.left) == 1 and "left as it is" in done.left[0]
    with pytest.raises(LotteryError, match=r"Received: a layer, (tf_)?keras\..*Dense"):
        lth.compact(layers.Dense(2))
    with pytest.raises(LotteryError, match="one of Keras 3 or of tf_keras"):
        lth.compact([])


@pytest.mark.parametrize(("take_inputs", "wrapped"), [(True, True), (False, False)])
def test_a_wrapped_model_is_stripped_saved_loaded_and_converted(
        tmp_path, take_inputs, wrapped, of_tf_keras):
    precision("float32")
    model = networks.get("lenet_30_20")((6, 6), 4, keras=keras)
    if wrapped:
        model = lth.prune_low_magnitude(model)
        for layer in model.layers:
            for _weight, mask, _ in getattr(layer, "pruning_vars", ()):
                mask.assign(np.random.default_rng(1).random(mask.shape) < 0.04)
    else:
        sparsen(model, 1, density=0.1)
    x = batch(model)[0]
    done = lth.compact(model, take_inputs)
    assert set(done.removed) == {"fc1", "fc2"} and bool(done.inputs) == take_inputs
    np.testing.assert_allclose(done.model(x), model(x), atol=1e-6)
    done.model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(x), done.model(x))
    assert lth.compact(loaded).weights == (done.weights[1],) * 2
    tf.saved_model.save(done.model, str(tmp_path / "saved"))
    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    np.testing.assert_allclose(*serve(tf.constant(x)).values(), done.model(x), atol=1e-6)
    lite = tf.lite.TFLiteConverter.from_keras_model(done.model).convert()
    assert len(lite) < 5 * done.weights[1] + 6000


@pytest.mark.parametrize("take_inputs", [True, False])
def test_a_keras_3_model_stays_plain_and_trains_on_sparse(tmp_path, take_inputs):
    if not is_keras3():
        pytest.skip("of Keras 3 alone")
    precision("float32")
    model = sparsen(dense(36, 30, 20, 4, activation="relu"), 1, density=0.1)
    x = batch(model)[0]
    done = lth.compact(model, take_inputs)
    assert set(done.removed) == {"1", "2"} and bool(done.inputs) == take_inputs
    done.model.save(tmp_path / "model.keras")
    # Its file names nothing of this package: whoever has Keras loads it.
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert "lth_keras" not in str(loaded.get_config())
    np.testing.assert_array_equal(array(loaded(x)), array(done.model(x)))
    assert lth.compact(loaded).weights == (done.weights[1],) * 2
    loaded.compile("adam", "mse")
    lth.keep_sparse(loaded)
    zeros = [array(layer.kernel) == 0 for layer in loaded.layers if hasattr(layer, "kernel")]
    before = loaded.get_weights()
    loaded.fit(x, np.ones((3, 4)), epochs=3, verbose=0)
    kernels = [array(layer.kernel) for layer in loaded.layers if hasattr(layer, "kernel")]
    assert all(((kernel == 0) >= zero).all() for kernel, zero in zip(kernels, zeros, strict=True))
    assert any((old != new).any() for old, new in zip(before, loaded.get_weights(), strict=True))


def test_a_mixed_policy_is_carried():
    precision("float32")
    policy = "mixed_bfloat16"
    model = image(layers.Conv2D(8, 3, activation="sigmoid", dtype=policy),
                  layers.BatchNormalization(dtype=policy), layers.Flatten(dtype=policy),
                  layers.Dense(8, "relu", dtype=policy), layers.Dense(2, dtype="float32"))
    done = lth.compact(sparsen(model, 2), take_inputs=True)
    x = called(model, batch(model)), called(done.model, batch(model))
    assert len(done.removed) == 2 and done.inputs
    np.testing.assert_allclose(*map(array, x), atol=0.1)
    made = [layer for layer in done.model.layers if isinstance(layer, layers.Layer)
            and not isinstance(layer, layers.InputLayer)]
    assert {layer.compute_dtype for layer in made} == {"bfloat16", "float32"}
    assert made[-1].compute_dtype == "float32"
    assert all("float32" in str(weight.dtype) for weight in done.model.weights)


@pytest.mark.parametrize("positions", [[], [-1], [0.5], [True], None])
def test_gathering_needs_positions(positions, of_tf_keras):
    with pytest.raises(LotteryError, match="positions must hold at least one"):
        GatherFeatures(positions)


def _pruned_network(name, how, shape, density=0.05):
    # Its last layer is in float32 always.
    model = networks.get(name)(shape, 10, keras=keras)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = weight.numpy()
        if len(value.shape) > 1:
            share = rng.random(value.shape) if how == "random" else -np.abs(value)
            value *= share <= np.quantile(share, density)
        elif "variance" in weight.name:
            value = 0.5 + rng.random(value.shape)
        else:
            value = value + 0.1 * rng.normal(size=value.shape)
        weight.assign(value)
    return model


@pytest.mark.parametrize(("name", "how", "density", "take_inputs"), [
    ("lenet_300_100", "magnitude", 0.01, True), ("conv2", "random", 0.05, False),
    ("resnet18", "random", 0.01, True)])
def test_the_papers_networks(name, how, density, take_inputs, of_tf_keras):
    done = check(_pruned_network(name, how, (8, 8, 3), density), take_inputs, within=1e-6)
    assert done.removed and bool(done.inputs) == take_inputs


@pytest.mark.long
@pytest.mark.parametrize("density", [0.05, 0.01])
@pytest.mark.parametrize("how", ["random", "magnitude"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_all_the_networks(name, how, density, of_tf_keras):
    done = check(_pruned_network(name, how, (32, 32, 3), density), how == "random", within=1e-6)
    print(f"\n{name} {how} {density}: {done.weights}, {len(done.removed)} layers smaller")


def test_the_same_model_gives_the_same_bits():
    model = sparsen(dense(6, 8, 8, 2), 4)
    one, other = (lth.compact(model, take_inputs=True) for _ in range(2))
    assert one.summary() == other.summary()
    for first, second in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
