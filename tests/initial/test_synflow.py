"""SynFlow: its scores, and that it keeps a path where others prune a whole layer."""

import importlib

import numpy as np
import pytest

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.graph.kinds import kind_of
from lth_keras.initial.prune_at_init import score_of
from lth_keras.initial.scored_model import scored
from lth_keras.initial.synflow import path_scores


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    module = importlib.import_module(request.param)
    module.utils.set_random_seed(0)
    return module


def scores(model, masks=None, exclude=()):
    found = scored(model, include=(), exclude=exclude, loss=None, temperature=1.0)
    ones = {name: np.ones(shape) for name, shape in found.shapes.items()}
    return score_of("synflow", found, found.weights())(masks or ones)


def deep(keras, depth=12, width=8):
    return keras.Sequential([
        keras.layers.Input((width,)),
        *(keras.layers.Dense(width, "relu", name=f"d{place}") for place in range(depth))])


def residual(keras):
    """All that SynFlow leaves out, with values that would show."""
    layers = keras.layers
    inputs = layers.Input((6, 6, 2))
    x = before = layers.Conv2D(3, 3, padding="same", activation="tanh", name="a")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.5)(layers.ReLU()(x))
    x = layers.Conv2D(3, 3, strides=1, padding="same", use_bias=False, name="b")(x)
    x = layers.AveragePooling2D(2)(layers.Add()([x, before]))
    x = layers.Flatten()(layers.DepthwiseConv2D(2, activation="sigmoid", name="c")(x))
    model = keras.Model(inputs, layers.Dense(4, "softmax", name="d")(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=weight.shape) ** 2 + 0.1 if "variance" in str(
        getattr(weight, "path", weight.name)) else rng.normal(size=weight.shape)
        for weight in model.weights])
    return model


def by_plain_autodiff(model):
    """The same network of |weights| in TensorFlow's operations."""
    tf = pytest.importorskip("tensorflow")
    names = [("a", "kernel"), ("b", "kernel"), ("c", "depthwise_kernel"), ("d", "kernel")]
    weights = {f"{layer}/{name}": tf.Variable(np.abs(np.asarray(
        model.get_layer(layer).get_weights()[0], np.float64))) for layer, name in names}
    a, b, c, d = weights.values()
    with tf.GradientTape() as tape:
        before = tf.nn.conv2d(tf.ones((1, 6, 6, 2), tf.float64), a, 1, "SAME")
        x = tf.nn.avg_pool2d(tf.nn.conv2d(before, b, 1, "SAME") + before, 2, 2, "VALID")
        x = tf.nn.depthwise_conv2d(x, c, [1, 1, 1, 1], "VALID")
        total = tf.reduce_sum(tf.reshape(x, (1, -1)) @ d)
    gradients = tape.gradient(total, weights)
    return {name: (gradients[name] * weights[name]).numpy() for name in weights}


def test_scores_of_two_layers_by_hand(keras):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4, name="one"),
                              keras.layers.Dense(2, name="two")])
    one, two = (np.abs(np.asarray(layer.get_weights()[0], np.float64)) for layer
                in (model.get_layer("one"), model.get_layer("two")))
    found = scores(model)
    np.testing.assert_allclose(found["one/kernel"], one * two.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["two/kernel"], two * one.sum(axis=0)[:, None], rtol=1e-12)
    # Of a pruned network: its pruned weights are on no path.
    masks = {"one/kernel": np.eye(3, 4), "two/kernel": np.ones((4, 2))}
    found = scores(model, masks)
    np.testing.assert_allclose(found["one/kernel"], np.eye(3, 4) * one * two.sum(axis=1))
    assert not found["two/kernel"][3].any()


def test_scores_of_a_residual_network_are_those_of_plain_autodiff(keras):
    model = residual(keras)
    found, wanted = scores(model), by_plain_autodiff(model)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-11)


def test_layers_that_stay_dense_are_on_the_paths(keras):
    model = residual(keras)
    wanted = by_plain_autodiff(model)
    found = scores(model, exclude="b")
    assert "b/kernel" not in found
    np.testing.assert_allclose(found["d/kernel"], wanted["d/kernel"], rtol=1e-11)


def test_the_scores_of_each_layer_add_up_to_the_same(keras):
    sums = [value.sum() for value in scores(deep(keras)).values()]
    np.testing.assert_allclose(sums, sums[0], rtol=1e-11)


def kept(ticket):
    return [int(mask.sum()) for mask in ticket.masks.values()]


@pytest.mark.thorough
def test_it_keeps_a_path_down_to_one_weight_a_layer_where_others_keep_none(keras):
    depth, width = 12, 8
    model = deep(keras, depth, width)
    model.compile("sgd", "mse")
    most = depth / (depth * width * width)  # One weight in each layer.
    assert kept(lth.prune_at_init(model, "synflow", density=most)) == [1] * depth
    for factor in (2, 4):
        assert min(kept(lth.prune_at_init(model, "synflow", density=factor * most))) > 0
    # At once it does not; in a few iterations it needs smaller steps among them.
    assert min(kept(lth.prune_at_init(model, "synflow", density=most, iterations=1))) == 0
    assert kept(lth.prune_at_init(model, "synflow", density=most, iterations=2)) == [1] * depth
    with pytest.raises(LotteryError, match="paths of kept weights"):
        lth.prune_at_init(model, "synflow", density=0.9 * most)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(64, width)), rng.normal(size=(64, width))
    assert min(kept(lth.prune_at_init(model, "magnitude", density=most))) == 0
    assert min(kept(lth.prune_at_init(model, "snip", density=most, data=data))) == 0


def test_layers_of_their_own_numbers_keep_a_path(keras):
    for distribution in ("uniform", "balanced"):
        ticket = lth.prune_at_init(deep(keras), "synflow", density=12 / 768, iterations=2,
                                   distribution=distribution)
        assert kept(ticket) == [1] * 12
        on_path = scores(deep(keras), ticket.masks)
        assert all(value.sum() > 0 for value in on_path.values())


def chain(weights):
    """The gradient of 1' W_n ... W_1 1 for each, beyond what float64 holds."""
    names = [*weights]
    forward = [np.ones(weights[names[0]].shape[0])]
    for name in names:
        forward.append(forward[-1] @ weights[name])
    back, found = np.ones(weights[names[-1]].shape[1]), {}
    for name, given in zip(reversed(names), reversed(forward[:-1]), strict=True):
        found[name] = np.outer(given, back)
        back = weights[name] @ back
    return found


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 40.0, 1e6])
def test_networks_beyond_float64_have_the_order_of_their_logarithms(scale):
    rng = np.random.default_rng(0)
    sizes = {f"{place:03}": scale * rng.uniform(0.5, 1.5, (5, 5)) for place in range(600)}
    with np.errstate(all="ignore"):
        assert not all(np.isfinite(value).all() and value.any() for value in chain(sizes).values())
    found = path_scores(sizes, chain)
    # The same network at a scale at which it fits.
    fits = {name: value / (5 * scale) for name, value in sizes.items()}
    for name, value in chain(fits).items():
        wanted = value * fits[name]
        np.testing.assert_allclose(found[name] / found["000"].sum(), wanted / wanted.sum(),
                                   rtol=1e-9)


def test_a_scale_that_fits_changes_no_digit():
    rng = np.random.default_rng(0)
    sizes = {f"{place:03}": rng.uniform(0.5, 1.5, (5, 5)) for place in range(4)}
    for name, value in path_scores(sizes, chain).items():
        np.testing.assert_array_equal(value, chain(sizes)[name] * sizes[name])


def test_layers_beside_which_paths_go_are_not_made_smaller():
    def gradient(w):  # R = a b + b: the second path does not go through a.
        return {"a": w["b"], "b": w["a"] + 1}
    assert path_scores({"a": np.array([2.0]), "b": np.array([3.0])}, gradient)["b"] == [9]
    with pytest.raises(LotteryError, match="one after the other"):
        path_scores({"a": np.array([1e200]), "b": np.array([1e200])}, gradient)


def test_a_network_without_paths_is_refused():
    sizes = {"a": np.eye(2), "b": np.zeros((2, 2))}
    with pytest.raises(LotteryError, match="paths of kept weights"):
        path_scores(sizes, chain)
    with pytest.raises(LotteryError, match="paths of kept weights"):
        path_scores({"a": np.array([[1.0, 0]]), "b": np.array([[0.0], [1]])}, chain)


def test_what_is_not_linear_is_refused_by_name(keras):
    layers = keras.layers
    inputs = layers.Input((4, 6))
    attention = layers.MultiHeadAttention(2, 3, name="heads")(inputs, inputs)
    model = keras.Model(inputs, layers.Dense(2, name="out")(attention))
    with pytest.raises(LotteryError, match="heads/"):
        lth.prune_at_init(model, "synflow", density=0.5)
    open_ended = keras.Sequential([layers.Input((None, 3)), layers.Conv1D(2, 2, name="conv"),
                                   layers.GlobalMaxPooling1D()])
    with pytest.raises(LotteryError, match=r"fixed shape.*\(None, 3\)"):
        lth.prune_at_init(open_ended, "synflow", density=0.5)


def gated(keras, operator):
    """Squeeze-and-excitation: what is multiplied counts as what is added."""
    layers = keras.layers
    inputs = layers.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, use_bias=False, name="a")(inputs)
    gate = layers.Dense(3, "sigmoid", name="b")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = x * gate if operator else layers.Multiply()([x, gate])
    return keras.Model(inputs, layers.Dense(2, name="c")(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("operator", [True, False])
def test_a_product_of_layers_counts_as_their_sum(keras, operator):
    model = gated(keras, operator)
    a, b, c = (np.abs(np.asarray(model.get_layer(name).get_weights()[0], np.float64))
               for name in "abc")
    a = a[0, 0]
    to_outputs = c.sum(axis=1)
    found = scores(model)
    np.testing.assert_allclose(found["b/kernel"], b * a.sum(axis=0)[:, None] * to_outputs,
                               rtol=1e-11)
    np.testing.assert_allclose(found["a/kernel"][0, 0], a * (to_outputs + b @ to_outputs),
                               rtol=1e-11)


def test_a_residual_branch_may_go_as_a_whole_and_a_layer_on_every_path_not(keras):
    layers = keras.layers
    inputs = layers.Input((8,))
    x = layers.Dense(8, name="first")(inputs)
    for place in range(6):
        branch = layers.Dense(4, "relu", name=f"down{place}")(x)
        x = layers.Add()([x, layers.Dense(8, name=f"up{place}")(branch)])
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    ticket = lth.prune_at_init(model, "synflow", density=0.02)
    left = {name: int(mask.sum()) for name, mask in ticket.masks.items()}
    assert left["first/kernel"] and left["last/kernel"]
    for place in range(6):
        assert (left[f"down{place}/kernel"] > 0) == (left[f"up{place}/kernel"] > 0)


def test_words_are_pooled_whether_or_not_they_are_masked(keras):
    layers = keras.layers
    for mask_zero in (False, True):
        model = keras.Sequential([
            layers.Input((7,)), layers.Embedding(9, 4, mask_zero=mask_zero, name="words"),
            layers.GlobalAveragePooling1D(), layers.Dense(2, name="out")])
        words, out = (np.abs(np.asarray(model.get_layer(name).get_weights()[0], np.float64))
                      for name in ("words", "out"))
        # An input of ones reads the second word.
        np.testing.assert_allclose(scores(model)["out/kernel"], out * words[1][:, None],
                                   rtol=1e-11)


def of_two_layers(keras, between=lambda x: x, before=lambda x: x, dtype="float32"):
    keras.utils.set_random_seed(0)
    inputs = keras.layers.Input((4, 3), dtype=dtype)
    x = keras.layers.Dense(5, "relu", name="a")(before(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, name="b")(between(x)))


def operations(keras):
    """Functions of a tensor that put a number beside it, or turn its sign."""
    if keras.__name__ == "keras":
        clip, most, cast = keras.ops.clip, keras.ops.maximum, keras.ops.cast
    else:
        tf = pytest.importorskip("tensorflow")
        clip, most, cast = tf.clip_by_value, tf.maximum, tf.cast
    return [lambda x: x / 127.5 - 1, lambda x: 1 - x, lambda x: 2 * x, lambda x: -x,
            lambda x: clip(x, 0.0, 0.5), lambda x: most(x, 0.1), lambda x: most(0.1, x),
            lambda x: 3 / x, lambda x: x - np.float32([[1, 2, 3]])[:, :1],
            lambda x: cast(x, "float32") + 1]


def assert_like(found, wanted, factor=1.0):
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], factor * value, rtol=1e-11)


def test_numbers_and_signs_are_no_part_of_a_path(keras):
    wanted = scores(of_two_layers(keras))
    for function in operations(keras):
        assert_like(scores(of_two_layers(keras, function)), wanted)
        assert_like(scores(of_two_layers(keras, before=function)), wanted)


def test_activations_that_are_called_as_functions_are_left_out_too(keras):
    def made(activation):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,))
        hidden = activation(keras.layers.Dense(6, name="a")(inputs))
        return keras.Model(inputs, keras.layers.Dense(3, name="b")(hidden))
    wanted = scores(made(lambda tensor: tensor))
    tried = 0
    elementwise = kind_of(keras.layers.Layer()).elementwise
    for activation in {*elementwise, keras.activations.softmax}:
        try:
            model = made(activation)
        except ValueError:  # Keras 3 computes some on arrays alone.
            continue
        tried += 1
        for name, value in scores(model).items():  # That of mish counts as a gate: twice.
            factor = value.sum() / wanted[name].sum()
            assert factor == pytest.approx(1) or (keras.__name__, factor) == (
                "tf_keras", pytest.approx(2)), activation
            np.testing.assert_allclose(value, factor * wanted[name], rtol=1e-9)
    assert tried > 20


def test_the_usual_preparation_of_images_is_no_part_of_a_path(keras):
    for module in ("mobilenet_v2", "vgg16", "densenet"):
        inputs = keras.layers.Input((4, 4, 3))
        x = getattr(keras.applications, module).preprocess_input(inputs)
        x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu", name="a")(x))
        model = keras.Model(inputs, keras.layers.Dense(2, name="b")(x))
        assert min(value.min() for value in scores(model).values()) >= 0
        assert lth.prune_at_init(model, "synflow", density=0.5, iterations=3).density == 0.5


def test_an_array_that_is_multiplied_with_counts_by_its_sizes(keras):
    by = np.float32([-1, 0, 2, 1, 1])
    found = scores(of_two_layers(keras, lambda x: x * by))
    model = of_two_layers(keras)
    a, b = (np.abs(np.asarray(model.get_layer(name).get_weights()[0], np.float64))
            for name in "ab")
    np.testing.assert_allclose(found["a/kernel"], 4 * a * np.abs(by) * b.sum(axis=1), rtol=1e-6)
    with pytest.raises(LotteryError, match=r"no larger.*\(None, 4, 1\) that makes \(None, 4, 5\)"):
        inputs = keras.layers.Input((4, 3))
        x = keras.layers.Dense(1)(inputs) + by
        scores(keras.Model(inputs, keras.layers.Dense(2)(x)))


def test_bytes_may_be_the_input(keras):
    wanted = scores(of_two_layers(keras))
    for before in (keras.layers.Rescaling(1 / 255.0), operations(keras)[-1]):
        assert_like(scores(of_two_layers(keras, before=before, dtype="uint8")), wanted)


def test_whole_numbers_that_are_looked_up_stay_whole(keras):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a lookup is TensorFlow's, and no step of another backend")
    layers = keras.layers
    inputs = layers.Input((2,), dtype="int64")
    x = layers.Embedding(5, 4, name="rows")(layers.IntegerLookup(vocabulary=[1, 5, 7])(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))
    rows, out = (np.abs(np.asarray(model.get_layer(name).get_weights()[0], np.float64))
                 for name in ("rows", "out"))
    one = np.tile(rows[1], 2)[:, None]  # Row 0 is of what is not in the vocabulary.
    np.testing.assert_allclose(scores(model)["out/kernel"], out * one, rtol=1e-11)


def test_a_highway_keeps_its_gate(keras):
    inputs = keras.layers.Input((6,))
    x = keras.layers.Dense(6, "relu", name="first")(inputs)
    new = keras.layers.Dense(6, "relu", name="new")(x)
    gate = keras.layers.Dense(6, "sigmoid", name="gate")(x)
    x = new * gate + x * (1 - gate)
    model = keras.Model(inputs, keras.layers.Dense(2, name="last")(x))
    first, new, gate, last = (np.abs(np.asarray(model.get_layer(name).get_weights()[0], np.float64))
                              for name in ("first", "new", "gate", "last"))
    wanted = gate * first.sum(axis=0)[:, None] * 2 * last.sum(axis=1)  # It has two paths.
    np.testing.assert_allclose(scores(model)["gate/kernel"], wanted, rtol=1e-11)


def test_a_layer_of_ones_own_computes_with_the_sizes_of_its_weights(keras):
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.factors = self.add_weight(shape=(shape[-1],), initializer="ones", name="factors")
            super().build(shape)

        def call(self, x):
            return x * self.factors
    model = of_two_layers(keras, Scale(name="scale"))
    model.get_layer("scale").set_weights([np.float32([-1, 0, 2, 1, 1])])
    a, b = (np.abs(np.asarray(model.get_layer(name).get_weights()[0], np.float64))
            for name in "ab")
    found = scores(model, exclude="scale")
    np.testing.assert_allclose(found["a/kernel"], 4 * a * [1, 0, 2, 1, 1] * b.sum(axis=1),
                               rtol=1e-6)
