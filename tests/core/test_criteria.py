import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lth_keras.core import criteria
from lth_keras.errors import LotteryError

weights = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
                     elements=st.floats(-10, 10, width=32))


@pytest.mark.parametrize("name", criteria.CRITERIA)
@given(final=weights)
def test_scores_have_the_weights_shape_and_no_nan(name, final):
    initial, rng = np.ones_like(final), np.random.default_rng(0)
    initial.setflags(write=False)
    final.setflags(write=False)
    scores = criteria.get(name)(initial, final, rng)
    assert scores.shape == final.shape
    assert not np.isnan(scores).any()


@pytest.mark.parametrize("name", criteria.CRITERIA)
def test_scores_repeat_with_the_generator(name):
    final = np.linspace(-1, 1, 12).reshape(3, 4)
    first, second = (criteria.get(name)(-final, final, np.random.default_rng(7)) for _ in "ab")
    np.testing.assert_array_equal(first, second)


def test_magnitude_is_of_the_final_weight():
    final = np.array([[-3.0, 0.5], [-0.0, 2.0]])
    scores = criteria.get("magnitude")(np.full((2, 2), 9.0), final, np.random.default_rng(0))
    np.testing.assert_array_equal(scores, [[3.0, 0.5], [0.0, 2.0]])


def test_random_scores_are_draws_from_the_generator_given():
    scores = criteria.get("random")(np.zeros(5), np.ones(5), np.random.default_rng(3))
    np.testing.assert_array_equal(scores, np.random.default_rng(3).random(5))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(LotteryError, match=r"Received: 'size'\. Allowed: magnitude, random"):
        criteria.get("size")


def test_a_function_is_its_own_criterion():
    assert criteria.get(len) is len
    assert criteria.name_of(len) == "len"


@pytest.mark.parametrize("name", criteria.CRITERIA)
def test_a_registered_criterion_is_written_down_by_its_name(name):
    assert criteria.name_of(name) == criteria.name_of(criteria.get(name)) == name


def test_an_object_without_a_name_is_written_down_by_its_type():
    class Signed:
        def __call__(self, initial, final, rng):
            return final

    assert criteria.name_of(Signed()) == "Signed"


def test_a_name_is_registered_once(monkeypatch):
    monkeypatch.setattr(criteria, "CRITERIA", dict(criteria.CRITERIA))
    assert criteria.register("length")(len) is len
    assert criteria.get("length") is len
    assert criteria.name_of(len) == "length"
    with pytest.raises(LotteryError, match="Received: 'length' again"):
        criteria.register("length")(max)
    assert criteria.get("length") is len
