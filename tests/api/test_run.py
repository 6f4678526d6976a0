import gc
import html
import io
import os
import pathlib
import subprocess
import sys

import pytest
import workdirs
from rich.console import Console

import lth_keras as lth
from lth_keras.api import run as api
from lth_keras.api.run import FinishedRun
from lth_keras.cli import main
from lth_keras.deployment.run_export import RunExporter
from lth_keras.errors import DivergedError, LotteryError, WorkdirError
from lth_keras.experiments import progress
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import paths, store
from lth_keras.experiments.worker import Placement

CONFIG = Config(preset="p", network="n", dataset="d", steps=3000, rounds=1)
# A script without `if __name__ == "__main__"`, whose worker processes must not run it again.
SCRIPT = """
import sys
print("begins")
import lth_keras as lth
found = lth.run("digits", steps=20, rounds=1, replicates=1, seed=7, branches=("ticket",),
                jobs=1, workdir=sys.argv[1])
assert found.tickets[0, 1].level == 1
print(found.report())
"""


@pytest.mark.thorough
def test_a_plain_script_trains_what_the_command_trains(tmp_path, capsys):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "w"], check=True, text=True,
                          capture_output=True, env=environment)
    assert not done.stderr
    assert done.stdout.count("begins") == 1
    assert "replicate 0, level 1, ticket: early stop" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "w" / "plots" / "report.html")
    # The command finds everything done: it is the same experiment.
    assert main._main(main._parse([
        "lth", "run", "digits", "--steps", "20", "--rounds", "1", "--replicates", "1", "--seed",
        "7", "--branches", "ticket", "--workdir", str(tmp_path / "w")])) == 0
    assert "digits: 0 networks to train for 20 steps each" in capsys.readouterr().out


@pytest.fixture
def asked(monkeypatch):
    """What `run_experiment` is called with, in place of training."""
    calls = []

    def run_experiment(config, root, how, console):
        calls.append((config, root, how, console))
        workdirs.fill(root, config)
    monkeypatch.setattr(api, "run_experiment", run_experiment)
    return calls


def test_tensorboard_has_the_run_and_its_verdict(asked, tmp_path):
    lth.run(CONFIG, workdir=tmp_path / "w", tensorboard=tmp_path / "t")
    assert [type(hook).__name__ for hook in asked[0][2].on_row] == ["LiveEvents"]
    assert {path.name for path in (tmp_path / "t" / "p").iterdir()} == {
        "by_level", "curves", "verdict"}


def log(row):
    """A function for rows."""


def test_settings_are_those_of_the_command(asked, tmp_path):
    found = lth.run("digits", scale=0.5, workdir=str(tmp_path / "w"), jobs=3, threads=2,
                    resident_mib=5, on_divergence="continue", repair=True, download=True, verbose=0,
                    rounds=1, replicates=1, branches=["ticket"], seed=3, margin={"steps": 0.3},
                    on_row=log)
    (config, root, how, console), = asked
    assert (config.steps, config.scale, config.rounds, config.seed) == (750, 0.5, 1, 3)
    assert config.margin == "accuracy:0.002,steps:0.3,loss:0.01"
    assert config.branches == ("ticket",) and root == found.workdir == tmp_path / "w"
    assert how.placement == Placement(None, "none", 2, 5) and how.jobs == 3
    assert how.on_divergence == "continue" and how.repair and not how.dry_run
    assert how.download and [*how.on_row] == [log]
    assert console.quiet
    lth.run(CONFIG, distribute="mirrored", workdir=tmp_path / "v")
    config, _, how, console = asked[1]
    assert config == CONFIG and not console.quiet
    assert how.jobs == 1 and how.placement.threads == 0


def test_without_a_workdir_the_results_last_as_long_as_the_object(asked):
    found = lth.run(CONFIG, verbose=0)
    root = found.workdir
    assert len(found.results) == 3 and (root / "config.json").exists()
    del found
    gc.collect()
    assert not root.exists()


@pytest.mark.parametrize(("arguments", "settings", "why"), [
    (["digit"], {}, "A preset must be one of .*digits.*Received: 'digit'"),
    ([3], {}, "the name of a preset, a file NAME.npz or a Config"),
    (["digits"], {"step": 3}, "A setting must be one of .*Received: 'step'"),
    (["digits"], {"steps": 0}, "steps must be a whole number >= 1"),
    (["digits"], {"jobs": 0}, "jobs must be a whole number >= 1. Received: 0"),
    (["digits"], {"threads": 1.5}, "threads must be a whole number >= 0"),
    (["digits"], {"backend": "threads"}, "backend must be one of loky"),
    (["digits"], {"on_divergence": "go"}, "on_divergence must be one of stop")])
def test_what_is_not_allowed_is_said_before_anything_is_trained(asked, arguments, settings, why):
    with pytest.raises(LotteryError, match=why):
        lth.run(*arguments, **settings)
    assert not asked


def test_the_object_has_what_is_in_the_workdir(tmp_path):
    workdirs.fill(tmp_path, CONFIG)
    found = FinishedRun(CONFIG, tmp_path)
    assert found.results.equals(store.results(tmp_path))
    assert list(found.tickets) == [(0, 0), (0, 1), (0, 2)] and len(found.tickets) == 3
    assert found.tickets[0, 1].level == 1 and (1, 0) not in found.tickets
    with pytest.raises(KeyError):
        found.tickets[0, 3]
    assert [item.level for item in found.verdicts] == [1] and "one replicate" in found.verdict
    page = found.report(tmp_path / "out")
    assert page == tmp_path / "out" / "report.html" and page.exists()
    path = tmp_path / "replicate_0" / "level_01" / "ticket.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(WorkdirError, match=str(path)):
        found.tickets[0, 1]


def test_an_export_is_of_the_level_and_settings_that_are_asked_for(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(RunExporter, "export", lambda self, *arguments, **options: made.append(
        (self._settings, *arguments, options["dense"])))
    found = FinishedRun(CONFIG, workdirs.fill(tmp_path, CONFIG).root)
    found.export("out", level=1, formats=["float32"], tolerance=2.0)
    found.export()
    (settings, source, out, formats, dense), (_, best, *_) = made
    assert settings.tolerance == 2.0 and source.training == Training(0, 1)
    assert (out, formats, dense.training) == (pathlib.Path("out"), ["float32"], Training(0, 0))
    assert best.training == Training(0, 1)  # Curves are alike, and it is the sparsest.
    for options in ({"level": "first"}, {"levels": 1}):
        with pytest.raises(LotteryError, match="Received: 'first'|setting of export.*'levels'"):
            found.export(**options)


def test_a_run_that_diverged_is_an_error_whose_results_are_kept(tmp_path):
    run = store.Store(tmp_path, CONFIG)
    run.begin()
    workdirs.finish(run, Training(0, 0), workdirs.DIVERGED)
    with pytest.raises(DivergedError, match="replicate 0, level 0"):
        lth.run(CONFIG, workdir=tmp_path, verbose=0)
    assert FinishedRun(CONFIG, tmp_path).results.diverged_at_step.tolist() == [50]


@pytest.mark.parametrize("has_widgets", [False, True])
def test_a_notebook_has_a_bar_if_it_can_draw_one(has_widgets, monkeypatch):
    console = Console(force_jupyter=True, file=io.StringIO())
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: has_widgets or None)
    assert progress.ProgressDisplay(console, 10)._has_bar == has_widgets
    assert not progress.ProgressDisplay(Console(quiet=True, force_terminal=True), 10)._has_bar


def test_a_finished_run_is_judged_by_the_margin_that_is_asked_for_last(tmp_path):
    workdirs.fill(tmp_path, CONFIG)
    before = lth.run(CONFIG, workdir=tmp_path, verbose=0)
    rows, said = before.results, before.verdict
    after = lth.run(CONFIG, workdir=tmp_path, margin={"steps": 0.5}, verbose=0)
    assert "19% of the dense network's steps" in said
    assert "50% of the dense network's steps" in after.verdict
    assert paths.read_config(tmp_path) == CONFIG.replace(margin="steps:0.5")
    assert after.results.equals(rows)


def test_a_notebook_shows_the_means_of_each_level(tmp_path):
    workdirs.fill(tmp_path / "<b>", CONFIG)
    found = FinishedRun(CONFIG, tmp_path / "<b>")
    page = found._repr_html_()
    assert "&lt;b&gt;" in page and "color" not in page
    assert page.count("<tr>") == 1 + len(found.results.groupby(["branch", "level"]))
    assert html.escape(found.verdict) in page
