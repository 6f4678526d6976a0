"""m of every n weights: which go in which round, beside tfmot's own."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from structured import dense, distinct, GROUPS, pruned
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_utils

from lth_keras.core import masks
from lth_keras.core.pruning import prune
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError


@pytest.mark.parametrize("text", GROUPS)
@pytest.mark.parametrize("shape", [(8, 3), (10, 4), (3, 5), (1, 1, 16, 5), (3, 2, 9, 4)])
def test_groups_are_those_of_tfmot(text, shape):
    weight = distinct(shape).astype(np.float32)
    structure = parse(text)
    m_by_n = structure.m, structure.n
    theirs = pruning_utils.m_by_n_sparsity_mask_prepare(
        pruning_utils.generate_m_by_n_mask(
            pruning_utils.weights_rearrange(tf.constant(weight)), m_by_n), tf.TensorShape(shape))
    ours = pruned(np.abs(weight), text)
    np.testing.assert_array_equal(ours, theirs)
    assert pruning_utils.is_pruned_m_by_n(tf.constant(weight * ours), m_by_n)


def test_groups_lie_along_the_inputs_of_an_output_and_ties_go_by_position():
    scores = np.array([[3.0, 1], [1, 1], [4, 5], [1, 9], [2, 1]])
    assert pruned(scores, "2:4").T.tolist() == [[1, 0, 1, 0, 1], [0, 0, 1, 1, 1]]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=2), st.sampled_from([(), (2, 3)]),
       st.sampled_from(GROUPS), st.integers(0, 99))
def test_every_group_keeps_just_as_many(shape, positions, text, seed):
    structure = parse(text)
    m, n = structure.m, structure.n
    shape = (*positions, *shape)
    mask = pruned(np.random.default_rng(seed).integers(0, 3, shape).astype(float), text)
    for start in range(0, shape[-2], n):
        group = mask[..., start:start + n, :]
        assert (group.sum(axis=-2) == min(n - m, group.shape[-2])).all()
    assert structure.obeys(mask)


@given(st.integers(1, 20), st.sampled_from(["2:4", "4:8"]), st.integers(0, 99))
def test_rounds_prune_as_many_each_and_end_in_the_structure(inputs, text, seed):
    rng = np.random.default_rng(seed)
    structure = parse(text)
    m, n = structure.m, structure.n
    mask = np.ones((inputs, 3), np.uint8)
    for level in range(1, m + 1):
        before, mask = mask, pruned(rng.normal(size=mask.shape), text, 0.2, mask, level=level,
                                    rounds=m)
        assert masks.revived({"w": mask}, {"w": before}) == {}
        assert (mask[:n].sum(axis=0) == min(n - level, inputs)).all()
    assert structure.obeys(mask)


@pytest.mark.parametrize(("text", "options", "said"), [
    ("2:4", {"rounds": 3}, "prunes 2 of every 4 weights in total, the same number in each "
                           "round, so rounds must be 1 or 2. Received: rounds=3"),
    ("2:4", {"rounds": 1, "level": 2}, "reached after rounds=1.*Received: level 2")])
def test_rounds_that_do_not_come_to_the_structure_are_an_error(text, options, said):
    with pytest.raises(LotteryError, match=said):
        pruned(distinct((4, 4)), text, **options)


def test_scores_of_groups_are_not_compared_over_weights():
    with pytest.raises(LotteryError, match="scope must be layer. Received: 'global'"):
        prune({"0": distinct((4, 4))}, dense((4, 4)), {"0": 0.5}, "global", {"0": parse("2:4")})
