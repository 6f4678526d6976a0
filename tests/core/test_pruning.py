from decimal import Decimal, ROUND_HALF_EVEN

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import fractions, scored, scored_distinctly

from lth_keras.core import masks
from lth_keras.core.pruning import prune, SCOPES
from lth_keras.errors import LotteryError

scopes = st.sampled_from(SCOPES)


def expected_count(fraction, remaining):
    product = Decimal(repr(fraction)) * remaining
    return int(product.to_integral_value(ROUND_HALF_EVEN))


def kept(mask):
    return int(np.count_nonzero(mask))


@given(scored(), st.data())
def test_layer_scope_prunes_the_exact_count_of_each_weight(case, data):
    scores, before = case
    shares = {name: data.draw(fractions) for name in before}
    after = prune(scores, before, shares, "layer")
    for name, mask in before.items():
        assert kept(mask) - kept(after[name]) == expected_count(shares[name], kept(mask))


@given(scored(), fractions, fractions, st.data())
def test_global_scope_prunes_the_exact_count_of_those_that_share_a_fraction(case, one, other, data):
    scores, before = case
    shares = {name: data.draw(st.sampled_from([one, other])) for name in before}
    after = prune(scores, before, shares, "global")
    for share in set(shares.values()):
        names = [name for name in before if shares[name] == share]
        remaining = sum(kept(before[name]) for name in names)
        left = sum(kept(after[name]) for name in names)
        assert remaining - left == expected_count(share, remaining)


@given(scored(), fractions, scopes)
def test_masks_are_nested_and_like_those_given(case, fraction, scope):
    scores, before = case
    after = prune(scores, before, fraction, scope)
    assert list(after) == list(before)
    assert masks.revived(after, before) == {}
    for name, mask in after.items():
        assert mask.dtype == np.uint8 and mask.shape == before[name].shape
        assert set(np.unique(mask)) <= {0, 1}


@given(scored(), fractions, scopes)
def test_no_pruned_weight_scores_above_a_kept_one(case, fraction, scope):
    scores, before = case
    after = prune(scores, before, fraction, scope)
    groups = [[name] for name in before] if scope == "layer" else [list(before)]
    for names in groups:
        gone = [scores[name][(before[name] == 1) & (after[name] == 0)] for name in names]
        left = [scores[name][after[name] == 1] for name in names]
        gone, left = np.concatenate(gone), np.concatenate(left)
        assert not gone.size or not left.size or gone.max() <= left.min()


@given(scored_distinctly(), fractions, scopes)
def test_distinct_scores_follow_the_published_definition(case, fraction, scope):
    scores, before = case
    after = prune(scores, before, fraction, scope)
    remaining = sorted((float(scores[name][index]), name, index) for name, mask in before.items()
                       for index in np.ndindex(mask.shape) if mask[index])
    groups = [[name] for name in before] if scope == "layer" else [list(before)]
    survivors = set()
    for names in groups:
        ranked = [entry for entry in remaining if entry[1] in names]
        survivors.update(ranked[expected_count(fraction, len(ranked)):])
    assert survivors == {(float(scores[name][index]), name, index) for name, mask in after.items()
                         for index in np.ndindex(mask.shape) if mask[index]}


@given(scored(), fractions, scopes)
def test_the_scores_of_pruned_weights_do_not_matter(case, fraction, scope):
    scores, before = case
    expected = prune(scores, before, fraction, scope)
    blank = {name: np.where(before[name] == 1, scores[name], np.nan) for name in scores}
    after = prune(blank, before, fraction, scope)
    for name in before:
        np.testing.assert_array_equal(after[name], expected[name])


@given(scored(), fractions, scopes)
def test_nothing_given_is_written_to(case, fraction, scope):
    scores, before = case
    copies = {name: (scores[name].copy(), before[name].copy()) for name in before}
    for array in [*scores.values(), *before.values()]:
        array.setflags(write=False)
    after = prune(scores, before, fraction, scope)
    for name, (score, mask) in copies.items():
        np.testing.assert_array_equal(scores[name], score)
        np.testing.assert_array_equal(before[name], mask)
        assert not np.shares_memory(after[name], before[name])


@given(scored(), fractions, scopes)
def test_the_order_in_memory_does_not_matter(case, fraction, scope):
    scores, before = case
    expected = prune(scores, before, fraction, scope)
    after = prune({name: np.asfortranarray(score) for name, score in scores.items()},
                  {name: np.asfortranarray(mask) for name, mask in before.items()}, fraction, scope)
    for name in before:
        np.testing.assert_array_equal(after[name], expected[name])


def test_equal_scores_go_by_position():
    before = {"w": np.array([[1, 0, 1], [1, 1, 0]], np.uint8)}
    after = prune({"w": np.zeros((2, 3))}, before, 0.5)
    np.testing.assert_array_equal(after["w"], [[0, 0, 0], [1, 1, 0]])


def test_equal_scores_of_several_weights_go_by_the_order_of_the_masks():
    before = {"z": np.ones((1, 3), np.uint8), "a": np.ones((2, 2), np.uint8)}
    scores = {"a": np.zeros((2, 2)), "z": np.zeros((1, 3))}
    after = prune(scores, before, 0.6, "global")
    np.testing.assert_array_equal(after["z"], [[0, 0, 0]])
    np.testing.assert_array_equal(after["a"], [[0, 1], [1, 1]])


def test_ties_at_the_boundary_go_by_position_among_themselves():
    scores = {"w": np.array([2.0, 1.0, 1.0, 0.0, 1.0])}
    after = prune(scores, {"w": np.ones(5)}, 0.6)
    np.testing.assert_array_equal(after["w"], [1, 0, 0, 0, 1])


def test_zeros_of_both_signs_are_equal():
    after = prune({"w": np.array([0.0, -0.0, 0.0, -0.0])}, {"w": np.ones(4)}, 0.5)
    np.testing.assert_array_equal(after["w"], [0, 0, 1, 1])


def test_ties_among_many_weights_go_by_position():
    scores = np.random.default_rng(0).integers(0, 4, 1000).astype(float)
    after = prune({"w": scores}, {"w": np.ones(1000)}, 0.4)
    dropped = sorted(range(1000), key=lambda position: (scores[position], position))[:400]
    assert np.flatnonzero(after["w"] == 0).tolist() == sorted(dropped)


def test_infinite_scores_are_scores():
    after = prune({"w": np.array([np.inf, 0.0, -np.inf, np.inf])}, {"w": np.ones(4)}, 0.5)
    np.testing.assert_array_equal(after["w"], [1, 0, 0, 1])


def test_global_scope_compares_between_weights_and_layer_scope_does_not():
    scores = {"low": np.array([1.0, 2.0]), "high": np.array([3.0, 4.0])}
    before = masks.ones({"low": (2,), "high": (2,)})
    together, apart = (prune(scores, before, 0.5, scope) for scope in ("global", "layer"))
    assert [together[name].tolist() for name in scores] == [[0, 0], [1, 1]]
    assert [apart[name].tolist() for name in scores] == [[0, 1], [0, 1]]


def test_global_scope_compares_only_weights_that_share_a_fraction():
    scores = {"a": np.arange(4.0), "out": np.arange(4.0) - 9, "b": np.arange(4.0) + 2}
    before = masks.ones(dict.fromkeys(scores, (4,)))
    after = prune(scores, before, {"a": 0.5, "out": 0.0, "b": 0.5}, "global")
    assert [(name, mask.tolist()) for name, mask in after.items()] == [
        ("a", [0, 0, 0, 1]), ("out", [1, 1, 1, 1]), ("b", [0, 1, 1, 1])]


def test_layer_scope_is_the_default():
    scores = {"a": np.zeros(2), "b": np.ones(2)}
    after = prune(scores, masks.ones({"a": (2,), "b": (2,)}), 0.5)
    assert kept(after["a"]) == kept(after["b"]) == 1


def test_sixteen_rounds_on_lenet_give_the_densities_of_the_paper():
    shapes = {"dense": (784, 300), "dense_1": (300, 100), "dense_2": (100, 10)}
    shares = {"dense": 0.2, "dense_1": 0.2, "dense_2": 0.1}
    rng = np.random.default_rng(0)
    scores = {name: np.abs(rng.normal(size=shape)) for name, shape in shapes.items()}
    level, percent = masks.ones(shapes), [100.0]
    for _ in range(16):
        level = prune(scores, level, shares)
        percent.append(round(100 * masks.density(level), 1))
    published = {3: 51.3, 4: 41.1, 7: 21.1, 9: 13.5, 15: 3.6, 16: 2.9}
    assert {level: percent[level] for level in published} == published


@pytest.mark.parametrize("scope", SCOPES)
def test_nan_among_kept_weights_is_an_error_that_names_the_weight(scope):
    scores = {"fine": np.ones(3), "torn": np.array([np.nan, 1.0, np.nan])}
    before = {"fine": np.ones(3), "torn": np.array([1, 1, 0])}
    with pytest.raises(LotteryError, match="Received: 1 NaN among the kept weights of 'torn'"):
        prune(scores, before, 0.2, scope)


@pytest.mark.parametrize(("scores", "before"), [
    ({}, {"w": np.ones(2)}), ({"w": np.ones(2), "v": np.ones(2)}, {"w": np.ones(2)}),
    ({"v": np.ones(2)}, {"w": np.ones(2)})])
def test_scores_and_masks_of_different_weights_are_an_error(scores, before):
    with pytest.raises(LotteryError, match="Received: scores for"):
        prune(scores, before, 0.2)


@pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 2, 3), (1, 3), ()])
def test_scores_of_another_shape_are_an_error(shape):
    with pytest.raises(LotteryError, match=r"'w' must have its mask's shape \(2, 3\)\. Received"):
        prune({"w": np.zeros(shape)}, {"w": np.ones((2, 3))}, 0.2)


def test_no_masks_are_an_error():
    with pytest.raises(LotteryError, match="Received: none"):
        prune({}, {}, 0.2)


@pytest.mark.parametrize("scope", ["Layer", "local", "", None, 0])
def test_an_unknown_scope_is_an_error(scope):
    with pytest.raises(LotteryError, match="one of layer, global. Received: "):
        prune({"w": np.ones(2)}, {"w": np.ones(2)}, 0.2, scope)


@pytest.mark.parametrize("fraction", [1, -0.1, float("nan"), None, {"w": 1.0}])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_fraction_outside_its_range_is_an_error(fraction, scope):
    with pytest.raises(LotteryError, match="Received: "):
        prune({"w": np.ones(2)}, {"w": np.ones(2)}, fraction, scope)


@pytest.mark.parametrize("fraction", [{}, {"v": 0.2}, {"w": 0.2, "default": 0.1}])
def test_a_fraction_for_each_weight_is_needed(fraction):
    with pytest.raises(LotteryError, match="Received: fractions for"):
        prune({"w": np.ones(2)}, {"w": np.ones(2)}, fraction)
