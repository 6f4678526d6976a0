import numpy as np
import pytest
from hypothesis import given
from strategies import mask_pairs, shapes
from strategies import masks as generated_masks

from lth_keras.core import masks
from lth_keras.errors import LotteryError


@given(shapes)
def test_a_dense_network_keeps_everything(shapes):
    dense = masks.ones(shapes)
    assert {name: mask.shape for name, mask in dense.items()} == shapes
    assert all(mask.dtype == np.uint8 and mask.all() for mask in dense.values())
    assert masks.density(dense) == 1.0


@given(generated_masks())
def test_density_is_the_share_of_ones(generated):
    ones = sum(int(mask.sum()) for mask in generated.values())
    zeros = sum(int((1 - mask).sum()) for mask in generated.values())
    assert masks.kept(generated) == ones
    assert masks.size(generated) == ones + zeros
    assert masks.density(generated) == ones / (ones + zeros)


def test_density_weighs_weights_by_their_size():
    assert masks.density({"a": np.zeros((1, 1)), "b": np.ones((1, 3))}) == 0.75


def test_density_of_nothing_is_an_error():
    with pytest.raises(LotteryError, match="Received: none"):
        masks.density({})


def test_pruned_weights_become_positive_zero_whatever_they_were():
    weights = {"w": np.array([-1.0, -0.0, np.nan, np.inf, 2.0], np.float32)}
    applied = masks.apply(weights, {"w": np.array([0, 0, 0, 0, 1], np.uint8)})["w"]
    assert applied.tobytes() == np.array([0, 0, 0, 0, 2], np.float32).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "bool"])
def test_applying_keeps_the_type(dtype):
    applied = masks.apply({"w": np.ones((2, 2), dtype)}, {"w": np.eye(2, dtype=np.uint8)})["w"]
    assert applied.dtype == dtype
    np.testing.assert_array_equal(applied, np.eye(2))


@given(mask_pairs())
def test_kept_weights_keep_their_bits_and_nothing_is_written_to(pair):
    kept, values = pair
    weights = {name: -1 - value.astype(np.float32) for name, value in values.items()}
    before = {name: weight.copy() for name, weight in weights.items()}
    for array in [*kept.values(), *weights.values()]:
        array.setflags(write=False)
    applied = masks.apply(weights, kept)
    for name, mask in kept.items():
        np.testing.assert_array_equal(weights[name], before[name])
        np.testing.assert_array_equal(applied[name][mask == 1], before[name][mask == 1])
        assert not applied[name][mask == 0].any()
    again = masks.apply(applied, kept)
    assert all(again[name].tobytes() == applied[name].tobytes() for name in kept)


def test_weights_without_a_mask_stay_as_they_are_in_the_same_order():
    weights = {"b": np.array([-0.0]), "w": np.ones(2), "a": np.array([np.nan])}
    applied = masks.apply(weights, {"w": np.zeros(2)})
    assert list(applied) == ["b", "w", "a"]
    assert applied["a"] is weights["a"] and applied["b"] is weights["b"]


def test_a_mask_without_its_weight_is_an_error():
    with pytest.raises(LotteryError, match=r"Received: masks for \['v'\], weights \['w'\]"):
        masks.apply({"w": np.ones(2)}, {"v": np.ones(2), "w": np.ones(2)})


@pytest.mark.parametrize("shape", [(3,), (1, 1), (2, 1), (2, 2, 3)])
def test_a_mask_of_another_shape_is_not_stretched_over_its_weight(shape):
    with pytest.raises(LotteryError, match="Received"):
        masks.apply({"w": np.ones((2, 3))}, {"w": np.ones(shape, np.uint8)})


@given(mask_pairs())
def test_overlap_is_both_over_either(pair):
    first, second = (set(_positions(part)) for part in pair)
    expected = len(first & second) / len(first | second) if first | second else 1.0
    assert masks.overlap(*pair) == masks.overlap(*reversed(pair)) == expected
    assert masks.overlap(pair[0], pair[0]) == 1.0


def test_overlap_of_different_weights_is_an_error():
    with pytest.raises(LotteryError, match=r"Received: \['a'\] and \['a', 'b'\]"):
        masks.overlap({"a": np.ones(1)}, {"a": np.ones(1), "b": np.ones(1)})


def test_overlap_of_different_shapes_is_an_error():
    with pytest.raises(LotteryError, match="Received"):
        masks.overlap({"a": np.ones(1)}, {"a": np.ones(3)})


@given(mask_pairs())
def test_a_distance_is_what_one_keeps_and_the_other_does_not(pair):
    first, second = (set(_positions(part)) for part in pair)
    if not masks.size(pair[0]):
        return
    found = masks.distance(*pair)
    assert found.hamming == len(first ^ second) / masks.size(pair[0])
    assert found.jaccard == pytest.approx(1 - masks.overlap(*pair))
    assert masks.distance(*reversed(pair)) == found
    assert masks.distance(pair[0], pair[0]).relative == 0


def test_random_masks_are_a_distance_of_one_apart_whatever_their_densities():
    rng = np.random.default_rng(0)
    one, other = ({name: (rng.random(100_000) < share).astype(np.uint8)
                   for name, share in zip("abc", shares, strict=True)}
                  for shares in [(0.05, 0.5, 1.0), (0.05, 0.7, 1.0)])
    found = masks.distance(one, other)
    assert found.relative == pytest.approx(1, abs=0.02)
    assert found.chance == pytest.approx((2 * 0.05 * 0.95 + 0.5 * 0.3 + 0.7 * 0.5) / 3, abs=0.005)


def test_a_distance_may_be_among_some_weights_only():
    one, other = {"a": np.array([1, 0, 1, 0])}, {"a": np.array([0, 0, 1, 1])}
    assert masks.distance(one, other, {"a": np.array([1, 1, 1, 0])}).hamming == 1 / 3
    with pytest.raises(LotteryError, match="none that counts"):
        masks.distance(one, other, {"a": np.zeros(4)})


@given(mask_pairs())
def test_revived_counts_what_the_outer_mask_had_pruned(pair):
    inner, outer = pair
    back = set(_positions(inner)) - set(_positions(outer))
    counts = {name: sum(position[0] == name for position in back) for name in inner}
    assert masks.revived(inner, outer) == {name: n for name, n in counts.items() if n}
    nested = {name: inner[name] & outer[name] for name in inner}
    assert masks.revived(nested, outer) == {}


def _positions(generated):
    return [(name, int(index)) for name, mask in generated.items() for index in
            np.flatnonzero(mask)]
