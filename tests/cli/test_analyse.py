import io
import re

import fit_workdirs
import numpy as np
import pandas as pd
import pytest
import searches
import small
import workdirs
from matplotlib.figure import Figure
from rich.console import Console

from lth_keras.cli import analyse, main
from lth_keras.experiments import clusters
from lth_keras.experiments.results import repair
from lth_keras.experiments.results.store import Store
from lth_keras.experiments.training import datasets
from lth_keras.experiments.training_keras2 import models
from lth_keras.experiments.training_keras2.evaluator import Evaluator
from lth_keras.files.ticket import Ticket
from lth_keras.reports.analyses import output
from lth_keras.reports.analyses.analysis import Analysis, WorkdirReader

KINDS = sorted(name for name, kind in analyse.KINDS.items() if not kind.has_flags)


def lth(*arguments):
    """Runs the command in this process; returns its exit code."""
    try:
        return main._main(main._parse(["lth", *map(str, arguments)]))
    except SystemExit as stopped:
        return stopped.code


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return searches.fill(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_analysis_is_a_table_csv_files_and_a_picture(kind, root, tmp_path, capsys):
    assert lth("analyse", kind, root, "--out", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "conv/kernel" in text and "means over" in text
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"{kind}.csv", f"{kind}.png"} <= written
    found = analyse.KINDS[kind].analyse(WorkdirReader(root), None)
    assert written == {f"{kind}.csv", f"{kind}.png",
                       *(f"{kind}_{detail}.csv" for detail in found.details)}
    assert len(searches.read(tmp_path / "out", kind)) == len(found.rows)
    assert (tmp_path / "out" / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
    assert all(name in text for name in (f"{kind}.csv", f"{kind}.png"))


def test_differences_of_a_run_are_a_table_csv_files_and_a_picture(tmp_path, capsys):
    config = searches.CONFIG.replace(branches=("ticket", "reinit"))
    workdirs.fill(tmp_path / "run", config)
    assert lth("analyse", "differences", tmp_path / "run", "--at", "end", "--out",
               tmp_path / "out") == 0
    assert "test accuracy at the last step, less that of ticket" in capsys.readouterr().out
    found = searches.read(tmp_path / "out", "differences")
    assert {*found.network} == {"reinit"} and {*found.level} == {1, 2, 3}
    assert len(searches.read(tmp_path / "out", "differences_differences")) == 6
    assert (tmp_path / "out" / "differences.png").read_bytes().startswith(b"\x89PNG")


def test_levels_are_chosen(root, tmp_path):
    assert lth("analyse", "survivors", root, "--levels", "0,2-3", "--out", tmp_path) == 0
    assert {*searches.read(tmp_path, "survivors").level} == {0, 2, 3}


def test_results_lie_in_the_workdir_and_do_not_harm_it(tmp_path):
    root = searches.fill(tmp_path, searches.CONFIG.replace(rounds=1))
    assert lth("analyse", "connections", root) == 0
    assert (root / "analysis" / "connections.png").exists()
    config = searches.CONFIG.replace(rounds=1)
    assert repair.check(root, config) == [] and Store(root, config)
    killed = root / "analysis" / ".connections.csv.123.0123abcd"  # While it wrote.
    killed.touch()
    repair.remove_leftovers(root)
    assert not killed.exists() and (root / "analysis" / "connections.csv").exists()


def test_an_analysis_folder_that_leads_elsewhere_is_refused(tmp_path, capsys):
    root = searches.fill(tmp_path / "run", searches.CONFIG.replace(rounds=1))
    (tmp_path / "elsewhere").mkdir()
    (root / "analysis").symlink_to(tmp_path / "elsewhere")
    assert lth("analyse", "survivors", root) == 2
    assert "is a link" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_table_of_many_rows_shows_some_levels_and_says_so(root, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "_MOST_ROWS", 3)
    assert lth("analyse", "survivors", root, "--out", tmp_path) == 0
    assert re.search(r"\d of 4 levels are shown", capsys.readouterr().out)
    assert {*searches.read(tmp_path, "survivors").level} == {0, 1, 2, 3}
    assert lth("analyse", "survivors", root, "--out", tmp_path, "--levels", "0-3") == 0
    assert "are shown" not in capsys.readouterr().out


@pytest.mark.parametrize("kind, width, spread", [
    ("movement", 80, False), *((kind, 200, True) for kind in KINDS)])
def test_the_table_fits_the_terminal(kind, width, spread, root):
    console = Console(width=width, record=True, file=io.StringIO())
    found = analyse.KINDS[kind].analyse(WorkdirReader(root), None)
    output.show(found, True, console)
    text = console.export_text()
    table = text[:text.index(found.notes[0])].partition("Left out")[0]
    assert max(map(len, table.splitlines())) <= width and "conv/kernel" in table
    assert ("[least, greatest]" in table) is spread and "…" not in table


@pytest.mark.parametrize("arguments, said", [
    ([], "KIND must be one of survivors, movement, connections, overlap, signs, "
         "barrier, differences, sensitivity, untrained. Received: none."),
    (["hats"], "KIND must be one of survivors"),
    (["survivors"], "WORKDIR must be a workdir of `lth run`"),
    (["survivors", "one", "two"],
     "unless the kind is barrier or differences, or all are workdirs of fits. Received: one two."),
    (["differences", "x", "--at", "step"], "--at must be one of early_stop, end. Received: 'step'"),
    (["overlap", "x", "--against", "reinit"], "--against may be given for differences only."),
    (["survivors", "/nowhere"], "with a config.json. Received: /nowhere."),
    (["survivors", "x", "--points", "5"],
     "--points may be given for barrier only. Received: survivors."),
    (["overlap", "x", "--data_dir", "y"],
     "--data_dir may be given for barrier, sensitivity and untrained only. Received: overlap."),
    (["barrier", "x", "--shares", "0.5"],
     "--shares may be given for sensitivity only. Received: barrier."),
    (["overlap", "x", "--replicates", "0"],
     "--replicates may be given for sensitivity only. Received: overlap."),
    (["sensitivity", "x", "--levels", "1"],
     "--levels may not be given for sensitivity, which prunes the dense network. Received: '1'."),
    (["sensitivity", "x", "--shares", "0.5/1"],
     "--shares must be shares of a layer in (0, 1), such as 0.25/0.5/0.75. Received: '0.5/1'."),
    (["sensitivity", "x", "--shares", "half"], "--shares must be a number. Received: 'half'."),
    (["sensitivity", "x", "--shares", "nan"], "--shares must be shares of a layer"),
    (["sensitivity", "x", "--replicates", "first"],
     "--replicates must be replicates and ranges of replicates, such as 0/3/7-9. Received: 'first'."
     ),
    (["sensitivity", "one", "two"], "There must be only one WORKDIR"),
    (["survivors", "x", "--levels", "3-1"], "--levels must be levels and ranges of levels"),
    (["survivors", "x", "--levels", "most"], "Received: 'most'."),
    (["barrier", "x", "--points", "1"], "--points must be a whole number >= 2. Received: '1'."),
    (["barrier"], "WORKDIR must be a workdir"),
    (["overlap", "x", "--between", "levels"], "--between may be given for barrier only."),
    (["barrier", "x", "--between", "hats"], "--between must be one of levels. Received: 'hats'"),
    (["barrier", "x", "y", "--between", "levels"], "needs one WORKDIR. Received: x y."),
])
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(arguments, said, capsys):
    assert lth("analyse", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("lth analyse: error: ")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the command, its tickets trained twice where asked."""
    root = tmp_path_factory.mktemp("digits") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clusters.BACKENDS, "loky", small.Inline)
        assert lth("run", "digits", "--steps", "40", "--rounds", "1", "--replicates", "1",
                   "--set", "validation_every=20", "--set", "rewind_step=20", "--branches",
                   "ticket:2@0/1", "--workdir", root) == 0
    return root


@pytest.mark.thorough
def test_every_analysis_of_a_run_of_the_command(trained, tmp_path):
    for kind in ("survivors", "movement", "connections", "overlap", "signs"):
        assert lth("analyse", kind, trained, "--out", tmp_path) == 0
    moved = searches.read(tmp_path, "movement").set_index("weight")
    # What pruning by magnitude means.
    assert (moved.away_kept["all"] > moved.away_pruned["all"]).all()


def test_the_barriers_of_a_run_of_the_command(trained, tmp_path, capsys):
    assert lth("analyse", "barrier", trained, "--points", "4", "--out", tmp_path) == 0
    text = capsys.readouterr().out
    assert "data orders" in text and "parent and ticket" in text and "of those tried: 20" in text
    rows = searches.read(tmp_path, "barrier")
    assert len(rows) == 3 and (rows.instability >= 0).all()
    paths = searches.read(tmp_path, "barrier_paths")
    # At the ends the networks have the errors that the run itself found.
    results = Store(trained, WorkdirReader(trained).config)
    line = paths[(paths.level == 0) & (paths.between == "data orders")].sort_values("alpha")
    ends = [1 - results.record(training).row["test_accuracy_final"]
            for training in WorkdirReader(trained).repeats(0, 0)]
    assert len(line) == 4 and [line.error.iloc[0], line.error.iloc[-1]] == pytest.approx(ends)


def test_the_barriers_between_levels_of_a_run_of_the_command(trained, tmp_path, capsys):
    assert lth("analyse", "barrier", trained, "--between", "levels", "--points", "3", "--out",
               tmp_path) == 0
    text = capsys.readouterr().out
    assert "barriers between successive levels" in text and "Connected with" in text
    row, = searches.read(tmp_path, "barrier_levels").to_dict("records")
    results = Store(trained, WorkdirReader(trained).config)
    errors = [1 - results.record(WorkdirReader(trained).repeats(0, level)[0]).row[
        "test_accuracy_final"] for level in (0, 1)]
    assert [row["error_before"], row["error"]] == pytest.approx(errors) and row["level"] == 1
    assert (tmp_path / "barrier_levels.png").read_bytes().startswith(b"\x89PNG")


def test_the_accuracy_of_untrained_tickets_of_a_run_of_the_command(trained, tmp_path, capsys):
    assert lth("analyse", "untrained", trained, "--criteria", "movement,large_final", "--out",
               tmp_path) == 0
    assert "tickets before training" in capsys.readouterr().out
    rows = searches.read(tmp_path, "untrained")
    assert {*rows.masks} == {"ticket", "random mask", "movement", "large_final"}
    assert rows.test_accuracy.between(0, 1).all()
    assert (tmp_path / "untrained.png").read_bytes().startswith(b"\x89PNG")


def test_the_sensitivity_of_a_run_of_the_command(trained, tmp_path, capsys):
    assert lth("analyse", "sensitivity", trained, "--shares", "0.5,0.9", "--out", tmp_path) == 0
    text = capsys.readouterr().out
    rows = searches.read(tmp_path, "sensitivity").set_index(["layer", "share"])
    assert [*rows.index] == [(layer, share) for layer in ("fc1", "fc2", "fc3")
                             for share in (0.5, 0.9)]
    # The whole network has the accuracy that the run itself found.
    run = WorkdirReader(trained)
    dense = Store(trained, run.config).record(run.repeats(0, 0)[0]).row["test_accuracy_final"]
    assert (rows.test_accuracy + rows.accuracy_lost).to_numpy() == pytest.approx(dense)
    assert f"Of the whole network: {dense:.2%}." in text
    # 64 x 300, 300 x 100 and 100 x 10 weights, each multiplied with once.
    assert rows.weights_pruned["fc1", 0.5] == 9600
    assert rows.macs_left["fc1", 0.5] == pytest.approx(1 - 9600 / 50200)
    assert rows.test_loss.notna().all() and (tmp_path / "sensitivity.png").exists()


@pytest.mark.thorough
def test_the_sensitivity_of_filters_by_a_criterion_that_needs_gradients(tmp_path, monkeypatch):
    monkeypatch.setitem(clusters.BACKENDS, "loky", small.Inline)
    root = tmp_path / "run"
    assert lth("run", "digits", "--steps", "40", "--rounds", "0", "--replicates", "1", "--set",
               "validation_every=20", "--set", "structure=filters", "--set", "criterion=taylor",
               "--branches", "ticket", "--workdir", root) == 0
    assert lth("analyse", "sensitivity", root, "--shares", "0.5") == 0
    rows = searches.read(root / "analysis", "sensitivity").set_index("layer")
    # The outputs' units stay; 150 units of fc1 have 64 inputs, a bias and 100 outputs each.
    assert [*rows.index] == ["fc1", "fc2"]
    assert rows.weights_pruned["fc1"] == 150 * (64 + 1 + 100)
    assert rows.macs_left["fc1"] == pytest.approx(1 - 150 * 164 / 50200)


def test_error_is_the_share_of_the_test_set_that_is_wrong(trained):
    config = WorkdirReader(trained).config
    digits = datasets.load("digits")
    network = Evaluator(config, digits)
    weights = Ticket.load(trained / "replicate_0/level_00/ticket.safetensors").weights
    model = models.build(config, digits.input_shape, 10)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/{part}"] for part in ("kernel", "bias")])
    wrong = np.mean(model.predict(digits.x_test, verbose=0).argmax(1) != digits.y_test)
    assert network.error(weights) == pytest.approx(wrong, abs=1e-6)
    nothing = {name: np.zeros_like(value) for name, value in weights.items()}
    assert network.error(nothing) == pytest.approx(np.mean(digits.y_test != 0), abs=1e-6)
    # Ten equal logits.
    assert network.evaluate(nothing)["loss"] == pytest.approx(np.log(10))


def test_weights_of_another_network_are_refused(trained):
    network = Evaluator(WorkdirReader(trained).config, datasets.load("digits"))
    with pytest.raises(ValueError, match=r"all its weights and no others.*fc1/bias"):
        network.error({"fc1/kernel": np.zeros((64, 300))})


@pytest.mark.parametrize("kind", ["survivors", "connections", "overlap"])
def test_what_needs_only_tickets_is_analysed_of_fits(kind, tmp_path, capsys):
    roots = [fit_workdirs.fill(tmp_path / str(seed), seed, 1.5 + seed) for seed in range(2)]
    assert lth("analyse", kind, *roots, "--out", tmp_path / "out") == 0
    assert "fit, 2 epochs a round" in capsys.readouterr().out
    found = searches.read(tmp_path / "out", kind)
    assert {*found.level} == {0, 1, 2}
    if kind == "overlap":
        assert {*found.between} == {"replicates", "levels"}
    else:
        assert {*found.replicate} == {0, 1}


@pytest.mark.parametrize(("arguments", "what"), [
    (["movement"], "Movement"), (["signs"], "Signs"), (["barrier"], "A barrier"),
    (["sensitivity"], "Sensitivity")])
def test_what_needs_trained_weights_is_refused_of_a_fit(arguments, what, tmp_path, capsys):
    assert lth("analyse", *arguments, fit_workdirs.fill(tmp_path)) == 2
    said = capsys.readouterr().err
    assert f"{what} needs the trained weights" in said and said.count("\n") == 1


def test_fits_of_other_settings_are_not_analysed_together(tmp_path, capsys):
    roots = [fit_workdirs.fill(tmp_path / scope, settings={**fit_workdirs.SETTINGS, "scope": scope})
             for scope in ("layer", "global")]
    assert lth("analyse", "overlap", *roots) == 2
    assert "differ in scope." in capsys.readouterr().err


# An analysis that somebody adds: a function, and its name in KINDS.

def kept(run, levels=None):
    """How many weights each ticket keeps."""
    rows = [{"replicate": replicate, "level": level, "density": ticket.density,
             "weight": name, "kept": int(np.count_nonzero(mask))}
            for replicate, found in run.levels(levels).items() for level in found
            for ticket in [run.ticket(replicate, level)] for name, mask in ticket.masks.items()]
    table = pd.DataFrame(rows)
    figure = Figure()
    figure.subplots().plot(table.level, table.kept, ".")
    return Analysis(f"{run.title}: weights kept", table, ("level", "weight"), {"kept": ",.0f"}, {},
                    figure, ("kept: how many weights the mask keeps.",))


@pytest.mark.parametrize("of_fit", [False, True])
def test_an_analysis_that_is_added_is_a_command(of_fit, root, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(analyse.KINDS, "kept", analyse.Kind(kept, "how many weights are kept"))
    workdir = fit_workdirs.fill(tmp_path / "fit") if of_fit else root
    assert lth("analyse", "kept", workdir, "--levels", "0-1", "--out", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "kept: how many weights the mask keeps." in text
    rows = searches.read(tmp_path / "out", "kept")
    assert {*rows.level} == {0, 1} and (rows.kept > 0).all()
    assert (tmp_path / "out" / "kept.png").read_bytes().startswith(b"\x89PNG")
    assert lth("analyse", "hats", workdir) == 2
    assert "sensitivity, untrained, kept. Received: hats." in capsys.readouterr().err
