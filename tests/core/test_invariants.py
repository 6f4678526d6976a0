import numpy as np
import pytest
from hypothesis import given
from strategies import mask_pairs, masks

from lth_keras.core import invariants
from lth_keras.errors import InvariantError


@given(mask_pairs())
def test_nested_holds_exactly_where_no_weight_came_back(pair):
    inner, outer = pair
    invariants.nested({name: inner[name] & outer[name] for name in inner}, outer)
    if any((inner[name] > outer[name]).any() for name in inner):
        with pytest.raises(InvariantError):
            invariants.nested(inner, outer)
    else:
        invariants.nested(inner, outer)


def test_a_weight_that_came_back_is_named_and_counted():
    before = {"a": np.ones(3), "b": np.array([[0, 1], [0, 1]])}
    now = {"a": np.ones(3), "b": np.array([[1, 0], [1, 1]])}
    with pytest.raises(InvariantError, match="Received: 2 of 4 weights of 'b' kept again"):
        invariants.nested(now, before)


@given(masks())
def test_weights_that_are_zero_where_pruned_pass(kept):
    weights = {name: np.where(mask == 1, 3.0, 0.0) for name, mask in kept.items()}
    invariants.pruned_are_zero({**weights, "bias": np.ones(2)}, kept)


@given(masks())
def test_a_pruned_weight_that_is_not_zero_is_found(kept):
    weights = {name: np.full(mask.shape, 1e-45) for name, mask in kept.items()}
    if all(mask.all() for mask in kept.values()):
        invariants.pruned_are_zero(weights, kept)
    else:
        with pytest.raises(InvariantError):
            invariants.pruned_are_zero(weights, kept)


@pytest.mark.parametrize("value", [1.0, -1e-45, np.nan, np.inf])
def test_a_stray_weight_is_named_and_counted(value):
    weights = {"a": np.zeros(2), "b": np.array([0.0, value, 5.0], np.float32)}
    kept = {"a": np.zeros(2), "b": np.array([0, 0, 1])}
    with pytest.raises(InvariantError, match="Received: 1 of 2 pruned weights of 'b'"):
        invariants.pruned_are_zero(weights, kept)


@given(masks())
def test_rewound_survivors_pass_whatever_the_pruned_hold(kept):
    theta = {name: np.linspace(-1, 1, mask.size).reshape(mask.shape)
             for name, mask in kept.items()}
    weights = {name: np.where(mask == 1, theta[name], np.nan) for name, mask in kept.items()}
    invariants.survivors_are_rewound(weights, theta, kept)


def test_nan_and_negative_zero_are_rewound_bit_for_bit():
    theta = {"w": np.array([np.nan, -0.0])}
    invariants.survivors_are_rewound({"w": theta["w"].copy()}, theta, {"w": np.ones(2)})


@pytest.mark.parametrize(("then", "now"), [(1.0, np.nextafter(1.0, 2.0)), (0.0, -0.0),
                                           (1.0, np.nan)])
def test_a_survivor_that_differs_is_named_and_counted(then, now):
    theta = {"a": np.ones(2), "b": np.array([3.0, then, then, 4.0])}
    weights = {"a": np.ones(2), "b": np.array([3.0, now, now, 9.0])}
    kept = {"a": np.ones(2), "b": np.array([1, 1, 1, 0])}
    with pytest.raises(InvariantError, match="Received: 2 of 3 kept weights of 'b'"):
        invariants.survivors_are_rewound(weights, theta, kept)
