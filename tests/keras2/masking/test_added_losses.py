"""Losses and metrics that a model was given by add_loss and add_metric."""

import faults
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import lth_keras as lth
from lth_keras.keras2.masking.weight_names import masked

layers = keras.layers
X = faults.X


class Own(keras.Model):
    """A functional model of a class of its own."""


def autoencoder(kind=keras.Model):
    inputs = layers.Input((6,))
    hidden = layers.Dense(8, "tanh")(inputs)
    mean, spread = layers.Dense(2)(hidden), layers.Dense(2)(hidden)
    model = kind(inputs, layers.Dense(6)(mean))
    model.add_loss(tf.reduce_mean(mean ** 2) + tf.reduce_mean(tf.exp(spread) - spread))
    model.add_metric(tf.reduce_mean(spread), name="spread", aggregation="mean")
    model.compile("adam", "mse")
    return model


def losses(model):
    model(X[:8])
    return [float(value) for value in model.losses]


@pytest.mark.parametrize("kind", [keras.Model, Own])
def test_an_autoencoder_is_wrapped_stripped_cloned_saved_and_loaded(kind, tmp_path):
    keras.utils.set_random_seed(0)
    model = autoencoder(kind)
    wanted = losses(model)
    wrapped = lth.prune_low_magnitude(model)
    assert losses(wrapped) == pytest.approx(wanted)
    wrapped.compile("adam", "mse")
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, verbose=0, check=True)
    history = wrapped.fit(X, X, epochs=2, verbose=0, callbacks=[lottery])
    assert len(history.history["spread"]) == 2
    stripped = lth.strip_pruning(wrapped)
    kept = losses(wrapped)
    assert losses(stripped) == pytest.approx(kept)
    again = keras.models.clone_model(stripped)
    assert len(losses(again)) == 1
    for made in (wrapped, stripped):
        path = tmp_path / "model.keras"
        made.save(path)
        with keras.saving.custom_object_scope({"Own": Own}):
            loaded = keras.models.load_model(path)
        assert losses(loaded) == pytest.approx(kept)
        np.testing.assert_array_equal(loaded(X[:8]), made(X[:8]))


@pytest.mark.parametrize("name", [name for name in faults.FAULTS if name.startswith("add_loss")])
def test_a_loss_that_is_a_function_stays_and_reads_pruned_weights_masked(name):
    build, _ = faults.FAULTS[name]
    model = lth.prune_low_magnitude(build())
    item = next(iter(masked(model).values()))
    item.mask.assign(np.arange(48).reshape(6, 8) % 2)
    item.weight.assign(tf.ones((6, 8)) * item.mask)
    with tf.GradientTape() as tape:
        model(X[:2], training=True)
        (loss,) = model.losses
    assert float(loss) == pytest.approx(0.1 * 24)
    gradient = tape.gradient(loss, item.weight).numpy()
    np.testing.assert_allclose(gradient, 0.2 * item.mask.numpy(), rtol=1e-6)
    stripped = lth.strip_pruning(model)
    assert len(stripped._callable_losses) == 1
    assert not [loss for loss in stripped._callable_losses
                if type(loss).__module__.startswith("lth_keras")]


def test_a_penalty_is_what_it_was_once_a_model_is_stripped_and_trains_wrapped_again():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((6,)), layers.Dense(
        3, kernel_regularizer="l2", kernel_constraint="non_neg")])
    (layer,) = model.layers
    before, constraint = layer._callable_losses[:], layer.kernel.constraint
    wrapped = lth.prune_low_magnitude(model)
    assert layer.kernel.constraint is not constraint
    stripped = lth.strip_pruning(wrapped)
    assert stripped.layers[0] is layer and layer.kernel.constraint is constraint
    assert [loss.func for loss in layer._callable_losses] == [loss.func for loss in before]
    wrapped.compile("adam", "mse")
    search = lth.Search(wrapped, fraction=0.5, check=True)
    search.prune_and_rewind()
    for _ in range(3):
        wrapped.fit(X, faults.Y[:, :1], verbose=0)
        search.enforce()


@pytest.mark.parametrize("eagerly", [True, False])
def test_a_stripped_model_is_free_to_grow_its_zeros_back(eagerly):
    keras.utils.set_random_seed(0)
    wrapped = lth.prune_low_magnitude(keras.Sequential([layers.Input((6,)), layers.Dense(2)]))
    wrapped.compile("adam", "mse", run_eagerly=eagerly)
    search = lth.Search(wrapped, fraction=0.5)
    wrapped.fit(X, faults.Y, verbose=0)
    search.prune_and_rewind()
    stripped = lth.strip_pruning(wrapped)
    stripped.compile("adam", "mse", run_eagerly=eagerly)
    kernel = stripped.layers[0].kernel
    assert (kernel.numpy() == 0).sum() == 6
    stripped.fit(X, faults.Y, verbose=0)
    assert (kernel.numpy() != 0).all()
