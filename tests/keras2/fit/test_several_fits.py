"""One search over several fits, and its callback where it is copied, pickled or compiled under."""

import copy
import pickle

import networks
import numpy as np
import pytest
import tf_keras as keras
from networks import BATCH, compiled, X, Y

import lth_keras as lth
from lth_keras.errors import LotteryError

ONE_BY_ONE = pytest.mark.filterwarnings("ignore:fit ended before the search did")


def search(**options):
    options = {"rounds": 2, "fraction": 0.5, "verbose": 0, "check": True, "round_callbacks": [
        keras.callbacks.EarlyStopping("loss", patience=50)], **options}
    return lth.LotteryTicketCallback(**options)


def begun():
    keras.utils.set_random_seed(0)
    return compiled()


def fit(model, lottery, epochs, **options):
    return model.fit(X, Y, batch_size=BATCH, shuffle=False, epochs=epochs, verbose=0,
                     callbacks=[lottery], **options)


def facts(lottery):
    return lottery.results.drop(columns="seconds").to_dict("list")


@pytest.mark.thorough
@ONE_BY_ONE
@pytest.mark.parametrize("options", [{"epochs_per_round": 2}, {"steps_per_round": 6},
                                     {"epochs_per_round": 1, "rewind_step": 2}])
@pytest.mark.parametrize("initial", [False, True])
def test_a_search_over_fits_of_an_epoch_is_that_of_one_fit(options, initial):
    whole, parts = search(**options), search(**options)
    one, other = begun(), begun()
    epochs = whole.epochs_for(networks.STEPS)
    history = fit(one, whole, epochs)
    losses = []
    for epoch in range(epochs):
        counted = {"initial_epoch": epoch} if initial else {}
        losses += fit(other, parts, epoch + 1 if initial else 1, **counted).history["loss"]
    assert losses == history.history["loss"]
    assert facts(parts) == facts(whole) and parts.tickets == whole.tickets
    for mine, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_between_two_fits_the_level_in_training_has_a_row_and_a_warning_says_how_to_go_on():
    lottery, model = search(epochs_per_round=2), begun()
    with pytest.warns(UserWarning, match="Call fit again with the same callback to go on"):
        fit(model, lottery, 3)
    assert lottery.results.level.tolist() == [0, 1] and lottery.results.epochs.tolist() == [2, 1]
    with pytest.raises(LotteryError, match=r"must be 3 at most: .*3 epochs so far. Received: 4"):
        fit(model, lottery, 4)
    fit(model, lottery, 3)
    assert lottery.results.level.tolist() == [0, 1, 2]
    assert lottery.results.epochs.tolist() == [2, 2, 2]


@ONE_BY_ONE
def test_another_model_or_an_interrupted_fit_begins_a_new_search():
    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt
    lottery, model = search(epochs_per_round=1), begun()
    fit(model, lottery, 1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=BATCH, epochs=1, verbose=0, callbacks=[lottery, Stops()])
    fit(begun(), lottery, 1)
    assert lottery.results.level.tolist() == [0]
    fit(begun(), lottery, 3)
    assert lottery.results.level.tolist() == [0, 1, 2]


def test_with_a_workdir_a_search_is_of_one_fit(tmp_path):
    with pytest.raises(LotteryError, match=r"must be 3: .*Received: 1"):
        fit(begun(), search(epochs_per_round=1, workdir=tmp_path / "kept"), 1)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy,
                                    lambda lottery: pickle.loads(pickle.dumps(lottery))])
def test_a_copy_of_the_callback_has_what_it_found_and_can_search(copied, tmp_path):
    lottery = search(epochs_per_round=1)
    fit(begun(), lottery, 3)
    other = copied(lottery)
    assert facts(other) == facts(lottery) and other.tickets == lottery.tickets
    assert other.restored == lottery.restored
    assert other.report(tmp_path / "copy").read_text() == \
        lottery.report(tmp_path / "own").read_text()
    fit(begun(), other, 3)
    assert facts(other) == facts(lottery)


class Compiles(keras.callbacks.Callback):
    """Compiles anew at the end of the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.model.compile("adam", "mse")


class Freezes(Compiles):
    """Freezes a layer instead."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.model.layers[0].trainable = False


class SetsTheRate(Compiles):
    """What is allowed: another learning rate."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate.assign(0.1)


@pytest.mark.parametrize("kind", [Compiles, Freezes])
def test_compiling_or_freezing_within_a_search_is_refused_at_once(kind):
    lottery, batches = search(epochs_per_round=2), networks.Batches()
    with pytest.raises(LotteryError, match="must stay as it was compiled until its search ends"):
        begun().fit(X, Y, batch_size=BATCH, epochs=6, verbose=0,
                    callbacks=[batches, lottery, kind()])
    assert batches.count == networks.STEPS


def test_a_learning_rate_may_change_within_a_search():
    begun().fit(X, Y, batch_size=BATCH, epochs=6, verbose=0,
                callbacks=[search(epochs_per_round=2), SetsTheRate()])
