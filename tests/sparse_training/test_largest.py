"""The k largest by counting are those of `core.pruning`, and draws are fair and repeat."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lth_keras.core.pruning import without_lowest
from lth_keras.sparse_training import draws
from lth_keras.sparse_training.array_ops import NUMPY
from lth_keras.sparse_training.largest import any_nan, largest, size_bits

SMALL = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 2.0, np.inf])
RNG = np.random.default_rng(0)


def exact(values, number, takes_part):
    taken = int(np.count_nonzero(takes_part)) - number
    return without_lowest({"": values}, {"": takes_part}, taken)[""] != 0


def found(values, number, near=0, takes_part=True):
    keys = np.where(takes_part, size_bits(NUMPY, values), np.int32(-1))
    with np.errstate(over="ignore"):
        return largest(NUMPY, keys, np.int32(number), np.int32(near))


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 9)),
                     elements=SMALL | st.floats(-9, 9, width=32)), st.data())
def test_they_are_the_same_as_those_of_a_sort_whatever_is_equal_and_wherever_it_looks(values, data):
    takes_part = data.draw(arrays.arrays(bool, values.shape))
    number = data.draw(st.integers(0, int(takes_part.sum())))
    near = data.draw(st.integers(0, 2**31 - 1))
    mask, _ = found(values, number, near, takes_part)
    assert (mask == exact(np.abs(values), number, takes_part)).all()


def test_of_equal_ones_the_last_stay():
    mask, _ = found(np.array([1, 2, -1, 1, 1], np.float32), 3)
    assert mask.tolist() == [False, True, False, True, True]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_a_kernel_of_lenet_and_the_step_after(ties, share):
    values = RNG.normal(size=(784, 30)).astype(np.float32)
    values = np.round(values, 1) if ties else values
    number = int(share * values.size)
    mask, near = found(values, number)
    assert (mask == exact(np.abs(values), number, np.ones(mask.shape))).all()
    values *= RNG.normal(1, 1e-4, values.shape).astype(np.float32)
    again, _ = found(values, number, near)
    assert (again == exact(np.abs(values), number, np.ones(mask.shape))).all()


def test_it_counts_less_often_than_once_for_each_bit_where_it_has_been(monkeypatch):
    counted = []
    monkeypatch.setattr(type(NUMPY), "whole", lambda self, value: (
        counted.append(1), np.asarray(value).astype(np.int32))[1])
    values = RNG.uniform(-1, 1, (784, 30)).astype(np.float32)
    _, near = found(values, 11760)
    first = len(counted)
    found(values * np.float32(1.00001), 11760, near)
    assert len(counted) - first < first / 2


def test_a_nan_is_seen():
    values = np.array([1, np.inf, -np.inf], np.float32)
    assert not any_nan(NUMPY, size_bits(NUMPY, values))
    for nan in (np.nan, -np.nan):
        assert any_nan(NUMPY, size_bits(NUMPY, np.append(values, np.float32(nan))))


def test_draws_are_fair_and_differ_by_key_step_and_place():
    def drawn(key=(1, 2), step=3, place=0):
        return draws.uniform(NUMPY, (200, 500), np.array(key, np.int32),
                             np.array([step], np.int32), place)
    first = drawn()
    assert (first == drawn()).all() and first.dtype == np.float32
    assert first.min() >= 0 and first.max() < 1
    counts, _ = np.histogram(first, 100, (0, 1))
    assert abs(counts - 1000).max() < 5 * 1000 ** 0.5  # Five standard deviations.
    for other in (drawn(key=(1, 3)), drawn(key=(2, 2)), drawn(step=4), drawn(place=1),
                  np.roll(first, 1), np.roll(first, 1, axis=0), np.roll(drawn(step=4), 1)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 5 / first.size ** 0.5
