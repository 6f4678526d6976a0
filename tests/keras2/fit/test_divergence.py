"""Rounds that end with NaN or infinities: said, recorded, and never a ticket."""

import csv

import networks
import numpy as np
import pytest
import tf_keras as keras
from networks import BATCH, compiled, fit, lottery, STEPS, X, Y

import lth_keras as lth
from lth_keras.errors import DivergedError

callbacks = keras.callbacks


def setup_function():
    keras.utils.set_random_seed(0)


class Spoil(callbacks.Callback):
    """Writes a value into one place of a weight, at the end of an epoch or of a batch."""

    def __init__(self, find, value, epoch=None, batch=None):
        super().__init__()
        self.find, self.value, self.epoch, self.batch = find, value, epoch, batch
        self.batches = 0

    def _write(self):
        weight = self.find(self.model)
        spoilt = weight.numpy()
        spoilt.flat[0] = self.value
        weight.assign(spoilt)

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches == self.batch:
            self._write()

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self._write()


def kernel(model):
    return model.layers[0].layer.kernel


def bias(model):
    return model.layers[0].layer.bias


def output_bias(model):
    return model.layers[-1].layer.bias


def variance(model):
    return model.layers[1].moving_variance


def statistics_model():
    return compiled(lth.prune_low_magnitude(networks.normalised()))


def diverged(search, level, model=None, others=(), message=".", **options):
    """The error of a search that must diverge in a level, all that is promised checked."""
    with pytest.raises(DivergedError, match=message) as caught:
        fit(compiled() if model is None else model, search, *others, **options)
    assert f"at level {level}" in str(caught.value) and "\n" not in str(caught.value)
    assert search.results.level.tolist() == list(range(level + 1))
    assert search.results.diverged.tolist() == [False] * level + [True]
    assert [ticket.level for ticket in search.tickets] == list(range(level + 1))
    for ticket in search.tickets:
        assert all(np.isfinite(value).all() for value in ticket.weights.values())
    return caught.value


@pytest.mark.thorough
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("find", [kernel, bias, variance])
def test_a_weight_that_is_not_finite_at_a_rounds_end_is_no_ticket(find, value):
    # Written after the last step of level 0, where the loss cannot show it.
    search = lottery(epochs_per_round=1)
    names = {kernel: "dense/kernel", bias: "dense/bias",
             variance: "batch_normalization/moving_variance"}
    diverged(search, 0, statistics_model(), [Spoil(find, value, epoch=0)],
             f"1 values of '{names[find]}'")


def test_a_step_too_far_is_found_at_the_end_of_its_epoch():
    model, batches = compiled(optimizer=keras.optimizers.SGD(1e30)), networks.Batches()
    search = lottery(epochs_per_round=5)
    diverged(search, 0, model, [batches], "a loss of (nan|inf)")
    assert batches.count == STEPS


@pytest.mark.parametrize("options", [{"epochs_per_round": 1}, {"steps_per_round": STEPS},
                                     {"steps_per_round": 3}])
def test_a_later_level_keeps_the_tickets_before_it(options):
    search = lottery(rounds=3, **options)
    length = options.get("steps_per_round", STEPS)
    diverged(search, 1, others=[Spoil(kernel, np.inf, batch=length + 2)])
    search.ticket.apply(networks.mlp())


def test_the_last_level_is_recorded_too():
    search = lottery(epochs_per_round=1)
    diverged(search, 2, others=[Spoil(bias, np.nan, epoch=2)])
    assert search.ticket.level == 2


def test_theta_is_not_taken_from_a_training_that_diverged():
    search = lottery(epochs_per_round=1, rewind_step=2)
    with pytest.raises(DivergedError, match="at level 0"):
        fit(compiled(), Spoil(bias, np.nan, batch=2), search, epochs=3)
    assert search.tickets == [] and search.results.diverged.tolist() == [True]


@pytest.mark.parametrize("as_round_callback", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_terminate_on_nan_ends_the_fit_at_its_batch(as_round_callback, first):
    nan = callbacks.TerminateOnNaN()
    search = lottery(epochs_per_round=3, round_callbacks=[nan] if as_round_callback else [])
    spoil = Spoil(output_bias, np.nan, batch=3 * STEPS + 1)  # The next batch's loss is NaN.
    order = [spoil, search] if as_round_callback else \
        [spoil, nan, search] if first else [spoil, search, nan]
    with pytest.raises(DivergedError, match="at level 1.*a loss of nan"):
        compiled().fit(X, Y, batch_size=BATCH, epochs=search.epochs, verbose=0,
                       callbacks=order)
    assert spoil.batches == 3 * STEPS + 2
    assert search.results.diverged.tolist() == [False, True]


def test_callbacks_listed_before_are_told_of_the_end(tmp_path):
    path, search = tmp_path / "log.csv", lottery(epochs_per_round=2)
    log = callbacks.CSVLogger(str(path))
    with pytest.raises(DivergedError):
        compiled(optimizer=keras.optimizers.SGD(1e30)).fit(
            X, Y, batch_size=BATCH, epochs=search.epochs, verbose=0, callbacks=[log, search])
    assert log.writer is None
    assert len(list(csv.DictReader(path.read_text().splitlines()))) == 1


def test_best_weights_put_back_do_not_hide_that_the_loss_diverged():
    best = callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    search = lottery(epochs_per_round=9, round_callbacks=[best])
    diverged(search, 0, others=[Spoil(output_bias, np.nan, epoch=1)], message="loss of nan")


def test_a_step_that_loss_scaling_skips_is_no_divergence():
    # A mean loss of NaN, and weights that are as good as before.
    model = compiled(optimizer=keras.mixed_precision.LossScaleOptimizer(
        keras.optimizers.Adam(0.01)))
    targets = Y.copy()
    targets[0] = np.nan
    search = lottery(epochs_per_round=2, rounds=1)
    seen = []
    watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]))

    def epochs():  # The first batch of the first epoch of each round is not finite.
        for epoch in range(4):
            values = Y if epoch % 2 else targets
            for start in range(0, len(X), BATCH):
                yield X[start:start + BATCH], values[start:start + BATCH]
    model.fit(epochs(), steps_per_epoch=STEPS, epochs=4, verbose=0, callbacks=[search, watch])
    assert np.isnan(seen).tolist() == [True, False] * 2
    assert search.results.diverged.tolist() == [False, False]


def test_a_loop_of_ones_own_is_told_and_its_masks_stay():
    search = lth.Search(compiled(), fraction=0.5)
    search.prune_and_rewind()
    before = {name: mask.copy() for name, mask in search.masks.items()}
    bias(search.model).assign(np.full(8, np.inf))
    assert search.not_finite() == {"dense/bias": 8}
    with pytest.raises(DivergedError, match="at level 1.*8 values of 'dense/bias'"):
        search.prune_and_rewind()
    assert search.level == 1 and len(search.tickets) == 2
    for (name, mask), now in zip(before.items(), networks.masks(search.model), strict=True):
        np.testing.assert_array_equal(search.masks[name], mask)
        np.testing.assert_array_equal(now, mask)
