import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_keras.core.verification import (
    CHECKS,
    cut,
    Finding,
    Recording,
    SAMPLE,
    unmoved,
    Verification,
)
from lth_keras.errors import InvariantError


def recording(*steps, losses=None):
    """A training of weights, each step a mapping; the first is where it begins."""
    found = Recording(steps[0])
    for place, weights in enumerate(steps[1:]):
        found.add(weights, losses[place] if losses else 0.0)
    return found


def walk(*values, size=3):
    return [{"w": np.full(size, value, np.float32)} for value in values]


@given(st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=6), st.data())
def test_the_first_step_with_another_bit_is_found_and_no_other(values, data):
    step = data.draw(st.integers(1, len(values) - 1))
    one, other = walk(*values), walk(*values)
    assert recording(*one).first_difference(recording(*other)) == {}
    other[step]["w"][1] = np.nextafter(other[step]["w"][1], np.float32(99))
    assert recording(*one).first_difference(recording(*other)) == {"w": step}


def test_zero_and_minus_zero_are_other_bits():
    assert recording(*walk(1.0, 0.0)).first_difference(recording(*walk(1.0, -0.0))) == {"w": 1}


@pytest.mark.parametrize(("off", "found"), [(0.0, {}), (0.9e-3, {}), (1.1e-3, {"w": 2})])
def test_rounding_is_a_share_of_how_far_a_weight_moves(off, found):
    one = recording(*walk(1.0, 6.0, 11.0))
    assert one.drift(recording(*walk(1.0, 6.0, 11.0 + 10 * off))) == found


def test_a_weight_that_never_moves_must_not_differ_at_all():
    assert recording(*walk(1.0, 1.0)).drift(recording(*walk(1.0, 1.0))) == {}
    assert recording(*walk(1.0, 1.0)).drift(recording(*walk(1.0, np.nan))) == {"w": 1}


def test_a_difference_in_one_value_of_many_is_found_in_the_end():
    one = [{"w": np.zeros(10 * SAMPLE)} for _ in range(3)]
    other = [{"w": np.zeros(10 * SAMPLE)} for _ in range(3)]
    for steps in (one, other):
        steps[-1]["w"][:] = 1.0
    other[-1]["w"][4321] = 2.0
    assert recording(*one).drift(recording(*other)) == {"w": 2}


@pytest.mark.parametrize(("losses", "step"), [
    ((1.0, 2.0, 3.0), None), ((1.0, 2.0, 3.02), None), ((1.0, 2.1, 3.5), 2),
    ((1.0, np.nan, 3.0), 2)])
def test_losses_that_differ_by_more_than_a_hundredth(losses, step):
    one = recording(*walk(0, 1, 2, 3), losses=(1.0, 2.0, 3.0))
    assert one.losses_differ(recording(*walk(0, 1, 2, 3), losses=losses)) == step


def test_weights_are_unmoved_if_no_survivor_moves_that_moved_before():
    start = {"still": np.zeros(4), "some": np.zeros(4), "never": np.zeros(4), "gone": np.zeros(4)}
    dense = recording(start, {**{name: np.ones(4) for name in start}, "never": np.zeros(4)})
    pruned = recording(start, {**start, "some": np.array([0.0, 0.0, 0.0, 1.0])})
    masks = {name: np.array([1, 1, 0, 1]) for name in start} | {"gone": np.zeros(4)}
    assert unmoved(dense, pruned, masks) == {"still": 3}


def test_a_report_says_what_differs_when_and_what_holds_it():
    findings = [Finding("rewinding", name, "ends another round", step, "an optimizer (d_opt, Adam)")
                for name, step in (("a/kernel", 3), ("b/kernel", 2), ("c/kernel", 5), ("d", 4))]
    report = Verification("gan", 20, tuple(findings), {"stripping": "not made"}, ("left dense: e",))
    assert not report.ok
    assert str(report).splitlines() == [
        "gan, 20 steps: FAILED",
        f"  wrapping   passed   {CHECKS['wrapping']}",
        f"  rewinding  FAILED   {CHECKS['rewinding']}",
        "      a/kernel, b/kernel, c/kernel and 1 more: ends another round, from step 2 on; "
        "probably: an optimizer (d_opt, Adam)",
        f"  pruning    passed   {CHECKS['pruning']}",
        f"  stripping  skipped  {CHECKS['stripping']}",
        "      not made",
        "  note: left dense: e"]
    with pytest.raises(InvariantError, match="d_opt, Adam"):
        report.raise_if_failed()
    Verification("gan", 20).raise_if_failed()


def test_names_are_cut_only_where_there_are_many():
    assert cut(["a"]) == "a"
    assert cut(["a", "b", "c"]) == "a, b, c"
    assert cut(["a", "b", "c", "d"]) == "a, b, c and 1 more"
