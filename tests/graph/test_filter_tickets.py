"""Tickets of filters: in files, on both engines, in saved models, in fits that are killed."""

import filters
import keras as keras3
import numpy as np
import pytest
import tf_keras
from dying import Death, Dies

import lth_keras as lth
from lth_keras.files.engines import engine_of

LIBRARIES = {"tf_keras": tf_keras, "keras3": keras3}
both = pytest.mark.parametrize("library", LIBRARIES)
pytestmark = pytest.mark.filterwarnings("ignore:Nothing has trained the model")


def residual(library):
    keras = LIBRARIES[library]
    keras.utils.set_random_seed(1)
    return filters.disturb(filters.SMALL["residual"](keras))


def prepared(model, **prunes):
    """A compiled model whose filters a search prunes, and what the search has to be told."""
    prunes = {"structure": "filters", **prunes}
    if isinstance(model, tf_keras.Model):
        model, prunes = lth.prune_low_magnitude(model, **prunes), {}
    model.compile("sgd", "mse")
    return model, prunes


def ticket_of(library, **prunes):
    model, prunes = prepared(residual(library), **prunes)
    search = lth.Search(model, fraction=0.4, criterion="l1", **prunes)
    search.prune_and_rewind()
    return search.tickets[-1]


def state(model):
    """The weights and masks of a model as its engine reads them."""
    network = engine_of(model).network(model)
    return network.weights(), network.masks()


def check_same(ticket, model):
    weights, masks = state(model)
    assert weights.keys() == ticket.weights.keys() and masks.keys() == ticket.masks.keys()
    for name, value in weights.items():
        mask = ticket.masks.get(name, np.ones(value.shape, np.uint8))
        np.testing.assert_array_equal(value, ticket.weights[name] * (mask != 0), err_msg=name)
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, ticket.masks[name], err_msg=name)


def check_goes_on(model, **options):
    """A search of the model, told nothing of its structure, prunes whole filters."""
    model.compile("sgd", "mse")
    search = lth.Search(model, fraction=0.4, criterion="l1", **options)
    groups = next(iter(search.network.structures.values())).groups
    before = [int(group.kept(search.masks).sum()) for group in groups]
    search.prune_and_rewind()
    after = [group.kept(search.masks) for group in groups]
    assert sum(before) > sum(int(units.sum()) for units in after)
    for group, units in zip(groups, after, strict=True):
        for member in group.members:
            if member.role != "statistic":
                rows = np.moveaxis(search.masks[member.weight], member.axis, 0)
                gone = (member.units >= 0) & (units[member.units] == 0)
                assert not rows[gone].any(), member.weight
    return search


@pytest.mark.thorough
@pytest.mark.parametrize("prunes", [{}, {"exclude": "fc"}], ids=["all", "some"])
@pytest.mark.parametrize("onto", LIBRARIES)
@both
def test_a_ticket_file_is_applied_bit_for_bit_and_goes_on(library, onto, prunes, tmp_path):
    ticket = ticket_of(library, **prunes)
    ticket.save(tmp_path / "winner.ticket")
    loaded = lth.Ticket.load(tmp_path / "winner.ticket")
    assert loaded.in_filters and loaded.to_bytes() == ticket.to_bytes()
    model = loaded.apply(residual(onto))
    check_same(ticket, model)
    search = check_goes_on(model)
    assert (" fc " in search.note) == bool(prunes)  # It stays dense.
    # Onto a model that is prepared for it already.
    other, told = prepared(residual(onto), **prunes)
    check_same(ticket, loaded.apply(other))
    check_goes_on(other, **told)


@both
def test_a_pruned_model_computes_the_same_on_both_engines(library):
    ticket = ticket_of(library)
    outputs = [ticket.apply(residual(each)).predict(filters.batch(residual(each)), verbose=0)
               for each in LIBRARIES]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


def test_a_ticket_without_provenance_has_no_structure():
    ticket = ticket_of("keras3")
    bare = lth.Ticket(ticket.weights, ticket.masks, 1)
    assert not bare.in_filters and not lth.Ticket(
        ticket.weights, ticket.masks, 1, {"settings": ["filters"]}).in_filters
    # It can be told.
    check_goes_on(bare.apply(residual("keras3")), structure="filters")


def test_the_mask_of_a_layer_that_only_reads_filters_is_none_of_its_own():
    model = ticket_of("tf_keras", exclude="fc").apply(residual("tf_keras"))
    assert {item.wrapper.layer.name for item in engine_of(model).masked(model).values()
            if item.structure.coupled} == {"stem", "inner", "outer"}


class Own(tf_keras.Sequential):
    """A user's class that says itself what it is made with."""

    def get_config(self):
        return {**super().get_config(), "more": 1}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config.pop("more")
        return super().from_config(config, custom_objects)


def sequential(kind):
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(1)
    return kind([layers.Input((8, 8, 3)), layers.Conv2D(6, 3, name="conv"),
                 layers.BatchNormalization(name="norm"), layers.ReLU(), layers.Flatten(),
                 layers.Dense(5, name="fc"), layers.Dense(2, name="out")])


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("build", [lambda: residual("tf_keras"), lambda: sequential(Own),
                                   lambda: sequential(tf_keras.Sequential)],
                         ids=["functional", "own", "sequential"])
def test_a_wrapped_model_from_a_file_goes_on(build, suffix, tmp_path):
    model, _ = prepared(build())
    if suffix == "h5" and isinstance(model, Own):
        pytest.skip("an .h5 file does not store enough of a class of one's own")
    search = lth.Search(model, fraction=0.4, criterion="l1")
    search.prune_and_rewind()
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    with tf_keras.saving.custom_object_scope({"Own": Own}):
        loaded = tf_keras.models.load_model(path)
    check_same(search.tickets[-1], loaded)
    check_goes_on(loaded)


@both
def test_zeros_of_filters_are_kept(library, tmp_path):
    ticket = ticket_of(library)
    keras = LIBRARIES[library]
    model = ticket.apply(residual(library))
    bare = lth.strip_pruning(model) if library == "tf_keras" else model
    bare.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    kept = lth.keep_sparse(loaded, structure="filters")
    check_same(ticket, kept)
    kept.compile("sgd", "mse")
    kept.fit(filters.batch(kept), np.ones((4, 4)), epochs=2, verbose=0)
    weights, masks = state(kept)
    assert all(not weights[name][mask == 0].any() for name, mask in masks.items())
    check_goes_on(kept)
    # A model that has masks of filters keeps their structure, and zeros of biases are none.
    fresh = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4, name="a"),
                              keras.layers.Dense(2, name="b")])
    ready, told = prepared(fresh)
    lth.Search(ready, **told)
    assert all(mask.all() for mask in state(lth.keep_sparse(ready))[1].values())


def test_a_filter_of_zeros_with_a_bias_is_no_pruned_filter():
    keras = keras3
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a"),
                              keras.layers.Dense(1, name="b")])
    model.get_layer("a").set_weights([np.zeros((3, 2)), np.array([0.0, 1.0])])
    model.get_layer("b").set_weights([np.array([[0.0], [1.0]]), np.ones(1)])
    before = model.predict(np.ones((1, 3)), verbose=0)
    masks = state(lth.keep_sparse(model, structure="filters"))[1]
    assert masks["a/bias"].tolist() == [0, 1] and masks["b/kernel"].tolist() == [[0], [1]]
    np.testing.assert_array_equal(model.predict(np.ones((1, 3)), verbose=0), before)


def test_lth_convert_keeps_the_structure():
    ticket = ticket_of("tf_keras")
    converted = lth.convert(ticket.apply(residual("tf_keras")))
    check_same(ticket, converted)
    check_goes_on(converted)


def searched(library, root, *others):
    """A search in fit to its end, or to the death of its process; then None."""
    model, told = prepared(residual(library))
    model.compile(LIBRARIES[library].optimizers.SGD(0.05, momentum=0.9), "mse")
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
    lottery = lth.LotteryTicketCallback(
        rounds=2, epochs_per_round=2, fraction=0.4, criterion="taylor", check=True, verbose=0,
        workdir=root, scoring_data=(x, np.ones((16, 4))), **told)
    data = lottery.order.batches(x, np.ones((16, 4), np.float32), batch_size=8)
    try:
        model.fit(data, epochs=lottery.epochs, callbacks=[lottery, *others], verbose=0)
    except Death:
        return None
    return [ticket.to_bytes() for ticket in lottery.tickets], {
        name: value.tobytes() for name, value in state(model)[0].items()}


@pytest.mark.thorough
@both
def test_a_fit_that_is_killed_ends_in_the_same_bits(library, tmp_path):
    whole = searched(library, tmp_path / "whole")
    assert searched(library, tmp_path / "killed", Dies("on_epoch_begin", 3)) is None
    assert searched(library, tmp_path / "killed") == whole
    assert searched(library, None) == whole


@pytest.mark.thorough
@both
def test_a_model_whose_filters_are_pruned_verifies(library):
    def build():
        model = residual(library)
        model.compile(LIBRARIES[library].optimizers.SGD(0.05, momentum=0.9), "mse")
        return model
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
    told = {"structure": "filters"}
    if library == "tf_keras":
        told = {"wrap": lambda model: lth.prune_low_magnitude(model, structure="filters")}
    found = lth.verify(build, (x, np.ones((64, 4), np.float32)), steps=4, **told)
    assert found.ok, str(found)


@pytest.mark.thorough
@both
def test_an_export_is_of_the_smaller_network(library, tmp_path):
    ticket = ticket_of(library)
    model = ticket.apply(residual(library))
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
    y = model.predict(x, verbose=0).argmax(axis=1)
    def size(model, folder):
        made = lth.export(model, folder, data=(x, y), formats=["float32"], repeats=1)
        assert made.shipped == ["float32"], made.refused
        return sum(path.stat().st_size for path in folder.glob("*.tflite"))
    assert size(model, tmp_path / "small") < 0.7 * size(residual(library), tmp_path / "dense")
