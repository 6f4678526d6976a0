"""Layers that a ticket has pruned stay so in other models, and with optimizers of other models."""

import copy
import pickle
import warnings

import keras
import networks3 as networks
import numpy as np
import pytest

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras3.weights import named_weights

X = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
Y = X[:, :1] * 2
BACKEND = keras.backend.backend()


def backbone(**options):
    return keras.Sequential([
        keras.Input((8,), name="x"), keras.layers.Dense(16, "relu", name="a", **options),
        keras.layers.Dense(4, name="b")], name="backbone")


@pytest.fixture(scope="module")
def ticket():
    return lth.prune_at_init(backbone(), "magnitude", density=0.25)


def with_head(model, output=None):
    head = keras.layers.Dense(1, name="head")
    if output is not None:
        return keras.Model(model.inputs, head(output))
    inputs = keras.Input((8,))
    return keras.Model(inputs, head(model(inputs)))


def nested(model):
    return with_head(model)


def cut(model):
    return with_head(model, model.get_layer("a").output)


def listed(model):
    return keras.Sequential([keras.Input((8,)), *model.layers[:-1],
                             keras.layers.Dense(1, name="head")])


def assert_sparse(model, ticket):
    """The kernels of the ticket that a model has are zero where it prunes, and nowhere else."""
    found = {name.rpartition("backbone/")[2]: keras.ops.convert_to_numpy(variable.value)
             for name, variable in named_weights(model).items()}
    kernels = ticket.masks.keys() & found.keys()
    assert kernels
    for name in kernels:
        np.testing.assert_array_equal(found[name] != 0, ticket.masks[name] != 0)


@pytest.mark.parametrize("made", [nested, cut, listed])
@pytest.mark.parametrize("how", ["ticket", "keep_sparse"])
def test_in_another_model_that_trains_them(made, how, ticket):
    model = ticket.apply(backbone())
    if how == "keep_sparse":
        weights = model.get_weights()
        model = backbone()
        model.set_weights(weights)
        lth.keep_sparse(model)
    other = made(model)
    other.compile(keras.optimizers.Adam(0.01), "mse")
    other.fit(X, Y, epochs=2, verbose=0)
    assert_sparse(other, ticket)


@pytest.mark.parametrize("optimizer", [
    name for name in networks.OPTIMIZERS if name != "average"])
def test_with_every_optimizer_of_another_model(optimizer, ticket):
    other = nested(ticket.apply(backbone()))
    other.compile(networks.OPTIMIZERS[optimizer](), "mse")
    other.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    assert_sparse(other, ticket)


def test_averages_of_another_model_that_is_kept_sparse_itself(ticket):
    other = nested(ticket.apply(backbone()))
    other.compile(networks.OPTIMIZERS["average"](), "mse")
    lth.keep_sparse(other)
    other.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    assert_sparse(other, ticket)


def test_a_compiled_step_of_another_model(ticket):
    other = nested(ticket.apply(backbone()))
    other.compile("adam", "mse", jit_compile=True, steps_per_execution=2)
    other.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    assert_sparse(other, ticket)


def test_an_optimizer_that_is_assigned_to_the_model(ticket):
    model = ticket.apply(backbone())
    model.compile("adam", "mse")
    model.fit(X, X[:, :4], verbose=0)
    model.optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    model.fit(X, X[:, :4], epochs=2, verbose=0)
    assert_sparse(model, ticket)


def test_an_optimizer_that_trained_them_before_moves_no_pruned_weight(ticket):
    model = ticket.apply(backbone())
    other, optimizer = nested(model), keras.optimizers.Adam(0.01)
    other.compile(optimizer, "mse")
    other.fit(X, Y, verbose=0)  # Its momenta are of all weights.
    lth.keep_sparse(other)
    other.fit(X, Y, verbose=0)
    assert_sparse(other, ticket)


def test_a_loop_with_an_optimizer_of_its_own(ticket):
    if BACKEND != "tensorflow":
        pytest.skip("a loop of TensorFlow")
    import tensorflow as tf
    model, optimizer = ticket.apply(backbone()), keras.optimizers.Adam(0.01)
    traced = []

    @tf.function
    def step():
        traced.append(1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X, training=True) - Y) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    optimizer.build(model.trainable_variables)
    step()
    assert_sparse(model, ticket)
    second = lth.prune_at_init(backbone(), "random", density=0.25)
    second.apply(model)
    step()  # Later masks apply, and nothing is compiled again.
    assert_sparse(model, second)
    assert len(traced) == 1


def test_a_loop_of_jax_keeps_the_masks_that_it_was_compiled_with_and_that_is_said(ticket):
    if BACKEND != "jax":
        pytest.skip("a loop of JAX")
    import jax
    model, optimizer = ticket.apply(backbone()), keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    values = [variable.value for variable in model.trainable_variables]

    @jax.jit
    def step(values, state):
        def loss(values):
            found, _ = model.stateless_call(values, [], X)
            return ((found - Y) ** 2).mean()
        return optimizer.stateless_apply(state, jax.grad(loss)(values), values)
    values, _ = step(values, [variable.value for variable in optimizer.variables])
    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)
    assert_sparse(model, ticket)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ticket.apply(model)  # The same masks.
    with pytest.warns(UserWarning, match="keeps pruned weights at zero by the masks that it was"):
        lth.prune_at_init(backbone(), "random", density=0.25).apply(model)


def test_no_later_masks_of_the_model_itself_are_warned_of(ticket, recwarn):
    model = ticket.apply(backbone())
    model.compile("adam", "mse")
    for each in (ticket, lth.prune_at_init(backbone(), "random", density=0.5)):
        each.apply(model)
        model.fit(X, X[:, :4], verbose=0)
        assert_sparse(model, each)
    assert not [each for each in recwarn if "masks" in str(each.message)]


def test_a_constraint_of_the_users_own_is_called_too(ticket):
    other = nested(ticket.apply(backbone(kernel_constraint=keras.constraints.MaxNorm(0.01))))
    other.compile("sgd", "mse")
    other.fit(X, Y, verbose=0)
    assert_sparse(other, ticket)
    kernel = keras.ops.convert_to_numpy(other.get_layer("backbone").get_layer("a").kernel)
    assert np.linalg.norm(kernel, axis=0).max() <= 0.0101


@pytest.mark.parametrize("made", [nested, cut, listed])
def test_a_search_of_another_model_goes_on_from_their_masks(made, ticket):
    other = made(ticket.apply(backbone()))
    other.compile(keras.optimizers.Adam(0.01), "mse")
    other.fit(X, Y, verbose=0)
    search = lth.Search(other, fraction=0.5)
    left = {name: mask for name, mask in search.masks.items() if "head" not in name}
    assert left
    for name, mask in left.items():
        np.testing.assert_array_equal(mask, ticket.masks[name.rpartition("backbone/")[2]])
    other.fit(X, Y, verbose=0)
    assert_sparse(other, ticket)
    search.prune_and_rewind()
    other.fit(X, Y, verbose=0)
    search.check_trained()
    for name, variable in named_weights(other).items():
        if name in search.masks:
            value = keras.ops.convert_to_numpy(variable.value)
            np.testing.assert_array_equal(value != 0, search.masks[name] != 0)


def test_a_search_of_filters_needs_whole_ones(ticket):
    other = cut(ticket.apply(backbone()))
    other.compile("adam", "mse")
    with pytest.raises(LotteryError, match="whole filters are left"):
        lth.Search(other, structure="filters")


@pytest.mark.parametrize("start", [
    lambda model: lth.prune_at_init(model, "magnitude", density=0.5),
    lambda model: lth.SparseTraining(model, keras.optimizers.SGD(0.1), "static", density=0.5),
    lambda model: lth.Supermask(model, keras.optimizers.SGD(0.1), kept=0.5)])
@pytest.mark.parametrize("made", [nested, cut])
def test_what_begins_with_a_dense_model_refuses_pruned_layers(made, start, ticket):
    model = made(ticket.apply(backbone()))
    with pytest.raises(LotteryError, match="a/kernel.* pruned (already|in another model)"):
        start(model)
    dense = backbone()
    full = made(dense)
    lth.keep_sparse(dense)  # Nothing is zero: its masks leave all.
    start(full)


def test_the_model_and_its_files_are_as_without_masks(ticket, tmp_path):
    plain, model = backbone(), ticket.apply(backbone())
    assert model.get_config() == plain.get_config()
    assert [each.path.rpartition("/")[2] for each in model.variables] \
        == [each.path.rpartition("/")[2] for each in plain.variables]
    model.compile("adam", "mse")
    model.fit(X, X[:, :4], verbose=0)
    model.save(tmp_path / "a.keras")
    copies = [keras.saving.load_model(tmp_path / "a.keras"), copy.deepcopy(model),
              pickle.loads(pickle.dumps(model)), keras.models.clone_model(model)]
    for each in copies:
        assert len(each.get_weights()) == 4
        assert not any(variable.constraint for variable in each.variables)
    wanted = model.predict(X, verbose=0)
    for each in copies[:-1]:
        np.testing.assert_array_equal(each.predict(X, verbose=0), wanted)
    assert copy.deepcopy(model.layers[0]).kernel.constraint is None
    model.save_weights(tmp_path / "a.weights.h5")
    plain.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(plain.predict(X, verbose=0), wanted)
