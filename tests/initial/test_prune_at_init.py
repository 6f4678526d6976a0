"""Scores at initialisation against slow references, exact counts, and that a model is let alone."""

import importlib
import os
import random
import subprocess
import sys

import numpy as np
import pytest

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.initial.distributions import DISTRIBUTIONS
from lth_keras.initial.prune_at_init import METHODS, score_of, WITH_DATA
from lth_keras.initial.scored_model import scored

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(600, 4)).astype(np.float32)
Y = _RNG.integers(0, 3, 600)
SIZES = 4, 5, 3


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    module = importlib.import_module(request.param)
    module.utils.set_random_seed(0)
    return module


def mlp(keras, last="softmax", **options):
    """A tiny network whose biases are not zero; the same weights in every Keras."""
    model = keras.Sequential([
        keras.layers.Input((4,)), keras.layers.Dense(5, "tanh", name="a"),
        keras.layers.Dropout(0.5), keras.layers.Dense(3, last, name="b")])
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=np.shape(value)) for value in model.get_weights()])
    model.compile(**{"optimizer": "adam", "loss": "sparse_categorical_crossentropy"} | options)
    return model


def scores(model, method, data=(X, Y), temperature=200.0, loss=None, **options):
    found = scored(model, include=(), exclude=(), loss=loss, temperature=temperature, **options)
    ones = {name: np.ones(shape) for name, shape in found.shapes.items()}
    return score_of(method, found, found.weights(), data)(ones)


# The slow references, in NumPy and float64.

def forward_loss(arrays, temperature, x=X, y=Y):
    a, bias_a, b, bias_b = arrays
    logits = (np.tanh(x @ a + bias_a) @ b + bias_b) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -logits[np.arange(len(y)), y].mean()


def moved(arrays, kernel, index, by):
    new = [array.copy() for array in arrays]
    new[kernel][index] += by
    return new


def by_differences(function, arrays, step=1e-4):
    """The gradient of a function of the arrays for the kernels, by central differences."""
    found = {}
    for kernel, name in ((0, "a/kernel"), (2, "b/kernel")):
        found[name] = np.zeros(arrays[kernel].shape)
        for index in np.ndindex(*arrays[kernel].shape):
            up, down = (function(moved(arrays, kernel, index, by)) for by in (step, -step))
            found[name][index] = (up - down) / (2 * step)
    return found


def along(arrays, direction, by):
    return [array + by * direction[name] if name else array for array, name
            in zip(arrays, ("a/kernel", None, "b/kernel", None), strict=True)]


def assert_same(found, wanted, rtol=1e-4):
    largest = max(np.abs(value).max() for value in wanted.values())
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol * largest)


def arrays_of(model):
    return [np.asarray(value, np.float64) for value in model.get_weights()]


def kernels(arrays):
    return {"a/kernel": arrays[0], "b/kernel": arrays[2]}


def snip_by_differences(arrays, x=X, y=Y):
    gradient = by_differences(lambda values: forward_loss(values, 1, x, y), arrays)
    return {name: np.abs(gradient[name] * value) for name, value in kernels(arrays).items()}


def test_snip_is_what_finite_differences_say(keras):
    # Of 600 examples in three batches: the mean gradient's size, not the mean of sizes.
    model = mlp(keras)
    assert_same(scores(model, "snip"), snip_by_differences(arrays_of(model)))


def test_grasp_is_what_finite_differences_say(keras):
    model = mlp(keras)
    arrays = arrays_of(model)

    def loss(values):
        return forward_loss(values, 200)
    gradient = by_differences(loss, arrays)
    size = max(np.abs(value).max() for value in gradient.values())
    direction = {name: value / size for name, value in gradient.items()}
    # H g is the gradient of how the loss changes along g.
    product = by_differences(lambda values: (
        loss(along(values, direction, 1e-3)) - loss(along(values, direction, -1e-3))) / 2e-3,
        arrays, step=1e-3)
    wanted = {name: value * product[name] * size for name, value in kernels(arrays).items()}
    assert_same(scores(model, "grasp"), wanted, rtol=2e-3)
    assert any((value < 0).any() for value in wanted.values())


def test_grasp_prunes_what_the_gradient_gains_by(keras):
    # The lowest go: without them the gradient's norm is larger than without the others.
    model = mlp(keras)
    found = scores(model, "grasp")
    flat = np.sort(np.concatenate([value.ravel() for value in found.values()]))
    ticket = lth.prune_at_init(model, "grasp", density=0.5, data=(X, Y))
    lowest = max(found[name][mask == 0].max() for name, mask in ticket.masks.items())
    highest = min(found[name][mask == 1].min() for name, mask in ticket.masks.items())
    # 17.5 of 35: the even number stays.
    assert sum(int(mask.sum()) for mask in ticket.masks.values()) == 18
    assert lowest == flat[16] and highest == flat[17]


@pytest.mark.thorough
@pytest.mark.parametrize("method", WITH_DATA)
def test_logits_and_probabilities_have_the_same_scores(keras, method):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    of_logits = scores(mlp(keras, None, loss=loss), method)
    assert_same(scores(mlp(keras), method), of_logits, rtol=1e-3)
    one_hot = scores(mlp(keras, loss="categorical_crossentropy"), method, (X, np.eye(3)[Y]))
    assert_same(one_hot, of_logits, rtol=1e-3)


def test_a_sigmoid_is_softened_as_its_logits_are(keras):
    data = X, np.eye(3)[Y]
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    assert_same(scores(mlp(keras, "sigmoid", loss="binary_crossentropy"), "grasp", data),
                scores(mlp(keras, None, loss=loss), "grasp", data), rtol=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("method", WITH_DATA)
def test_a_loss_may_be_given_in_place_of_the_compiled_one(keras, method):
    wanted = scores(mlp(keras), method)
    word, function = "sparse_categorical_crossentropy", keras.losses.sparse_categorical_crossentropy
    for loss in (word, function, keras.losses.SparseCategoricalCrossentropy()):
        assert_same(scores(mlp(keras, loss="mse"), method, loss=loss), wanted)
    # A loss of the user's own gets the outputs as they are.
    def users(y, outputs):
        return function(y, outputs)
    own = scores(mlp(keras), method, loss=users)
    assert_same(own, scores(mlp(keras), method, temperature=1.0))
    fresh = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, "softmax")])
    assert lth.prune_at_init(fresh, method, density=0.5, data=(X, Y), loss=word).density == 0.5


def test_examples_may_have_weights(keras):
    weights = np.arange(600) % 2
    half = weights == 1
    wanted = snip_by_differences(arrays_of(mlp(keras)), X[half], Y[half])
    # Keras divides by the number of examples, also of those without weight.
    for loss in (None, "sparse_categorical_crossentropy"):
        found = scores(mlp(keras), "snip", (X, Y, weights.astype(np.float32)), loss=loss)
        factor = found["a/kernel"].sum() / wanted["a/kernel"].sum()
        assert_same({name: value / factor for name, value in found.items()}, wanted)


def convnet(keras):
    layers = keras.layers
    model = keras.Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(6, 3, padding="same", name="one"),
        layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(),
        layers.Conv2D(8, 3, activation="relu", name="two"), layers.Flatten(),
        layers.Dropout(0.5), layers.Dense(16, "relu", name="three"),
        layers.Dense(3, "softmax", name="four")])
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(size=value.shape) / np.sqrt(np.prod(value.shape[:-1]))
                       if value.ndim > 1 else value for value in model.get_weights()])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


IMAGES = _RNG.normal(size=(60, 8, 8, 1)).astype(np.float32), _RNG.integers(0, 3, 60)
SIZE = 9 * 6 + 54 * 8 + 32 * 16 + 48


def given(method):
    return {"data": IMAGES} if method in WITH_DATA else {}


@pytest.mark.parametrize(("method", "distribution", "densities"), [
    *((method, "global", (0.0371,)) for method in METHODS), ("synflow", "erk", (0.0371,)),
    *(("magnitude", distribution, (0.5, 0.0371, 1.0)) for distribution in DISTRIBUTIONS)])
def test_exactly_so_many_are_kept(keras, method, distribution, densities):
    for density in densities:
        ticket = lth.prune_at_init(convnet(keras), method, density=density,
                                   distribution=distribution, **given(method))
        assert sum(int(mask.sum()) for mask in ticket.masks.values()) == round(density * SIZE)
        assert ticket.provenance["density"] == ticket.density
        assert ticket.provenance["settings"]["density"] == density
        assert ticket.level == 1


@pytest.mark.parametrize("method", METHODS)
def test_both_engines_give_the_same_masks(method):
    tickets = [lth.prune_at_init(convnet(importlib.import_module(name)), method, density=0.2,
                                 **given(method)) for name in ("tf_keras", "keras")]
    first, second = (ticket.masks for ticket in tickets)
    assert first.keys() == second.keys()
    differ = sum(int((first[name] != second[name]).sum()) for name in first)
    # Scores differ by rounding, and the order only of those that are as good as equal.
    assert differ <= (2 if method in WITH_DATA else 0)


def test_of_equal_scores_the_first_go(keras):
    model = mlp(keras)
    model.set_weights([np.ones(np.shape(value)) for value in model.get_weights()])
    ticket = lth.prune_at_init(model, "magnitude", density=0.6)  # 21 of 20 + 15.
    assert ticket.masks["a/kernel"].ravel().tolist() == [0] * 14 + [1] * 6
    assert ticket.masks["b/kernel"].all()


def test_random_scores_are_those_of_their_seed(keras):
    def masks(seed):
        return lth.prune_at_init(mlp(keras), "random", density=0.5, seed=seed).masks
    assert all((masks(3)[name] == mask).all() for name, mask in masks(3).items())
    assert not all((masks(4)[name] == mask).all() for name, mask in masks(3).items())


def state(model):
    slots = model.optimizer.variables
    return [np.array(value) for value in (
        *model.get_weights(), *map(np.asarray, slots() if callable(slots) else slots))]


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_let_alone_and_the_ticket_trains(keras, method):
    model = convnet(keras)
    model.fit(*IMAGES, verbose=0)
    before, drawn = state(model), (random.getstate(), np.random.get_state()[1].tolist())
    names = [layer.name for layer in model.layers]
    if keras.__name__ == "keras":
        seeds = [np.array(layer.seed_generator.state) for layer in model.layers
                 if hasattr(layer, "seed_generator")]
    ticket = lth.prune_at_init(model, method, density=0.3, **given(method))
    for one, other in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert drawn == (random.getstate(), np.random.get_state()[1].tolist())
    assert names == [layer.name for layer in model.layers]
    if keras.__name__ == "keras":
        np.testing.assert_array_equal(seeds, [
            np.array(layer.seed_generator.state) for layer in model.layers
            if hasattr(layer, "seed_generator")])
    assert {*ticket.weights} > {*ticket.masks}
    sparse = ticket.apply(model)
    sparse.compile("adam", "sparse_categorical_crossentropy")  # Without the momenta of before.
    sparse.fit(*IMAGES, verbose=0)
    for name, mask in ticket.masks.items():
        layer = sparse.get_layer(name.split("/")[0])
        kernel = np.asarray(getattr(layer, "layer", layer).kernel)
        assert not kernel[mask == 0].any() and kernel[mask == 1].all()


@pytest.mark.parametrize("method", ["snip", "grasp", "synflow"])
def test_a_wrapped_model_has_the_scores_of_the_plain_one(method):
    import tf_keras as keras
    plain = lth.prune_at_init(convnet(keras), method, density=0.2, **given(method))
    wrapped = lth.prune_low_magnitude(convnet(keras))
    wrapped.compile("adam", "sparse_categorical_crossentropy")
    ticket = lth.prune_at_init(wrapped, method, density=0.2, **given(method))
    for name, mask in plain.masks.items():
        np.testing.assert_array_equal(ticket.masks[name], mask)
    assert ticket.weights.keys() == plain.weights.keys()
    assert ticket.apply(wrapped) is wrapped


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["snip", "grasp", "synflow"])
def test_a_model_of_16_bits_is_scored_in_more(keras, method):
    keras.mixed_precision.set_global_policy("mixed_float16") \
        if hasattr(keras, "mixed_precision") else keras.config.set_dtype_policy("mixed_float16")
    try:
        model = convnet(keras)
    finally:
        keras.mixed_precision.set_global_policy("float32") \
            if hasattr(keras, "mixed_precision") else keras.config.set_dtype_policy("float32")
    ticket = lth.prune_at_init(model, method, density=0.2, **given(method))
    whole = lth.prune_at_init(convnet(keras), method, density=0.2, **given(method))
    same = sum(int((mask == whole.masks[name]).sum()) for name, mask in ticket.masks.items())
    assert same >= (SIZE if method == "synflow" else 0.97 * SIZE)


def test_include_and_exclude_say_what_is_pruned(keras):
    ticket = lth.prune_at_init(convnet(keras), "synflow", density=0.2, exclude=["four", "one"])
    assert [*ticket.masks] == ["two/kernel", "three/kernel"]
    layers = keras.layers
    words = keras.Sequential([layers.Input((7,)), layers.Embedding(9, 4, name="words"),
                              layers.GlobalAveragePooling1D(), layers.Dense(2, name="out")])
    words.compile("sgd", "mse")
    data = np.arange(70).reshape(10, 7) % 9, np.ones((10, 2), np.float32)
    for method in ("snip", "synflow", "magnitude"):
        ticket = lth.prune_at_init(words, method, density=0.5, include="words",
                                   data=data if method == "snip" else None)
        assert [*ticket.masks] == ["words/embeddings", "out/kernel"]


@pytest.mark.thorough
def test_the_provenance_identifies_the_data(keras):
    first, second, other = (lth.prune_at_init(
        mlp(keras), "grasp", density=0.5, data=data, temperature=100).provenance
        for data in ((X, Y), (X.copy(), Y.copy()), (X + 1, Y)))
    settings = first["settings"]
    assert (settings["at_init"], settings["temperature"]) == ("grasp", 100.0)
    assert settings["data"]["examples"] == 600
    assert first == second and first["fingerprint"] != other["fingerprint"]


def test_tickets_are_saved_and_loaded(keras, tmp_path):
    ticket = lth.prune_at_init(mlp(keras), "snip", density=0.5, data=(X, Y))
    ticket.save(tmp_path / "snip.ticket")
    assert lth.Ticket.load(tmp_path / "snip.ticket") == ticket


@pytest.mark.parametrize(("options", "said"), [
    ({"method": "snap"}, "Did you mean snip"), ({"distribution": "erg"}, "Did you mean erk"),
    ({"density": 0}, r"density.*\(0, 1\]"), ({"density": 1e-4}, "at least one weight"),
    ({"method": "snip"}, "snip needs data"), ({"data": (X, Y)}, "data with method='synflow'"),
    ({"method": "random", "iterations": 3}, "iterations with method='random'"),
    ({"iterations": 0}, "iterations"), ({"loss": "mse"}, "loss with method"),
    ({"schedule": "cubic"}, "exponential, linear"), ({"temperature": 0}, "temperature"),
    ({"exclude": "z"}, "must name layers"), ({"exclude": ["a", "b"]}, "prun"),
])
def test_what_is_refused(keras, options, said):
    with pytest.raises(LotteryError, match=said):
        lth.prune_at_init(mlp(keras), **{"method": "synflow", "density": 0.5} | options)


def test_models_that_cannot_be_scored_are_refused(keras):
    data = {"data": (X, Y), "density": 0.5}
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(LotteryError, match="built"):
        lth.prune_at_init(unbuilt, "magnitude", density=0.5)
    fresh = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(LotteryError, match="not compiled"):
        lth.prune_at_init(fresh, "snip", **data)
    pruned = lth.prune_at_init(mlp(keras), "magnitude", density=0.5).apply(mlp(keras))
    with pytest.raises(LotteryError, match="pruned already"):
        lth.prune_at_init(pruned, "magnitude", density=0.3)


def test_a_wrapped_model_with_a_structure_is_refused():
    import tf_keras as keras
    model = lth.prune_low_magnitude(convnet(keras), structure="filters")
    with pytest.raises(LotteryError, match="single weights"):
        lth.prune_at_init(model, "magnitude", density=0.5)
    with pytest.raises(LotteryError, match="been told"):
        lth.prune_at_init(lth.prune_low_magnitude(convnet(keras)), "magnitude", density=0.5,
                          exclude="four")


@pytest.mark.thorough
def test_all_of_this_holds_on_jax():
    pytest.importorskip("jax")
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", here,
         "-k", "not tf_keras"], capture_output=True, text=True, check=False,
        env={**os.environ, "KERAS_BACKEND": "jax"})
    assert done.returncode == 0, done.stdout[-5000:]
