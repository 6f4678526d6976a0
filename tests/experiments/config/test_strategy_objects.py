"""Strategies and retrainings say what they do, so that nobody compares their names."""

import ast
import pathlib

import numpy as np
import pytest

import lth_keras
from lth_keras.controls.known import CONTROLS
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import strategies
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import (
    chain_branches,
    CONSTANT,
    FinishedRound,
    register,
    Retraining,
    RETRAININGS,
    Span,
    STRATEGIES,
    Strategy,
)

ROOT = pathlib.Path(lth_keras.__file__).parent
# Without those that are first of all methods of lth.prune_at_init.
NAMES = {*(name for name, each in STRATEGIES.items() if name != each.at_init), *RETRAININGS}
CONFIG = Config(preset="p", network="n", dataset="d", steps=1000, rewind_step=100,
                validation_every=50)


def comparisons_of_names(source):
    """The lines that compare a strategy's or a retraining's name, or choose by it."""
    for node in ast.walk(ast.parse(source)):
        compared = []
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            compared = [node.subject]
        for part in compared:
            for inner in ast.walk(part):
                text = getattr(inner, "value" if isinstance(inner, ast.Constant) else "attr", None)
                if isinstance(text, str) and text in (*NAMES, "strategy", "retraining"):
                    yield node.lineno


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_compares_a_strategys_name(path):
    assert list(comparisons_of_names(path.read_text())) == []


@pytest.mark.parametrize("source", [
    'config.strategy == "x"', 'x in ("one_shot", "y")', 'self.config.retraining != other',
    'match config.strategy:\n    case "x": pass'])
def test_a_comparison_would_be_found(source):
    assert list(comparisons_of_names(source)) == [1]


def ended(level):
    arrays = [{"w": np.array([float(number)])} for number in range(4)]
    theta, trained, masks, taken = arrays
    return FinishedRound(level, masks, theta, trained, {0: taken} if level else {})


@pytest.mark.parametrize(("name", "takes", "by"), [
    ("iterative", [(), ()], ["trained", "trained"]),
    ("one_shot", [(0,), (0,)], ["trained", "taken"]),
    ("continued", [(0,), (1,)], ["trained", "trained"])])
def test_what_a_strategy_takes_and_prunes_by(name, takes, by):
    strategy = STRATEGIES[name]
    assert [strategy.takes(level) for level in (1, 2)] == takes
    for level, weights in zip((0, 1), by, strict=True):
        end = ended(level)
        expected = end.taken[0] if weights == "taken" else end.trained
        assert strategy.scored(end) is expected
        assert strategy.next_masks(end, lambda scored: {"scored": scored}) == {"scored": expected}


def test_a_chain_of_its_own_begins_where_it_ended_and_takes_all_steps():
    below = {"w": np.ones(1)}
    assert STRATEGIES["continued"].begin({"w": np.zeros(1)}, {1: below}) is below
    assert STRATEGIES["continued"].span(CONFIG, 3) == Span(1000)
    assert chain_branches() == ["continued"]


def test_the_dense_network_alone_decides_the_masks_of_one_shot_and_of_no_other():
    assert [name for name, strategy in STRATEGIES.items()
            if strategy.one_shot and not strategy.at_init] == ["one_shot"]


@pytest.mark.parametrize(("name", "rewinds", "span"), [
    ("weight_rewinding", True, Span(1000, 100, 100)),
    ("learning_rate_rewinding", False, Span(1000, 100, 100)),
    ("fine_tuning", False, Span(1000, 100, 999, CONSTANT))])
def test_what_survivors_go_back_to_and_where_their_training_begins(name, rewinds, span):
    theta, scored = {"w": np.zeros(1)}, {"w": np.ones(1)}
    retraining = RETRAININGS[name]
    assert retraining.rewinds == rewinds and retraining.span(CONFIG) == span
    assert retraining.survivors(theta, scored) is (theta if rewinds else scored)


def test_reports_call_them_by_their_words():
    titles = {one.title for one in (*STRATEGIES.values(), *RETRAININGS.values())}
    assert titles == {name.replace("_", " ") for name in (*STRATEGIES, *RETRAININGS)}


@pytest.mark.parametrize("known", [STRATEGIES, RETRAININGS])
def test_the_list_of_settings_says_what_each_does(known):
    text = strategies.describe(known)
    assert all(f"{name}: {one.summary}" in text for name, one in known.items())


@pytest.mark.parametrize(("base", "name", "chain"), [
    (Strategy, "one_shot", "ticket"), (Retraining, "fine_tuning", "ticket"),
    *[(Strategy, "new", chain) for chain in (*CONTROLS, "", "a/b", "..", "1st", "é", "x" * 51)]])
def test_a_name_that_is_taken_or_cannot_be_part_of_a_path_is_refused(base, name, chain):
    before = dict(STRATEGIES), dict(RETRAININGS)
    with pytest.raises(LotteryError, match="Received: "):
        register(type("New", (base,), {"name": name, "summary": "", "chain": chain}))
    assert before == (STRATEGIES, RETRAININGS)


@pytest.mark.parametrize(("rounds", "strategy"), [(0, "one_shot"), (3, "continued")])
def test_what_a_strategy_takes_must_be_kept(rounds, strategy):
    settings = {"strategy": strategy, "rounds": rounds, "branches": ("ticket",)}
    assert CONFIG.replace(**settings).strategy == strategy
    with pytest.raises(LotteryError, match=f"strategy={strategy} needs .*: keep_trained=none"):
        CONFIG.replace(**settings, keep_trained="none")
