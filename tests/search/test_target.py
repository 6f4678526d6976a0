"""A search in fit that ends at the first level with no more than a share of the dense costs."""

import keras as keras3
import numpy as np
import pytest
import tf_keras

import lth_keras as lth
from lth_keras.api import file_costs
from lth_keras.deployment.conversion import formats
from lth_keras.errors import LotteryError

X = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype(np.float32)
Y = np.arange(16) % 3


def compiled(keras, structure):
    layers = keras.layers
    model = keras.Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(10, 3, activation="relu", name="a"),
        layers.Conv2D(10, 3, activation="relu", name="b"), layers.Flatten(),
        layers.Dense(3, name="c")])
    if keras is tf_keras:
        model = lth.prune_low_magnitude(model, structure=structure)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def fit(keras, until, rounds=6, structure="filters", **options):
    model = compiled(keras, structure)
    lottery = lth.LotteryTicketCallback(
        rounds=rounds, epochs_per_round=2, fraction=0.2, until=until, verbose=0, **options,
        **({} if keras is tf_keras else {"structure": structure}))
    history = model.fit(X, Y, epochs=lottery.epochs, callbacks=[lottery], verbose=0)
    return model, lottery, history


@pytest.mark.thorough
@pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])
@pytest.mark.parametrize(("until", "level"), [
    # Filters of each layer by level: 10, 8, 6, 5, 4.  Multiply-adds with u and v of them: 324 u
    # + 144 u v + 48 v, of 18,120: 12,192 (67%), 7,416 (41%) with 8 and 6 of each.
    ({"macs": 0.5}, 2), ({"macs": 0.7}, 1),
    # Weights: 10 u + (9 u + 1) v + 48 v + 3, of 1,493: 681 (46%) with 6 and 6, 523 (35%) with 5.
    ({"parameters": 0.4}, 3), ({"macs": 0.7, "parameters": 0.4}, 3)])
def test_the_first_level_that_costs_no_more_is_the_last(keras, until, level):
    model, lottery, history = fit(keras, until)
    assert lottery.results.level.tolist() == list(range(level + 1))
    assert len(history.epoch) == 2 * (level + 1) and lottery.results.epochs.eq(2).all()
    profile = lth.profile(model)
    assert profile.macs_kept / profile.macs <= until.get("macs", 1)
    assert profile.parameters_kept / profile.parameters <= until.get("parameters", 1)


def test_without_filters_costs_are_those_of_single_weights():
    _, lottery, _ = fit(keras3, {"macs": 0.65}, structure="none")
    assert lottery.results.level.tolist() == [0, 1, 2]  # 0.8^2 is 0.64.


@pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])
def test_filters_are_kept_in_multiples(keras):
    # 10 filters of each layer, 0.8 of which are 8, and 6, of which 4 are kept.
    _, lottery, _ = fit(keras, None, rounds=3, multiple_of=4)
    a, = (masks for name, masks in lottery.ticket.masks.items() if name == "a/bias")
    assert a.sum() == 4 and lottery.ticket.level == 3
    assert [int(ticket.masks["a/bias"].sum()) for ticket in lottery.tickets] == [10, 8, 4, 4]
    assert lottery.ticket.provenance["settings"]["multiple_of"] == 4


def test_multiples_are_of_filters():
    with pytest.raises(LotteryError, match="multiple_of is of filters, and needs structure"):
        fit(keras3, None, structure="none", multiple_of=8)


def test_weights_are_those_that_can_be_pruned():
    _, lottery, _ = fit(keras3, {"weights": 0.65}, structure="none")
    assert lottery.results.density.iloc[-2] > 0.65 >= lottery.results.density.iloc[-1]


def test_a_search_that_does_not_reach_it_says_what_is_left():
    with pytest.warns(UserWarning, match="level 1 has 67.3% of its macs. Give it more rounds"):
        fit(keras3, {"macs": 0.1}, rounds=1)


@pytest.mark.thorough
@pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])
def test_a_search_ends_by_the_bytes_of_its_file(keras, tmp_path):
    model, lottery, _ = fit(keras, {"bytes": 0.6})
    plain = lth.strip_pruning(model) if keras is tf_keras else model
    sizes = {}
    for name, each in (("whole", plain), ("smaller", lth.compact(plain).model)):
        formats.convert(each, "float32", tmp_path / f"{name}.tflite")
        sizes[name] = (tmp_path / f"{name}.tflite").stat().st_size
    # To a few bytes: a file has the names of layers, and a copy's are others.
    assert sizes["smaller"] <= 0.63 * sizes["whole"]
    # The level before costs more, and the search took no part in what was made of its model.
    assert lottery.results.level.tolist() == list(range(lottery.ticket.level + 1))
    before = lottery.tickets[-2].apply(compiled(keras, "filters"))
    assert file_costs.shares_left(before, ["bytes"])["bytes"] > 0.6


@pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])
def test_a_latency_is_measured_once_a_level(keras, monkeypatch, tmp_path):
    told = iter((0.9, 0.4))  # Level 0 is the dense network, which is not measured.
    monkeypatch.setattr(file_costs, "_ratio_of_latencies", lambda model, paths: next(told))
    monkeypatch.setattr(formats, "convert", lambda model, name, path: path.write_bytes(b"file"))
    _, lottery, _ = fit(keras, {"latency": 0.5}, workdir=tmp_path)
    assert lottery.results.level.tolist() == [0, 1, 2]
    # A search that is finished is not measured again.
    _, again, _ = fit(keras, {"latency": 0.5}, workdir=tmp_path)
    assert again.ticket.level == 2


def test_a_search_that_goes_on_ends_at_the_same_level(tmp_path):
    class Killed(Exception):
        pass

    class Kill(keras3.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 5:
                raise Killed

    def search(*more):
        keras3.utils.set_random_seed(0)
        model = compiled(keras3, "filters")
        lottery = lth.LotteryTicketCallback(
            rounds=6, epochs_per_round=2, fraction=0.2, until={"macs": 0.5}, verbose=0,
            structure="filters", workdir=tmp_path / ("killed" if more or again else "whole"))
        data = lottery.order.batches(X, Y, batch_size=4)
        model.fit(data, epochs=lottery.epochs, callbacks=[lottery, *more], verbose=0)
        return lottery
    again = False
    whole = search()
    again = True
    with pytest.raises(Killed):
        search(Kill())
    resumed = search()
    assert resumed.results.level.tolist() == whole.results.level.tolist() == [0, 1, 2]
    for name, mask in whole.ticket.masks.items():
        np.testing.assert_array_equal(resumed.ticket.masks[name], mask)


@pytest.mark.parametrize("until", [{}, {"flops": 0.5}, {"macs": 1.0}, {"macs": 0}, 0.5])
def test_what_cannot_be_a_target_is_refused(until):
    with pytest.raises(LotteryError, match=r'such as \{"macs": 0.5\}; of macs'):
        lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, until=until)
