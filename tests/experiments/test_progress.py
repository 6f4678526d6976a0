import io
import re
import sys
import types

import pytest
from rich.console import Console

from lth_keras.experiments.config import presets
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.progress import duration, estimate, ProgressDisplay, WaitDisplay
from lth_keras.experiments.results.outcome import Speed

RESULT = {"early_stop_step": 1200, "test_accuracy_early_stop": 0.9731, "seconds": 8.25}
ONE, OTHER = Training(0, 1), Training(0, 1, "reinit")


@pytest.mark.parametrize("seconds, said", [
    (0, "0 s"), (0.4, "0 s"), (8.2, "8 s"), (59.4, "59 s"), (59.6, "1 min 0 s"),
    (60, "1 min 0 s"), (125, "2 min 5 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 0 min"),
    (7300, "2 h 1 min"),
    (172_740, "47 h 59 min"), (172_800, "2 days 0 h"),
    (360_000, "4 days 4 h"), (1e9, "11,574 days 1 h")])
def test_a_duration_is_said_as_a_person_says_it(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize("slots, replicates, rounds, branches, trainings_in_a_row", [
    (1, 1, 2, "ticket", 3), (1, 1, 2, "ticket,reinit", 5), (2, 1, 2, "ticket,reinit", 3),
    (2, 2, 2, "ticket,reinit", 5), (4, 2, 2, "ticket,reinit", 3), (4, 1, 0, "ticket", 1)])
def test_the_estimate_is_the_longest_chain_or_all_work_shared_out(
        slots, replicates, rounds, branches, trainings_in_a_row):
    config = presets.get("digits").replace(
        steps=1000, validation_every=10, replicates=replicates, rounds=rounds, branches=branches)
    # The slowest process counts: 10 ms a step, 20 for every tenth's validation, 3 s at the end.
    slow, fast = (Speed(compilation=3.0, step=step, validation=2 * step, evaluation=3.0)
                  for step in (1e-2, 1e-3))
    speeds = [*[fast] * (slots - 1), slow]
    said = estimate(speeds, list(trainings(config)), config)
    assert said.endswith(f"about {duration(15 * trainings_in_a_row)} in all")
    assert said.startswith("12.00 ms a step in ") and "2.00 of it for validation" in said
    assert ("one process" if slots == 1 else f"each of {slots} processes") in said


def test_the_estimate_says_over_how_many_steps_the_speed_was_measured():
    config = presets.get("digits").replace(replicates=1, rounds=0)
    for timed, said in ((1, "over 1 step)"), (4096, "over 4,096 steps)")):
        speed = Speed(3.0, 1e-3, 1e-3, 0.0, timed=timed)
        assert f"(compiled in 3.0 s, measured {said}: about" in estimate(
            [speed], list(trainings(config)), config)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_wait_says_what_for(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with WaitDisplay(console) as wait:
        for what in ("Compiling", "Measuring"):
            wait(what)
            wait._progress.refresh()
            assert what in console.file.getvalue()
    if not terminal:  # Which has a line each; a terminal redraws one.
        assert console.file.getvalue() == "Compiling.\nMeasuring.\n"


@pytest.fixture(params=[False, True], ids=["file", "terminal"])
def shown(request):
    console = Console(file=io.StringIO(), force_terminal=request.param, width=100)
    with ProgressDisplay(console, steps=200) as display:
        yield display


def task(display):
    return display._progress.tasks[0]


def test_steps_are_a_total_and_not_more_steps(shown):
    for done in (10, 10, 60):
        shown.steps(done)
    assert task(shown).completed == 60 and task(shown).total == 200
    shown.steps(40)  # What a worker that died had done is done again.
    assert task(shown).completed == 40


def test_the_description_says_what_is_running(shown):
    assert task(shown).description == "starting"
    shown.begin(ONE, 0.8)
    assert task(shown).description == f"{ONE} (P_m 80.0%)"
    shown.begin(OTHER, 0.8)
    assert task(shown).description == f"{ONE} (P_m 80.0%) and 1 more"
    shown.end(ONE, RESULT)
    assert task(shown).description == f"{OTHER} (P_m 80.0%)"
    shown.begin(OTHER, 0.8)  # Tried again: its worker died.
    assert task(shown).description == f"{OTHER} (P_m 80.0%)"
    shown.end(OTHER, RESULT)
    assert task(shown).description == "waiting"


@pytest.mark.parametrize("width", [50, 60, 80, 100, 200])
def test_a_narrow_terminal_keeps_the_bar_and_the_time_left(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with ProgressDisplay(console, steps=200) as display:
        display.begin(Training(12, 13, "random_mask"), 0.8)
        display.begin(OTHER, 0.8)
        display.steps(100)
        display._progress.refresh()
        line = [each for each in console.file.getvalue().splitlines() if "50%" in each][-1]
    assert re.search(r"━+.* 50% 0:00:\d\d left [-0-9]+:[-0-9]+:", line)
    assert ("replicate 12, level 13, random_mask (P_m 80.0%)" in line) == (width >= 200)
    assert width < 60 or ("repl" in line and "and 1 more" in line)


def test_a_file_gets_a_line_a_training_and_a_terminal_none(shown):
    shown.begin(ONE, 0.8)
    shown.end(ONE, RESULT)
    said = "replicate 0, level 1, ticket: early stop at step 1,200, test accuracy 97.31%, 8.2 s\n"
    text = shown._console.file.getvalue()
    assert text == said if not shown._console.is_terminal else said not in text


def test_a_training_that_diverged_is_said_to_have_even_on_a_terminal(shown):
    shown.begin(ONE, 0.8)
    shown.end(ONE, {"density": 0.8, "seconds": 1.25, "diverged_at_step": 1200})
    assert "replicate 0, level 1, ticket: diverged at step 1,200, 1.2 s" \
        in shown._console.file.getvalue()


class Output:
    """In place of a widget of ipywidgets: holds what was printed last."""

    shown = []

    def __init__(self):
        self.shown.append(self)
        self.closed, self.cleared = False, 0

    def clear_output(self, wait):
        self.cleared += 1

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture
def notebook(monkeypatch):
    """Sets up a notebook with widgets or without; returns what is printed in it."""
    def set_up(widgets):
        printed = []
        monkeypatch.setattr(Output, "shown", [])
        for name, content in {
                "IPython": {}, "IPython.display": {
                    "display": lambda item: printed.append(getattr(item, "text", ""))},
                "ipywidgets": {"Output": Output}}.items():
            module = types.ModuleType(name)
            module.__spec__ = types.SimpleNamespace(name=name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module if widgets or name != "ipywidgets"
                                else None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: widgets or None)
        return printed
    return set_up


@pytest.mark.parametrize("widgets", [False, True])
def test_a_notebook_has_a_bar_where_it_has_widgets_and_else_a_line_a_training(notebook, widgets):
    printed = notebook(widgets)
    with ProgressDisplay(Console(force_jupyter=True, width=100), steps=200) as display:
        assert display._progress.disable != widgets
        display.begin(ONE, 0.8)
        display.steps(50)
        display._progress.refresh()
        display.end(ONE, RESULT)
    said = "early stop at step 1,200, test accuracy 97.31%"
    lines = "".join(printed)
    assert (said in lines) != widgets
    if widgets:
        output, = Output.shown
        assert output.closed and output.cleared
        assert f"{ONE} (P_m 80.0%)" in lines and "25%" in lines
