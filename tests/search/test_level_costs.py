"""The costs of each level in the results of a search for filters in `fit`."""

import keras as keras3
import numpy as np
import pandas as pd
import pytest
import tf_keras

import lth_keras as lth
from lth_keras.experiments.results import fits
from lth_keras.reports import cost_tables

COLUMNS = ["macs_left", "parameters", "macs"]
X = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype(np.float32)
Y = np.arange(16) % 3
LIBRARIES = pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])


def compiled(keras, structure, shape=(8, 8, 1)):
    keras.utils.set_random_seed(2)
    layers = keras.layers
    model = keras.Sequential([
        layers.Input(shape), layers.Conv2D(10, 3, use_bias=False, name="a"),
        layers.BatchNormalization(name="norm"), layers.ReLU(), layers.Dropout(0.5),
        layers.Conv2D(6, 3, name="b"), layers.GlobalAveragePooling2D(), layers.Dense(3, name="c")])
    if keras is tf_keras:
        model = lth.prune_low_magnitude(model, structure=structure)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def fit(keras, structure="filters", shape=(8, 8, 1), also=(), **options):
    model = compiled(keras, structure, shape)
    lottery = lth.LotteryTicketCallback(
        rounds=2, epochs_per_round=2, fraction=0.4, verbose=0, **options,
        **({} if keras is tf_keras else {"structure": structure}))
    model.fit(X, Y, epochs=lottery.epochs, batch_size=8, callbacks=[lottery, *also], verbose=0,
              validation_data=(X, Y))
    return model, lottery


@LIBRARIES
@pytest.mark.filterwarnings("ignore:.*draws random numbers")
def test_a_level_costs_what_its_smaller_network_costs(keras, tmp_path):
    model, lottery = fit(keras, workdir=tmp_path)
    last, dense = lth.profile(lth.compact(model).model), lth.profile(compiled(keras, "filters"))
    # Statistics of the filters that are gone count as gone.
    assert lottery.results[["parameters", "macs"]].iloc[-1].tolist() == [last.parameters, last.macs]
    assert lottery.results.macs.iloc[0] == dense.macs and lottery.results.macs_left.iloc[0] == 1
    assert lottery.results.macs_left.iloc[-1] == last.macs / dense.macs < 0.5
    # And so does its report, from the workdir.
    found = fits.results(fits.read(tmp_path))
    pd.testing.assert_frame_equal(found[COLUMNS], lottery.results[COLUMNS], check_dtype=False)
    assert next(level.cells[3] for level in cost_tables.of_levels(found)) == "100.0"


@LIBRARIES
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*draws random numbers")
def test_a_resumed_search_has_the_costs_of_every_level(keras, tmp_path):
    def stop(epoch, logs):
        if epoch == 3:  # In the second epoch of level 1.
            raise KeyboardInterrupt
    _, whole = fit(keras)
    with pytest.raises(KeyboardInterrupt):
        fit(keras, workdir=tmp_path, also=[keras.callbacks.LambdaCallback(on_epoch_begin=stop)])
    _, resumed = fit(keras, workdir=tmp_path)
    pd.testing.assert_frame_equal(resumed.results[COLUMNS], whole.results[COLUMNS])


@LIBRARIES
@pytest.mark.thorough
def test_measuring_costs_changes_no_bit_of_the_search(keras, monkeypatch):
    model, _ = fit(keras)
    monkeypatch.setattr(lth.Search, "costs", lambda search: {})
    other, lottery = fit(keras)
    assert not {*COLUMNS} & {*lottery.results}
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("structure", "shape"), [
    ("none", (8, 8, 1)), ("filters", (None, None, 1))], ids=["single weights", "open shapes"])
@LIBRARIES
@pytest.mark.thorough
def test_what_has_no_costs_has_no_columns_of_them(keras, structure, shape):
    if keras is tf_keras and structure == "none":
        structure = None
    _, lottery = fit(keras, structure=structure, shape=shape)
    assert lottery.results.density.iloc[-1] < 0.5 and not {*COLUMNS} & {*lottery.results}
