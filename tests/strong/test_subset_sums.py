import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize

from lth_keras.errors import LotteryError
from lth_keras.strong.subset_sums import MOST_COEFFICIENTS, subset_sum

numbers = st.floats(-4, 4, width=32)


def all_sums(row):
    return np.array([np.dot(subset, np.asarray(row, np.float64))
                     for subset in itertools.product([0, 1], repeat=len(row))])


@st.composite
def cases(draw):
    count, size = draw(st.integers(0, 5)), draw(st.integers(0, 8))
    return (draw(arrays.arrays(np.float64, count, elements=numbers)),
            draw(arrays.arrays(np.float64, (count, size), elements=numbers)))


@given(cases())
def test_no_subset_is_nearer(case):
    targets, coefficients = case
    masks, errors = subset_sum(targets, coefficients)
    assert masks.dtype == bool and masks.shape == coefficients.shape
    assert errors.dtype == np.float64 and errors.shape == targets.shape
    for target, row, mask, error in zip(targets, coefficients, masks, errors, strict=True):
        assert error == abs(row[mask].sum() - target)
        assert error <= abs(all_sums(row) - target).min() + 1e-12


@given(cases())
def test_a_shared_row_is_as_good_as_a_row_of_its_own_for_each(case):
    targets, coefficients = case
    row = coefficients[0] if len(coefficients) else np.ones(3)
    masks, errors = subset_sum(targets, row)
    assert masks.shape == (len(targets), len(row))
    np.testing.assert_allclose(errors, subset_sum(targets, np.tile(row, (len(targets), 1)))[1],
                               atol=1e-12)
    np.testing.assert_allclose(errors, abs(masks @ row - targets), atol=1e-12)


@pytest.mark.parametrize("size", [1, 6, 11])
def test_an_integer_program_finds_none_that_is_nearer(size):
    draws = np.random.default_rng(size)
    targets, coefficients = draws.uniform(-0.5, 0.5, 6), draws.uniform(-1, 1, (6, size))
    for target, row, error in zip(targets, coefficients, subset_sum(targets, coefficients)[1],
                                  strict=True):
        # Least d with |row @ mask - target| <= d, mask of 0 and 1.
        sides = np.stack([np.append(row, -1), np.append(-row, -1)])
        solved = optimize.milp(
            np.append(np.zeros(size), 1), integrality=np.append(np.ones(size), 0),
            constraints=optimize.LinearConstraint(sides, ub=[target, -target]),
            bounds=optimize.Bounds(0, np.append(np.ones(size), np.inf)))
        assert error == pytest.approx(solved.fun, abs=1e-6)


def test_chunks_change_nothing(monkeypatch):
    draws = np.random.default_rng(0)
    targets, coefficients = draws.uniform(-0.5, 0.5, 50), draws.uniform(-1, 1, (50, 9))
    whole = [*subset_sum(targets, coefficients), *subset_sum(targets, coefficients[0])]
    monkeypatch.setattr("lth_keras.strong.subset_sums._SUMS_AT_ONCE", 2**6)
    parts = [*subset_sum(targets, coefficients), *subset_sum(targets, coefficients[0])]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sums_are_of_float64():
    # In float32, whose numbers near 1 are 6e-8 apart, no subset could be told from the target.
    coefficients = np.random.default_rng(1).uniform(-1, 1, 26).astype(np.float32)
    mask = np.arange(26) % 2 == 0
    target = coefficients[mask].astype(np.float64).sum()
    found, errors = subset_sum([target], coefficients)
    assert errors[0] <= 1e-12
    assert abs(coefficients[found[0]].astype(np.float64).sum() - target) <= 1e-12


def test_whole_numbers_and_no_coefficients():
    masks, errors = subset_sum([3, -1], np.zeros((2, 0)))
    assert masks.shape == (2, 0) and errors.tolist() == [3, 1]
    assert subset_sum([], [])[0].shape == (0, 0)
    masks, errors = subset_sum([5], [1, 2, 4])
    assert masks.tolist() == [[True, False, True]] and errors.tolist() == [0]


@pytest.mark.parametrize(("targets", "coefficients", "says"), [
    ([np.nan], [[1.0]], "targets must be finite.*1 NaN"),
    ([1.0], [[np.inf, 1.0]], "coefficients must be finite"),
    (0.5, [1.0], r"targets must have shape.*targets \(\)"),
    ([0.5, 1.0], [[1.0]], r"coefficients \(1, 1\)"),
    ([0.5], [[[1.0]]], r"coefficients \(1, 1, 1\)"),
    (["a"], [1.0], "targets must be real numbers"),
    ([1j], [1.0], "targets must be real numbers"),
    ([0.5], np.ones(MOST_COEFFICIENTS + 1), "at most 40 coefficients.*Received: 41"),
])
def test_what_cannot_be_summed_is_refused(targets, coefficients, says):
    with pytest.raises(LotteryError, match=says):
        subset_sum(targets, coefficients)
