import os
import pickle
import select

import numpy as np
import pytest

from lth_keras.errors import LotteryError
from lth_keras.experiments import parcels


def doubled(values):
    return values * 2


def failing(text):
    raise LotteryError(text)


def unpicklable():
    return (number for number in range(3))


def test_a_call_and_its_result_go_through_files_that_are_gone_then(tmp_path):
    values = np.arange(100_000)
    parcel = parcels.packed(str(tmp_path), doubled, values)
    answer = parcels.call(parcel, str(tmp_path))
    assert (parcels.opened(answer) == 2 * values).all()
    assert not os.listdir(tmp_path)


def test_what_goes_through_a_pipe_is_written_at_once(tmp_path):
    folder = str(tmp_path / ("f" * 200))
    os.mkdir(folder)
    parcel = parcels.packed(folder, doubled, np.zeros(10**6))
    answer = parcels.call(parcel, folder)
    for message in ((parcels.call, parcel, folder), answer):
        assert len(pickle.dumps(message)) < select.PIPE_BUF / 2


def test_an_error_arrives_with_where_it_was_raised(tmp_path):
    answer = parcels.call(parcels.packed(str(tmp_path), failing, "no"), str(tmp_path))
    with pytest.raises(LotteryError, match="no") as caught:
        parcels.opened(answer)
    assert isinstance(caught.value.__cause__, parcels.RemoteError)
    assert "in failing" in str(caught.value.__cause__)


def test_parcels_are_their_owners_alone(tmp_path):
    path = parcels.send(str(tmp_path), 1)
    assert os.stat(path).st_mode & 0o077 == 0


def test_what_cannot_be_sent_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="generator"):
        parcels.call(parcels.packed(str(tmp_path), unpicklable), str(tmp_path))
