"""Resident and Streamed: two ways to bring the same examples to one program."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tiers import short_and_long

from lth_keras.errors import LotteryError
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.spec import Interval, TrainingSpec
from lth_keras.experiments.training_keras2 import data_feed, program
from lth_keras.experiments.training_keras2.data_feed import Resident, Streamed
from lth_keras.experiments.training_keras2.models import initial_weights
from lth_keras.experiments.training_keras2.trainer import Trainer
from lth_keras.keras2.masking.weight_names import masked, named_weights
from lth_keras.keras2.masking.wrap import prune_low_magnitude

layers = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
MIB = 2**20


@pytest.fixture(autouse=True, scope="module")
def seeded_layers():
    keras.backend.experimental.enable_tf_random_generator()
    yield
    keras.backend.experimental.disable_tf_random_generator()


def pixels(train=60, test=16, seed=0, shape=(6, 5, 1)):
    """Small images of three classes."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 200, (3, *shape))

    def draw(count):
        y = rng.integers(0, 3, count).astype(np.int32)
        return (patterns[y] + rng.integers(0, 56, (count, *shape))).astype(np.uint8), y
    return Data(*draw(train), *draw(test), 3)


def network():
    """With all that draws or keeps something of its own."""
    return keras.Sequential([
        layers.Input((6, 5, 1)), layers.Conv2D(3, 2, activation="relu"),
        layers.BatchNormalization(), layers.Flatten(), layers.Dropout(0.3), layers.Dense(3)])


def trainer(data, resident_mib=data_feed.RESIDENT_MIB, augmentation="flip_crop", made=network,
            **options):
    model = prune_low_magnitude(made())
    options = {"loss": LOSS, "metrics": ["accuracy"], **options}
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=True, **options)
    return Trainer(model, data, augmentation, resident_mib)


def plan_for(trainer, **changes):
    rng = np.random.default_rng(0)
    weights = initial_weights(trainer._model, rng)
    masks = {name: (rng.random(weights[name].shape) < 0.5).astype(np.uint8)
             for name in masked(trainer._model)}
    # Metrics are means, which XLA divides otherwise; but not by powers of two.
    return TrainingSpec(**{"weights": weights, "masks": masks, "train": np.arange(32),
                   "validation": np.arange(40, 56), "order": np.random.default_rng(1),
                   "steps": 10, "validation_every": 4, "batch_size": 8, "seed": 3, **changes})


def same(one, other):
    """Whether two trainings gave the same bits."""
    measures = [{name: value for name, value in trained.result.items() if name != "seconds"}
                for trained in (one, other)]
    return one.curve.equals(other.curve) and measures[0] == measures[1] and all(
        one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights)


@functools.cache
def trainers():
    """A trainer that holds `pixels()` and one that streams them."""
    data = pixels()
    return trainer(data), trainer(data, resident_mib=0)


def vectors():
    return keras.Sequential([layers.Input((6, 5, 1)), layers.Flatten(), layers.Dense(3)])


def trainer_of_vectors(data, resident_mib=data_feed.RESIDENT_MIB, augmentation="none"):
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
    return trainer(data, resident_mib, augmentation, vectors, metrics=["accuracy", top])


@functools.cache
def trainers_of_vectors():
    """The same for a network without parts, with several metrics."""
    data = pixels()
    return trainer_of_vectors(data), trainer_of_vectors(data, resident_mib=0)


def test_xla_compiles_all_but_convolutions_on_a_cpu():
    on_device = bool(tf.config.list_logical_devices("GPU"))
    assert all(each.feed._program.compiled == on_device for each in trainers())
    assert all(each.feed._program.compiled for each in trainers_of_vectors())


def test_the_limit_is_that_of_the_bytes_of_both_parts(monkeypatch):
    monkeypatch.setattr(data_feed, "Resident", lambda program, data: "resident")
    monkeypatch.setattr(data_feed, "Streamed", lambda program, data: "streamed")

    def data(train, test):
        x = np.zeros((1, MIB), np.uint8)
        return Data(np.repeat(x, train, 0), None, np.repeat(x, test, 0), None, 3)
    assert data_feed.make(None, data(2, 1), 3) == "resident"
    assert data_feed.make(None, data(2, 2), 3) == "streamed"
    assert data_feed.make(None, data(1, 0), 1) == data_feed.make(None, data(2, 2)) == "resident"


def test_streamed_examples_give_the_same_bits_as_resident_ones():
    resident, streamed = trainers()
    assert isinstance(resident.feed, Resident) and isinstance(streamed.feed, Streamed)
    one, other = (each.train(plan_for(each)) for each in (resident, streamed))
    assert same(one, other)
    assert one.curve.step.tolist() == [4, 8, 10]
    for name, mask in plan_for(resident).masks.items():
        assert not one.weights[name][mask == 0].any()


@pytest.mark.parametrize("steps", [1, 3])
def test_pieces_of_any_size_give_the_same_bits(steps, monkeypatch):
    monkeypatch.setattr(data_feed, "_PIECE", steps * 8 * 30)
    assert same(*(each.train(plan_for(each, steps=15)) for each in trainers()))


@pytest.mark.thorough
def test_weights_are_the_same_bits_and_metrics_equal_to_rounding_whatever_is_validated():
    one, other = (each.train(plan_for(each, validation=np.arange(40, 53), train=np.arange(39)))
                  for each in trainers_of_vectors())
    # XLA divides a sum by a count that it knows in its own way.
    np.testing.assert_allclose(one.curve, other.curve, rtol=1e-6)
    assert all((one.weights[name] == other.weights[name]).all() for name in one.weights)


@pytest.mark.thorough
@pytest.mark.parametrize("together", short_and_long([4, 5], [5]))
def test_validation_in_portions_gives_the_same_bits(together, monkeypatch):
    # 16 validation and test and 32 training examples: portions that divide them or do not.
    at_once = trainers_of_vectors()[0]
    expected = at_once.train(plan_for(at_once)).result
    monkeypatch.setattr(program, "EVALUATED_TOGETHER", together)
    one, other = (each.train(plan_for(each)) for each in trainers_of_vectors.__wrapped__())
    assert same(one, other)
    for name in ("val_loss_min", "test_loss_final", "train_loss_final", "test_accuracy_final"):
        assert one.result[name] == pytest.approx(expected[name], rel=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("resident_mib", [0, 1])
def test_data_mapped_from_a_file_give_the_same_bits_and_one_compilation_serves_a_search(
        resident_mib, tmp_path, monkeypatch):
    monkeypatch.setattr(data_feed, "_PIECE", 3 * 8 * 30)
    data, mapped = pixels(), {}
    for name in ("x_train", "y_train", "x_test", "y_test"):
        array = getattr(data, name)
        np.save(tmp_path / f"{name}.npy", array)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        assert isinstance(mapped[name], np.memmap)
    reading = trainer_of_vectors(dataclasses.replace(data, **mapped), resident_mib)
    assert same(*(each.train(plan_for(each)) for each in (reading, trainers_of_vectors()[0])))
    for number, steps in enumerate((8, 9, 15, 1)):
        reading.train(plan_for(reading, steps=steps, seed=number))
    reading.stopwatch(plan_for(reading)).measure()
    assert reading.compilations == 1


@pytest.mark.thorough
def test_pixels_are_the_floats_that_they_stand_for():
    data = pixels()
    floats = dataclasses.replace(data, x_train=data.x_train / np.float32(255),
                                 x_test=data.x_test / np.float32(255))
    one, other = trainers_of_vectors()[0], trainer_of_vectors(floats)
    one, other = (each.train(plan_for(each)) for each in (one, other))
    np.testing.assert_allclose(one.curve, other.curve, rtol=1e-4)
    for name in one.weights:
        np.testing.assert_allclose(one.weights[name], other.weights[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_the_seed_decides_all_that_is_drawn(number):
    each = trainers()[number]
    first, other, again = (each.train(plan_for(each, seed=seed)) for seed in (3, 4, 3))
    assert same(first, again)
    assert not first.curve.equals(other.curve)


@pytest.mark.thorough
def test_augmentation_alone_follows_the_seed():
    each = trainer_of_vectors(pixels(), augmentation="flip_crop")
    first, other, again = (each.train(plan_for(each, seed=seed)) for seed in (3, 4, 3))
    assert same(first, again)
    assert not first.curve.equals(other.curve)
    for still in trainers_of_vectors():
        assert same(*(still.train(plan_for(still, seed=seed)) for seed in (3, 4)))


@pytest.mark.parametrize("number", [0, 1])
def test_only_training_examples_are_augmented(number):
    each, data = trainers()[number], pixels()
    trained = each.train(plan_for(each, steps=4))
    variables = named_weights(each._model)
    for name, value in trained.weights.items():
        variables[name].assign(value)

    def loss(x, y):
        return each._model.evaluate(x / np.float32(255), y, verbose=0)[0]
    for measured, expected in (
            (trained.curve.val_loss[0], loss(data.x_train[40:56], data.y_train[40:56])),
            (trained.result["test_loss_final"], loss(data.x_test, data.y_test)),
            (trained.result["train_loss_final"], loss(data.x_train[:32], data.y_train[:32]))):
        assert measured == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("number", [0, 1])
def test_a_measurement_changes_nothing(number):
    each = trainers()[number]
    before = each.train(plan_for(each))
    speed = each.stopwatch(plan_for(each, seed=8)).measure()
    assert min(speed.compilation, speed.step, speed.validation, speed.evaluation) >= 0
    assert same(before, each.train(plan_for(each)))


def test_vectors_cannot_be_augmented():
    data = pixels()
    flat = dataclasses.replace(data, x_train=data.x_train.reshape(60, 30),
                               x_test=data.x_test.reshape(16, 30))
    with pytest.raises(LotteryError, match="needs images of shape"):
        trainer(flat, made=lambda: keras.Sequential([layers.Input((30,)), layers.Dense(3)]))


@pytest.mark.parametrize("number", [0, 1])
def test_a_model_with_several_metrics_gives_all_of_them(number):
    each = trainers_of_vectors()[number]
    trained = each.train(plan_for(each))
    names = ("loss", "accuracy", "top")
    assert list(trained.curve) == ["step", *names, *(f"val_{name}" for name in names)]
    assert set(trained.result) == {
        "early_stop_step", "val_loss_min", "seconds", "diverged_at_step"} | {
        measure.format(name) for name in names
        for measure in ("test_{}_early_stop", "test_{}_final", "train_{}_final")}
    assert trained.result["test_top_final"] >= trained.result["test_accuracy_final"]


@pytest.mark.parametrize("resident_mib", short_and_long([0, 1], [1]))
def test_a_regression_trains(resident_mib):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = (x @ rng.normal(size=4)).astype(np.float32)
    each = trainer(Data(x[:50], y[:50], x[50:], y[50:], 1), resident_mib, "none",
                   made=lambda: keras.Sequential([layers.Input((4,)), layers.Dense(1)]),
                   loss="mse", metrics=["mae"])
    trained = each.train(plan_for(each, validation=np.arange(40, 50), steps=40))
    assert trained.curve.val_loss.iloc[-1] < trained.curve.val_loss.iloc[0]
    assert {"test_mae_early_stop", "test_mae_final", "train_mae_final"} <= set(trained.result)
    assert "test_accuracy_final" not in trained.result


@pytest.mark.parametrize("rows, count, limit, expected", [
    (4, 4, 100, [(0, 4)]), (4, 4, 4, [(0, 2), (2, 2)]), (5, 5, 4, [(0, 2), (2, 2), (4, 1)]),
    (5, 3, 4, [(0, 2), (2, 1)]), (3, 3, 1, [(0, 1), (1, 1), (2, 1)]), (4, 1, 100, [(0, 1)])])
def test_an_interval_is_split_into_pieces_of_one_shape(monkeypatch, rows, count, limit, expected):
    monkeypatch.setattr(data_feed, "_PIECE", limit)
    interval = Interval(10, count, np.arange(rows * 2).reshape(rows, 2))
    pieces = list(data_feed._split(interval, 1))
    assert [(piece.first - 10, piece.count) for piece in pieces] == expected
    assert len({piece.indices.shape for piece in pieces}) == 1
    taken = np.concatenate([piece.indices[:piece.count] for piece in pieces])
    assert (taken == interval.indices[:count]).all()
    assert pieces[-1].last == interval.last


def test_dropout_made_without_tensorflows_generators_is_refused_by_its_name():
    keras.backend.experimental.disable_tf_random_generator()
    try:
        with pytest.raises(LotteryError, match="enable_tf_random_generator.*Received: 'drops'"):
            trainer(pixels(), made=lambda: keras.Sequential([
                layers.Input((6, 5, 1)), layers.Flatten(), layers.Dropout(0.5, name="drops"),
                layers.Dense(3)]))
    finally:
        keras.backend.experimental.enable_tf_random_generator()


def test_dropout_alone_follows_the_seed_and_two_layers_do_not_draw_the_same():
    each = trainer(pixels(), augmentation="none", made=lambda: keras.Sequential([
        layers.Input((6, 5, 1)), layers.Flatten(), layers.Dropout(0.5), layers.Dropout(0.5),
        layers.Dense(3)]))
    first, other, again = (each.train(plan_for(each, seed=seed)) for seed in (3, 4, 3))
    assert same(first, again)
    assert not first.curve.equals(other.curve)
    each._start(plan_for(each))
    one, other = (generator.uniform((20,)).numpy() for generator in each._generators)
    assert (one != other).any()
