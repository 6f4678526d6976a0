"""`lottery.best`: the level to take, by the accuracies that levels end with."""

import either
import pytest
from either import PACKAGES
from hypothesis import given
from hypothesis import strategies as st

import lth_keras as lth
from lth_keras.core.best_level import judged_by, sparsest_as_good
from lth_keras.errors import LotteryError
from lth_keras.search.fit.round_record import gains

WORSE, EQUAL, BETTER = 0.5, 0.75, 1.0


class Rigged(either.keras_of("tf_keras").callbacks.Callback):
    """Makes the epochs of a fit end with the accuracies that it is given; listed first."""

    def __init__(self, metric, values):
        super().__init__()
        self.metric, self.values = metric, iter(values)

    def on_epoch_end(self, epoch, logs=None):
        logs[self.metric] = next(self.values)


@PACKAGES
@pytest.mark.parametrize(("metric", "values", "level"), [
    ("val_accuracy", [EQUAL, EQUAL, WORSE], 1),
    ("val_accuracy", [EQUAL, WORSE, BETTER], 2),  # A worse level above it does not matter.
    ("val_accuracy", [EQUAL, WORSE, WORSE], 0),
    ("val_loss", [EQUAL, WORSE, BETTER], 1)])
def test_the_best_is_the_sparsest_that_is_as_good_as_dense(package, metric, values, level):
    lottery = either.search()
    metrics = ["accuracy"] if metric == "val_accuracy" else []
    rigged = Rigged(metric, values)
    either.fit(either.compiled(package, metrics), lottery, callbacks=[rigged, lottery])
    assert lottery.best is lottery.tickets[level]
    assert lottery.best.level == level
    assert lottery.results.loc[lottery.best.level][metric] == values[level]


@PACKAGES
def test_without_validation_data_the_error_says_what_to_pass(package):
    lottery = either.search()
    with pytest.raises(LotteryError, match=r"(?s)validation data.*Received: no level"):
        _ = lottery.best
    either.fit(either.compiled(package), lottery, validation_split=0.0)
    with pytest.raises(LotteryError, match="Received: a fit without them.*validation_split"):
        _ = lottery.best


@PACKAGES
@pytest.mark.filterwarnings("ignore:fit ended before the search did")
def test_before_step_k_there_is_no_ticket_to_take(package):
    lottery = either.search(epochs_per_round=4, rewind_step=10)
    either.fit(either.compiled(package), lottery, epochs=1)
    with pytest.raises(LotteryError, match="reached rewind_step"):
        _ = lottery.best
    assert "best" not in repr(lottery)


def test_the_last_epoch_decides_and_not_the_best_one():
    rows = [{"level": 0, "val_loss": 0.5, "val_acc": 0.9, "val_loss_min": 0.5},
            {"level": 1, "val_loss": 0.4, "val_acc": 0.8, "val_loss_min": 0.1}]
    assert gains(rows)[1] == pytest.approx(-0.1)


def test_a_level_that_diverged_or_was_not_measured_is_not_the_best():
    rows = [{"level": 0, "val_acc": 0.5}, {"level": 1, "val_acc": 0.5},
            {"level": 2, "val_acc": 0.9, "diverged": True}, {"level": 3}]
    assert sparsest_as_good(gains(rows)) == 1


def test_an_accuracy_that_is_no_share_is_not_one():
    rows = [{"level": 0, "val_loss": 0.5, "val_accumulated": 7.0, "val_acc": 7.0},
            {"level": 1, "val_loss": 0.6, "val_accumulated": 9.0, "val_acc": 9.0}]
    assert gains(rows)[1] < 0


@pytest.mark.parametrize(("measured", "judged"), [
    (["val_accuracy"], "val_accuracy"), (["val_acc"], "val_acc"), (["val_Acc_1"], "val_Acc_1"),
    (["val_top5_acc"], "val_top5_acc"), (["val_my_accuracy"], "val_my_accuracy"),
    # What is no accuracy, but for a part of its name.
    (["val_acceleration_loss", "val_force_loss"], "val_loss"), (["val_accuracy_loss"], "val_loss"),
    (["val_acc_mae"], "val_loss"), (["val_accessible"], "val_loss"), (["accuracy"], "val_loss"),
    # Several of one output.
    (["val_accuracy", "val_top5_acc"], "val_accuracy"), (["val_a_acc", "val_b_acc"], "val_loss"),
    (["val_my_acc", "val_sparse_categorical_accuracy"], "val_sparse_categorical_accuracy"),
    (["val_accuracy", "val_kl_loss", "val_reconstruction_loss"], "val_accuracy"),
    # Several outputs, of which any number have one.
    (["val_a_accuracy", "val_b_accuracy", "val_a_loss", "val_b_loss"], "val_loss"),
    (["val_a_accuracy", "val_a_loss", "val_b_loss", "val_b_mae"], "val_loss")])
def test_levels_are_judged_by_an_accuracy_of_the_whole_model_or_by_the_loss(measured, judged):
    assert judged_by(dict.fromkeys([*measured, "val_loss"], 0.5)) == judged


def test_accuracies_of_parts_without_a_loss_judge_no_level():
    with pytest.raises(LotteryError, match="Received: val_a_acc, val_b_acc, each of a part"):
        gains([{"level": 0, "val_a_acc": 0.5, "val_b_acc": 0.5}])


@PACKAGES
def test_a_model_of_two_outputs_is_judged_by_its_loss(package):
    keras = either.keras_of(package)
    keras.utils.set_random_seed(0)
    inputs = keras.layers.Input((8,))
    model = keras.Model(inputs, {name: keras.layers.Dense(2, "softmax", name=name)(inputs)
                                 for name in ("easy", "hard")})
    model = lth.prune_low_magnitude(model) if package == "tf_keras" else model
    model.compile("sgd", dict.fromkeys(("easy", "hard"), "sparse_categorical_crossentropy"),
                  metrics={"easy": ["accuracy"], "hard": ["accuracy"]})
    lottery, y = either.search(rounds=1), {"easy": either.Y, "hard": either.Y}
    model.fit(either.X, y, validation_data=(either.X, y), epochs=lottery.epochs, verbose=0,
              callbacks=[lottery])
    assert {"val_easy_accuracy", "val_hard_accuracy"} < {*lottery.results}
    assert repr(lottery).endswith(f"best: level {lottery.best.level} by val_loss>")


@PACKAGES
def test_what_counts_is_the_last_epoch_of_a_round_that_was_validated(package):
    lottery, model = either.search(rounds=1, epochs_per_round=3), either.compiled(package)
    seen = []
    keras = either.keras_of(package)
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(dict(logs)))
    either.fit(model, lottery, watch, validation_freq=2)
    assert [("val_loss" in logs) for logs in seen] == [False, True] * 3
    assert lottery.results.val_loss.tolist() == [seen[1]["val_loss"], seen[5]["val_loss"]]
    assert lottery.results.loss.tolist() == [seen[2]["loss"], seen[5]["loss"]]
    assert lottery.results.early_stop_step[0] == 6
    assert lottery.best in lottery.tickets


@PACKAGES
def test_a_level_0_that_was_not_validated_is_told_from_a_fit_without_validation(package):
    lottery = either.search(rounds=1, epochs_per_round=2)
    either.fit(either.compiled(package), lottery, validation_freq=3)
    with pytest.raises(LotteryError, match="no epoch was validated.*Let validation_freq divide"):
        _ = lottery.best


@PACKAGES
def test_logs_that_are_no_numbers_are_left_out_of_the_rows(package):
    class Telling(either.keras_of(package).callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update(phase="warm-up", parts={"a": 1.0}, ragged=[[1], [1, 2]], of_classes=[1, 2],
                        turned=1j, nothing=None, counted=3)
    lottery = either.search(rounds=1)
    model = either.compiled(package)
    either.fit(model, lottery, callbacks=[Telling(), lottery])
    assert lottery.results.counted.tolist() == [3, 3]
    assert not {"phase", "parts", "ragged", "of_classes", "turned", "nothing"} & {*lottery.results}


def test_a_train_step_may_return_a_dict_of_its_own():
    keras = either.keras_of("tf_keras")

    class Parts(keras.Sequential):
        def train_step(self, data):
            logs = super().train_step(data)
            return {"parts": {"a": logs["loss"]}, "loss": {"whole": logs["loss"]}}
    model = lth.prune_low_magnitude(Parts([keras.Input((8,)), keras.layers.Dense(2)]))
    model.compile("sgd", "mse")
    lottery = either.search(rounds=1)
    model.fit(either.X, either.X[:, :2], epochs=lottery.epochs, verbose=0, callbacks=[lottery])
    assert lottery.results.level.tolist() == [0, 1] and "parts" not in lottery.results


@given(st.dictionaries(st.integers(1, 9), st.floats(-1, 1)))
def test_none_is_taken_that_was_measured_to_be_worse(found):
    best = sparsest_as_good({0: 0.0, **found})
    assert {0: 0.0, **found}[best] >= 0
    assert all(gain < 0 for level, gain in found.items() if level > best)
