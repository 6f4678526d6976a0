"""The core step: what is scored, with which random numbers, and what comes of it."""

import numpy as np
import pytest

from lth_keras.core import masks as mask_arrays
from lth_keras.core.criteria import Criterion
from lth_keras.core.fractions import Prunable
from lth_keras.core.next_masks import PruningRule
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError

SHAPES = {"b/kernel": (4, 6), "a/kernel": (6, 2)}
WEIGHTS = [Prunable("b/kernel", "b", "Dense"), Prunable("a/kernel", "a", "Dense", output=True)]


def drawn(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def rule(**options):
    return PruningRule.of(WEIGHTS, SHAPES, **{"fraction": 0.5, **options})


def stepped(rule, masks=None, level=0, **options):
    return rule.next_start(drawn(0), masks or mask_arrays.ones(SHAPES), drawn(1),
                           np.random.default_rng(2), level=level, **options)


def test_the_smallest_trained_weights_go_and_survivors_go_back_to_theta():
    weights, masks = stepped(rule(fraction={"default": 0.25, "output": 0.5}))
    for name, trained in drawn(1).items():
        assert masks[name].dtype == np.uint8
        kept, gone = np.abs(trained[masks[name] == 1]), np.abs(trained[masks[name] == 0])
        assert gone.max() < kept.min()
        np.testing.assert_array_equal(weights[name], drawn(0)[name])
    assert [int(masks[name].sum()) for name in SHAPES] == [18, 6]


def test_survivors_may_go_back_to_other_weights():
    kept = drawn(1)
    assert stepped(rule(), survivors=kept)[0] is kept


def test_a_criterion_sees_both_weights_and_one_generator_in_the_order_of_the_masks():
    seen = []

    def note(initial, final, rng):
        seen.append((initial, final, rng.random()))
        return final

    stepped(rule(criterion=note))
    draws = np.random.default_rng(2)
    for (initial, final, draw), name in zip(seen, SHAPES, strict=True):
        np.testing.assert_array_equal(initial, drawn(0)[name])
        np.testing.assert_array_equal(final, drawn(1)[name])
        assert draw == draws.random()


def test_a_criterion_is_given_the_arrays_that_it_needs_and_no_others_are_computed():
    seen, computed = {}, []

    def provide(what):
        computed.append(what)
        return {name: np.full(shape, len(name)) for name, shape in SHAPES.items()}

    def note(initial, final, rng, mask, flow):
        seen[final.shape] = mask, flow
        return final

    before = {name: drawn(3)[name] > 0 for name in SHAPES}
    step = rule(criterion=Criterion("note", note, ("mask", "flow")), provided=("flow", "other"))
    stepped(step, before, provided={"flow": lambda: provide("flow"),
                                    "other": lambda: provide("other")})
    assert computed == ["flow"]
    for name, shape in SHAPES.items():
        np.testing.assert_array_equal(seen[shape][0], before[name])
        np.testing.assert_array_equal(seen[shape][1], np.full(shape, len(name)))


def test_nothing_that_is_given_is_written_into():
    theta, masks, trained = drawn(0), mask_arrays.ones(SHAPES), drawn(1)
    for arrays in (theta, masks, trained):
        for value in arrays.values():
            value.setflags(write=False)
    _, after = rule().next_start(theta, masks, trained, np.random.default_rng(0))
    assert mask_arrays.density(masks) == 1 and mask_arrays.density(after) == 0.5


def test_rounds_are_nested_and_count_what_remains():
    masks, step = mask_arrays.ones(SHAPES), rule(rounds=3, fraction=0.25)
    for level, left in enumerate((18 + 9, 14 + 7, 10 + 5)):
        before = masks
        _, masks = stepped(step, before, level)
        assert mask_arrays.revived(masks, before) == {} and mask_arrays.kept(masks) == left


def test_the_level_says_how_many_of_every_n_are_pruned():
    structures = dict.fromkeys(SHAPES, parse("2:4"))
    step = rule(structures=structures, rounds=2)
    _, first = stepped(step, level=0)
    _, second = stepped(step, first, level=1)
    assert first["b/kernel"].sum(axis=0).tolist() == [3] * 6
    assert second["b/kernel"].sum(axis=0).tolist() == [2] * 6
    with pytest.raises(LotteryError, match="reached after rounds=2.*Received: level 3"):
        stepped(step, second, level=2)


def test_scope_reaches_the_pruning():
    trained = {"b/kernel": np.full((4, 6), 2.0), "a/kernel": np.ones((6, 2))}
    ones = mask_arrays.ones(SHAPES)
    layer, both = (rule(scope=scope, fraction=1 / 3).next_start(
        trained, ones, trained, np.random.default_rng(0))[1] for scope in ("layer", "global"))
    assert [int(layer[name].sum()) for name in SHAPES] == [16, 8]
    assert [int(both[name].sum()) for name in SHAPES] == [24, 0]


@pytest.mark.parametrize(("options", "said"), [
    ({"criterion": "size"}, "Received: 'size'"),
    ({"criterion": "taylor", "caller": "The engine"},
     "The engine must provide .*'taylor', which needs gradient"),
    ({"fraction": {"c": 0.2, "default": 0.1}}, "matched by \\['c'\\]"),
    ({"structures": dict.fromkeys(SHAPES, parse("2:4")), "rounds": 5}, "rounds must be 1 or 2"),
    ({"structures": dict.fromkeys(SHAPES, parse("2:4")), "scope": "global"},
     "scope must be layer")])
def test_what_cannot_work_is_refused_before_training(options, said):
    with pytest.raises(LotteryError, match=said):
        rule(**options)
