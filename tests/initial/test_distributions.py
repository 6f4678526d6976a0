"""How many weights each layer keeps."""

import math

import numpy as np
import pytest

from lth_keras.initial.distributions import groups, kept_counts, SCHEDULES, steps

LENET = {"a": (784, 300), "b": (300, 100), "c": (100, 10)}
CONVOLUTIONS = {"first": (3, 3, 3, 64), "wide": (3, 3, 512, 512), "point": (1, 1, 64, 128),
                "out": (512, 10)}


def size(shapes):
    return sum(map(math.prod, shapes.values()))


@pytest.mark.parametrize("shapes", [LENET, CONVOLUTIONS], ids=["dense", "convolutions"])
@pytest.mark.parametrize("distribution", ["uniform", "erk", "balanced"])
def test_counts_add_up_and_no_layer_keeps_more_than_it_has(shapes, distribution):
    for number in {1, 2, 7, 1000, size(shapes) // 3, size(shapes) - 1, size(shapes)}:
        counts = kept_counts(shapes, number, distribution)
        assert sum(counts.values()) == number
        assert all(0 <= counts[name] <= math.prod(shape) for name, shape in shapes.items())
        assert [*counts] == [*shapes]


def test_erk_by_hand():
    # Sides add up to 13, 8, 5; sizes are 40, 15, 6. Half of 61 is 30 (of 30.5).
    shapes = {"a": (5, 8), "b": (3, 5), "c": (2, 3)}
    # 30 / 26 for each: 15, 9.23, 5.77. All fit; the one that is left goes to c.
    assert kept_counts(shapes, 30, "erk") == {"a": 15, "b": 9, "c": 6}
    # 40 / 26 for each: 20, 12.3 and 7.7, but c has 6. Of the other 34, (13, 8) / 21.
    assert kept_counts(shapes, 40, "erk") == {"a": 21, "b": 13, "c": 6}
    # 50: c is dense, then 44 x (13, 8) / 21 is 27.2 and 16.8, but b has 15.
    assert kept_counts(shapes, 50, "erk") == {"a": 29, "b": 15, "c": 6}


def test_erk_of_convolutions_counts_the_sides_of_the_kernel():
    # As in RigL's reference: a density is in proportion to sum(shape) / prod(shape).
    counts = kept_counts(CONVOLUTIONS, 20000, "erk")
    density = {name: counts[name] / math.prod(shape) for name, shape in CONVOLUTIONS.items()}
    raw = {name: sum(shape) / math.prod(shape) for name, shape in CONVOLUTIONS.items()}
    free = [name for name in CONVOLUTIONS if density[name] < 1]
    assert "wide" in free and len(free) >= 2
    ratios = [density[name] / raw[name] for name in free]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)


def test_uniform_gives_all_layers_one_density_and_balanced_one_number():
    assert {name: counts / math.prod(LENET[name]) for name, counts in kept_counts(
        LENET, size(LENET) // 10, "uniform").items()} == {"a": 0.1, "b": 0.1, "c": 0.1}
    assert set(kept_counts(LENET, 300, "balanced").values()) == {100}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_fall_to_exactly_what_is_kept(schedule):
    for kept in (1, 10, 999, 1000):
        left = steps(1000, kept, 100, schedule)
        assert len(left) == 100 and left[-1] == kept
        assert all(one >= other for one, other in zip([1000, *left], left, strict=False))
    assert steps(1000, 3, 1, schedule) == [3]


def test_an_exponential_schedule_prunes_the_same_share_each_time():
    left = np.array([10**6, *steps(10**6, 1000, 100)])
    np.testing.assert_allclose(left[1:] / left[:-1], 0.001**0.01, rtol=1e-3)


def test_layers_are_compared_with_each_other_only_if_global():
    assert [names for names, _ in groups(LENET, 100, "global")] == [["a", "b", "c"]]
    assert [names for names, _ in groups(LENET, 100, "erk")] == [["a"], ["b"], ["c"]]
