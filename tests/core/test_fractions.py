from decimal import Decimal, ROUND_HALF_EVEN

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import fractions

from lth_keras.core.fractions import by_stage, check, count, plain, Prunable, resolve
from lth_keras.core.structures.coupled import Member, UnitGroup
from lth_keras.errors import LotteryError

HIDDEN = Prunable("a/kernel", "a", "Dense")
CONV = Prunable("c/kernel", "c", "Conv2D")
OUTPUT = Prunable("z/kernel", "z", "Dense", output=True)


@given(fractions, st.integers(0, 10**9))
def test_count_is_the_decimal_product_rounded_half_to_even(fraction, remaining):
    product = Decimal(repr(fraction)) * remaining
    assert count(fraction, remaining) == product.to_integral_value(ROUND_HALF_EVEN)


@pytest.mark.parametrize(("fraction", "remaining", "expected"), [
    (0.2, 10, 2), (0.2, 0, 0), (0.0, 10, 0), (0.5, 1, 0), (0.5, 3, 2), (0.5, 5, 2),
    (0.1, 5, 0), (0.1, 15, 2), (0.1, 25, 2), (0.35, 10, 4), (0.07, 50, 4), (0.07, 150, 10),
    (0.29, 50, 14), (0.2, 235_200, 47_040), (0.1, 1000, 100), (1e-05, 50_000, 0),
    (0.9999999999999999, 10, 10)])
def test_count_in_figures(fraction, remaining, expected):
    assert count(fraction, remaining) == expected


@given(fractions, fractions, st.integers(0, 1000))
def test_count_grows_with_the_fraction_and_never_exceeds_what_remains(one, other, remaining):
    low, high = sorted((one, other))
    assert 0 <= count(low, remaining) <= count(high, remaining) <= remaining


def test_count_takes_numpy_numbers():
    assert count(np.float64(0.07), 150) == 10


@given(fractions)
def test_a_fraction_in_range_is_kept(fraction):
    assert check(fraction) == fraction
    assert check({"default": fraction, "a": 0}) == {"default": fraction, "a": 0.0}


@pytest.mark.parametrize("bad", [1, 1.0, -0.1, float("nan"), float("inf"), "many", None, [], True,
                                 False, 2, 1j, pytest.param(10**400, id="huge")])
def test_a_fraction_outside_its_range_is_an_error(bad):
    with pytest.raises(LotteryError, match=r"in \[0, 1\).* Received: "):
        check(bad)
    with pytest.raises(LotteryError, match=r"fraction\['a'\] must be .* Received: "):
        check({"default": 0.2, "a": bad})


def test_an_empty_mapping_is_an_error():
    with pytest.raises(LotteryError, match="Received: an empty mapping"):
        check({})


def test_checking_does_not_keep_the_callers_mapping():
    mine = {"default": 0.2}
    kept = check(mine)
    mine["default"] = 0.5
    assert kept == {"default": 0.2}


def test_one_number_is_for_all_weights():
    assert resolve(0.3, [HIDDEN, CONV, OUTPUT]) == {"a/kernel": 0.3, "c/kernel": 0.3,
                                                    "z/kernel": 0.3}


@pytest.mark.parametrize(("left_out", "expected"), [
    ((), 0.1), (("z",), 0.2), (("z", "output"), 0.3), (("z", "output", "Dense"), 0.4)])
def test_the_most_specific_entry_wins(left_out, expected):
    entries = {"default": 0.4, "Dense": 0.3, "output": 0.2, "z": 0.1}
    given_entries = {key: value for key, value in entries.items() if key not in left_out}
    assert resolve(given_entries, [OUTPUT]) == {"z/kernel": expected}


def test_output_is_for_the_output_layers_alone():
    assert resolve({"output": 0.1, "Dense": 0.2, "default": 0.3}, [HIDDEN, CONV, OUTPUT]) == {
        "a/kernel": 0.2, "c/kernel": 0.3, "z/kernel": 0.1}


def test_a_weight_without_an_entry_is_an_error_that_names_it():
    with pytest.raises(LotteryError, match=r"Received: .* leaves out 'c/kernel' \(a Conv2D\)"):
        resolve({"Dense": 0.2}, [HIDDEN, CONV])


def test_an_entry_for_no_weight_is_an_error_that_lists_the_layers():
    with pytest.raises(LotteryError, match=r"Received: .*by \['b', 'output'\]\. "
                                           r"Layers: \['a', 'c'\]; types: \['Conv2D', 'Dense'\]"):
        resolve({"default": 0.2, "output": 0.1, "b": 0.3}, [HIDDEN, CONV])


def test_a_default_may_go_unused():
    assert resolve({"default": 0.2, "a": 0.1}, [HIDDEN]) == {"a/kernel": 0.1}


def test_an_entry_that_more_specific_ones_cover_is_no_error():
    assert resolve({"Dense": 0.2, "a": 0.1}, [HIDDEN]) == {"a/kernel": 0.1}


def test_weights_may_be_an_iterator():
    assert resolve({"default": 0.2}, iter([HIDDEN, CONV])) == {"a/kernel": 0.2, "c/kernel": 0.2}
    with pytest.raises(LotteryError, match=r"Layers: \['a', 'c'\]"):
        resolve({"default": 0.2, "b": 0.3}, iter([HIDDEN, CONV]))


def test_no_weights_need_no_fraction():
    assert resolve(0.2, []) == resolve({"default": 0.2}, []) == {}


def test_resolving_checks_the_fraction():
    with pytest.raises(LotteryError, match=r"Received: 1\.5"):
        resolve({"default": 1.5}, [HIDDEN])


STAGED = [Prunable(f"{layer}/kernel", layer, "Conv2D")
          for layer in ("stem", "stage1_conv1", "stage1_conv2", "stage2_conv1")]


def test_a_pattern_is_of_layer_names():
    found = resolve({"stage1_*": 0.6, "Conv2D": 0.2}, STAGED)
    assert list(found.values()) == [0.2, 0.6, 0.6, 0.2]
    assert resolve({"stage?_conv1": 0.5, "default": 0.1}, STAGED) == {
        "stem/kernel": 0.1, "stage1_conv1/kernel": 0.5, "stage1_conv2/kernel": 0.1,
        "stage2_conv1/kernel": 0.5}
    assert resolve({"stage[12]_conv1": 0.5, "default": 0.1}, STAGED)["stage2_conv1/kernel"] == 0.5


@pytest.mark.parametrize(("left_out", "expected"), [
    ((), 0.1), (("z",), 0.2), (("z", "z*"), 0.3), (("z", "z*", "output"), 0.4)])
def test_a_pattern_comes_after_the_name_and_before_the_output(left_out, expected):
    entries = {"z": 0.1, "z*": 0.2, "output": 0.3, "Dense": 0.4}
    given_entries = {key: value for key, value in entries.items() if key not in left_out}
    assert resolve(given_entries, [OUTPUT]) == {"z/kernel": expected}


def test_two_patterns_for_a_layer_are_an_error_that_names_both():
    both = {"stage1_*": 0.6, "*_conv1": 0.1, "default": 0.0}
    with pytest.raises(LotteryError, match=r"Received: 'stage1_\*', '\*_conv1', which all match "
                                           "'stage1_conv1'. Name the layer itself"):
        resolve(both, STAGED)
    assert resolve({**both, "stage1_conv1": 0.3}, STAGED)["stage1_conv1/kernel"] == 0.3


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(LotteryError, match=r"no layer is matched by \['stage9_\*'\]"):
        resolve({"stage9_*": 0.6, "default": 0.2}, STAGED)


def test_a_pattern_is_as_it_is_written():
    with pytest.raises(LotteryError, match="no layer is matched by"):
        resolve({"STAGE1_*": 0.6, "default": 0.2}, STAGED)


def groups(*sizes):
    return [UnitGroup((f"conv{number}",), size, (
        Member(f"conv{number}/kernel", 3, np.arange(size), "filter"),
        Member(f"conv{number + 1}/kernel", 2, np.arange(size))))
        for number, size in enumerate(sizes)]


def test_weights_that_stay_dense_may_have_entries_of_zero():
    assert resolve({"Conv2D": 0.2, "Dense": 0.0}, [CONV], [HIDDEN]) == {"c/kernel": 0.2}
    assert resolve({"default": 0.2, "output": 0.1}, [CONV], [OUTPUT]) == {"c/kernel": 0.2}
    with pytest.raises(LotteryError, match=r"no layer is matched by \['a'\]"):
        resolve({"Conv2D": 0.2, "a": 0.1}, [CONV], [HIDDEN])


def test_a_list_is_by_stage():
    assert list(by_stage((0.6, 0.3, 0.1), groups(16, 16, 32, 64, 64)).values()) == [
        0.6, 0.6, 0.3, 0.1, 0.1]
    # Consecutive: a stage may be as wide as an earlier one.
    assert list(by_stage((0.6, 0.3, 0.1), groups(16, 32, 16)).values()) == [0.6, 0.3, 0.1]


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_numbers_as_stages(count):
    with pytest.raises(LotteryError, match=rf"Received: {count} numbers, .* for 2 stages \(16 "
                                           "filters: conv0 to conv1; 32 filters: conv2\\)"):
        by_stage((0.5,) * count, groups(16, 16, 32))


def test_a_list_is_of_filters_alone():
    with pytest.raises(LotteryError, match=r'needs structure="filters". Received: \[0.6, 0.3\]'):
        resolve([0.6, 0.3], [HIDDEN, CONV])


def test_a_list_is_checked_number_by_number_and_kept_as_json():
    with pytest.raises(LotteryError, match=r"fraction\[1\] must be a number in \[0, 1\)"):
        check([0.6, 1.5])
    assert check([0.6, 0]) == (0.6, 0.0)
    assert plain(check([0.6, 0])) == [0.6, 0.0]
