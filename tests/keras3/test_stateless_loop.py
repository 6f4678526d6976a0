"""A loop of the user's own in stateless style: it holds all variables as values."""

import keras
import networks3 as networks
import numpy as np
import pytest

import lth_keras as lth
from lth_keras.errors import LotteryError

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="Keras has stateless optimizers on JAX alone")

X = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)
Y = X[:, :3] - X[:, 3:]


def model_and_search(optimizer="AdamW"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, use_bias=False)])
    model.compile(networks.OPTIMIZERS[optimizer]())
    return model, lth.Search(model, fraction=0.5, check=True)


def taken(model):
    return [[keras.ops.convert_to_tensor(variable.value) for variable in part]
            for part in (model.trainable_variables, model.optimizer.variables)]


def trained(model, values, steps=4):
    weights, optimizer = values
    for _ in range(steps):
        gradient = keras.ops.matmul(X.T, keras.ops.matmul(X, weights[0]) - Y)
        weights, optimizer = model.optimizer.stateless_apply(optimizer, [gradient], weights)
    return weights, optimizer


def write_back(model, values):
    for part, now in zip((model.trainable_variables, model.optimizer.variables), values,
                         strict=True):
        for variable, value in zip(part, now, strict=True):
            variable.assign(value)


@pytest.mark.parametrize("optimizer", networks.OPTIMIZERS)
def test_values_that_are_taken_and_written_back_hold_every_promise(optimizer):
    model, search = model_and_search(optimizer)
    ends = []
    for level in range(3):
        if level:
            search.prune_and_rewind()
        values = trained(model, taken(model))
        write_back(model, values)
        search.enforce()  # With check=True: pruned weights are zero, and their slots are fresh.
        ends.append(keras.ops.convert_to_numpy(values[0][0]))
    assert [int((end == 0).sum()) for end in ends] == [0, 9, 13]
    fresh, _ = model_and_search(optimizer)
    search.tickets[2].apply(fresh)
    weights, _ = trained(fresh, taken(fresh))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(weights[0]), ends[2])


def test_values_that_were_taken_before_a_pruning_are_refused_at_the_next():
    model, search = model_and_search()
    values = trained(model, taken(model))
    write_back(model, values)
    search.prune_and_rewind()
    write_back(model, trained(model, values))
    with pytest.raises(LotteryError, match="pruned weights that are not zero in dense/kernel"):
        search.prune_and_rewind()


def test_values_that_are_not_written_back_are_warned_of():
    model, search = model_and_search()
    search.prune_and_rewind()
    trained(model, taken(model))
    with pytest.warns(UserWarning, match="Nothing has trained the model at level 1"):
        search.prune_and_rewind()
