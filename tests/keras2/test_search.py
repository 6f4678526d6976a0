import networks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import BATCH, compiled, fit, lottery, State, STEPS, X, Y

import lth_keras as lth
from lth_keras.errors import InvariantError, LotteryError


def setup_function():
    keras.utils.set_random_seed(0)


def train(model, search=None):
    """An epoch by hand, over the batches that `fit` would take."""
    for first in range(0, len(X), BATCH):
        with tf.GradientTape() as tape:
            error = model(X[first:first + BATCH], training=True) - Y[first:first + BATCH]
            loss = tf.reduce_mean(error ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        if search is not None:
            search.enforce()


def twins():
    """Two compiled models that start from the same weights."""
    first, second = compiled(), compiled()
    second.set_weights(first.get_weights())
    return first, second


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_loop_of_ones_own_reaches_the_masks_of_the_callback(scope):
    by_fit, by_hand = twins()
    callback = lottery(epochs_per_round=1, fraction=0.3, scope=scope, rounds=3)
    fit(by_fit, callback)
    search = lth.Search(by_hand, fraction=0.3, scope=scope, check=True)
    for _ in range(3):
        train(by_hand, search)
        search.prune_and_rewind()
    train(by_hand, search)
    assert search.level == 3
    for ours, theirs in zip(search.tickets, callback.tickets, strict=True):
        assert ours.level == theirs.level
        for name, mask in theirs.masks.items():
            np.testing.assert_array_equal(ours.masks[name], mask)
        for name, value in theirs.weights.items():
            np.testing.assert_array_equal(ours.weights[name], value)
    for one, other in zip(State.of(by_hand).weights, State.of(by_fit).weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_theta_is_taken_when_asked():
    model = compiled()
    search = lth.Search(model, fraction=0.5, take_theta=False, check=True)
    assert not search.has_theta
    assert search.tickets == []
    with pytest.raises(LotteryError, match="must reach rewind_step"):
        search.prune_and_rewind()
    train(model)
    search.take_theta()
    theta = State.of(model)
    train(model)
    restored = search.prune_and_rewind()
    assert restored.iterations == STEPS
    now = State.of(model)
    for before, after in zip(theta.weights, now.weights, strict=True):
        assert ((after == before) | (after == 0)).all()
    assert search.density == 0.5


def test_the_metrics_given_are_written_into_the_next_ticket():
    search = lth.Search(compiled(), facts={"dataset": "blobs"})
    metrics = {"val_loss": 0.25, "note": "converged", "curve": [1.0, 0.5]}
    search.prune_and_rewind(metrics)
    assert [ticket.provenance["pruned_after"] for ticket in search.tickets] == [{}, metrics]
    assert search.tickets[1].provenance["settings"]["dataset"] == "blobs"
    assert search.tickets[0].provenance["fingerprint"] \
        == search.tickets[1].provenance["fingerprint"]


def test_earlier_tickets_stay_as_they_were():
    search = lth.Search(compiled(), fraction=0.5)
    first = {name: mask.copy() for name, mask in search.tickets[0].masks.items()}
    train(search.model)
    search.prune_and_rewind()
    for name, mask in first.items():
        np.testing.assert_array_equal(search.tickets[0].masks[name], mask)
    assert search.tickets[0].density == 1.0


def test_a_search_goes_on_from_the_masks_that_a_model_has():
    model = compiled()
    networks.draw_masks(model, zero=False)
    before = networks.masks(model)
    search = lth.Search(model, fraction=0.5, check=True)
    assert networks.strays(model) == 0
    search.prune_and_rewind()
    for old, new in zip(before, networks.masks(model), strict=True):
        assert (new <= old).all()
        assert new.sum() == old.sum() - round(0.5 * old.sum())


def test_enforce_names_a_pruned_weight_that_moved():
    model = compiled()
    search = lth.Search(model, fraction=0.5, check=True)
    search.prune_and_rewind()
    search.enforce()
    model.layers[1].layer.kernel.assign_add(np.ones((8, 2)))
    with pytest.raises(InvariantError, match="8 of 8 pruned weights of 'dense_1/kernel'"):
        search.enforce()


@pytest.mark.parametrize("fraction", [0, np.float32(0.5), {"default": 0}])
def test_any_number_in_range_is_a_fraction(fraction):
    search = lth.Search(compiled(), fraction=fraction)
    search.prune_and_rewind()
    assert search.density == (0.5 if isinstance(fraction, np.float32) else 1.0)


@pytest.mark.parametrize(("options", "message"), [
    ({"scope": "model"}, "scope must be one of"), ({"criterion": "nope"}, "Allowed:"),
    ({"fraction": 1.5}, "fraction must be"), ({"fraction": {"Conv2D": 0.1}}, "leaves out")])
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(LotteryError, match=message):
        lth.Search(compiled(), **options)


@pytest.mark.parametrize("build", [
    networks.mlp, lambda: lth.prune_low_magnitude(networks.mlp())], ids=["plain", "uncompiled"])
def test_a_model_that_is_not_wrapped_and_compiled_is_refused(build):
    with pytest.raises(LotteryError, match="wrap|compile"):
        lth.Search(build()).prune_and_rewind()


def test_a_search_changes_no_global_random_state():
    np.random.seed(0)
    keras.utils.set_random_seed(0)
    expected = np.random.random(), tf.random.uniform(()).numpy()
    model = compiled()
    keras.utils.set_random_seed(0)
    lth.Search(model, criterion="random").prune_and_rewind()
    assert (np.random.random(), tf.random.uniform(()).numpy()) == expected
