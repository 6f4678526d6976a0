import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import compiled

import lth_keras as lth
from lth_keras import providers
from lth_keras.errors import LotteryError
from lth_keras.keras3 import data_order as data_order_of_keras
from lth_keras.search.fit.data_order import DataOrder

X = np.arange(20, dtype=np.float32)[:, None] * np.ones(6, np.float32)
MAKERS = {
    "batches": lambda order: order.batches(X, X[:, :2], batch_size=4),
    "shuffled": lambda order: order.shuffled(
        tf.data.Dataset.from_tensor_slices((X, X[:, :2])), 20).batch(4)}


def epoch(order, data, number):
    order.begin(number)
    return np.concatenate([x[:, 0] for x, *_ in data.as_numpy_iterator()]).tolist()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_an_epochs_order_is_a_function_of_seed_and_epoch_alone(make):
    order, again, other = DataOrder(3), DataOrder(3), DataOrder(4)
    data = make(order)
    epochs = [epoch(order, data, number) for number in range(4)]
    assert all(sorted(seen) == [*range(20)] for seen in epochs)
    assert len({*map(tuple, epochs)}) == 4
    tf.random.set_seed(5)  # Global state has no part in it.
    np.random.seed(5)
    assert epoch(again, make(again), 2) == epochs[2]
    assert epoch(order, data, 0) == epochs[0]
    assert epoch(other, make(other), 2) != epochs[2]


def test_every_permutation_comes_up():
    order = DataOrder(0)
    data = order.batches(np.arange(3)[:, None], batch_size=3)
    seen = [tuple(epoch(order, data.map(lambda x: (x,)), number)) for number in range(60)]
    assert len(set(seen)) == 6


def test_targets_and_weights_stay_with_their_examples():
    order = DataOrder(0)
    data = order.batches({"a": X, "b": -X}, X[:, 0], np.arange(20), batch_size=6)
    assert data.cardinality() == len(list(data)) == 4
    for x, y, weight in data.as_numpy_iterator():
        assert (x["a"][:, 0] == y).all() and (x["b"][:, 0] == -y).all() and (weight == y).all()


def test_a_remainder_can_be_dropped():
    data = DataOrder(0).batches(X, batch_size=6, drop_remainder=True)
    assert [batch.shape for batch in data] == [(6, 6)] * 3


class Reads(keras.callbacks.Callback):
    """Takes down the targets that a model was given, from its metric."""

    def __init__(self):
        super().__init__()
        self.sums = []

    def on_train_batch_end(self, batch, logs=None):
        self.sums.append(float(logs["first"]))


@pytest.mark.thorough
@pytest.mark.parametrize("options", [{}, {"jit": True, "steps_per_execution": 2},
                                     {"run_eagerly": True}], ids=str)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_fit_trains_the_epochs_in_their_order(make, options):
    first = keras.metrics.MeanMetricWrapper(lambda y, _: y[-1, 0], name="first")
    model = compiled(metrics=[first], **options)
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=2, verbose=0)
    reads = Reads()
    model.fit(make(lottery.order), epochs=4, callbacks=[lottery, reads], verbose=0,
              validation_data=(X, X[:, :2]))
    expected = DataOrder(0)
    data = make(expected)
    last = [[x[-1, 0] for x in np.reshape(epoch(expected, data, number), (5, 4, 1))]
            for number in range(4)]
    means = [[np.mean(values[:i + 1]) for i in range(5)] for values in last]
    every = options.get("steps_per_execution", 1)
    wanted = [value for epoch_means in means
              for value in [*epoch_means[every - 1::every], *(epoch_means[-1:] * (5 % every != 0))]]
    assert reads.sums == pytest.approx(wanted)
    if not options.get("run_eagerly"):
        assert model.train_tf_function.experimental_get_tracing_count() <= 2


def two_by_two(package):
    """A model of two inputs and two outputs, each of which is one of the inputs."""
    inputs = [package.layers.Input((6,)) for _ in range(2)]
    model = package.Model(inputs, [package.layers.Activation("linear")(each) for each in inputs])
    model.compile("sgd", ["mse", "mse"])
    return model


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("weights", [None, [np.arange(20.0), np.ones(20)]])
@pytest.mark.parametrize("made_by", ["tf_keras", "keras", "PyDataset"])
def test_lists_of_arrays_are_those_of_inputs_and_outputs(made_by, weights, kind, monkeypatch):
    if made_by == "PyDataset":  # As where TensorFlow is not installed.
        monkeypatch.setattr(providers, "provider", lambda _: data_order_of_keras.DataOrder)
    model = two_by_two(keras if made_by == "tf_keras" else keras3)
    inputs, targets = kind([X, -X]), kind([0 * X, 2 * X])
    wanted = model.evaluate([X, -X], [0 * X, 2 * X], 20, 0, weights)
    data = DataOrder(0).batches(inputs, targets, weights and kind(weights), batch_size=20)
    assert model.evaluate(data, verbose=0) == pytest.approx(wanted)


@pytest.mark.parametrize("kind", [list, tuple])
def test_inputs_alone_are_not_taken_for_targets(kind):
    (given,), = DataOrder(0).batches(kind([X, -X]), batch_size=20)
    np.testing.assert_array_equal(given[0], -given[1])


@pytest.mark.parametrize(("arguments", "match"), [
    ({"x": X, "y": X[:3], "batch_size": 2}, "the same length"),
    ({"x": np.float32(3), "batch_size": 2}, "the same length"),
    ({"x": X[:0], "batch_size": 2}, "the same length"),
    ({"x": X, "sample_weight": X[:, 0], "batch_size": 2}, "weighs the loss of targets"),
    ({"x": X, "batch_size": 0}, "batch_size must"),
    ({"x": X, "batch_size": 2.0}, "batch_size must be")])
def test_what_makes_no_batches_is_refused(arguments, match):
    with pytest.raises(LotteryError, match=match):
        DataOrder(0).batches(**arguments)
