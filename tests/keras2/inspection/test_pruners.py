"""A wrapped model that nothing prunes: tfmot's callback is refused, and stripping it says so."""

import warnings

import networks
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from networks import compiled, fit, lottery, X, Y

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import wrappers

sparsity = tfmot.sparsity.keras


class Counted(sparsity.UpdatePruningStep):
    """A callback of a user's own, made of tfmot's."""


def says_nothing(act):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return act()


@pytest.mark.parametrize("kind", [sparsity.UpdatePruningStep, Counted])
@pytest.mark.parametrize("build", [networks.mlp, networks.nested])
def test_tfmots_callback_alone_is_refused_before_the_first_batch(kind, build):
    batches = networks.Batches()
    model = compiled(lth.prune_low_magnitude(build()))
    with pytest.raises(LotteryError, match=r"UpdatePruningStep for .*LotteryTicketCallback\("):
        fit(model, batches, kind(), epochs=1)
    assert batches.count == 0
    assert all(wrapper.get_weights() for wrapper in wrappers(model))


def test_tfmots_callback_in_a_loop_of_ones_own_is_refused_where_it_begins():
    callback = sparsity.UpdatePruningStep()
    callback.set_model(lth.prune_low_magnitude(networks.mlp()))
    with pytest.raises(LotteryError, match=r"lth.Search\(model\)"):
        callback.on_train_begin()


def test_tfmots_callback_is_passed_where_something_prunes():
    for first in (True, False):
        both = [lottery(rounds=0), sparsity.UpdatePruningStep()]
        compiled().fit(X, Y, epochs=2, verbose=0, callbacks=both if first else both[::-1])
    model = compiled(lth.prune_low_magnitude(networks.mlp()))
    search = lth.Search(model)
    fit(model, sparsity.UpdatePruningStep(), epochs=1)
    ticket = search.tickets[0]
    fit(compiled(ticket.apply(networks.mlp())), sparsity.UpdatePruningStep(), epochs=1)
    fit(networks.draw_masks(compiled()), sparsity.UpdatePruningStep(), epochs=1)


def test_a_step_counter_is_read_and_loaded_as_before(tmp_path):
    model = compiled()
    assert [int(wrapper.pruning_step) for wrapper in wrappers(model)] == [0, 0]
    assert not hasattr(lth.prune_low_magnitude(keras.layers.Dense(2)), "pruning_step")
    wrappers(model)[0].pruning_step.assign(7)
    model.save_weights(str(tmp_path / "kept"))
    other = compiled()
    other.load_weights(str(tmp_path / "kept")).assert_consumed()
    assert [int(wrapper.pruning_step) for wrapper in wrappers(other)] == [7, 0]


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_model_that_is_trained_and_stripped_with_nothing_pruned_warns(eagerly):
    model = compiled(run_eagerly=eagerly)
    fit(model, keras.callbacks.Callback(), epochs=1)
    with pytest.warns(UserWarning, match="wrapped and trained, and nothing has pruned it"):
        lth.strip_pruning(model)


def test_a_model_that_something_prunes_or_nothing_trains_is_stripped_without_a_warning():
    says_nothing(lambda: lth.strip_pruning(lth.prune_low_magnitude(networks.mlp())))
    dense_first = compiled()
    fit(dense_first, keras.callbacks.Callback(), epochs=1)
    dense_first.compile("adam", "mse")  # The trained weights are to be level 0's.
    search = lottery(rounds=1, epochs_per_round=1, fraction=0.5)
    says_nothing(lambda: fit(dense_first, search))
    says_nothing(lambda: lth.strip_pruning(dense_first))
    for ticket in search.tickets:  # The dense one, too, whose training is the baseline.
        model = compiled(ticket.apply(networks.mlp()))
        fit(model, keras.callbacks.Callback(), epochs=1)
        says_nothing(lambda model=model: lth.strip_pruning(model))
    by_hand = networks.draw_masks(compiled())
    fit(by_hand, keras.callbacks.Callback(), epochs=1)
    says_nothing(lambda: lth.strip_pruning(by_hand))
