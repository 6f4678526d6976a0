"""The schedule and the callback on models that tfmot itself wrapped."""

import itertools

import networks
import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from networks import BATCH, compiled, fit, Spy, STEPS, X, Y

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.files.ticket import Ticket
from lth_keras.keras2.masking import weight_names

sparsity = tfmot.sparsity.keras


def setup_function():
    keras.utils.set_random_seed(0)


def schedule(**options):
    return lth.LotteryTicketSchedule(**{"rounds": 3, "steps_per_round": STEPS, "fraction": 0.25,
                                        **options})


def stock(following=None, build=networks.mlp):
    return compiled(sparsity.prune_low_magnitude(build(), pruning_schedule=following or schedule()))


def search_for(following=None, **options):
    return lth.LotteryTicketCallback(following or schedule(), check=True, verbose=0, **options)


def test_the_schedule_alone_prunes_after_each_round():
    model, seen = stock(), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append([mask.mean() for mask in networks.masks(self.model)])

    model.fit(X, Y, batch_size=BATCH, epochs=5, verbose=0,
              callbacks=[sparsity.UpdatePruningStep(), Watch()])
    levels = [0, 1, 2, 3, 3]
    np.testing.assert_allclose(seen, [[0.75 ** level] * 2 for level in levels
                                      for _ in range(STEPS)], atol=0.04)
    assert seen[0] == [1.0, 1.0]
    changed = [step for step, (a, b) in enumerate(itertools.pairwise(seen), 1) if a != b]
    assert changed == [STEPS, 2 * STEPS, 3 * STEPS]


@pytest.mark.parametrize("others", [[], [sparsity.UpdatePruningStep()]])
def test_with_the_callback_counts_are_exact_and_masks_nested(others):
    model, search = stock(), search_for()
    spy = Spy(search)
    fit(model, search, spy, *others)
    levels = [state.kept for state in spy.ends()]
    assert [[int(mask.sum()) for mask in masks] for masks in levels] \
        == [[48, 16], [36, 12], [27, 9], [20, 7]]
    for before, after in itertools.pairwise(levels):
        assert all((late <= early).all() for early, late in zip(before, after, strict=True))
    assert {state.strays for state in spy.after} == {0}
    assert search.results.density.tolist() == [1.0, 0.75, 36 / 64, 27 / 64]


def test_with_the_callback_every_round_starts_from_theta():
    model, search = stock(), search_for(rewind_step=2)
    spy = Spy(search)
    fit(model, search, spy)
    theta = spy.before[2]
    for start in spy.starts()[1:]:
        assert start.iterations == 2
        for before, after in zip(theta.weights, start.weights, strict=True):
            assert ((after == before) | (after == 0)).all()
        assert start.strays == 0


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_ticket_found_on_a_stock_model_applies_to_any(scope, tmp_path):
    search = search_for(schedule(rounds=1), scope=scope)
    fit(stock(schedule(rounds=1)), search)
    search.ticket.save(tmp_path / "a.ticket")
    ticket = Ticket.load(tmp_path / "a.ticket")
    for model in (networks.mlp(), stock(), lth.prune_low_magnitude(networks.mlp())):
        applied = ticket.apply(model)
        assert sorted(mask.sum() for mask in networks.masks(applied)) \
            == sorted(mask.sum() for mask in ticket.masks.values())
        assert networks.strays(applied) == 0


def test_another_schedule_is_refused_before_the_first_batch():
    for other in (schedule(fraction=0.5), sparsity.ConstantSparsity(0.5, 0)):
        batches = networks.Batches()
        with pytest.raises(LotteryError, match="must have the callback's schedule"):
            stock(other).fit(X, Y, batch_size=BATCH, epochs=4, verbose=0,
                             callbacks=[batches, search_for()])
        assert batches.count == 0


def test_rounds_of_epochs_are_refused_on_a_stock_model_before_the_first_batch():
    following = lth.LotteryTicketSchedule(rounds=1, epochs_per_round=1)
    model = sparsity.prune_low_magnitude(networks.mlp(), pruning_schedule=following)
    batches = networks.Batches()
    with pytest.raises(LotteryError, match="needs steps_per_round"):
        compiled(model).fit(X, Y, batch_size=BATCH, epochs=2, verbose=0,
                            callbacks=[batches, search_for(following)])
    assert batches.count == 0


def test_layers_wrapped_by_tfmot_and_by_lth_are_searched_together():
    following = schedule(rounds=1)
    layers = keras.layers
    model = compiled(keras.Sequential([
        layers.Input((6,)),
        sparsity.prune_low_magnitude(layers.Dense(8), pruning_schedule=following),
        lth.prune_low_magnitude(layers.Dense(2))]))
    search = search_for(following)
    fit(model, search)
    assert [mask.mean() for mask in networks.masks(model)] == [0.75, 0.75]
    assert networks.strays(model) == 0


@pytest.mark.parametrize("ending", [".keras", ".h5", ""])
def test_a_saved_stock_model_loads_in_tfmots_prune_scope(ending, tmp_path):
    model = networks.draw_masks(stock(build=networks.nested))
    model.save(tmp_path / f"model{ending}")
    with sparsity.prune_scope():
        loaded = keras.models.load_model(tmp_path / f"model{ending}")
    assert [wrapper.pruning_schedule for wrapper in weight_names.wrappers(loaded)] \
        == [schedule()] * len(weight_names.wrappers(model))
    np.testing.assert_array_equal(loaded(X), model(X))
    for one, other in zip(networks.masks(model), networks.masks(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
