"""The gradient that criteria may score by: which it is, and that taking it changes nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import compiled, fit, lottery, State, X, Y

import lth_keras as lth
from lth_keras.core.criteria import Criterion
from lth_keras.errors import LotteryError
from lth_keras.keras2 import loss_gradient, rewinding
from lth_keras.keras2.loss_gradient import LossGradient
from lth_keras.keras2.masking.weight_names import named_weights

layers = keras.layers


def setup_function():
    keras.utils.set_random_seed(0)


def linear(**options):
    """One kernel, of whose mean squared error the gradient is known by hand."""
    model = keras.Sequential([layers.Input((6,)), layers.Dense(2, use_bias=False, **options)])
    return compiled(lth.prune_low_magnitude(model))


def by_hand(kernel, x=X, y=Y):
    return x.T.astype(float) @ (x @ kernel - y) / len(x)  # 2/n over two outputs.


def mean(model, data, **options):
    return LossGradient(model).mean(loss_gradient.batches(data), **options)


def test_it_is_the_mean_over_all_examples_however_they_are_batched():
    model = linear()
    expected = by_hand(model.layers[0].layer.kernel.numpy())
    uneven = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)
    for data in ((X, Y), (X, Y, np.ones(len(X))), uneven):
        found = mean(model, data)
        assert list(found) == ["dense/kernel"]
        np.testing.assert_allclose(found["dense/kernel"], expected, rtol=1e-5, atol=1e-6)


def test_weights_of_examples_and_regularisation_count():
    model = linear(kernel_regularizer=keras.regularizers.L2(0.25))
    kernel = model.layers[0].layer.kernel.numpy()
    weights = np.arange(len(X), dtype=np.float32)
    expected = X.T.astype(float) @ (weights[:, None] * (X @ kernel - Y)) / len(X) + 0.5 * kernel
    np.testing.assert_allclose(mean(model, (X, Y, weights))["dense/kernel"], expected, rtol=1e-5)


def test_pruned_weights_have_none():
    model = linear()
    mask = {"dense/kernel": np.eye(6, 2, dtype=np.uint8)}
    rewinding.assign(model, rewinding.read(named_weights(model)), mask)
    kernel = model.layers[0].layer.kernel.numpy()
    assert np.count_nonzero(kernel) == 2
    np.testing.assert_allclose(mean(model, (X, Y))["dense/kernel"],
                               by_hand(kernel) * mask["dense/kernel"], rtol=1e-5)


def test_it_changes_neither_model_nor_optimizer_nor_metrics_nor_random_numbers():
    model = compiled(lth.prune_low_magnitude(keras.Sequential([
        layers.Input((6,)), layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.5),
        layers.Dense(2)])), metrics=["mae"])
    model.fit(X, Y, verbose=0)
    gradient = LossGradient(model)
    before, measured = State.of(model), [value.numpy() for value in model.metrics[0].variables]
    draw = tf.random.get_global_generator().state.numpy()
    first, second = (gradient.mean(loss_gradient.batches((X, Y))) for _ in "ab")
    for one, other in zip(State.of(model).weights, before.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(model.metrics[0].variables, measured, strict=True):
        np.testing.assert_array_equal(one.numpy(), other)
    assert (tf.random.get_global_generator().state.numpy() == draw).all()
    assert all((first[name] == second[name]).all() and first[name].any() for name in first)


@pytest.mark.parametrize("size", [1e-6, 1.0, 3e3])
def test_small_and_large_gradients_survive_half_precision(size):
    whole, half = linear(), linear(dtype="mixed_float16")
    half.set_weights(whole.get_weights())
    small = (X, (X @ whole.layers[0].layer.kernel.numpy()) - np.float32(size))
    found, expected = mean(half, small)["dense/kernel"], mean(whole, small)["dense/kernel"]
    assert np.isfinite(found).all()
    if size >= 1:  # Below, the difference of two outputs of float16 is rounding.
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.005 * size)


def test_a_loss_far_below_what_half_precision_can_hold_has_a_gradient():
    model = linear(dtype="mixed_float16")
    model.compile("adam", lambda y, output: 1e-6 * tf.reduce_mean(output ** 2, -1))
    assert np.count_nonzero(mean(model, (X, Y))["dense/kernel"]) == 12


@pytest.mark.parametrize(("data", "said"), [
    (X, "Received: ndarray"), ([X, Y], "Received: list"), ((X,), "Received: tuple"),
    (tf.data.Dataset.from_tensors((X, Y)).repeat(), "repeats forever. Limit it")])
def test_data_that_cannot_be_gone_through_are_refused(data, said):
    with pytest.raises(LotteryError, match=said):
        lth.Search(compiled(), criterion="taylor", scoring_data=data)


def test_no_examples_are_refused():
    with pytest.raises(LotteryError, match="must hold at least one example"):
        lth.Search(compiled(), criterion="taylor", scoring_data=(X[:0], Y[:0]))


@pytest.mark.parametrize("loss", [None, lambda y, output: tf.reduce_mean(y)])
def test_a_loss_that_reaches_no_weight_is_refused_before_training(loss):
    model = compiled(loss=loss)
    with pytest.raises(LotteryError, match="does not depend on dense/kernel, .*loss="):
        lth.Search(model, criterion="taylor", scoring_data=(X, Y))


# In searches.

def test_taylor_prunes_what_costs_least_by_the_gradient_at_the_trained_weights():
    model = linear()
    search = lth.Search(model, fraction=0.5, criterion="taylor", scoring_data=(X, Y), check=True)
    model.fit(X, Y, epochs=3, verbose=0)
    kernel = model.layers[0].layer.kernel.numpy()
    scores = np.abs(kernel * by_hand(kernel))
    search.prune_and_rewind()
    mask = search.masks["dense/kernel"]
    assert scores[mask == 0].max() < scores[mask == 1].min()
    assert search.tickets[1].provenance["settings"]["criterion"] == "taylor"


def test_the_initial_gradient_is_that_of_theta_and_the_trained_network_is_put_back():
    seen = {}

    def snip(initial, final, rng, *, initial_gradient, gradient, mask):
        seen.update(initial=initial_gradient, final=gradient, mask=mask)
        return np.abs(initial * initial_gradient)

    model = linear()
    theta = model.layers[0].layer.kernel.numpy()
    search = lth.Search(model, fraction=0.5, scoring_data=(X, Y), check=True, criterion=Criterion(
        "snip", snip, needs=("initial_gradient", "gradient", "mask")))
    model.fit(X, Y, epochs=3, verbose=0)
    trained = model.layers[0].layer.kernel.numpy()
    search.prune_and_rewind()
    np.testing.assert_allclose(seen["initial"], by_hand(theta), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen["final"], by_hand(trained), rtol=1e-5, atol=1e-6)
    first = search.masks["dense/kernel"]
    model.fit(X, Y, epochs=3, verbose=0)
    search.prune_and_rewind()
    assert (seen["mask"] == first).all()
    np.testing.assert_allclose(seen["initial"], by_hand(theta * first) * first, rtol=1e-5,
                               atol=1e-6)


def test_a_search_in_fit_provides_it_too():
    by_fit, by_hand = compiled(), compiled()
    by_hand.set_weights(by_fit.get_weights())
    options = {"fraction": 0.5, "criterion": "taylor", "scoring_data": (X, Y)}
    callback = lottery(epochs_per_round=1, rounds=1, **options)
    fit(by_fit, callback)
    search = lth.Search(by_hand, **options)
    by_hand.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    search.prune_and_rewind()
    assert callback.ticket == lth.Ticket(search.tickets[1].weights, search.masks, 1,
                                         callback.ticket.provenance)
    magnitude = lottery(epochs_per_round=1, rounds=1, fraction=0.5)
    fit(compiled(), magnitude)
    assert any((mask != search.masks[name]).any()
               for name, mask in magnitude.ticket.masks.items())


@pytest.mark.parametrize("search", [
    lambda **options: lth.Search(compiled(), **options), lottery])
@pytest.mark.parametrize(("options", "said"), [
    ({"criterion": "taylor"}, "must provide what its criterion needs. Received: 'taylor', which "
                              "needs gradient; provided is only mask.*scoring_data=\\(x, y"),
    ({"criterion": Criterion("flow", lambda *three, flow: flow, ("flow",))},
     "flow: nobody provides it yet"),
    ({"scoring_data": (X, Y)}, "Received: scoring_data with criterion='magnitude'. Leave it out")])
def test_needs_and_data_that_do_not_meet_are_refused_before_training(search, options, said):
    with pytest.raises(LotteryError, match=said):
        search(**options)


def test_a_model_that_runs_eagerly_has_the_same():
    model, eager = compiled(), compiled(run_eagerly=True)
    eager.set_weights(model.get_weights())
    for one, other in zip(mean(model, (X, Y)).values(), mean(eager, (X, Y)).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


_TWO_REPLICAS = """
import devices
strategy = devices.two_devices()
from test_loss_gradient import by_hand, linear, mean, np, X, Y
with strategy.scope():
    model = linear()
assert model.distribute_strategy.num_replicas_in_sync == 2
np.testing.assert_allclose(mean(model, (X, Y))["dense/kernel"],
                           by_hand(model.layers[0].layer.kernel.numpy()), rtol=1e-5, atol=1e-6)
print("the same")
"""


@pytest.mark.long
def test_two_replicas_have_that_of_one():
    done = subprocess.run([sys.executable, "-c", _TWO_REPLICAS], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout.endswith("the same\n"), done.stderr[-2000:]
