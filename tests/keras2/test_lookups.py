"""Models with a lookup that was adapted: Keras lists its vocabulary among their weights."""

import exports
import numpy as np
import pytest
import tf_keras as keras

import lth_keras as lth
from lth_keras.keras2.masking.weight_names import named_weights

layers = keras.layers
NAMES = ["embedding/embeddings", "hidden/kernel", "hidden/bias", "out/kernel", "out/bias"]
Y = np.ones((8, 2), np.float32)
WORDS = np.array([["a", "b"], ["c", "d"]] * 4)
LOOKUPS = {
    "IntegerLookup": (layers.IntegerLookup, "int64", (2,), np.array([[100, 200], [300, 400]] * 4)),
    "StringLookup": (layers.StringLookup, "string", (2,), WORDS),
    "TextVectorization": (lambda: layers.TextVectorization(output_sequence_length=2), "string",
                          (1,), np.array([["a b"], ["c d"]] * 4))}


def built(name):
    make, dtype, shape, x = LOOKUPS[name]
    lookup = make()
    lookup.adapt(x if shape == (2,) else x[:, 0])
    inputs = keras.Input(shape, dtype=dtype)
    hidden = layers.Flatten()(layers.Embedding(7, 3, name="embedding")(lookup(inputs)))
    return keras.Model(inputs, layers.Dense(2, name="out")(
        layers.Dense(4, "relu", name="hidden")(hidden))), x


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_vocabulary_is_no_weight_to_prune_rewind_or_keep(lookup):
    model, x = built(lookup)
    assert list(named_weights(model)) == NAMES
    wrapped = lth.prune_low_magnitude(model)
    wrapped.compile("sgd", "mse")
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, verbose=0)
    wrapped.fit(x, Y, epochs=2, callbacks=[lottery], verbose=0)
    assert list(lottery.ticket.weights) == NAMES
    stripped = lth.strip_pruning(wrapped)
    small = lth.compact(stripped).model
    np.testing.assert_allclose(small.predict(x, verbose=0), stripped.predict(x, verbose=0),
                               atol=1e-6)


def test_a_model_with_a_vocabulary_is_counted_and_trained_sparse():
    model, x = built("IntegerLookup")
    assert lth.profile(model).parameters == 21 + 28 + 10
    assert list(lth.prune_at_init(model, "magnitude", density=0.5).weights) == NAMES
    optimizer = lth.SparseTraining(model, "sgd", "static", density=0.5)
    model.compile(optimizer, "mse")
    model.fit(x, Y, verbose=0)
    assert list(optimizer.ticket().weights) == NAMES


def test_the_statistics_of_adapted_bins_are_multiplied_with_nothing():
    bins = layers.Discretization(num_bins=3)
    bins.adapt(np.arange(8.0)[:, None])
    inputs = keras.Input((2,))
    hidden = layers.Flatten()(layers.Embedding(3, 3)(bins(inputs)))
    assert lth.profile(keras.Model(inputs, layers.Dense(4)(hidden))).macs == 24


@pytest.mark.thorough
@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_model_with_a_vocabulary_is_verified_and_exported(lookup, tmp_path, monkeypatch):
    model, x = built(lookup)

    def compiled():
        made = built(lookup)[0]
        made.compile("sgd", "mse")
        return made
    assert lth.verify(compiled, (x, Y), steps=2).ok
    exports.measure_here(monkeypatch)
    made = lth.export(model, tmp_path, data=(x, None), formats=["keras", "saved_model"], repeats=1)
    assert made.shipped == ["keras", "saved_model"], made.refused
