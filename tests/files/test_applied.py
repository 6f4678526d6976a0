"""`Ticket.apply` with either Keras: the model predicts by the ticket's weights, or is unchanged."""

import either
import numpy as np
import pytest

import lth_keras as lth
from lth_keras.errors import TicketError
from lth_keras.files.engines import engine_of

X = either.X * 5 + 100


def network(package, data=None):
    """A network that normalizes by what it learns of data, if it is given any."""
    keras = either.keras_of(package)
    layer = keras.layers.Normalization(name="norm")
    if data is not None:
        layer.adapt(data)
    dense = [keras.layers.Dense(16, "relu", name="hidden"), keras.layers.Dense(1, name="out")]
    return keras.Sequential([keras.Input((8,)), layer, *dense])


@pytest.fixture(scope="module", params=["tf_keras", "keras"])
def found(request):
    """A package, the ticket of a network that was adapted to X, and what that predicts."""
    package = request.param
    ticket = lth.prune_at_init(network(package, X), "magnitude", density=0.5)
    return package, ticket, ticket.apply(network(package, X)).predict(X, verbose=0)


def compiled(package, model):
    model = lth.prune_low_magnitude(model) if package == "tf_keras" else model
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("data", [None, either.X], ids=["not adapted", "adapted to other data"])
def test_a_network_normalizes_by_the_statistics_of_the_ticket(found, data, tmp_path):
    package, ticket, wanted = found
    model = ticket.apply(network(package, data))
    np.testing.assert_array_equal(model.predict(X, verbose=0), wanted)
    model = lth.strip_pruning(model) if package == "tf_keras" else model
    model.save(tmp_path / "a.keras")
    loaded = either.keras_of(package).saving.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(loaded.predict(X, verbose=0), wanted, rtol=1e-6)


def test_what_was_compiled_before_is_compiled_again(found):
    package, ticket, wanted = found
    model = compiled(package, network(package))
    model.predict(X, verbose=0)
    model.evaluate(X, wanted, verbose=0)
    model.fit(X, wanted, verbose=0)
    ticket.apply(model)
    np.testing.assert_array_equal(model.predict(X, verbose=0), wanted)
    assert model.evaluate(X, wanted, verbose=0) == pytest.approx(0, abs=1e-10)
    loss = model.fit(X, wanted, batch_size=64, verbose=0).history["loss"]
    assert loss == pytest.approx([0], abs=1e-10)


@pytest.mark.parametrize("how", ["assign", "restore", "restore_all"])
def test_what_a_search_puts_back_is_computed_with(found, how):
    package, ticket, wanted = found
    model = ticket.apply(network(package))
    model.compile("sgd", "mse")
    plain = engine_of(model).network(model)
    then = plain.capture()
    model.get_layer("norm").adapt(either.X)
    model.predict(X, verbose=0)  # Compiled with the others.
    if how == "assign":
        plain.assign(then.weights, ticket.masks)
    elif how == "restore":
        plain.restore(then, ticket.masks)
    else:
        plain.restore_all(then)
    np.testing.assert_array_equal(model.predict(X, verbose=0), wanted)


def test_a_search_does_not_compile_a_network_that_normalizes_again(found):
    package, _, _ = found
    model = compiled(package, network(package, X))
    functions = []
    noted = either.keras_of(package).callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: functions.append(model.train_function))
    lottery = either.search(rounds=3)
    model.fit(X, X[:, :1], epochs=lottery.epochs, callbacks=[lottery, noted], verbose=0)
    assert len(functions) == lottery.epochs and len(set(map(id, functions))) == 1


@either.PACKAGES
def test_a_model_that_is_refused_is_not_changed(package):
    ticket = lth.prune_at_init(either.built(package), "magnitude", density=0.5)
    if package == "tf_keras":
        model = lth.prune_low_magnitude(either.built(package), exclude="out")
    else:
        model = either.compiled(package)
        lottery = either.search(exclude="out")
        either.fit(model, lottery)
    before = model.get_weights()
    with pytest.raises(TicketError, match="the same prunable weights"):
        ticket.apply(model)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
