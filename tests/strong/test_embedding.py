import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

import lth_keras as lth
from lth_keras.core import masks
from lth_keras.errors import LotteryError
from lth_keras.files.engines import engine_of
from lth_keras.graph.kinds import kind_of

# What rounding to float32 adds to the bounds, which are those of exact arithmetic.
ROUNDING = 1e-4


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    module = importlib.import_module(request.param)
    module.utils.set_random_seed(0)
    return module


def trained(keras, *layers):
    return trained_model(keras.Sequential([*layers]))


def trained_model(model):
    """A model that looks trained: nothing of it is zero or one."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        shapes = [value.shape for value in layer.get_weights()]
        layer.set_weights([rng.uniform(-1, 1, shape) * np.sqrt(6 / np.prod(shape[:-1] or 6))
                           for shape in shapes] if hasattr(layer, "kernel") else
                          [rng.uniform(0.5, 1.5, shape) for shape in shapes])
    return model


def dense(keras):
    layers = keras.layers
    return trained(keras, layers.Input((6,)), layers.Dense(10, "relu", name="a"),
                   layers.Dropout(0.5), layers.Dense(5, "tanh", name="b"),
                   layers.Dense(8, use_bias=False, name="c"), layers.ReLU(),
                   layers.Dense(3, "softmax", name="d"))


def convolutional(keras):
    layers = keras.layers
    return trained(
        keras, layers.Input((9, 8, 2)),
        layers.Conv2D(4, 3, 2, "same", use_bias=False, name="first"), layers.BatchNormalization(),
        layers.Activation("relu"), layers.MaxPooling2D(2, 1),
        layers.Conv2D(3, (1, 2), name="second"), layers.ZeroPadding2D(1),
        layers.Activation("relu"), layers.Flatten(),
        layers.Dense(3, name="logits"))


def over_time(keras):
    layers = keras.layers
    return trained(
        keras, layers.Input((12, 2)),
        layers.Conv1D(4, 3, padding="same", dilation_rate=2, activation="relu", name="dilated"),
        layers.Conv1D(4, 4, padding="same", name="even"),
        layers.BatchNormalization(scale=False, epsilon=0.1),
        layers.ReLU(), layers.AveragePooling1D(2), layers.Flatten(),
        layers.Dense(4, "sigmoid", name="out"), layers.Dense(2, name="last"))


def functional(keras):
    layers = keras.layers
    x = layers.Input((5, 4))
    h = layers.Flatten()(layers.Dense(6, "softplus", name="each")(x))
    return trained_model(keras.Model(x, layers.Dense(2, "softsign", name="all")(h)))


MODELS = [dense, convolutional, over_time, functional]


def wrong(found, target, low=-1.0, high=1.0, count=256):
    """How far the subnetwork's outputs are from the target's, and how far those differ."""
    x = np.random.default_rng(1).uniform(low, high, (count, *target.input_shape[1:]))
    x, infer = x.astype("float32"), kind_of(target).infer
    wanted, given = infer(target, x)[0], infer(found.ticket.apply(found.model), x)[0]
    return float(abs(given - wanted).max()), float(np.std(wanted, axis=0).max())


@pytest.mark.parametrize("build", MODELS)
def test_the_subnetwork_computes_the_target_within_the_bound(keras, build):
    target = build(keras)
    found = lth.strong.embed(target, factor=22, seed=1)
    measured, spread = wrong(found, target)
    assert measured <= found.bound + ROUNDING
    assert measured < spread / 20
    assert found.bound == found.errors.output_error.iloc[-1]
    weighted = [layer for layer in target.layers if hasattr(layer, "kernel")]
    assert list(found.errors.index) == [layer.name for layer in weighted]
    assert len([layer for layer in found.model.layers if hasattr(layer, "kernel")]) \
        == 2 * len(weighted)
    assert found.model.output_shape == target.output_shape


@pytest.mark.parametrize("method", ["malach", "product"])
def test_single_neurons_are_within_the_bound_too(keras, method):
    target = dense(keras)
    found = lth.strong.embed(target, factor=100, method=method)
    assert wrong(found, target)[0] <= found.bound
    assert found.kept < lth.strong.embed(target, factor=12).kept


def test_the_bound_is_near_what_is_reached(keras):
    target = trained(keras, keras.layers.Input((2,)), keras.layers.Dense(2, name="only"))
    found = lth.strong.embed(target, factor=8)
    measured, _ = wrong(found, target, count=5000)
    assert 0.2 * found.bound < measured <= found.bound + 1e-6
    larger = lth.strong.embed(target, factor=8, largest_input=3.0)
    row, again = found.errors.iloc[0], larger.errors.iloc[0]
    assert found.bound < larger.bound <= 3 * found.bound
    assert row.weight_error == again.weight_error


def test_the_bound_counts_what_a_softmax_mixes(keras):
    layers = keras.layers
    target = keras.Sequential([layers.Input((2,)), layers.Dense(2, "softmax", name="a"),
                               layers.Dense(1, use_bias=False, name="b")])
    # The second layer reads the first channel, whose weights of zero are exact.
    target.set_weights([np.array([[0.0, 1], [0, -0.7]]), np.zeros(2), np.array([[1.0], [0]])])
    x = np.random.default_rng(0).uniform(-5, 5, (4000, 2)).astype(np.float32)
    wanted = np.asarray(target(x))
    for seed in range(8):
        found = lth.strong.embed(target, factor=5, seed=seed, largest_input=5.0)
        pruned = np.asarray(found.ticket.apply(found.model)(x))
        assert np.abs(pruned - wanted).max() <= found.bound + ROUNDING


def test_outputs_beside_the_last_layers_are_refused(keras):
    inputs = keras.layers.Input((4,))
    h = keras.layers.Dense(5, "relu", name="h")(inputs)
    o = keras.layers.Dense(2, name="o")(h)
    for outputs in ([h, o], [o, o]):
        with pytest.raises(LotteryError, match="one output.* with 2 outputs, and 'o' for its last"):
            lth.strong.embed(keras.Model(inputs, outputs), factor=6)
    assert len(lth.strong.embed(keras.Model(inputs, [o]), factor=6).model.outputs) == 1


def test_the_bound_counts_biases(keras):
    # With nothing but biases, the first layer's is a constant, which the second one multiplies.
    target = trained(keras, keras.layers.Input((1,)), keras.layers.Dense(1, "relu"),
                     keras.layers.Dense(1))
    for kernel, bias in ((0.0, 1.0), (1.0, 0.0)):
        target.set_weights([np.zeros((1, 1)), np.array([1.0]),
                            np.full((1, 1), kernel), np.array([bias])])
        for seed in range(6):
            found = lth.strong.embed(target, factor=3, seed=seed)
            measured, _ = wrong(found, target, count=2)
            assert measured <= found.bound + 1e-6
            if not kernel:
                assert measured == pytest.approx(found.bound, abs=1e-6)


def test_the_ticket_is_a_ticket_as_any(keras, tmp_path):
    target = dense(keras)
    found = lth.strong.embed(target, factor=10, seed=2)
    drawn = engine_of(found.model)
    assert found.kept == masks.kept(found.ticket.masks)
    assert found.size == masks.size(found.ticket.masks)
    assert found.size == sum(np.size(value) for value in found.model.get_weights())
    assert set(found.ticket.masks) == set(found.ticket.weights)
    assert found.ticket.provenance["settings"] == {
        "strong": "subset_sum", "factor": 10, "seed": 2, "nonnegative_inputs": False}
    # The random model has the weights of the ticket, all of them, before it is applied.
    for mine, theirs in zip(found.model.get_weights(), found.ticket.weights.values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert abs(mine).min() > 0 and mine.dtype == np.float32
    found.ticket.save(tmp_path / "strong.ticket")
    loaded = lth.Ticket.load(tmp_path / "strong.ticket")
    assert loaded == found.ticket
    pruned = loaded.apply(found.model)
    kept = drawn.network(pruned).masks()
    assert set(kept) == set(loaded.masks)
    for name, mask in kept.items():
        np.testing.assert_array_equal(mask, loaded.masks[name])
    nonzero = sum(np.count_nonzero(value) for name, value in drawn.network(
        pruned).prunable_weights().items())
    assert nonzero == found.kept


def test_the_seed_decides_and_nothing_else(keras):
    target = dense(keras)
    before = [np.array(value) for value in target.get_weights()]
    one = lth.strong.embed(target, factor=6, seed=3)
    np.random.default_rng(5).random()
    keras.utils.set_random_seed(9)
    again, other = (lth.strong.embed(target, factor=6, seed=seed) for seed in (3, 4))
    assert one.ticket == again.ticket and one.ticket != other.ticket
    for value, now in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(value, now)


def test_inputs_that_are_never_negative_need_half_of_the_neurons(keras):
    target = trained(keras, keras.layers.Input((6,)), keras.layers.Dense(4, use_bias=False))
    both = lth.strong.embed(target, factor=16)
    one = lth.strong.embed(target, factor=16, nonnegative_inputs=True)
    assert one.errors.neurons.iloc[0] == both.errors.neurons.iloc[0] / 2 == 96
    assert wrong(one, target, 0.0)[0] <= one.bound + ROUNDING
    assert wrong(one, target, -1.0, 0.0)[0] > 0.1


def test_a_layer_after_one_without_activation_reads_both_signs(keras):
    layers = keras.layers
    target = trained(keras, layers.Input((3,)), layers.Dense(4, name="a"),
                     layers.Dense(2, name="b"), layers.ReLU(), layers.Dense(2, name="c"))
    found = lth.strong.embed(target, factor=5, nonnegative_inputs=True)
    assert found.errors.neurons.tolist() == [5 * 4, 5 * 9, 5 * 3]


def test_a_model_with_masks_is_embedded_as_it_is_pruned(keras):
    target = dense(keras)
    names = [f"{layer.name}/{weight}" for layer in target.layers if hasattr(layer, "kernel")
             for weight in ("kernel", "bias") if getattr(layer, weight, None) is not None]
    weights = dict(zip(names, target.get_weights(), strict=True))
    rng = np.random.default_rng(0)
    kept = {name: (rng.random(value.shape) < 0.6).astype(np.uint8)
            for name, value in weights.items() if name.endswith("kernel")}
    pruned = lth.Ticket(weights, kept, 1).apply(target)
    found = lth.strong.embed(pruned, factor=20)
    assert list(found.errors.index) == ["a", "b", "c", "d"]
    assert wrong(found, pruned)[0] <= found.bound + ROUNDING
    assert found.kept < lth.strong.embed(dense(keras), factor=20).kept * 0.75


def test_a_random_model_that_no_memory_holds_is_refused_by_its_largest_layer(keras):
    layers = keras.layers
    target = keras.Sequential([layers.Input((200, 200, 4)), layers.Conv2D(4, 3, name="small"),
                               layers.Flatten(), layers.Dense(1, name="wide")])
    with pytest.raises(LotteryError, match="at most 1,073,741,824 weights.*'wide' takes"):
        lth.strong.embed(target)


@pytest.mark.parametrize("build", [dense, convolutional])
def test_the_size_is_known_before(keras, build, monkeypatch):
    target = build(keras)
    size = lth.strong.embed(target, factor=3).size
    monkeypatch.setattr("lth_keras.strong.embedding.MOST_WEIGHTS", size)
    assert lth.strong.embed(target, factor=3).size == size
    monkeypatch.setattr("lth_keras.strong.embedding.MOST_WEIGHTS", size - 1)
    with pytest.raises(LotteryError, match=f"Received: {size:,}, of which"):
        lth.strong.embed(target, factor=3)


def test_what_a_pruned_target_lacks_is_not_kept(keras):
    target = trained(keras, keras.layers.Input((6,)), keras.layers.Dense(4, use_bias=False))
    kernel = target.get_weights()[0]
    kernel[2:] = 0
    target.set_weights([kernel])
    found = lth.strong.embed(target, factor=12)
    assert not found.ticket.masks[f"{target.layers[-1].name}_in/kernel"][2:].any()
    assert wrong(found, target)[0] <= found.bound + ROUNDING


def refused(keras):
    layers = keras.layers
    x = layers.Input((4,))
    h = layers.Dense(4, name="h")(x)
    shared = layers.Dense(4, name="shared")
    image = (6, 6, 4)
    one = keras.Sequential
    return {
        "the output of the layer before it.*'skip', a Add": keras.Model(
            x, layers.Add(name="skip")([x, h])),
        "called once.*'shared'": keras.Model(x, shared(shared(x))),
        "'gru', a GRU": one([layers.Input((3, 4)), layers.GRU(2, name="gru")]),
        "'first', a BatchNormalization": one([
            layers.Input((4,)), layers.BatchNormalization(name="first"), layers.Dense(2)]),
        "'late', a BatchNormalization": one([
            layers.Input((4,)), layers.Dense(2, "relu"), layers.BatchNormalization(name="late")]),
        "last axis.*'other'": one([
            layers.Input(image), layers.Conv2D(6, 1), layers.BatchNormalization(1, name="other")]),
        "not elu. Received: 'e'": one([layers.Input((4,)), layers.Dense(2, "elu", name="e")]),
        "not gelu. Received: 'g'": one([layers.Input((4,)), layers.Dense(2),
                                        layers.Activation("gelu", name="g")]),
        "without max_value.*'six'": one([layers.Input((4,)), layers.Dense(2),
                                         layers.ReLU(6.0, name="six")]),
        "'again', a ReLU": one([layers.Input((4,)), layers.Dense(2, "tanh"),
                                layers.ReLU(name="again")]),
        "one group, not 2. Received: 'groups'": one([
            layers.Input(image), layers.Conv2D(4, 3, groups=2, name="groups")]),
        "'causal', a Conv1D": one([layers.Input((6, 4)), layers.Conv1D(
            4, 3, padding="causal", name="causal")]),
        "'holes', a Conv2D": one([layers.Input(image), layers.Conv2D(
            4, 2, padding="same", dilation_rate=2, name="holes")]),
        "'folded', a Conv2D": one([
            layers.Input(image), layers.Conv2D(4, 2, padding="same", dilation_rate=2,
                                               use_bias=False, name="folded"),
            layers.BatchNormalization()]),
        "'early', a ReLU": one([layers.Input((4,)), layers.ReLU(name="early"), layers.Dense(2)]),
        "must have a Dense layer": one([layers.Input(image), layers.Flatten()]),
        "Sequential or functional, and built": one([layers.Dense(2)]),
    }


def test_what_cannot_be_computed_is_refused_by_name(keras):
    for says, model in refused(keras).items():
        with pytest.raises(LotteryError, match=says):
            lth.strong.embed(model, factor=2)


def test_weights_that_are_no_numbers_are_refused(keras):
    target = dense(keras)
    kernel, bias = target.layers[0].get_weights()
    target.layers[0].set_weights([kernel * np.inf, bias])
    with pytest.raises(LotteryError, match="of finite weights. Received: 'a'"):
        lth.strong.embed(target)


@pytest.mark.parametrize(("options", "says"), [
    ({"method": "milp"}, "method must be one of"),
    ({"factor": 0}, "factor must be a whole number >= 1"),
    ({"factor": 41}, "factor must be at most 40"),
    ({"seed": 0.5}, "seed must be a whole number"),
    ({"largest_input": 0}, "largest_input must be above 0"),
    ({"largest_input": float("inf")}, "largest_input must be above 0"),
])
def test_what_cannot_be_asked_for_is_refused(options, says):
    keras = importlib.import_module("keras")
    with pytest.raises(LotteryError, match=says):
        lth.strong.embed(dense(keras), **options)


def test_no_model_is_refused():
    with pytest.raises(LotteryError, match="must be one of Keras 3 or of tf_keras"):
        lth.strong.embed(np.zeros(3))


@pytest.mark.thorough
def test_models_on_jax_are_embedded_too():
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", __file__, "-k",
         "(within_the_bound or ticket_as_any or refused) and not tf_keras"],
        capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "jax"}, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
