"""A search of a Keras 3 model that is killed and goes on from its workdir: the same bits."""

import keras
import networks3 as networks
import numpy as np
import pytest
from dying import Death, Dies

from lth_keras.keras3.weights import named_weights


def searched(root, *others):
    """A search to its end, or to the death of its process; then None."""
    model, x, y = networks.compiled("convolutional")
    search = networks.lottery(workdir=root, round_callbacks=[
        keras.callbacks.EarlyStopping("loss", patience=1)])
    try:
        history = networks.fit(model, x, y, search, *others, validation_data=(x[:16], y[:16]))
    except Death:
        return None
    weights = {name: np.asarray(keras.ops.convert_to_numpy(variable.value)).tobytes()
               for name, variable in named_weights(model).items()}
    return (search.results.drop(columns="seconds").to_csv(), weights, history.history,
            history.epoch, [ticket.to_bytes() for ticket in search.tickets])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("whole"))


@pytest.mark.thorough
@pytest.mark.parametrize(("hook", "count"), [
    ("on_train_batch_end", 6), *(pytest.param(*case, marks=pytest.mark.thorough) for case in [
        ("on_epoch_begin", 1), ("on_epoch_end", 3), ("on_epoch_begin", 6)])])
def test_a_search_that_is_killed_ends_in_the_same_bits(hook, count, whole, tmp_path):
    assert searched(tmp_path, Dies(hook, count)) is None
    assert searched(tmp_path) == whole
    assert searched(tmp_path) == whole  # It is finished: nothing is trained.


def test_a_workdir_changes_nothing(whole):
    assert searched(None) == whole


def test_a_search_that_ended_before_its_last_epoch_is_finished_and_its_model_trains_on(tmp_path):
    def fitted():
        model, x, y = networks.compiled("convolutional")
        stopping = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1)
        search = networks.lottery(workdir=tmp_path, epochs_per_round=4, round_callbacks=[stopping])
        return model, networks.fit(model, x, y, search).history["loss"], search.results.epochs
    _, losses, epochs = fitted()
    assert len(losses) == 6 and epochs.tolist() == [2, 2, 2]  # Of twelve epochs.
    model, again, epochs = fitted()
    assert again == losses and epochs.tolist() == [2, 2, 2]
    _, x, y = networks.compiled("convolutional")
    assert model.fit(x, y, epochs=2, verbose=0).epoch == [0, 1]
