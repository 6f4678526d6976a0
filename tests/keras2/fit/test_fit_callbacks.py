"""The callbacks of Keras beside ours, in either order; and the files that they write."""

import csv
import itertools
import re

import networks
import numpy as np
import pytest
import tf_keras as keras
from fits import assert_same_bits, numbers
from networks import BATCH, compiled, lottery, Spy, State, STEPS, X, Y
from tiers import short_and_long

import lth_keras as lth
from lth_keras.errors import LotteryError

callbacks = keras.callbacks


def setup_function():
    keras.utils.set_random_seed(0)


def searched(*others, first=True, model=None, epochs=None, **options):
    """A search with others beside it, listed after it or before; `spy` comes last."""
    model = compiled() if model is None else model
    search = lottery(**{"epochs_per_round": 2, "fraction": 0.5, **options})
    spy = Spy(search)
    order = [search, *others] if first else [*others, search]
    model.fit(X, Y, validation_data=(X[:8], Y[:8]), batch_size=BATCH,
              epochs=epochs or search.epochs, shuffle=False, verbose=0, callbacks=[*order, spy])
    return model, search, spy


either_order = pytest.mark.parametrize("first", [True, False], ids=["first", "last"])


@pytest.fixture(scope="module")
def alone():
    keras.utils.set_random_seed(0)
    model, search, _ = searched()
    return numbers(model), [ticket.masks for ticket in search.tickets]


def beside(tmp_path):
    """Callbacks that change nothing in a training, all of them at once."""
    path = str(tmp_path)
    return [
        callbacks.ModelCheckpoint(f"{path}/best.keras", save_best_only=True),
        callbacks.ModelCheckpoint(f"{path}/last.weights.h5", save_weights_only=True, save_freq=3),
        callbacks.CSVLogger(f"{path}/log.csv"), callbacks.TerminateOnNaN(),
        callbacks.TensorBoard(f"{path}/logs", write_graph=False, update_freq=1),
        callbacks.BackupAndRestore(f"{path}/backup"),
        callbacks.EarlyStopping("loss", patience=99),
        callbacks.ReduceLROnPlateau("loss", patience=99),
        callbacks.LearningRateScheduler(lambda epoch, rate: rate),
        callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None),
        callbacks.History()]


@either_order
def test_callbacks_that_only_watch_change_no_bit(first, tmp_path, alone, monkeypatch):
    networks.record_summaries(monkeypatch)
    model, search, _ = searched(*beside(tmp_path), first=first)
    assert_same_bits(numbers(model), alone[0])
    for ticket, masks in zip(search.tickets, alone[1], strict=True):
        assert_same_bits([*ticket.masks.values()], [*masks.values()])


# Files: whatever a callback writes at whatever step is sparse and complete.


@pytest.mark.parametrize(("ending", "first"), short_and_long(
    itertools.product([".keras", ".h5", "/"], [True, False]), [(".keras", False)]))
def test_a_model_saved_at_any_step_is_sparse_and_complete(ending, first, tmp_path):
    every, predicted = 5, {}
    save = callbacks.ModelCheckpoint(f"{tmp_path}/{{epoch}}_{{batch}}{ending}", save_freq=every)
    model = compiled()
    watch = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: predicted.update(
        {len(predicted) + 1: (model(X).numpy(), networks.masks(model))}))
    searched(save, watch, first=first, epochs_per_round=1, model=model)
    saved = sorted(tmp_path.iterdir())
    assert len(saved) == 3 * STEPS // every
    for number, path in enumerate(saved, 1):
        safe = {"safe_mode": True} if ending == ".keras" else {}
        loaded = keras.models.load_model(path, **safe)
        outputs, masks = predicted[number * every]
        np.testing.assert_array_equal(loaded(X), outputs)
        assert_same_bits(networks.masks(loaded), masks)
        level = (number * every - 1) // STEPS
        assert [mask.mean() for mask in masks] == [0.5 ** level] * 2 and level > 0
        assert networks.strays(loaded) == 0
        loaded.fit(X, Y, verbose=0)  # It trains on with its optimizer, and masked.
        assert networks.strays(loaded) == 0


@pytest.mark.parametrize("first", short_and_long([True, False], [False]))
def test_weights_saved_at_every_batch_are_those_of_the_step(first, tmp_path):
    save = callbacks.ModelCheckpoint(f"{tmp_path}/{{epoch}}_{{batch}}.weights.h5", save_freq=1,
                                     save_weights_only=True)
    _, _, spy = searched(save, first=first, epochs_per_round=1)
    fresh = lth.prune_low_magnitude(networks.mlp())
    for step, state in enumerate(spy.after):
        fresh.load_weights(f"{tmp_path}/{step // STEPS + 1}_{step % STEPS + 1}.weights.h5")
        assert_same_bits(numbers(fresh), state.weights)
        assert_same_bits(networks.masks(fresh), state.kept)
        assert networks.strays(fresh) == 0


@pytest.mark.parametrize("first", short_and_long([True, False], [True]))
def test_the_best_model_is_the_one_of_the_best_epoch_of_all_levels(first, tmp_path):
    path = f"{tmp_path}/best.keras"
    seen = []
    watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(
        (logs["val_loss"], State.of(model))))
    model = compiled()
    searched(callbacks.ModelCheckpoint(path, save_best_only=True), watch, first=first, model=model)
    loaded = keras.models.load_model(path, safe_mode=True)
    best = min(seen, key=lambda item: item[0])[1]
    assert_same_bits(numbers(loaded), best.weights)
    assert_same_bits(networks.masks(loaded), best.kept)


# Logs.


def test_what_is_logged_before_ours_lacks_level_and_density_and_after_it_has_them(tmp_path):
    before, after = (callbacks.CSVLogger(f"{tmp_path}/{name}.csv") for name in ("a", "b"))
    model, search = compiled(), lottery()
    model.fit(X, Y, validation_data=(X, Y), epochs=search.epochs, batch_size=BATCH, verbose=0,
              callbacks=[before, search, after])
    columns = [next(csv.reader((tmp_path / f"{name}.csv").open())) for name in ("a", "b")]
    assert columns == [["epoch", "loss", "val_loss"],
                       ["epoch", "density", "level", "loss", "val_loss"]]


# Stopping.


@either_order
def test_an_ordinary_early_stopping_ends_the_whole_fit_and_says_so(first):
    stop = callbacks.EarlyStopping("loss", min_delta=1e9, patience=3)
    with pytest.warns(UserWarning, match="at level 1 of 2.*round_callbacks"):
        _, search, spy = searched(stop, first=first)
    assert len(spy.after) == 4 * STEPS
    assert search.results.level.tolist() == [0, 1]
    assert search.ticket.level == 1


@either_order
def test_an_ordinary_early_stopping_puts_back_weights_and_their_masks(first):
    # The first epoch is its best: the dense network of level 0.
    stop = callbacks.EarlyStopping("loss", min_delta=1e9, patience=3, restore_best_weights=True)
    with pytest.warns(UserWarning, match="fit ended before the search did"):
        model, search, spy = searched(stop, first=first)
    assert_same_bits(numbers(model), spy.after[STEPS - 1].weights)
    assert_same_bits(networks.masks(model), spy.after[STEPS - 1].kept)
    assert search.ticket.density == 0.5


def test_early_stopping_of_rounds_leaves_the_last_level_at_its_best():
    stop = callbacks.EarlyStopping("loss", min_delta=1e9, patience=1, restore_best_weights=True)
    model, search, spy = searched(round_callbacks=[stop], epochs_per_round=4)
    assert search.results.epochs.tolist() == [2, 2, 2]
    assert_same_bits(numbers(model), spy.after[-STEPS - 1].weights)
    assert_same_bits(networks.masks(model), [*search.ticket.masks.values()])


# Learning rates.


def rates(spy):
    return [state.rate for state in spy.after[::STEPS]]


def sgd():
    return compiled(optimizer=keras.optimizers.SGD(0.25))


@either_order
def test_an_ordinary_scheduler_counts_the_epochs_of_the_fit(first):
    halve = callbacks.LearningRateScheduler(lambda epoch: 0.25 * 0.5 ** epoch)
    _, _, spy = searched(halve, first=first, model=sgd())
    if first:  # It sets the rate after the rewinding.
        assert rates(spy) == [0.25 * 0.5 ** epoch for epoch in range(6)]
    else:  # The rewinding sets it last where a round begins.
        assert rates(spy) == [0.25, 0.125, 0.25, 0.25 / 8, 0.25, 0.25 / 32]


@either_order
def test_an_ordinary_plateau_starts_from_the_rewound_rate(first):
    plateau = callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    _, _, spy = searched(plateau, first=first, model=sgd())
    # It halves the rate after every epoch but its first; a rewinding sets it back.
    assert rates(spy) == [0.25, 0.25, 0.25, 0.125, 0.25, 0.125]


def warned_of_rates(caught):
    return [str(item.message) for item in caught if "learning rate of" in str(item.message)]


def counting(rates):
    return callbacks.LearningRateScheduler(rates)


OF_THE_FIT = {
    "epochs of the fit": lambda: counting(lambda epoch: 0.25 * 0.5 ** epoch),
    "plateau": lambda: callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1e9)}
OF_A_LEVEL = {
    "constant": lambda: counting(lambda epoch: 0.25),
    "epochs of a level": lambda: counting(lambda epoch: 0.25 * 0.5 ** (epoch % 2)),
    "batches": lambda: callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: None)}


@either_order
@pytest.mark.parametrize("name", OF_THE_FIT)
def test_a_level_with_another_learning_rate_than_level_0_is_warned_of_once(name, first, recwarn):
    _, _, spy = searched(OF_THE_FIT[name](), first=first, model=sgd())
    (said,) = warned_of_rates(recwarn)
    assert said.startswith("Level 1 trains at a learning rate of ")
    assert "round_callbacks" in said
    # The numbers that it names are those of the steps.
    told, expected = (float(number) for number in re.findall(r"(\d\.\d+)[ :]", said))
    step = int(re.search(r"from step (\d+)", said)[1])
    assert spy.after[2 * STEPS + step].rate == pytest.approx(told)
    assert spy.after[step].rate == pytest.approx(expected)
    assert told != expected


@pytest.mark.parametrize("name", OF_A_LEVEL)
def test_learning_rates_of_a_level_are_taken_as_they_are(name, recwarn):
    searched(OF_A_LEVEL[name](), model=sgd())
    assert not warned_of_rates(recwarn)


@pytest.mark.parametrize("name", OF_THE_FIT)
def test_round_callbacks_may_set_the_learning_rate(name, recwarn):
    searched(round_callbacks=[OF_THE_FIT[name]()], model=sgd(), epochs_per_round=3)
    assert not warned_of_rates(recwarn)


def test_a_round_callback_that_sets_the_rate_at_one_level_alone_is_not_warned_of(recwarn):
    class Late(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if logs["level"] == 1:
                self.model.optimizer.learning_rate.assign(0.01)
    searched(round_callbacks=[Late()], model=sgd(), epochs_per_round=3)
    assert not warned_of_rates(recwarn)


def test_learning_rates_are_compared_from_the_rewind_step_on(recwarn):
    # Level 0 halves at its second epoch, where later levels begin; theta_k has the rate of then.
    halves = counting(lambda epoch: 0.25 if epoch == 0 else 0.125)
    searched(halves, model=sgd(), rewind_step=STEPS + 1)
    assert not warned_of_rates(recwarn)


def test_rounds_of_steps_compare_learning_rates_too(recwarn):
    searched(OF_THE_FIT["epochs of the fit"](), model=sgd(), epochs_per_round=None,
             steps_per_round=STEPS + 2, epochs=5)
    assert len(warned_of_rates(recwarn)) == 1


def test_a_resumed_search_knows_the_learning_rates_of_level_0(tmp_path, recwarn):
    halve = OF_THE_FIT["epochs of the fit"]
    with pytest.raises(Killed):  # In the second epoch of level 1, where the rates part.
        searched(Kill(2 * STEPS + STEPS - 1), model=sgd(), workdir=tmp_path)
    assert not warned_of_rates(recwarn)
    keras.utils.set_random_seed(0)
    searched(halve(), model=sgd(), workdir=tmp_path)
    assert len(warned_of_rates(recwarn)) == 1


# An interrupted fit.


class Killed(Exception):
    """Stands for the death of the process."""


class Kill(callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.mark.parametrize(("first", "save_freq", "rounds"), short_and_long(
    itertools.product([True, False], ["epoch", 2],
                      [{"epochs_per_round": 2}, {"epochs_per_round": None, "steps_per_round": 3}]),
    [(True, "epoch", {"epochs_per_round": 2}),
     (False, 2, {"epochs_per_round": None, "steps_per_round": 3})]))
def test_a_backup_of_an_interrupted_fit_is_refused(first, save_freq, rounds, tmp_path):
    def fit(*others):
        search, model = lottery(rounds=2, **rounds), compiled()
        backup = callbacks.BackupAndRestore(str(tmp_path / "backup"), save_freq=save_freq)
        batches = networks.Batches()
        order = [search, backup] if first else [backup, search]
        try:
            model.fit(X, Y, batch_size=BATCH, epochs=search.epochs_for(STEPS), verbose=0,
                      callbacks=[batches, *order, *others])
        finally:
            done.append(batches.count)
        return search
    done = []
    with pytest.raises(Killed):
        fit(Kill(STEPS + 3))
    with pytest.raises(LotteryError, match="resumed from a backup of BackupAndRestore") as got:
        fit()
    assert done == [STEPS + 3, 0] and "\n" not in str(got.value)


def test_a_backup_of_a_killed_first_batch_is_none(tmp_path):
    for others in ([Kill(1)], []):
        search = lottery(epochs_per_round=1)
        backup = callbacks.BackupAndRestore(str(tmp_path / "backup"))
        try:
            compiled().fit(X, Y, batch_size=BATCH, epochs=3, verbose=0,
                           callbacks=[backup, search, *others])
        except Killed:
            assert others
    assert search.results.level.tolist() == [0, 1, 2]
