"""Blocks: which go, beside tfmot's own."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from hypothesis import given
from hypothesis import strategies as st
from strategies import fractions
from structured import BLOCKS, dense, distinct, pruned
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

from lth_keras.core import masks
from lth_keras.core.fractions import count
from lth_keras.core.pruning import prune
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError


def tfmots_blocks(weight, text, fraction):
    weight, structure = tf.Variable(np.float32(weight)), parse(text)
    return pruning_impl.Pruning(
        lambda: tf.constant(1, tf.int64), [(weight, None, None)],
        tfmot.sparsity.keras.ConstantSparsity(fraction, 0), structure.block_size,
        structure.block_pooling_type)._maybe_update_block_mask(weight)[1].numpy()


@pytest.mark.parametrize("text", BLOCKS)
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.9])
def test_blocks_are_those_of_tfmot_where_they_fill_the_weight(text, fraction):
    weight = distinct((12, 24)).astype(np.float32)
    np.testing.assert_array_equal(pruned(np.abs(weight), text, fraction),
                                  tfmots_blocks(weight, text, fraction))


def test_elsewhere_blocks_are_scored_as_they_lie_which_tfmots_are_not():
    weight = np.array([[1.0, 1], [1, 1], [1, 1], [9, 9], [1, 1]])
    assert pruned(weight, "block_4x1")[:, 0].tolist() == [1, 1, 1, 1, 0]
    assert tfmots_blocks(weight, "block_4x1", 0.5)[:, 0].tolist() == [0, 0, 0, 0, 1]


def test_the_lowest_averages_or_greatest_scores_of_blocks_go():
    scores = np.array([[5.0, 0, 2, 2], [0, 0, 2, 2]])
    assert pruned(scores, "block_2x2").tolist() == [[0, 0, 1, 1]] * 2  # Averages 1.25 and 2.
    assert pruned(scores, "block_2x2_max").tolist() == [[1, 1, 0, 0]] * 2


def test_blocks_at_the_far_edges_are_smaller_and_count_as_blocks():
    scores = np.array([[9.0, 9, 9, 9, 1], [9, 9, 9, 9, 9], [8, 8, 8, 8, 7]])
    assert pruned(scores, "block_2x4", 0.25).tolist() == \
        [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]  # The average of 1 and 9.


def test_equal_blocks_go_by_position():
    assert pruned(np.ones((2, 4)), "block_1x2").tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_no_average_is_taken_with_an_infinite_score(infinite):
    # One weight that changed its sign would make its block the lowest, as it does most others.
    scores, mask = np.array([[infinite, 8, 1, 1]]), np.array([[1, 1, 1, 1]], np.uint8)
    with pytest.raises(LotteryError, match="finite for their mean"):
        pruned(scores, "block_1x2", before=mask)
    mask[0, 0] = 0  # That of a pruned weight does not count.
    assert pruned(scores, "block_1x2", before=mask).tolist() == [[0, 1, 0, 0]]


def test_the_greatest_of_scores_may_be_infinite():
    scores = np.array([[-np.inf, 8, 1, -np.inf, -np.inf, -np.inf]])
    assert pruned(scores, "block_1x2_max", 0.3).tolist() == [[1, 1, 1, 1, 0, 0]]


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(sizes, st.sampled_from(BLOCKS), st.lists(fractions, min_size=1, max_size=3),
       st.integers(0, 99))
def test_blocks_stay_whole_and_nested_and_their_number_is_exact(shape, text, shares, seed):
    rng, structure = np.random.default_rng(seed), parse(text)
    height, width = structure.block_size
    mask, left = np.ones(shape, np.uint8), -(-shape[0] // height) * -(-shape[1] // width)
    assert structure.units(shape) == left
    for share in shares:
        before, mask = mask, pruned(rng.normal(size=shape), text, share, mask)
        left -= count(share, left)
        assert masks.revived({"w": mask}, {"w": before}) == {} and mask.dtype == np.uint8
        corners = mask[::height, ::width]
        assert np.count_nonzero(corners) == left
        whole = np.repeat(np.repeat(corners, height, 0), width, 1)[:shape[0], :shape[1]]
        np.testing.assert_array_equal(mask, whole)
        assert structure.obeys(mask)


def test_what_was_pruned_within_a_block_stays_so_and_counts_as_zero():
    before = np.array([[1, 0, 0, 0, 1, 1, 1, 1]], np.uint8)
    scores = np.array([[5.0, 9, 9, 9, 2, 2, 2, 2]])
    assert pruned(scores, "block_1x4", 0.5, before).tolist() == [[0] * 4 + [1] * 4]
    assert pruned(scores, "block_1x4", 0.0, before).tolist() == before.tolist()


def test_the_greatest_score_of_a_block_may_be_below_0():
    before = np.array([[1, 0, 1, 1]], np.uint8)
    scores = np.array([[-5.0, -1, -2, -3]])  # What is pruned already has no say.
    assert pruned(scores, "block_1x2_max", 0.5, before).tolist() == [[0, 0, 1, 1]]


def test_a_1x1_convolution_is_a_matrix():
    scores = distinct((1, 1, 8, 12))
    np.testing.assert_array_equal(pruned(scores, "block_2x4")[0, 0],
                                  pruned(scores[0, 0], "block_2x4"))


def test_global_scope_compares_the_blocks_of_all_weights():
    scores = {"0": np.full((2, 4), 1.0), "1": np.full((2, 4), 2.0)}
    after = prune(scores, dense((2, 4), (2, 4)), {"0": 0.5, "1": 0.5}, "global",
                  dict.fromkeys(scores, parse("block_1x4")))
    assert masks.kept({"0": after["0"]}) == 0 and after["1"].all()
