import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lth_keras.core import criteria
from lth_keras.errors import LotteryError

weights = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
                     elements=st.floats(-10, 10, width=32))


# Those that score whole filters alone have tests of their own: test_unit_criteria.
SINGLE = [name for name, criterion in criteria.CRITERIA.items() if not criterion.units_only]


def needed(name, final):
    """An array for each need of a criterion."""
    return {need: np.linspace(-2, 2, final.size).reshape(final.shape)
            for need in criteria.get(name).needs}


@pytest.mark.parametrize("name", SINGLE)
@given(final=weights)
def test_scores_have_the_weights_shape_and_no_nan(name, final):
    initial, rng = np.ones_like(final), np.random.default_rng(0)
    initial.setflags(write=False)
    final.setflags(write=False)
    scores = criteria.get(name)(initial, final, rng, **needed(name, final))
    assert scores.shape == final.shape
    assert not np.isnan(scores).any()


@pytest.mark.parametrize("name", SINGLE)
def test_scores_repeat_with_the_generator(name):
    final = np.linspace(-1, 1, 12).reshape(3, 4)
    first, second = (criteria.get(name)(-final, final, np.random.default_rng(7),
                                         **needed(name, final)) for _ in "ab")
    np.testing.assert_array_equal(first, second)


def test_magnitude_is_of_the_final_weight():
    final = np.array([[-3.0, 0.5], [-0.0, 2.0]])
    scores = criteria.get("magnitude")(np.full((2, 2), 9.0), final, np.random.default_rng(0))
    np.testing.assert_array_equal(scores, [[3.0, 0.5], [0.0, 2.0]])


def test_random_scores_are_draws_from_the_generator_given():
    scores = criteria.get("random")(np.zeros(5), np.ones(5), np.random.default_rng(3))
    np.testing.assert_array_equal(scores, np.random.default_rng(3).random(5))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(LotteryError, match="Received: 'size'. Allowed: .*magnitude, .*random, .*t"):
        criteria.get("size")


def test_a_function_is_its_own_criterion():
    assert criteria.get(len).score is len
    assert criteria.name_of(len) == "len"


@pytest.mark.parametrize("name", SINGLE)
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
    assert criteria.get("length").score is len
    assert criteria.name_of(len) == "length"
    with pytest.raises(LotteryError, match="Received: 'length', which"):
        criteria.register("length")(max)
    assert criteria.get("length").score is len


def test_taylor_is_the_change_of_a_loss_that_is_linear():
    final, gradient = np.array([1.0, -2.0, 3.0, 0.0]), np.array([0.5, 0.25, -1.0, 9.0])
    def loss(weights):
        return float(gradient @ weights)
    without = [loss(np.where(np.arange(4) == index, 0, final)) for index in range(4)]
    scores = criteria.get("taylor")(None, final, None, gradient=gradient)
    np.testing.assert_allclose(scores, np.abs(np.array(without) - loss(final)))


# Zhou et al.'s table: initial and final values -> from which weight on they are kept, best first.

INITIAL = np.array([0.5, -2.0, 1.0, -0.25])
FINAL = np.array([-3.0, -1.0, 1.5, -0.5])


@pytest.mark.parametrize(("name", "best_first"), [
    ("large_final", [0, 2, 1, 3]), ("small_final", [3, 1, 2, 0]), ("large_init", [1, 2, 0, 3]),
    ("small_init", [3, 0, 2, 1]), ("magnitude_increase", [0, 2, 3, 1]), ("movement", [0, 1, 2, 3]),
    ("large_final_same_sign", [2, 1, 3, 0]), ("large_final_diff_sign", [0, 1, 2, 3]),
    ("magnitude_increase_same_sign", [2, 3, 1, 0]),
    ("magnitude_increase_diff_sign", [0, 1, 2, 3])])
def test_zhous_criteria_order_weights_as_their_table_says(name, best_first):
    scores = criteria.get(name)(INITIAL, FINAL, None)
    assert np.argsort(-scores, kind="stable").tolist() == best_first


def test_a_weight_that_shrank_stays_before_those_of_another_sign():
    scores = criteria.get("magnitude_increase_same_sign")(INITIAL, FINAL, None)
    assert scores[1] == -1.0 and scores[0] == -np.inf


@given(values=hnp.arrays(np.float64, (2, 30), elements=st.floats(-9, 9), unique=True),
       kept=hnp.arrays(np.uint8, 30, elements=st.integers(0, 1)))
def test_large_init_large_final_keeps_what_is_above_one_percentile_in_both(values, kept):
    initial, final = values
    scores = criteria.get("large_init_large_final")(initial, final, None, mask=kept)
    left = np.flatnonzero(kept)
    for threshold in range(len(left)):
        above = {*left[np.argsort(np.abs(initial[left]), kind="stable")][threshold:]} & {
            *left[np.argsort(np.abs(final[left]), kind="stable")][threshold:]}
        assert {*left[scores[left] >= threshold]} == above


# Needs.

def by_mask(initial, final, rng, *, mask, gradient):
    return final * mask * gradient


@pytest.mark.parametrize("needs", [("mask",), ("mask", "gradient", "activations"), ()])
def test_what_is_declared_and_what_is_taken_must_be_the_same(needs):
    with pytest.raises(LotteryError, match="exactly what it declares.*Received: 'by_mask'"):
        criteria.register("by_mask", needs)(by_mask)
    assert "by_mask" not in criteria.CRITERIA


@pytest.mark.parametrize("score", [
    by_mask, lambda initial, final, rng, gradient, mask: final,
    lambda *three, mask, gradient: three[1], lambda *three, **more: three[1],
    lambda initial, final, rng, mask=None, gradient=None: final])
def test_any_way_of_taking_what_is_declared_will_do(score):
    criterion = criteria.Criterion("own", score, ["mask", "gradient"])
    assert criterion.needs == ("mask", "gradient")
    assert criteria.get(criterion) is criterion and criteria.name_of(criterion) == "own"


def test_a_function_that_takes_more_than_three_must_be_registered_with_its_needs():
    with pytest.raises(LotteryError, match="'mask', 'gradient' is only .*register\\(name, needs="):
        criteria.get(by_mask)
    with pytest.raises(LotteryError, match="'power' is only declared or only an argument"):
        criteria.get(lambda initial, final, rng, power: final ** power)
    assert criteria.get(lambda initial, final, rng, power=2: final ** power).needs == ()


def test_a_registered_function_brings_its_needs(monkeypatch):
    monkeypatch.setattr(criteria, "CRITERIA", dict(criteria.CRITERIA))
    criteria.register("by_mask", ("mask", "gradient"))(by_mask)
    assert criteria.get(by_mask) is criteria.get("by_mask")
    assert criteria.get(by_mask).needs == ("mask", "gradient")


def test_needs_are_checked_before_training_and_who_provides_them_is_said():
    criterion = criteria.Criterion("own", lambda *three, **more: 0, ("mask", "gradient", "flow"))
    assert criteria.check_needs(criterion, ("gradient", "flow"), "Search") is criterion
    with pytest.raises(LotteryError) as error:
        criteria.check_needs(criterion, (), "Search")
    said = str(error.value)
    assert said.startswith("Search must provide what its criterion needs. Received: 'own', which "
                           "needs gradient, flow; provided is only mask. gradient: ")
    assert "by lth run" in said and "scoring_data=(x, y)" in said
    assert said.endswith("flow: nobody provides it yet.")
