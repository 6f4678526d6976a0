import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_keras.controls.known import CONTROLS
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.branches import Branch, check, MOST_LEVEL, parse

LEVELS = st.none() | st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True).map(
    lambda levels: tuple(sorted(levels)))
BRANCHES = st.builds(Branch, st.sampled_from(["ticket", *CONTROLS]), st.integers(1, 50), LEVELS)


@given(BRANCHES)
def test_a_branch_reads_back_from_its_text(branch):
    assert parse(str(branch)) == branch
    assert check([str(branch)])[-1] == str(branch) or branch.name == "ticket"


@given(BRANCHES, st.integers(0, 70))
def test_a_branch_is_trained_where_it_says(branch, level):
    asked = branch.levels is None or level in branch.levels
    assert branch.at(level) == (branch.repeats if asked and (level or branch.name == "ticket")
                                else 0)


@pytest.mark.parametrize(("text", "levels"), [
    ("reinit@3", (3,)), ("reinit@3/5/7-9", (3, 5, 7, 8, 9)), ("reinit@9/3-4/4", (3, 4, 9)),
    (" reinit@1-1 ", (1,))])
def test_levels_are_numbers_and_ranges(text, levels):
    assert parse(text).levels == levels


def test_the_last_level_is_known_once_the_rounds_are():
    last = parse(" reinit:2@last ")
    assert str(last) == "reinit:2@last" and check(["reinit@last"]) == ("ticket", "reinit@last")
    assert [last.until(3).at(level) for level in range(5)] == [0, 0, 0, 2, 0]
    assert [last.until(0).at(level) for level in range(2)] == [0, 0]
    assert parse("reinit@3").until(7).levels == (3,)


@pytest.mark.parametrize("text", [
    "", "reinits", "reinit:", "reinit:0", "reinit:-1", "reinit:1.5", "reinit@", "reinit@a",
    "reinit@3-", "reinit@5-3", "reinit@-3", f"reinit@{MOST_LEVEL + 1}", "reinit@3,5", "reinit:3:3",
    "@3", ":3", "reinit@3@5", "continued", "reinit:9999999"])
def test_what_is_no_branch_is_an_error(text):
    with pytest.raises(LotteryError, match="branches .*Received: "):
        parse(text)


def test_branches_are_each_there_once_in_the_controls_order():
    assert check(["random_mask", "reinit:2"]) == ("ticket", "reinit:2", "random_mask")
    assert check(["reinit", "reinit", "ticket:2@0"]) == ("ticket:2@0", "reinit")
    with pytest.raises(LotteryError, match="Received: reinit and reinit:2"):
        check(["reinit", "reinit:2"])
