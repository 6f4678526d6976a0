"""Scores at initialisation by every form in which `compile` takes a loss."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

import lth_keras as lth
from lth_keras.initial.scored_model import scored

_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(300, 5)).astype(np.float32)
Y = (X @ _RNG.normal(size=5) > 0).astype(np.float32)
CLASSES = _RNG.integers(0, 3, 300)


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    return importlib.import_module(request.param)


def network(keras, outputs=1, last=None, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    inner = keras.layers.Dense(8, "tanh", name="h")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(outputs, last, name="o")(inner))
    if options:
        model.compile("sgd", **options)
    return model


def found(model, data, loss=None, temperature=200.0, second=False):
    model = scored(model, loss=loss, temperature=temperature)
    of = model.hessian_gradient if second else model.gradient
    return of(model.batches(data))


def assert_same(one, other, rtol=1e-4):
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=rtol, err_msg=name,
                                   atol=rtol * np.abs(other[name]).max())


def own(y, outputs):
    return (y - outputs) ** 2


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("loss", ["mse", "binary_crossentropy", own, "hinge"])
def test_targets_of_one_number_may_lack_the_last_axis(keras, loss, second):
    last = "sigmoid" if loss == "binary_crossentropy" else None
    model = network(keras, last=last)
    wanted = found(model, (X, Y[:, None]), loss, second=second)
    assert_same(found(model, (X, Y), loss, second=second), wanted)
    compiled = network(keras, last=last, loss=loss)
    assert_same(found(compiled, (X, Y), second=second), wanted)


def test_a_given_loss_may_be_of_several_outputs(keras):
    start = keras.Input((5,))
    inner = keras.layers.Dense(4, "tanh", name="h")(start)
    model = keras.Model(start, [keras.layers.Dense(1, name="a")(inner),
                                keras.layers.Dense(3, name="b")(inner)])
    data = X, (Y, np.eye(3)[CLASSES])
    losses = ["mse", keras.losses.CategoricalCrossentropy(from_logits=True)]
    given = found(model, data, losses)
    ticket = lth.prune_at_init(model, density=0.5, data=data, loss=losses)
    assert ticket.provenance["settings"]["loss"] == ["mse", "categorical_crossentropy"]
    model.compile("sgd", losses)
    assert_same(given, found(model, data))


def test_a_loss_in_a_list_or_dict_has_the_temperature_too(keras):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wanted = found(network(keras, 3, loss=loss), (X, CLASSES), second=True)
    for form in ([loss], {"o": loss}):
        assert_same(found(network(keras, 3, loss=form), (X, CLASSES), second=True), wanted)
        assert_same(found(network(keras, 3), (X, CLASSES), form, second=True), wanted)


@pytest.mark.parametrize(("word", "name"), [
    ("bce", "binary_crossentropy"), ("BCE", "binary_crossentropy"),
    ("binary_focal_crossentropy", "binary_focal_crossentropy"),
    ("BinaryFocalCrossentropy", "binary_focal_crossentropy")])
def test_each_word_for_a_crossentropy_has_the_temperature(keras, word, name):
    model = network(keras, 1, "sigmoid", loss=word)

    def softer(y, outputs):
        odds = (keras.ops if hasattr(keras, "ops") else tf.math).log(outputs / (1 - outputs))
        return getattr(keras.losses, name)(y, keras.activations.sigmoid(odds / 20))
    wanted = found(model, (X, Y[:, None]), softer, 1.0, second=True)
    assert_same(found(model, (X, Y[:, None]), None, 20.0, second=True), wanted, rtol=1e-3)
    assert_same(found(model, (X, Y[:, None]), word, 20.0, second=True), wanted, rtol=1e-3)


def heads(keras):
    keras.utils.set_random_seed(0)
    start = keras.Input((5,))
    inner = keras.layers.Dense(4, "tanh", name="h")(start)
    a = keras.layers.Dense(3, name="a")(inner)
    return start, a, keras.layers.Dense(1, name="b")(inner)


def test_each_output_has_the_temperature_of_its_loss(keras):
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    data = X, (CLASSES, Y[:, None])

    def softer(y, outputs):
        return keras.losses.sparse_categorical_crossentropy(y, outputs / 50, from_logits=True)
    start, a, b = heads(keras)
    model = keras.Model(start, [a, b])
    wanted = found(model, data, [softer, "mse"], 1.0, second=True)
    for losses in ([entropy, "mse"], {"a": entropy, "b": "mse"}):
        assert_same(found(model, data, losses, 50.0, second=True), wanted)
    in_a_dict = keras.Model(start, {"a": a, "b": b})
    losses = {"a": entropy, "b": "mse"}
    assert_same(found(in_a_dict, (X, {"a": CLASSES, "b": Y[:, None]}), losses, 50.0, second=True),
                wanted)


@pytest.mark.parametrize("second", [False, True])
def test_a_loss_that_sums_its_batch_counts_every_example_the_same(keras, second):
    def of(data, reduction, **options):
        loss = keras.losses.MeanSquaredError(reduction=reduction)
        return found(network(keras, loss=loss), data, second=second, **options)
    x, y = X.copy(), Y.copy()[:, None]
    x[256:], y[256:] = x[256:] + 2, y[256:] - 3  # The arrays are cut after 256.
    summed, mean = of((x, y), "sum"), of((x, y), "sum_over_batch_size")
    by = 150  # The mean sum of two batches of 300 examples.
    if second:  # Of each a factor: the Hessian's, and the gradient's.
        by *= by
    assert_same(summed, {name: by * value for name, value in mean.items()}, 1e-3)
    given = found(network(keras), (x, y), keras.losses.MeanSquaredError(reduction="sum"),
                  second=second)
    assert_same(given, summed)


def test_sums_and_means_together_are_refused(keras):
    start, a, b = heads(keras)
    model = keras.Model(start, [a, b])
    losses = [keras.losses.MeanSquaredError(reduction="sum"), "mse"]
    with pytest.raises(lth.LotteryError, match="must be means over a batch, or all sums"):
        found(model, (X, (np.eye(3)[CLASSES], Y[:, None])), losses)
