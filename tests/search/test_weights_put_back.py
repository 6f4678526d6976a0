"""Weights that other callbacks and the user put back within a search, or move past its masks."""

import warnings

import either
import numpy as np
import pytest
from either import compiled, fit, keras_of, PACKAGES, search

import lth_keras as lth
from lth_keras.errors import DivergedError, LotteryError

UNFINISHED = pytest.mark.filterwarnings("ignore:fit ended before the search did")
LEFT = {"tf_keras": "must keep the masks of its level.*Received: other masks of hidden/kernel",
        "keras": "pruned weights that are not zero in hidden/kernel"}


def early_stopping(package, **options):
    return keras_of(package).callbacks.EarlyStopping(
        "loss", restore_best_weights=True, min_delta=1e9, **options)


def checkpoints(package, folder):
    return keras_of(package).callbacks.ModelCheckpoint(
        str(folder / "{epoch}.weights.h5"), save_weights_only=True)


@pytest.mark.parametrize("first", [False, True])
def test_best_weights_of_an_earlier_level_are_refused_as_a_fit_of_keras_3_ends(first):
    # It puts them back also if it never stopped the fit.
    model, lottery, stop = compiled("keras"), search(), early_stopping("keras", patience=50)
    with pytest.raises(LotteryError, match=LEFT["keras"]) as refused:
        fit(model, lottery, callbacks=[stop, lottery] if first else [lottery, stop])
    assert "in round_callbacks" in str(refused.value)
    assert lottery.ticket.density == 0.25


def test_a_best_epoch_of_the_last_level_is_nothing_to_refuse():
    model, lottery = compiled("keras"), search(rounds=1, epochs_per_round=2)

    class Logs(keras_of("keras").callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["best"] = [4, 3, 1, 2][epoch]

    stop = keras_of("keras").callbacks.EarlyStopping("best", patience=9, mode="min",
                                                     restore_best_weights=True)
    fit(model, lottery, Logs(), stop)
    lottery._fit_search.search.check_trained()
    assert len(lottery.results) == 2


@UNFINISHED
@PACKAGES
def test_a_fit_that_early_stopping_ended_says_whose_weights_it_left_and_ends_the_search(package):
    model, lottery = compiled(package), search(rounds=3, epochs_per_round=2)
    with pytest.warns(UserWarning, match=LEFT[package]):
        fit(model, lottery, early_stopping(package, patience=3))
    assert lottery.ticket.density == 0.5
    with pytest.raises(LotteryError, match=LEFT[package]):
        fit(model, lottery, epochs=4)


@UNFINISHED
@PACKAGES
def test_weights_of_another_level_that_are_loaded_between_fits_are_refused(package, tmp_path):
    model, lottery = compiled(package), search(epochs_per_round=2)
    fit(model, lottery, checkpoints(package, tmp_path), epochs=3)
    model.load_weights(tmp_path / "3.weights.h5")  # Of this level.
    fit(model, lottery, epochs=1)
    model.load_weights(tmp_path / "1.weights.h5")
    with pytest.raises(LotteryError, match=LEFT[package]):
        fit(model, lottery, epochs=2)


@PACKAGES
def test_a_loop_of_ones_own_is_told_of_weights_of_another_level(package, tmp_path):
    model = compiled(package)
    rounds = lth.Search(model, fraction=0.5)
    for level in (0, 1):
        model.fit(either.X, either.Y, verbose=0)
        model.save_weights(tmp_path / f"{level}.weights.h5")
        if not level:
            rounds.prune_and_rewind()
    model.load_weights(tmp_path / "0.weights.h5")
    with pytest.raises(LotteryError, match=LEFT[package]):
        rounds.prune_and_rewind()
    model.load_weights(tmp_path / "1.weights.h5")
    rounds.prune_and_rewind()
    assert rounds.density == 0.25


@PACKAGES
@pytest.mark.parametrize("first", [False, True])
def test_weights_averaged_over_levels_are_refused(package, first):
    class Averages(keras_of(package).callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.seen = []

        def on_epoch_end(self, epoch, logs=None):
            self.seen.append(self.model.get_weights())

        def on_train_end(self, logs=None):
            self.model.set_weights([np.mean(values, axis=0) for values
                                    in zip(*self.seen, strict=True)])

    model, lottery = compiled(package), search()
    callbacks = [Averages(), lottery] if first else [lottery, Averages()]
    with pytest.raises(LotteryError, match=LEFT[package]):
        fit(model, lottery, callbacks=callbacks)


@pytest.mark.parametrize("rounds", [1, 2])
def test_what_trains_past_the_masks_is_refused_in_every_level(rounds):
    class Regrows(keras_of("keras").callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                kernel = self.model.layers[0].kernel
                kernel.assign(np.ones(kernel.shape))

    lottery = search(rounds=rounds, epochs_per_round=2 if rounds == 1 else 1)
    with pytest.raises(LotteryError, match=LEFT["keras"]):
        fit(compiled("keras"), lottery, callbacks=[Regrows(), lottery])


def test_a_finished_search_with_a_workdir_keeps_no_such_weights(tmp_path):
    model, lottery = compiled("keras"), search(workdir=tmp_path)
    stop = early_stopping("keras", patience=50)
    with pytest.raises(LotteryError, match=LEFT["keras"]):
        fit(model, lottery, callbacks=[stop, lottery])
    fit(compiled("keras"), again := search(workdir=tmp_path))
    assert again.results.density.tolist() == [1, 0.5, 0.25]
    assert again._fit_search.search.check_trained() is None


@PACKAGES
def test_an_ordinary_search_is_told_nothing_of_the_kind(package):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*Received")
        model, lottery = compiled(package), search()
        history = fit(model, lottery)
        model.fit(either.X, either.Y, verbose=0)
    assert "on_train_end" not in vars(history)


def test_a_dense_file_that_is_loaded_after_a_search_is_noticed_as_the_next_fit_begins(tmp_path):
    model, lottery = compiled("keras"), search()
    fit(model, lottery, checkpoints("keras", tmp_path))
    model.load_weights(tmp_path / "1.weights.h5")
    with pytest.warns(UserWarning, match="not zero in hidden/kernel.*as they are"):
        model.fit(either.X, either.Y, verbose=0)


def averaging():
    model = compiled("keras", optimizer=keras_of("keras").optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5))
    return model, keras_of("keras").callbacks.SwapEMAWeights(swap_on_epoch=True)


@pytest.mark.parametrize("inner", [False, True])
def test_averages_that_are_swapped_in_after_a_rewinding_are_refused(inner):
    model, swap = averaging()
    lottery = search(rounds=1, round_callbacks=[swap] if inner else [])
    with pytest.raises(LotteryError, match="have moved since .hidden/kernel.*SwapEMAWeights"):
        fit(model, lottery, *([] if inner else [swap]))


def test_averages_that_are_swapped_before_a_rewinding_leave_the_level_at_its_start():
    model, swap = averaging()
    lottery, begun = search(rounds=1), []

    class Begins(keras_of("keras").callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                begun.append(model.layers[0].kernel.numpy())

    fit(model, lottery, callbacks=[swap, lottery, Begins()])
    np.testing.assert_array_equal(begun[1], begun[0] * lottery.ticket.masks["hidden/kernel"])


@PACKAGES
def test_weights_set_between_a_rewinding_and_its_first_step_are_refused(package):
    class Sets(keras_of(package).callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            bias = self.model.get_layer("out").kernel
            bias.assign(bias * 2)

    model, lottery = compiled(package), search(rounds=1)
    with pytest.raises(LotteryError, match="must begin with the weights that it was rewound to"):
        fit(model, lottery, Sets())
    fit(compiled(package), again := search(rounds=1), callbacks=[Sets(), again])


@PACKAGES
def test_a_constant_that_is_infinite_is_told_from_a_divergence(package):
    layers = keras_of(package).layers

    class Causal(layers.Layer):
        def build(self, shape):
            self.shut = self.add_weight(name="shut", shape=(2,), trainable=False,
                                        initializer="zeros")

        def call(self, inputs):
            return inputs + self.shut

    model = compiled(package)
    model = keras_of(package).Sequential([*model.layers, causal := Causal()])
    model.build((None, 8))
    model.compile("sgd", "mse")
    causal.shut.assign([0, -np.inf])
    with pytest.raises(DivergedError, match="No step was taken yet: .*such as -1e9"):
        lth.Search(model)
