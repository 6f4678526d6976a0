"""Measures: which one a loss has, what it says of outputs, and which targets do not fit."""

import numpy as np
import pytest
import tf_keras as keras

from lth_keras.deployment.comparison import measures
from lth_keras.errors import LotteryError

KL = keras.losses
CLASSES = np.array([2, 0, 1, 1])
LOGITS = np.array([[0, 1, 5], [3, 1, 0], [0, 4, 1], [9, 1, 0]], np.float32)  # The last is wrong.
PIXELS = np.stack([LOGITS.reshape(2, 2, 3)] * 2)  # Two pictures of 2 x 2.
PIXEL_CLASSES = np.stack([CLASSES.reshape(2, 2)] * 2)


def one_hot(classes):
    return np.eye(3)[classes]


def found(loss, targets, outputs):
    return measures.expected("y", np.asarray(outputs, np.float32), np.asarray(targets), loss)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy",
                                  KL.SparseCategoricalCrossentropy(from_logits=True),
                                  KL.CategoricalCrossentropy(label_smoothing=0.1),
                                  KL.categorical_crossentropy, KL.CategoricalFocalCrossentropy(),
                                  None])
@pytest.mark.parametrize(("targets", "outputs"), [
    (CLASSES, LOGITS), (CLASSES[:, None], LOGITS), (one_hot(CLASSES), LOGITS),
    (CLASSES.astype(float), LOGITS), (PIXEL_CLASSES, PIXELS), (PIXEL_CLASSES[..., None], PIXELS),
    (one_hot(PIXEL_CLASSES), PIXELS)])
def test_classes_are_measured_by_accuracy_however_they_are_given(loss, targets, outputs):
    expected = found(loss, targets, outputs)
    assert (expected.measure.name, expected.value) == ("accuracy", 0.75)
    worse = outputs.copy()
    worse[0] = 0
    worse[0, ..., 1] = 1
    share = (np.argmax(worse, -1) == (targets.argmax(-1) if targets.shape == outputs.shape else
                                      targets.reshape(outputs.shape[:-1]))).mean()
    assert expected.lost(expected.measured(worse)) == pytest.approx(100 * (0.75 - share)) != 0


def test_an_ignored_class_is_not_counted():
    loss = KL.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    assert found(loss, [2, 0, 1, 255], LOGITS).value == 1.0
    assert found(loss, [255] * 4, LOGITS).value is None


@pytest.mark.parametrize(("loss", "right"), [
    ("binary_crossentropy", 0.75), (KL.BinaryCrossentropy(), 0.75), (KL.binary_crossentropy, 0.75),
    (KL.BinaryFocalCrossentropy(), 0.75),
    (KL.BinaryCrossentropy(from_logits=True), 0.25)])  # As logits all of them are above 0.
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_labels_are_cut_where_the_loss_says(loss, right, shape):
    expected = found(loss, np.reshape([0, 0, 0, 1], shape), [[0.3], [0.9], [0.4], [0.6]])
    assert (expected.measure.name, expected.value) == ("accuracy", right)


def test_several_labels_are_counted_one_by_one():
    expected = found("binary_crossentropy", [[1, 0, 1], [0, 0, 1]], [[0.9, 0.2, 0.8],
                                                                     [0.1, 0.6, 0.7]])
    assert expected.value == 5 / 6


def test_shares_under_a_binary_loss_are_measured_by_the_loss():
    grey, outputs = np.array([[0.5], [0.25]]), np.array([[0.4], [0.3]])
    expected = found("binary_crossentropy", grey, outputs)
    assert expected.measure.name == "binary_crossentropy"
    assert expected.value == pytest.approx(
        float(KL.BinaryCrossentropy()(grey, outputs.astype(np.float32))), rel=1e-6)


@pytest.mark.parametrize(("loss", "name", "value", "scale"), [
    ("mse", "mean squared error", 1.0, 12.5),  # The variance of 0, 1, 2, 9.
    (KL.MeanSquaredError(), "mean squared error", 1.0, 12.5),
    ("mae", "mean absolute error", 1.0, 2.5),  # 1.5, 0.5, 0.5, 7.5 from their median.
    (KL.mean_absolute_error, "mean absolute error", 1.0, 2.5)])
@pytest.mark.parametrize("shapes", [((4,), (4, 1)), ((4, 1), (4, 1)), ((4, 1), (4,)),
                                    ((4,), (4,))])
def test_numbers_are_measured_by_their_error_in_points_of_the_targets_spread(
        loss, name, value, scale, shapes):
    wanted = np.array([0.0, 1, 2, 9])
    outputs = wanted + np.array([1, -1, 1, -1])
    expected = found(loss, wanted.reshape(shapes[0]), outputs.reshape(shapes[1]))
    assert (expected.measure.name, expected.value) == (name, value)
    assert expected.lost(value + scale / 100) == pytest.approx(1.0)
    assert expected.lost(value) == 0 and str(expected.lost(value)) == "0.0"


def test_the_spread_is_that_of_each_feature():
    targets = np.array([[0.0, 100], [2, 102], [4, 104], [6, 106]])
    expected = found("mse", targets, targets)
    assert expected.measure.scale == 5.0 and expected.lost(5.0) == 100


def test_targets_that_are_all_the_same_bound_nothing():
    expected = found("mse", [3.0, 3.0], [[1.0], [3.0]])
    assert expected.value == 2.0 and not expected.bounded and expected.lost(9.0) is None


@pytest.mark.parametrize(("loss", "targets", "outputs", "bounded"), [
    ("sparse_categorical_crossentropy", [1, 1, 1, 1], LOGITS, False),
    (KL.SparseCategoricalCrossentropy(ignore_class=2), [1, 2, 1, 1], LOGITS, False),
    ("categorical_crossentropy", one_hot([1, 1, 1, 1]), LOGITS, False),
    (None, [1, 1, 1, 1], LOGITS, False),
    (None, [1, 1, 1, 0], LOGITS, True),
    ("sparse_categorical_crossentropy", PIXEL_CLASSES * 0, PIXELS, False),
    ("binary_crossentropy", [1, 1, 1, 1], np.ones((4, 1)), False),
    ("binary_crossentropy", [[1, 0]] * 4, np.ones((4, 2)), False),  # One answer fits all.
    ("binary_crossentropy", [[1, 0]] * 3 + [[1, 1]], np.ones((4, 2)), True),
    (None, [0, 0, 0, 0], np.ones((4, 1)), False)])
def test_classes_that_are_all_the_same_bound_nothing(loss, targets, outputs, bounded):
    expected = found(loss, targets, outputs)
    assert expected.measure.name == "accuracy" and expected.value is not None
    assert expected.bounded == bounded and (expected.lost(0.0) is None) == (not bounded)


def own(wanted, outputs):
    import tensorflow as tf
    return tf.reduce_mean(tf.abs(wanted - outputs) ** 1.5, axis=-1)


class Own(KL.MeanSquaredError):
    """A user's class may compute anything, whatever it is made from."""

    def call(self, wanted, outputs):
        return own(wanted, outputs)


@pytest.mark.parametrize("loss", [own, Own(name="own"), "huber", KL.LogCosh()])
def test_any_other_loss_is_its_own_measure(loss):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=700).astype(np.float32)  # More than one batch.
    outputs = (targets + 0.1 * rng.normal(size=700)).astype(np.float32)[:, None]
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Activation("linear")])
    model.compile(loss=loss)
    expected = found(loss, targets, outputs)
    assert expected.value == pytest.approx(model.evaluate(outputs, targets, verbose=0), rel=1e-5)
    assert expected.lost(expected.measured(outputs + 0.001)) < 1
    # Outputs that belong to other examples lose all that can be lost.
    assert expected.lost(expected.measured(np.roll(outputs, 1, axis=0))) > 50


def test_a_users_function_is_not_taken_for_keras_own_of_the_same_name():
    def mean_squared_error(wanted, outputs):
        return own(wanted, outputs)
    assert found(mean_squared_error, [1.0, 5.0], [[1.0], [1.0]]).value == 4.0  # Not 8.


def test_a_loss_that_is_not_finite_says_nothing():
    def loss(wanted, outputs):
        return outputs * np.nan
    expected = found(loss, [1.0, 5.0], [[1.0], [1.0]])
    assert expected.value is None and not expected.bounded


@pytest.mark.parametrize(("targets", "outputs", "name"), [
    ([0, 1, 1, 0], np.ones((4, 1)), "accuracy"), ([0, 1, 7, 0], np.ones((4, 1)), None),
    ([0.5, 1, 0, 0], np.ones((4, 1)), None), (np.ones((4, 3)), LOGITS, None)])
def test_without_a_loss_only_what_must_be_classes_are(targets, outputs, name):
    expected = found(None, targets, outputs)
    assert (expected.measure and expected.measure.name) == name
    assert bool(expected.note) == (name is None)


@pytest.mark.parametrize(("loss", "targets", "outputs", "said"), [
    ("sparse_categorical_crossentropy", np.zeros((4, 2)), LOGITS,
     r"one class for each of its 4 examples, .* of shape \(4,\) or \(4, 1\), or one-hot of shape "
     r"\(4, 3\). Received: targets of shape \(4, 2\). It is the output 'y'"),
    ("categorical_crossentropy", np.zeros((2, 4)), PIXELS, "each of 2 x 2 x 2 places"),
    ("sparse_categorical_crossentropy", [0, 1, 2, 3], LOGITS,
     "from 0 to 2, since there are 3 outputs. Received: values from 0 to 3"),
    (None, [0, 1, 2, -1], LOGITS, "Received: values from -1 to 2"),
    ("sparse_categorical_crossentropy", ["a"] * 4, LOGITS, "whole numbers .*Received: an array of"),
    ("sparse_categorical_crossentropy", CLASSES, np.ones(4), "an output for each class"),
    ("binary_crossentropy", [0, 1], np.ones((2, 3)), "labels of the outputs' shape"),
    ("mse", np.zeros(4), LOGITS, r"numbers of the outputs' shape, \(4, 3\). Received: .* \(4,\)"),
    (own, np.zeros((4, 7)), np.ones((4, 3)), "The loss own must take the targets in data")])
def test_targets_that_do_not_fit_are_said(loss, targets, outputs, said):
    with pytest.raises(LotteryError, match=said) as caught:
        found(loss, targets, outputs)
    assert "\n" not in str(caught.value)


def test_the_losses_of_a_model_go_by_output():
    x = keras.Input((2,))
    model = keras.Model(x, [keras.layers.Dense(1, name="b")(x), keras.layers.Dense(1, name="a")(x)])
    names = ("b", "a")
    assert measures.losses(model, names) == [None, None]
    for given, read in (("mse", ["mse", "mse"]), (["mse", "mae"], ["mse", "mae"]),
                        ({"a": "mae", "b": "mse"}, ["mse", "mae"]), ({"a": "mae"}, [None, "mae"])):
        model.compile(loss=given)
        assert measures.losses(model, names) == read


def test_a_new_measure_is_one_function(monkeypatch):
    monkeypatch.setattr(measures, "MEASURES", dict(measures.MEASURES))

    @measures.register("huber")
    def worst(settings, targets, outputs):
        return measures.Measure("worst", "points", ".2f", lambda values, _: float(values.max()))
    assert found("huber", [1.0], [[7.0]]).value == 7.0
