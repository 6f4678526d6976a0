"""Criteria of units on cases worked out by hand, and in the core step."""

import numpy as np
import pytest

from lth_keras.core import criteria, unit_criteria
from lth_keras.core.fractions import Prunable
from lth_keras.core.next_masks import PruningRule
from lth_keras.core.structures.coupled import Member, UnitGroup
from lth_keras.core.structures.filters import Filters
from lth_keras.core.unit_criteria import score_units
from lth_keras.errors import LotteryError

PAIR = np.arange(2)
GROUP = UnitGroup(("a",), 2, (
    Member("a/kernel", 1, PAIR, "filter"), Member("n/gamma", 0, PAIR, "scale"),
    Member("n/beta", 0, PAIR), Member("b/kernel", 0, PAIR)))
FINAL = {"a/kernel": np.array([[3.0, -1], [-4.0, 2]]), "n/gamma": np.array([-0.5, 2.0]),
         "n/beta": np.zeros(2), "b/kernel": np.full((2, 3), 9.0)}
MASKS = {name: np.ones(value.shape, np.uint8) for name, value in FINAL.items()}
GRADIENT = {**FINAL, "a/kernel": np.array([[2.0, 1], [1.0, 1]])}


def scores(name, masks=MASKS, **needed):
    return score_units(criteria.get(name), GROUP, initial=FINAL, final=FINAL, masks=masks,
                       rng=np.random.default_rng(0), needed=needed).tolist()


@pytest.mark.parametrize(("name", "expected"), [
    ("l1", [3.5, 1.5]), ("magnitude", [3.5, 1.5]),
    ("l2", [np.sqrt(12.5), np.sqrt(2.5)]), ("batch_norm_scale", [0.5, 2.0])])
def test_scores_by_hand(name, expected):
    np.testing.assert_allclose(scores(name), expected)


def test_taylor_is_of_the_whole_unit():
    # 3 x 2 - 4 x 1 = 2 and -1 x 1 + 2 x 1 = 1; elementwise it would be 6 + 4.
    assert scores("taylor", gradient=GRADIENT) == [2.0**2 / 2, 1.0**2 / 2]


def test_activation_is_the_mean_over_the_layers_that_make_a_unit():
    assert scores("activation", activation={"a/kernel": np.array([0.25, 4.0])}) == [0.25, 4.0]


def test_pruned_weights_count_neither_above_nor_below():
    masks = {**MASKS, "a/kernel": np.array([[1, 1], [0, 0]])}
    assert scores("l1", masks) == [3.0, 1.0]


def test_random_draws_a_number_for_each_unit():
    assert scores("random") == np.random.default_rng(0).random(2).tolist()


def test_a_layer_without_a_normalisation_is_named():
    group = UnitGroup(("a",), 2, GROUP.members[:1])
    with pytest.raises(LotteryError, match="none after a. Leave that out"):
        score_units(criteria.get("batch_norm_scale"), group, initial=FINAL, final=FINAL,
                    masks=MASKS, rng=np.random.default_rng(0))


def test_a_criterion_of_wrong_shape_is_refused():
    criterion = criteria.Criterion("own", None, (), lambda units, rng: np.zeros(3), True)
    with pytest.raises(LotteryError, match=r"shape \(3,\) for 2 units of a"):
        score_units(criterion, GROUP, initial=FINAL, final=FINAL, masks=MASKS,
                    rng=np.random.default_rng(0))


def rule(fraction=0.5, criterion="l1", **options):
    weights = [Prunable(name, name[0], "Dense") for name in FINAL]
    return PruningRule.of(weights, {name: value.shape for name, value in FINAL.items()},
                          fraction=fraction, criterion=criterion,
                          structures=dict.fromkeys(FINAL, Filters.of([GROUP])), **options)


def test_the_core_step_prunes_a_filter_with_all_that_hangs_on_it():
    _, masks = rule().next_start(FINAL, MASKS, FINAL, np.random.default_rng(0))
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "a/kernel": [[1, 0], [1, 0]], "n/gamma": [1, 0], "n/beta": [1, 0],
        "b/kernel": [[1, 1, 1], [0, 0, 0]]}


def test_a_fraction_is_of_the_layer_that_makes_the_units():
    assert rule({"a": 0.5}).fractions == {"a/kernel": 0.5}
    with pytest.raises(LotteryError, match="no layer is matched by \\['b'\\]"):
        rule({"a": 0.5, "b": 0.1})


def test_layers_that_are_pruned_together_need_one_fraction():
    both = UnitGroup(("a", "b"), 2, (Member("a/kernel", 1, PAIR, "filter"),
                                     Member("b/kernel", 0, PAIR, "filter")))
    weights = [Prunable(name, name[0], "Dense") for name in ("a/kernel", "b/kernel")]
    structures = dict.fromkeys(("a/kernel", "b/kernel"), Filters.of([both]))
    shapes = {name: FINAL[name].shape for name in structures}
    with pytest.raises(LotteryError, match="one fraction. Received: a, b with 0.2, 0.5"):
        PruningRule.of(weights, shapes, fraction={"a": 0.5, "b": 0.2}, structures=structures)
    # What one layer keeps, all keep.
    kept = PruningRule.of(weights, shapes, fraction={"a": 0.5, "b": 0.0}, structures=structures)
    _, masks = kept.next_start(FINAL, {name: MASKS[name] for name in structures}, FINAL,
                               np.random.default_rng(0))
    assert all(mask.all() for mask in masks.values())


def test_what_scores_units_needs_filters():
    with pytest.raises(LotteryError, match='needs structure="filters". Received: structure=.none'):
        PruningRule.of([Prunable("a/kernel", "a", "Dense")], {"a/kernel": (2, 2)}, fraction=0.5,
                       criterion="l2")
    assert unit_criteria.check(criteria.get("magnitude"), Filters()).name == "magnitude"


def test_a_criterion_of_ones_own():
    @unit_criteria.register("second_best")
    def second_best(units, rng):
        return np.array([-np.abs(values).max() for values in units.filters])
    try:
        _, masks = rule(criterion="second_best").next_start(FINAL, MASKS, FINAL, None)
        assert masks["n/beta"].tolist() == [0, 1]
    finally:
        del criteria.CRITERIA["second_best"]


def test_an_infinite_score_of_a_weight_has_no_mean():
    with pytest.raises(LotteryError, match="Received: infinite scores of a/kernel by criterion="
                                           "'large_final_diff_sign'"):
        scores("large_final_diff_sign")
