"""What a model holds for its training alone: not in a ticket, but rewound and kept."""

import accumulating
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from accumulating import BATCH, MODELS, X, Y
from dying import Death, Dies
from tiers import short_and_long

import lth_keras as lth
from lth_keras.files.ticket import Ticket
from lth_keras.keras2 import optimizer_state
from lth_keras.keras2.inspection import model_calls
from lth_keras.keras2.masking.weight_names import (
    masked,
    named_variables,
    named_weights,
)
from lth_keras.keras2.verification.trained import batches_of, compiled_as, train


def wrapped(name):
    keras.utils.set_random_seed(3)
    model = MODELS[name][0]()
    return compiled_as(lth.prune_low_magnitude(model), model)


def searched(name, *others, root=None):
    model = wrapped(name)
    lottery = lth.LotteryTicketCallback(rounds=2, epochs_per_round=2, fraction=0.5, verbose=0,
                                        check=True, workdir=root)
    model.fit(X, Y, batch_size=BATCH, shuffle=False, epochs=lottery.epochs, verbose=0,
              callbacks=[lottery, *others])
    return model, lottery


@pytest.mark.parametrize("name", MODELS)
def test_a_ticket_holds_the_network_alone(name):
    build, names = MODELS[name]
    model, lottery = searched(name)
    assert sorted(lottery.ticket.weights) == sorted(names)
    assert len(named_variables(model)) > len(names)
    assert list(named_weights(model)) == list(named_weights(build()))
    fresh = lottery.ticket.apply(build())
    assert all(not np.any(held) for held in fresh.gathered)


@pytest.mark.parametrize("name", MODELS)
def test_a_ticket_of_before_that_holds_them_applies_too(name):
    model = wrapped(name)
    lottery = lth.Search(model).tickets[0]
    older = Ticket({**lottery.weights, **{
        name: variable.numpy() + 1 for name, variable in named_variables(model).items()
        if name not in lottery.weights}}, lottery.masks, 0)
    fresh = older.apply(MODELS[name][0]())
    assert all(not np.any(held) for held in fresh.gathered)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_that_were_left_over_are_rewound(name):
    model = wrapped(name)
    batches = batches_of((X, Y), 6)
    search = lth.Search(model, fraction=0.0, check=True)
    first = train(model, batches, 1)
    assert any(np.any(held) for held in model.gathered) and model.passed == 6
    search.prune_and_rewind()
    assert not any(np.any(held) for held in model.gathered) and model.passed == 0
    assert train(model, batches, 1).first_difference(first) == {}


@pytest.mark.parametrize("name", short_and_long(MODELS, ["functional"]))
def test_a_search_that_was_killed_between_two_steps_ends_in_the_same_bits(name, tmp_path):
    def ended(model, lottery):
        return lottery.tickets, [variable.numpy().tobytes() for variable in model.weights]
    whole = ended(*searched(name, root=tmp_path / "whole"))
    with pytest.raises(Death):
        searched(name, Dies("on_epoch_begin", 4), root=tmp_path / "killed")
    assert ended(*searched(name, root=tmp_path / "killed")) == whole


def test_verify_passes_a_model_that_accumulates():
    report = lth.verify(accumulating.functional, (X, Y), steps=5)
    assert report.ok, str(report)


class Odd(keras.Model):
    """Reads one variable in training alone; counts its calls in another; one is of its layer."""

    def __init__(self):
        super().__init__()
        self.dense, self.drop = keras.layers.Dense(2), keras.layers.Dropout(0.5, seed=3)
        self.noise = tf.Variable(0.5, trainable=False)
        self.calls = tf.Variable(0, trainable=False)
        self.unused = self.add_weight("unused", (3,), trainable=False)

    def call(self, x, training=False):
        self.calls.assign_add(1)
        return self.drop(self.dense(x)) * (self.noise if training else 1.0)


def test_what_a_call_touches_is_the_networks_and_the_look_changes_nothing():
    model = Odd()
    model(X[:2])
    calls = int(model.calls)
    assert list(named_weights(model)) == ["dense/kernel", "dense/bias", "noise", "calls"]
    assert int(model.calls) == calls
    assert [variable is model.unused for variable in optimizer_state.states(model)] == [True]
    wrapped = lth.prune_low_magnitude(model)
    (item,), draws = masked(wrapped).values(), model.drop._random_generator
    seed = draws._seed
    assert id(model.noise.handle) in model_calls.touched(wrapped)
    assert draws._seed == seed and not item.weight.constraint.read_to_train


def test_where_a_call_cannot_be_traced_everything_is_the_networks(monkeypatch):
    model = accumulating.subclassed()
    monkeypatch.setattr(model_calls, "touched", lambda model: None)
    network = named_weights(model)
    assert len(network) == len(named_variables(model)) - 2  # A metric counts for itself.
    assert "passed" in network


@pytest.mark.parametrize("name", short_and_long(MODELS, ["functional"]))
def test_gradients_gathered_at_step_k_are_rewound_without_those_of_pruned_weights(name):
    model = wrapped(name)
    train(model, batches_of((X, Y), 6), 1)  # Two steps are left over.
    search = lth.Search(model, fraction=0.5)
    theta = [held.numpy() for held in model.gathered]
    train(model, batches_of((X, Y), 4), 1)
    search.prune_and_rewind()
    names = {id(variable): name for name, variable in named_weights(model).items()}
    for weight, held, then in zip(model.trainable_variables, model.gathered, theta, strict=True):
        mask = search.masks.get(names[id(weight)], np.ones(held.shape))
        np.testing.assert_array_equal(held, then * mask)
    train(model, batches_of((X, Y), 6), 1, search.enforce)
