"""A level of a search that is trained without its pruned filters."""

import contextlib

import filters
import keras as keras3
import numpy as np
import pytest
import tf_keras

import lth_keras as lth
from lth_keras.errors import LotteryError

both = pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])
X = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
Y = np.arange(16) % 4


def search_of(keras, optimizer=None, structure="filters", **options):
    keras.utils.set_random_seed(0)
    model = filters.disturb(filters.residual(keras))
    if keras is tf_keras:
        model = lth.prune_low_magnitude(model, structure=structure)
    else:
        options["structure"] = structure
    # A function of one's own is no text that a config could hold.
    usual = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(y, logits):
        return usual(y, logits)
    model.compile(optimizer or keras.optimizers.SGD(0.05, momentum=0.9), loss,
                  metrics=["accuracy"])
    return lth.Search(model, fraction=0.3, criterion="l1", **options)


def fit(model, epochs=2):
    return model.fit(X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def finished(keras, smaller, levels=2, late=False, optimizer=None, **options):
    """Losses of each level, tickets, and the weights at the end of the last."""
    search = search_of(keras, optimizer and optimizer(keras), take_theta=not late, **options)
    losses = [fit(search.model)]
    if late:  # Momentum is part of theta_k.
        search.take_theta()
        losses.append(fit(search.model))
    for _ in range(levels):
        search.prune_and_rewind()
        if smaller:
            with search.smaller() as small:
                assert small is not search.model
                losses.append(fit(small))
        else:
            losses.append(fit(search.model))
    return losses, search


@pytest.mark.thorough
@both
@pytest.mark.parametrize("late", [False, True], ids=["from theta_0", "from theta_k"])
def test_it_trains_as_the_masked_model_does(keras, late):
    whole, masked = finished(keras, False, late=late)
    small, search = finished(keras, True, late=late)
    np.testing.assert_allclose(small, whole, rtol=2e-4)
    for one, other in zip(search.tickets, masked.tickets, strict=True):
        for name, mask in one.masks.items():
            np.testing.assert_array_equal(mask, other.masks[name])
    now, then = search.network.weights(), masked.network.weights()
    for name, value in now.items():
        if "moving" not in name:  # Those of pruned filters go on with masks, and are never read.
            np.testing.assert_allclose(value, then[name], atol=2e-4, err_msg=name)
    np.testing.assert_allclose(search.model.predict(X, verbose=0),
                               masked.model.predict(X, verbose=0), atol=2e-3)


@both
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
def test_weights_that_do_not_decay_do_not_in_it_either(keras, scaled, by_name):
    def trained(smaller):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential([layers.Input((6,)), layers.Dense(8, name="a"),
                                  layers.Dense(4, name="b")])
        model.set_weights([np.ones(weight.shape) for weight in model.get_weights()])
        options = {"structure": "filters"}
        if keras is tf_keras:
            model, options = lth.prune_low_magnitude(model, **options), {}
        optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(**{"var_names": ["bias"]} if by_name else {
            "var_list": [weight for weight in model.trainable_variables if "bias" in weight.name]})
        if scaled:
            optimizer = (keras.mixed_precision if keras is tf_keras else keras.optimizers) \
                .LossScaleOptimizer(optimizer)
        model.compile(optimizer, lambda y, given: 0.0 * given)  # So only the decay moves weights.
        search = lth.Search(model, fraction=0.5, **options)
        search.prune_and_rewind()
        with search.smaller() if smaller else contextlib.nullcontext(model) as trains:
            trains.fit(np.ones((4, 6)), np.ones((4, 4)), epochs=2, verbose=0)
        return search.network.weights()
    small, whole = trained(True), trained(False)
    for name, value in whole.items():
        np.testing.assert_allclose(small[name], value, atol=1e-6, err_msg=name)
    assert set(np.unique(whole["b/bias"])) == {1} and whole["b/kernel"].max() < 1


@both
def test_it_is_an_ordinary_model_of_what_is_left(keras):
    search = search_of(keras)
    with search.smaller() as small:
        assert small is search.model
    fit(search.model)
    search.prune_and_rewind()
    before = search.model.predict(X, verbose=0)
    with search.smaller() as small:
        np.testing.assert_allclose(small.predict(X, verbose=0), before, atol=1e-4)
        assert lth.profile(small).macs == lth.profile(search.model).macs_kept
        assert type(small.optimizer) is type(search.model.optimizer)
        assert not any(hasattr(layer, "pruning_vars") for layer in small.layers)


@both
def test_layers_that_stay_dense_keep_their_filters(keras):
    more = {"exclude": ("inner",)}
    keras.utils.set_random_seed(0)
    model = filters.residual(keras)
    if keras is tf_keras:
        model = lth.prune_low_magnitude(model, structure="filters", **more)
    else:
        more["structure"] = "filters"
    model.compile("sgd", "sparse_categorical_crossentropy")
    search = lth.Search(model, fraction=0.5, **({} if keras is tf_keras else more))
    search.prune_and_rewind()
    with search.smaller() as small:
        assert small.get_layer("inner").filters == 6 and small.get_layer("stem").filters == 4


@pytest.mark.thorough
@both
def test_an_error_leaves_the_model_as_it_was(keras):
    search = search_of(keras)
    fit(search.model)
    search.prune_and_rewind()
    before = search.network.weights()
    with pytest.raises(KeyError), search.smaller() as small:
        fit(small, epochs=1)
        raise KeyError
    for name, value in search.network.weights().items():
        np.testing.assert_array_equal(value, before[name])


def test_it_is_of_filters_and_of_a_level():
    search = search_of(keras3, take_theta=False)
    with pytest.raises(LotteryError, match="once theta_k is captured"), search.smaller():
        pass
    search = lth.Search(compiled_dense(), fraction=0.5)
    with pytest.raises(LotteryError, match='that of a search with structure="filters"'), \
            search.smaller():
        pass


def compiled_dense():
    model = keras3.Sequential([keras3.Input((3,)), keras3.layers.Dense(2)])
    model.compile("sgd", "mse")
    return model
