import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lth_keras.experiments.results.significance import chance, holm, no_difference

VALUES = [0.3, -0.1, 0.25, 0.4, 0.05]
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_chance_is_that_of_a_one_sided_t_test():
    for values in (VALUES, [-value for value in VALUES]):
        assert chance(values) == pytest.approx(
            stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert chance([*VALUES, float("nan")]) == chance(VALUES)


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [-1.0, -1.0, -1.0]])
def test_what_shows_nothing_is_left_to_chance(values):
    assert chance(values) == 1.0


def test_equal_values_are_signs_that_agree_and_no_certainty():
    assert chance([0.3 - 0.2, 0.1, 0.7 - 0.6]) == 2 ** -3  # Not all the same bits.
    assert chance([1.0] * 5) == 2 ** -5 < 0.05 < chance([1.0] * 4)


def test_two_one_sided_tests_are_an_interval_within_the_margin():
    low, high = stats.ttest_1samp(VALUES, 0).confidence_interval(0.9)
    assert no_difference(VALUES, high + 1e-6) < 0.05 < no_difference(VALUES, high - 1e-6)
    assert no_difference([-value for value in VALUES], high + 1e-6) < 0.05
    assert no_difference(VALUES, 0.001) > 0.5  # A wide spread is no proof of sameness.
    assert low < 0 < high


def test_a_difference_of_the_margin_passes_for_none_once_in_twenty_times():
    rng = np.random.default_rng(0)
    claimed = np.mean([no_difference(rng.normal(0.2, 0.1, 8), 0.2) <= 0.05 for _ in range(4000)])
    assert claimed == pytest.approx(0.05, abs=0.01)
    assert np.mean([no_difference(rng.normal(0, 0.1, 8), 0.2) <= 0.05 for _ in range(400)]) > 0.99


def test_holm_is_as_in_his_paper():
    assert holm([0.01, 0.005, 0.03]) == pytest.approx([0.02, 0.015, 0.03])
    assert holm([0.04]) == [0.04] and holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


@given(SHARES)
def test_holm_is_what_closed_testing_by_bonferroni_claims(chances):
    corrected = holm(chances)
    places = range(len(chances))
    for place in places:
        families = [family for size in places for family in itertools.combinations(places, size + 1)
                    if place in family]
        closed = max(min(1.0, len(family) * min(chances[member] for member in family))
                     for family in families)
        assert corrected[place] == pytest.approx(closed)
