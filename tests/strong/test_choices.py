import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_keras.errors import LotteryError
from lth_keras.strong.choices import CHOICES, errors_at_width
from lth_keras.strong.subset_sums import subset_sum


def medians(method, widths, draws):
    rng = np.random.default_rng(0)
    return np.array([np.median(errors_at_width(method, width, draws, rng)) for width in widths])


def slope(x, y):
    return np.polyfit(x, y, 1)[0]


@pytest.mark.parametrize("method", CHOICES)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(0, 6))
def test_the_error_is_that_of_what_is_kept(method, seed, width, count):
    rng = np.random.default_rng(seed)
    targets = rng.uniform(-1, 1, count)
    first, second = rng.uniform(-1, 1, (2, count, width))
    masks, errors = CHOICES[method](targets, first, second)
    assert masks.dtype == bool and masks.shape == (count, width)
    products = np.maximum(first, 0) * second
    np.testing.assert_allclose(errors, abs((products * masks).sum(axis=1) - targets), atol=1e-12)
    assert (errors <= abs(targets) + 1e-12).all()
    assert not masks[products == 0].any()
    if method != "subset_sum":
        assert (masks.sum(axis=1) <= 1).all()
    # No way is better than the next.
    order = ["malach", "product", "subset_sum"]
    for better in order[order.index(method):]:
        assert (CHOICES[better](targets, first, second)[1] <= errors + 1e-12).all()


def test_errors_of_subset_sums_fall_exponentially():
    # Claim B1, over coefficients from U[-1, 1].
    rng, sizes = np.random.default_rng(0), (5, 10, 15, 20, 25)
    found = [np.median(subset_sum(rng.uniform(-0.5, 0.5, 200), rng.uniform(-1, 1, (200, size)))[1])
             for size in sizes]
    assert -0.33 <= slope(sizes, np.log10(found)) <= -0.25


def test_errors_of_single_neurons_fall_as_powers_of_the_width():
    # Claim B3.
    widths = [100, 300, 1000, 3000, 10_000]
    matched, by_product = (slope(np.log10(widths), np.log10(medians(method, widths, 300)))
                           for method in ("malach", "product"))
    assert -0.6 <= matched <= -0.4
    assert -1.1 <= by_product <= -0.9


@pytest.mark.parametrize("width", [10, 16, 24])
def test_subset_sums_are_nearer_than_single_neurons_from_ten_on(width):
    found = {method: medians(method, [width], 300)[0] for method in CHOICES}
    assert found["subset_sum"] < found["product"] < found["malach"]


@pytest.mark.parametrize(("arguments", "says"), [
    (("milp", 4, 1), "method must be one of subset_sum, malach, product"),
    (("malach", 0, 1), "width must be a whole number >= 1"),
    (("malach", 4, 0), "draws must be a whole number >= 1"),
    (("subset_sum", 41, 1), "at most 40"),
])
def test_what_cannot_be_drawn_is_refused(arguments, says):
    with pytest.raises(LotteryError, match=says):
        errors_at_width(*arguments, np.random.default_rng(0))
