"""Units of several weights, on cases small enough to be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_keras.core.pruning import prune_units
from lth_keras.core.structures.coupled import kept_units, Member, spread_units, UnitGroup
from lth_keras.core.structures.filters import Filters
from lth_keras.errors import LotteryError

SHAPES = {"a/kernel": (2, 3), "a/bias": (3,), "b/kernel": (3, 4), "b/bias": (4,),
          "c/kernel": (4, 2)}


def along(size):
    return np.arange(size)


A = UnitGroup(("a",), 3, (Member("a/kernel", 1, along(3), "filter"), Member("a/bias", 0, along(3)),
                          Member("b/kernel", 0, along(3))))
B = UnitGroup(("b",), 4, (Member("b/kernel", 1, along(4), "filter"), Member("b/bias", 0, along(4)),
                          Member("c/kernel", 0, along(4))))


def dense():
    return {name: np.ones(shape, np.uint8) for name, shape in SHAPES.items()}


def test_a_kernel_between_two_groups_loses_rows_and_columns():
    masks = spread_units((A, B), [np.array([1, 0, 1]), np.array([0, 1, 1, 0])], dense())
    assert masks["b/kernel"].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 1, 0]]
    assert masks["a/kernel"].tolist() == [[1, 0, 1]] * 2
    assert [masks[name].tolist() for name in ("a/bias", "b/bias")] == [[1, 0, 1], [0, 1, 1, 0]]
    assert masks["c/kernel"].any(axis=1).tolist() == [False, True, True, False]


@given(st.lists(st.booleans(), min_size=7, max_size=7))
def test_the_units_of_masks_are_those_they_were_made_of(drawn):
    # At least one unit of each group stays, as pruning keeps it.
    units = [np.array([*drawn[:2], True], np.uint8), np.array([*drawn[2:5], True], np.uint8)]
    masks = spread_units((A, B), units, dense())
    assert [kept.tolist() for kept in kept_units((A, B), masks)] == [
        each.tolist() for each in units]
    assert all(Filters().obeys(mask) for mask in masks.values())


def test_indices_of_no_unit_stay():
    group = UnitGroup(("a",), 1, (Member("w", 0, np.array([-1, 0, -1]), "filter"),))
    masks = group.spread(np.array([0]), {"w": np.ones((3, 2), np.uint8)})
    assert masks["w"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert group.kept(masks).tolist() == [0]


def test_a_unit_of_several_indices_goes_as_a_whole():
    # A flattened image of two places: rows 0 and 2 of the next kernel are of the first channel.
    group = UnitGroup(("conv",), 2, (Member("conv", 1, along(2), "filter"),
                                     Member("fc", 0, np.array([0, 1, 0, 1]))))
    masks = group.spread(np.array([0, 1]), {"conv": np.ones((1, 2), np.uint8),
                                            "fc": np.ones((4, 1), np.uint8)})
    assert masks["fc"].ravel().tolist() == [0, 1, 0, 1]


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=12),
       fraction=st.floats(0, 0.99).map(lambda value: round(value, 2)))
def test_a_layer_loses_its_lowest_and_never_all(scores, fraction):
    values = np.array(scores)
    kept, = prune_units([values], [np.ones(len(values), np.uint8)], [fraction])
    assert 1 <= kept.sum() == max(1, len(values) - round(
        float(f"{fraction * len(values):.10f}")))
    if kept.sum() < len(values):
        assert values[kept == 0].max() <= values[kept == 1].min()


def test_what_is_pruned_stays_pruned_and_a_fraction_is_of_what_remains():
    kept, = prune_units([np.array([9.0, 1, 2, 3, 4])], [np.array([0, 1, 1, 1, 1])], [0.5])
    assert kept.tolist() == [0, 0, 0, 1, 1]


def test_all_layers_are_compared_together_but_keep_their_best():
    scores = [np.array([0.1, 0.2, 0.3]), np.array([1.0, 2, 3])]
    ones = [np.ones(3, np.uint8)] * 2
    kept = prune_units(scores, ones, [0.5, 0.5], "global")
    assert [each.tolist() for each in kept] == [[0, 0, 1], [0, 1, 1]]
    # Other fractions are not compared.
    kept = prune_units(scores, ones, [0.0, 0.3], "global")
    assert [each.tolist() for each in kept] == [[1, 1, 1], [0, 1, 1]]


@given(size=st.integers(1, 70), fraction=st.floats(0.01, 0.99), multiple=st.integers(1, 16),
       scope=st.sampled_from(["layer", "global"]))
def test_filters_are_kept_in_multiples_and_each_round_comes_nearer(size, fraction, multiple, scope):
    rng = np.random.default_rng(size)
    scores = [rng.normal(size=size), rng.normal(size=40)]
    kept = [np.ones(size, np.uint8), np.ones(40, np.uint8)]
    for _ in range(4):
        plain = prune_units(scores, kept, [fraction] * 2, scope)
        after = prune_units(scores, kept, [fraction] * 2, scope, multiple_of=multiple)
        for score, old, free, new in zip(scores, kept, plain, after, strict=True):
            number, before = int(new.sum()), int(old.sum())
            if before < multiple:
                assert number == before
                continue
            assert number % multiple == 0 and number >= multiple
            assert number == multiple or free.sum() - multiple < number <= free.sum()
            assert not (new & ~old).any()
            if 0 < number < before:
                assert score[new == 1].min() >= score[(old == 1) & (new == 0)].max()
        kept = after


def test_a_layer_that_stays_dense_keeps_its_number_of_filters():
    kept, = prune_units([np.arange(10.0)], [np.ones(10)], [0.0], multiple_of=8)
    assert kept.sum() == 10


def test_a_score_that_is_no_number_is_refused_unless_its_unit_is_gone():
    with pytest.raises(LotteryError, match="NaN among the kept units"):
        prune_units([np.array([np.nan, 1])], [np.ones(2)], [0.5])
    prune_units([np.array([np.nan, 1])], [np.array([0, 1])], [0.5])


def test_a_shuffled_mask_keeps_as_many_units_and_what_belongs_together():
    masks = spread_units((A, B), [np.array([1, 0, 0]), np.array([0, 1, 1, 0])], dense())
    structure = Filters.of((A, B))
    drawn = [structure.shuffled_together(masks, np.random.default_rng(seed)) for seed in range(9)]
    for each in drawn:
        assert [int(kept.sum()) for kept in kept_units((A, B), each)] == [1, 2]
        np.testing.assert_array_equal(each["a/kernel"].any(axis=0), each["b/kernel"].any(axis=1))
        np.testing.assert_array_equal(each["b/kernel"].any(axis=0), each["c/kernel"].any(axis=1))
    assert len({each["a/bias"].tobytes() + each["b/bias"].tobytes() for each in drawn}) > 3


def test_the_numbers_of_each_unit_are_in_the_order_of_the_weight():
    group = UnitGroup(("a",), 3, (Member("w", 1, np.array([2, -1, 0, 2]), "filter"),))
    found = group.numbers(group.members[0], np.arange(8).reshape(2, 4))
    assert [values.tolist() for values in found] == [[2, 6], [], [0, 4, 3, 7]]
