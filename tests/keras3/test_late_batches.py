"""Keras 3 reports the end of batches late, from other threads, on JAX: the search is the same."""

import threading

import keras
import networks3 as networks
import numpy as np
import pytest
from tiers import short_and_long

import lth_keras as lth


class AtOnce(keras.callbacks.Callback):
    """A callback that Keras must call at the end of each batch, and with it all others."""

    def on_train_batch_end(self, batch, logs=None):
        pass


def searched(*others, **options):
    model, x, y = networks.compiled("convolutional")
    search = networks.lottery(check=False, rewind_step=2, **options)
    history = networks.fit(model, x, y, search, *others, validation_data=(x[:20], y[:20]))
    return (search.results.drop(columns="seconds").to_csv(), history.history,
            [ticket.to_bytes() for ticket in search.tickets],
            [weight.tobytes() for weight in model.get_weights()])


def stopping():
    return [keras.callbacks.EarlyStopping("loss", patience=1)]


@pytest.mark.thorough
@pytest.mark.parametrize("rounds", short_and_long([list, stopping], [list], pytest.mark.thorough))
def test_a_search_is_the_same_if_batches_are_reported_late(rounds, monkeypatch):
    threads = set()
    original = lth.LotteryTicketCallback.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        threads.add(threading.get_ident())
        original(self, batch, logs)
    monkeypatch.setattr(lth.LotteryTicketCallback, "on_train_batch_end", on_train_batch_end)
    late = searched(round_callbacks=rounds())
    assert (threading.get_ident() not in threads) is (keras.backend.backend() == "jax")
    threads.clear()
    assert searched(AtOnce(), round_callbacks=rounds()) == late
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("options", [
    {"check": True}, {"epochs_per_round": None, "steps_per_round": 8},
    {"round_callbacks": [AtOnce()]},
    {"round_callbacks": [keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: None)]}])
def test_what_is_due_at_the_end_of_a_batch_is_done_then(options):
    assert networks.lottery(check=False).async_safe
    assert not networks.lottery(**{"check": False, **options}).async_safe


def test_steps_are_counted_where_several_are_executed_at_once():
    model, x, y = networks.compiled("convolutional")
    model.compile("adam", networks.LOGITS, steps_per_execution=3)
    search = networks.lottery(check=False)
    networks.fit(model, x, y, search)
    assert search.results.steps.tolist() == [2 * networks.STEPS] * 3
    assert np.all(search.results.epochs == 2)


def test_several_steps_at_once_of_data_of_unknown_length_are_refused_before_any_training():
    model, x, y = networks.compiled("convolutional")
    before = [weight.tobytes() for weight in model.get_weights()]

    def batches():
        for start in range(0, 40, 4):
            yield x[start:start + 4], y[start:start + 4]
    model.compile("adam", networks.LOGITS, steps_per_execution=4)
    search = networks.lottery(check=False, epochs_per_round=1)
    # Keras 3 would report 12 steps for 10 batches.
    with pytest.raises(lth.LotteryError, match="must know how many batches an epoch has.*"
                                               "Received: steps_per_execution=4, .* unknown"):
        model.fit(batches(), epochs=search.epochs, verbose=0, callbacks=[search])
    assert before == [weight.tobytes() for weight in model.get_weights()]
