import numpy as np
import pytest

from lth_keras.errors import LotteryError
from lth_keras.strong.pensia import least_counts, sums_of_weights


def network():
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.1, (7, 4)), rng.normal(0, 0.2, (4, 3))]


@pytest.mark.parametrize("shared", [False, True])
def test_errors_and_counts_are_those_of_the_sums(shared):
    kernels = network()
    found = sums_of_weights(kernels, 12, seed=3, shared=shared)
    for kernel, sums, errors in zip(kernels, found.kernels, found.errors, strict=True):
        np.testing.assert_array_equal(errors, abs(sums - kernel))
    assert found.largest_error == max(errors.max() for errors in found.errors)
    assert found.drawn == 12 * 40
    assert found.kept_per_weight == found.kept / 40
    assert 12 * 0.3 < found.kept_per_weight < 12 * 0.7


def test_coefficients_lie_within_the_weights_and_are_those_of_the_seed():
    kernels = network()
    low, high = min(k.min() for k in kernels), max(k.max() for k in kernels)
    one = [k.copy() for k in sums_of_weights(kernels, 1, seed=0).kernels]
    assert all(((k == 0) | ((low <= k) & (k <= high))).all() for k in one)
    for count in (1, 9):
        first, again, other = (sums_of_weights(kernels, count, seed) for seed in (0, 0, 1))
        for each, same, differs in zip(first.kernels, again.kernels, other.kernels, strict=True):
            np.testing.assert_array_equal(each, same)
            assert (each != differs).any()


def test_a_neurons_weights_share_coefficients_if_asked():
    # Of one coefficient, a sum is that or 0.
    def used(shared):
        kernel = sums_of_weights(network(), 1, seed=0, shared=shared).kernels[0]
        return max(len(set(kernel[:, output]) - {0.0}) for output in range(4))
    assert used(True) == 1 < used(False)
    # Each neuron draws its own.
    kernel = np.ones((2, 5)) * [-1, 1, 1, 1, 1]
    sums = sums_of_weights([kernel], 1, seed=0, shared=True).kernels[0][0]
    assert len(set(sums) - {0.0}) == np.count_nonzero(sums) > 1


@pytest.mark.parametrize("shared", [False, True])
def test_the_least_counts_are_the_least(shared):
    kernels = network()
    counts = least_counts(kernels, 0.02, 12, seed=5, shared=shared)
    for n in range(1, 13):
        errors = sums_of_weights(kernels, n, seed=5, shared=shared).errors
        for count, error in zip(counts, errors, strict=True):
            np.testing.assert_array_equal(count <= n, error <= 0.02)
    assert max(each.max() for each in least_counts(kernels, 1e-9, 4, 5, shared)) == 5


@pytest.mark.parametrize(("call", "says"), [
    (lambda: sums_of_weights(network(), 0, 0), "count must be a whole number >= 1"),
    (lambda: sums_of_weights(network(), 41, 0), "count must be at most 40"),
    (lambda: sums_of_weights([np.zeros(3)], 4, 0), r"\(inputs, outputs\).*\(3,\)"),
    (lambda: least_counts(network(), 0.0, 4, 0), "within must be above 0"),
])
def test_what_cannot_be_drawn_is_refused(call, says):
    with pytest.raises(LotteryError, match=says):
        call()
