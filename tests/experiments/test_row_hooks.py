"""Functions that get each training's row when it is finished; one writes TensorBoard's files."""

import os
import pathlib
import re
import subprocess
import sys
import types

import pytest
import small
from small import CONFIG
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.experiment import Experiment
from lth_keras.experiments.pools import InProcess
from lth_keras.experiments.results import runs, store
from lth_keras.experiments.results.store import Store
from lth_keras.experiments.row_hooks import named, RowWatch
from lth_keras.reports import tensorboard
from lth_keras.reports.tensorboard import LiveEvents

pytestmark = pytest.mark.usefixtures("tiny_network")
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "experiments.md"


def run(root, *hooks, trains=None, on_divergence="stop"):
    workdir = Store(root, CONFIG)
    Experiment(CONFIG, workdir, RowWatch(small.Watch(), workdir, hooks),
               InProcess(trains or small.lab(CONFIG)), on_divergence).run()


def test_a_hook_gets_the_row_of_each_training_when_it_is_stored(tmp_path):
    seen = []

    def hook(row):
        seen.append(row)
        assert len(store.results(tmp_path)) == len(seen)

    run(tmp_path, hook)
    assert [Training(*(row[name] for name in ("replicate", "level", "branch", "branch_index")))
            for row in seen] == list(trainings(CONFIG))
    table = store.results(tmp_path).set_index(["level", "branch"])
    for row in seen:
        assert all(type(value) in (int, float, str, type(None)) for value in row.values())
        for name, value in row.items():
            if value is not None and name in table:
                assert table.loc[(row["level"], row["branch"]), name] == value
    run(tmp_path, hook)  # Nothing is trained again, so nobody hears of it again.
    assert len(seen) == len(table)


def test_a_hook_that_fails_is_a_warning_and_the_others_get_their_own_row(tmp_path):
    seen = []

    def spoils(row):
        row.clear()
        raise ConnectionError("no\nnetwork")

    with pytest.warns(UserWarning, match=r"spoils failed on the row of replicate 0, level 0, "
                                         r"ticket \(ConnectionError: no.*The run goes on"):
        run(tmp_path, spoils, seen.append)
    assert len(seen) == len(store.results(tmp_path)) == 5 and all(seen)


def test_a_run_may_be_interrupted_in_a_hook(tmp_path):
    def stop(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop)
    assert len(store.results(tmp_path)) == 1


def test_a_training_that_diverged_has_a_row_too(tmp_path):
    seen = []
    diverging = small.Diverging(small.lab(CONFIG), {Training(0, 1, "reinit")})
    run(tmp_path, seen.append, trains=diverging, on_divergence="continue")
    row, = [row for row in seen if row["branch"] == "reinit" and row["level"] == 1]
    assert row["diverged_at_step"] == 8 and row["test_accuracy_final"] is None


@pytest.mark.parametrize(("text", "why"), [
    ("log", "as MODULE:FUNCTION. Received: 'log'"), (":log", "as MODULE:FUNCTION"),
    ("no_such_module:log", r"can be imported. Received: 'no_such_module:log' \(No module"),
    ("json:log", "can be imported. Received: 'json:log'"),
    ("json:__name__", "must name a function. Received: 'json:__name__', which is 'json'")])
def test_what_is_no_function_is_refused_with_the_reason(text, why):
    with pytest.raises(LotteryError, match=why):
        named(text)


# TensorBoard while a run goes on.


def events(folder):
    """Run -> tag -> [(step, value)], as TensorBoard reads a folder."""
    found = {}
    for path in sorted(folder.rglob("events.*")):
        reader = EventAccumulator(str(path.parent))
        reader.Reload()
        found[str(path.parent.relative_to(folder))] = {
            tag: sorted((event.step, event.value) for event in reader.Scalars(tag))
            for tag in reader.Tags()["scalars"]}
    return found


def test_tensorboard_has_each_training_when_it_is_finished_and_at_last_what_a_report_writes(
        tmp_path):
    live = LiveEvents(tmp_path / "w", CONFIG, tmp_path / "t")
    counts, open_already = [], {}

    def look(row):
        now = events(tmp_path / "t" / CONFIG.preset)
        counts.append(len([name for name in now if name.startswith("curves")]))
        chain = now[f"by_level/replicate_0/{row['branch']}_0"]["results/test_accuracy_final"]
        assert (row["level"], pytest.approx(row["test_accuracy_final"])) in chain
        if row["branch"] == "ticket":  # One that is open already, as in a browser, reads on.
            watched = open_already.setdefault("ticket", EventAccumulator(str(
                tmp_path / "t" / CONFIG.preset / "by_level" / "replicate_0" / "ticket_0")))
            watched.Reload()
            assert watched.Scalars("results/seconds")[-1].step == row["level"]

    run(tmp_path / "w", live, look)
    assert counts == [1, 2, 3, 4, 5]
    tensorboard.write(runs.read(tmp_path / "w"), tmp_path / "report")
    there = events(tmp_path / "report")
    assert there.pop("verdict") == {}  # Text alone, and known at the end.
    assert there == events(tmp_path / "t" / CONFIG.preset)


def test_a_run_that_goes_on_has_all_its_trainings_and_nothing_of_another(tmp_path):
    folder = tmp_path / "t"
    other = folder / CONFIG.preset / "curves" / "replicate_7" / "level_00" / "ticket_0"
    other.mkdir(parents=True)
    (other / tensorboard._NAME).write_bytes(b"of an earlier run")
    mine = other / "events.out.tfevents.mine"
    mine.write_bytes(b"")
    seen = []

    def stop(row):
        seen.append(row)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "w", LiveEvents(tmp_path / "w", CONFIG, folder), stop)
    run(tmp_path / "w", LiveEvents(tmp_path / "w", CONFIG, folder))
    assert mine.exists() and not (other / tensorboard._NAME).exists()
    mine.unlink()
    found = events(folder / CONFIG.preset)
    assert len([name for name in found if name.startswith("curves")]) == 5
    assert [step for step, _ in found["by_level/replicate_0/ticket_0"]["results/seconds"]] \
        == [0, 1, 2]


# From the command, and as the documents show it.


@pytest.mark.thorough
def test_the_command_calls_a_function_of_a_module_beside_it(tmp_path):
    (tmp_path / "hooks.py").write_text(
        "def log(row):\n    print('LOGGED', row['branch'], row['level'], flush=True)\n")
    command = ["run", "digits", "--steps", "20", "--rounds", "1", "--replicates", "1", "--branches",
               "ticket", "--jobs", "1", "--workdir", "w", "--on_row", "hooks:log", "--tensorboard",
               "t"]
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parents[1])}
    entry = "import sys; sys.path.pop(0); from lth_keras.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", entry, *command], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.findall(r"LOGGED (.*)", done.stdout) == ["ticket 0", "ticket 1"]
    found = events(tmp_path / "t" / "digits")
    assert {"by_level/replicate_0/ticket_0", "verdict"} <= set(found)


def logged():
    """The programs of the section on loggers, by the package that each needs."""
    section = DOCS.read_text().partition("## TensorBoard, Weights & Biases, MLflow")[2]
    programs = re.findall(r"^```python\n(.*?)^```", section.partition("\n## ")[0],
                          re.DOTALL | re.MULTILINE)
    return {re.search(r"^import (\w+)", text, re.MULTILINE)[1]: text for text in programs}


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_the_hooks_of_the_documents_log_the_numbers_of_each_row(package, tmp_path, monkeypatch):
    calls = []
    stub = types.ModuleType(package)
    stub.init = stub.set_experiment = lambda *given, **more: stub
    stub.log = lambda metrics: calls.append((metrics, None))
    stub.log_metrics = lambda metrics, step: calls.append((metrics, step))
    monkeypatch.setitem(sys.modules, package, stub)
    program = {}
    exec(compile(logged()[package], package, "exec"), program)
    run(tmp_path, program["log"])
    assert len(calls) == 5
    for metrics, step in calls:
        assert all(type(value) in (int, float) for value in metrics.values())
        level, = [value for name, value in metrics.items() if name.endswith("level")]
        assert step in (None, level)
    names = [name for metrics, _ in calls for name in metrics if "test_accuracy_final" in name]
    assert len(names) == 5 and len(set(names)) == 2  # One line for each branch.
