"""`lottery.best`: the level to take, by the accuracies that levels end with."""

import either
import pytest
from either import PACKAGES
from hypothesis import given
from hypothesis import strategies as st

from lth_keras.core.best_level import sparsest_as_good
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
    rows = [{"level": 0, "val_loss": 0.5, "val_accumulated": 7.0},
            {"level": 1, "val_loss": 0.6, "val_accumulated": 9.0}]
    assert gains(rows)[1] < 0


@given(st.dictionaries(st.integers(1, 9), st.floats(-1, 1)))
def test_none_is_taken_that_was_measured_to_be_worse(found):
    best = sparsest_as_good({0: 0.0, **found})
    assert {0: 0.0, **found}[best] >= 0
    assert all(gain < 0 for level, gain in found.items() if level > best)
