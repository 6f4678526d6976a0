"""Structures: their words, and masks of blocks and of groups, beside tfmot's own."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from hypothesis import given
from hypothesis import strategies as st
from strategies import fractions
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl, pruning_utils

from lth_keras.core import masks, sparsity_types
from lth_keras.core.controls import Control, CONTROLS, register
from lth_keras.core.fractions import count
from lth_keras.core.pruning import prune as prune_anywhere
from lth_keras.core.sparsity_types import NONE, parse, Structure
from lth_keras.core.structured_pruning import obeys, prune, shuffled
from lth_keras.errors import LotteryError

BLOCKS = ("block_1x4", "block_4x1", "block_2x2", "block_3x2_max", "block_1x4_max")
GROUPS = ("2:4", "1:2", "3:4", "4:8")


def distinct(shape, seed=0):
    """Scores of which no two are equal, nor the averages or the greatest of two blocks."""
    return np.random.default_rng(seed).normal(size=shape)


def dense(*shapes):
    return masks.ones({str(number): shape for number, shape in enumerate(shapes)})


def pruned(scores, structure, fraction=0.5, before=None, **options):
    before = np.ones(np.shape(scores), np.uint8) if before is None else before
    return prune({"w": scores}, {"w": before}, {"w": fraction}, "layer",
                 {"w": parse(structure)}, **options)["w"]


@pytest.mark.parametrize("text", ["none", *BLOCKS, *GROUPS])
def test_a_structure_is_known_by_its_word(text):
    structure = parse(text)
    assert str(structure) == text and structure.is_none == (text == "none")
    assert Structure(**structure.options) == structure


@pytest.mark.parametrize("text", ["", "24", "2:4:8", "4:2", "0:4", "2:2", "block_1", "block_0x4",
                                  "block_1x4_min", "block_1x99999", "2:4 ", None, 24])
def test_any_other_word_is_an_error(text):
    with pytest.raises(LotteryError, match="Received: "):
        parse(text)


@pytest.mark.parametrize(("options", "said"), [
    ({"block_size": 4}, "block_size must be two whole numbers in \\[1, 9,999\\], such as "
                        "\\(1, 4\\). Received: 4"),
    ({"block_size": (1, 0)}, "Received: \\(1, 0\\)"),
    ({"block_size": (1, True)}, "Received: \\(1, True\\)"),
    ({"block_pooling_type": "MIN"}, "must be one of AVG, MAX. Received: 'MIN'"),
    ({"sparsity_m_by_n": (4, 4)}, "1 <= m < n. Received: \\(4, 4\\)"),
    ({"sparsity_m_by_n": "2:4"}, "sparsity_m_by_n must be two whole numbers.*Received: '2:4'"),
    ({"sparsity_m_by_n": (2, 4), "block_size": (1, 4)}, "blocks or \\(m, n\\) sparsity, not both")])
def test_values_that_are_none_of_tfmots_are_an_error(options, said):
    with pytest.raises(LotteryError, match=said):
        Structure(**options)


# Beside tfmot.

@pytest.mark.parametrize("text", GROUPS)
@pytest.mark.parametrize("shape", [(8, 3), (10, 4), (3, 5), (1, 1, 16, 5), (3, 2, 9, 4)])
def test_groups_are_those_of_tfmot(text, shape):
    weight = distinct(shape).astype(np.float32)
    m_by_n = parse(text).sparsity_m_by_n
    theirs = pruning_utils.m_by_n_sparsity_mask_prepare(
        pruning_utils.generate_m_by_n_mask(
            pruning_utils.weights_rearrange(tf.constant(weight)), m_by_n), tf.TensorShape(shape))
    ours = pruned(np.abs(weight), text)
    np.testing.assert_array_equal(ours, theirs)
    assert pruning_utils.is_pruned_m_by_n(tf.constant(weight * ours), m_by_n)


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


# Blocks.

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


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(sizes, st.sampled_from(BLOCKS), st.lists(fractions, min_size=1, max_size=3),
       st.integers(0, 99))
def test_blocks_stay_whole_and_nested_and_their_number_is_exact(shape, text, shares, seed):
    rng, structure = np.random.default_rng(seed), parse(text)
    height, width = structure.block_size
    mask, left = np.ones(shape, np.uint8), -(-shape[0] // height) * -(-shape[1] // width)
    assert sparsity_types.block_count(structure, shape) == left
    for share in shares:
        before, mask = mask, pruned(rng.normal(size=shape), text, share, mask)
        left -= count(share, left)
        assert masks.revived({"w": mask}, {"w": before}) == {} and mask.dtype == np.uint8
        corners = mask[::height, ::width]
        assert np.count_nonzero(corners) == left
        whole = np.repeat(np.repeat(corners, height, 0), width, 1)[:shape[0], :shape[1]]
        np.testing.assert_array_equal(mask, whole)
        assert obeys(mask, structure)


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


# Groups.

def test_groups_lie_along_the_inputs_of_an_output_and_ties_go_by_position():
    scores = np.array([[3.0, 1], [1, 1], [4, 5], [1, 9], [2, 1]])
    assert pruned(scores, "2:4").T.tolist() == [[1, 0, 1, 0, 1], [0, 0, 1, 1, 1]]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=2), st.sampled_from([(), (2, 3)]),
       st.sampled_from(GROUPS), st.integers(0, 99))
def test_every_group_keeps_just_as_many(shape, positions, text, seed):
    m, n = parse(text).sparsity_m_by_n
    shape = (*positions, *shape)
    mask = pruned(np.random.default_rng(seed).integers(0, 3, shape).astype(float), text)
    for start in range(0, shape[-2], n):
        group = mask[..., start:start + n, :]
        assert (group.sum(axis=-2) == min(n - m, group.shape[-2])).all()
    assert obeys(mask, parse(text))


@given(st.integers(1, 20), st.sampled_from(["2:4", "4:8"]), st.integers(0, 99))
def test_rounds_prune_as_many_each_and_end_in_the_structure(inputs, text, seed):
    rng = np.random.default_rng(seed)
    m, n = parse(text).sparsity_m_by_n
    mask = np.ones((inputs, 3), np.uint8)
    for level in range(1, m + 1):
        before, mask = mask, pruned(rng.normal(size=mask.shape), text, 0.2, mask, level=level,
                                    rounds=m)
        assert masks.revived({"w": mask}, {"w": before}) == {}
        assert (mask[:n].sum(axis=0) == min(n - level, inputs)).all()
    assert obeys(mask, parse(text))


def test_weights_whose_fraction_is_0_stay_dense_whatever_their_shape():
    scores = {"0": distinct((4, 4)), "1": distinct((4, 4)), "2": distinct((3, 3, 2, 2))}
    for text, kept in (("2:4", 8), ("block_2x2", 8)):
        after = prune(scores, dense((4, 4), (4, 4), (3, 3, 2, 2)), {"0": 0.5, "1": 0.0, "2": 0.0},
                      "layer", {"0": parse(text), "1": parse(text), "2": NONE})
        assert after["0"].sum() == kept and after["1"].all() and after["2"].all()


def test_without_a_structure_pruning_is_the_plain_one():
    scores = {"0": distinct((3, 4)), "1": distinct((2, 3, 4))}
    before, shares = dense((3, 4), (2, 3, 4)), {"0": 0.3, "1": 0.3}
    for scope in ("layer", "global"):
        after = prune(scores, before, shares, scope, dict.fromkeys(scores, NONE))
        expected = prune_anywhere(scores, before, shares, scope)
        assert all((after[name] == expected[name]).all() for name in scores)


@pytest.mark.parametrize(("text", "options", "said"), [
    ("2:4", {"rounds": 3}, "prunes 2 of every 4 weights in all and as many in each round, so "
                           "rounds must be 1 or 2. Received: rounds=3"),
    ("2:4", {"rounds": 1, "level": 2}, "reached after rounds=1.*Received: level 2")])
def test_rounds_that_do_not_come_to_the_structure_are_an_error(text, options, said):
    with pytest.raises(LotteryError, match=said):
        pruned(distinct((4, 4)), text, **options)


@pytest.mark.parametrize("text", ["2:4", "block_2x2"])
def test_scores_that_are_nan_are_an_error(text):
    with pytest.raises(LotteryError, match="must not be NaN. Received: 1 NaN"):
        pruned(np.array([[np.nan, 1.0], [2.0, 3.0]]), text)


def test_scores_of_groups_are_not_compared_over_weights():
    with pytest.raises(LotteryError, match="scope must be layer. Received: 'global'"):
        prune({"0": distinct((4, 4))}, dense((4, 4)), {"0": 0.5}, "global", {"0": parse("2:4")})


@pytest.mark.parametrize(("text", "shape"), [("block_1x4", (3, 3, 2, 4)), ("block_1x4", (7,)),
                                             ("2:4", (5, 4, 4)), ("2:4", (3,))])
def test_weights_that_a_structure_fits_not_are_named(text, shape):
    with pytest.raises(LotteryError, match="leave other layers out by exclude=.*"
                                           "Received: conv/kernel \\("):
        sparsity_types.check_fits(parse(text), {"a": (1, 1, 4, 4), "conv/kernel": shape})


# Controls.

@pytest.mark.parametrize("text", [*BLOCKS, *GROUPS])
@pytest.mark.parametrize("shape", [(10, 9), (1, 1, 10, 9)])
def test_a_shuffled_mask_keeps_as_many_in_the_structure(text, shape):
    structure = parse(text)
    mask = pruned(distinct(shape), text)
    before = mask.copy()
    one, same, other = (shuffled(mask, structure, np.random.default_rng(seed))
                        for seed in (1, 1, 2))
    assert (mask == before).all() and (one == same).all() and (one != other).any()
    assert one.sum() == mask.sum() and obeys(one, structure)
    assert one.dtype == np.uint8 and one.shape == shape


@pytest.mark.parametrize("name", [name for name, control in CONTROLS.items()
                                  if control.mask != "free"])
@pytest.mark.parametrize("text", ["2:4", "block_1x4"])
def test_controls_keep_to_the_structure(name, text):
    weights = {"w": distinct((8, 12)), "conv": distinct((3, 3, 2, 2))}
    kept = {"w": pruned(np.abs(weights["w"]), text), "conv": np.ones((3, 3, 2, 2), np.uint8)}
    _, made = CONTROLS[name].start(weights, kept, weights, np.random.default_rng(0), parse(text))
    assert made["w"].sum() == kept["w"].sum() and obeys(made["w"], parse(text))
    assert made["conv"].all()
    assert (made["w"] != kept["w"]).any() == (name in ("random_mask", "shuffled_mask"))


@pytest.mark.parametrize("text", ["2:4", "block_1x4"])
def test_a_control_of_ones_own_that_breaks_the_structure_is_refused(text):
    kept = {"w": pruned(distinct((8, 12)), text)}
    control = Control("anywhere", "", lambda weights, masks, fresh, rng: (weights, {
        "w": rng.permuted(masks["w"])}), drawn=False)
    with pytest.raises(LotteryError, match=f"keep to structure={text}.*Received: anywhere, whose "
                                           "masks of w do not"):
        control.start({}, kept, {}, np.random.default_rng(0), parse(text))


def test_a_control_says_what_its_mask_is():
    with pytest.raises(LotteryError, match="mask must be one of ticket, structured, free. "
                                           "Received: 'any'"):
        register("another", "another", drawn=False, mask="any")
    assert "another" not in CONTROLS
