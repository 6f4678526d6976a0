import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lth_keras.deployment.conversion import converters

WEIGHTS = arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4)),
                        elements=st.floats(-10, 10, width=32).filter(
                            lambda w: w == 0 or abs(w) > 1e-3))


@given(WEIGHTS, st.integers(1, 127))
def test_int8_holds_rounded_weights_exactly(weight, count):
    rounded = converters.share_values(weight, count)
    scales = np.abs(rounded).max(axis=0) / np.float32(127)
    whole = np.rint(rounded / np.where(scales, scales, 1))
    np.testing.assert_array_equal((whole * scales).astype(np.float32), rounded)
    assert np.abs(whole).max(initial=0) <= 127


@given(WEIGHTS, st.integers(1, 127))
def test_a_unit_has_few_values_near_what_they_were_and_zeros_stay(weight, count):
    rounded = converters.share_values(weight, count)
    assert rounded.dtype == weight.dtype and rounded.shape == weight.shape
    assert not rounded[weight == 0].any() and not np.signbit(rounded[rounded == 0]).any()
    largest = np.abs(weight).max(axis=0)
    for unit in range(weight.shape[1]):
        assert len(np.unique(rounded[:, unit])) <= 2 * count + 1
    # Half a step between levels, half a whole number, and a scale of eight bits.
    most = largest * (0.5 / count + 0.5 / 127 + 1 / 256)
    assert (np.abs(rounded - weight) <= most + 1e-7).all()


def test_all_levels_are_int8s_own():
    weight = np.arange(-127, 128, dtype=np.float32)[:, None] / 8
    np.testing.assert_array_equal(converters.share_values(weight, 127), weight)


@pytest.mark.parametrize(("value", "short"), [(1 + 1 / 256, 1.0), (1 + 3 / 256, 1 + 1 / 64),
                                              (-3.0, -3.0), (0.0, 0.0)])
def test_a_shortened_number_has_eight_bits(value, short):
    assert converters.shorten(np.array(value)) == short


@given(arrays.arrays(np.float32, 5, elements=st.floats(
    -1e6, 1e6, width=32, allow_subnormal=False)))
def test_two_bytes_of_a_shortened_number_are_zero(values):
    assert not (converters.shorten(values).view(np.uint32) & 0xFFFF).any()
