import dataclasses
import html
import io
import json

import fit_workdirs
import numpy as np
import pandas as pd
import pytest
import rows
import workdirs
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rows import costed

from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.margins import parse
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import runs, store
from lth_keras.experiments.results.store import Store
from lth_keras.files import workdir_lock
from lth_keras.reports import cost_tables, report, tables
from lth_keras.reports.analyses import widths
from lth_keras.reports.plots import drawing

CONFIG = Config(preset="p", network="n", dataset="d", steps=300)
DENSITIES = (1.0, 0.8, 0.51, 0.21)
UNTOLD = "Inconclusive: 2 replicates are too few to tell whether a ticket of levels 1-3 wins; about"
ALONE = "Inconclusive: one replicate is too few for any statistical test; "


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Pictures are laid out and not drawn, which takes long; plots/test_paper_figures.py draws."""
    monkeypatch.setattr(drawing, "png", lambda figure: b"\x89PNG")


def fill(root, replicates=2, diverges=(), branches=("ticket", "reinit"),
         config=CONFIG):
    with workdirs.results_written_once(root):
        store = Store(root, config)
        store.begin()
        for replicate in config.replace(replicates=replicates).replicate_numbers:
            for level, density in enumerate(DENSITIES):
                for branch in branches if level else ("ticket",):
                    shift = 0 if branch == "ticket" else 50
                    curve = pd.DataFrame({"step": [100, 200, 300], "loss": 0.1, "accuracy": 1.0,
                                          "val_loss": 0.2, "val_accuracy": [0.8, 0.9, 0.95]})
                    training = Training(replicate, level, branch)
                    if training in diverges:
                        workdirs.finish(store, training, {**workdirs.DIVERGED, "density": density},
                                        curve.assign(val_loss=float("nan")))
                        continue
                    workdirs.finish(store, training, {
                        "density": density, "val_loss_min": 0.2, "seconds": 1.0,
                        "early_stop_step": 100 + 20 * replicate + shift,
                        "test_accuracy_early_stop": 0.9 + 0.01 * level - shift / 1000,
                        "test_accuracy_final": 0.9, "train_accuracy_final": 1.0}, curve)
    return root


def printed(root, width):
    stream = io.StringIO()
    report.show(root, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_report_ends_in_table_pictures_and_verdict(tmp_path):
    text = printed(fill(tmp_path), 120)
    assert "p, 300 steps" in text
    rows = {line.split()[0]: line for line in text[:text.index("less others")].splitlines()
            if line.split() and line.split()[0].isdigit()}
    assert rows["0"].split() == ["0", "100.0", "110", "[100,", "120]", "90.00"]
    assert rows["3"].split() == ["3", "21.0", "110", "[100,", "120]", "93.00", "160", "[150,",
                                 "170]", "88.00"]
    assert text.splitlines()[-1].startswith(UNTOLD)
    for name in ("summary", "curves"):
        picture = tmp_path / "plots" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG") and str(picture) in text
    assert "figures left out: 1, 3, 4, 5, 6, 7, 8 (the page says why)" in text.splitlines()
    page = tmp_path / "plots" / "report.html"
    assert f"page: {page}" in text.splitlines()
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_the_table_of_verdicts_has_differences_with_intervals_where_there_is_room(tmp_path):
    fill(tmp_path, replicates=8)

    def verdicts(width):
        text = printed(tmp_path, width)
        lines = text[text.index("p: ticket less others"):].splitlines()
        return {line.split()[0]: line.split() for line in lines
                if line.split() and line.split()[0].isdigit()}
    assert verdicts(120)["3"] == ["3", "21.0", "+0", "[+0,", "+0]", "+3.00", "[+3.00,", "+3.00]",
                                  "-23", "[-27,", "-20]", "+5.00", "[+5.00,", "+5.00]", "winning"]
    assert verdicts(80)["3"] == ["3", "21.0", "+0", "+3.00", "-23", "+5.00", "winning"]


@pytest.mark.parametrize(("width", "measured", "judged"), [
    (200, None, None), (80, "[least, greatest]", "intervals"),
    (60, "[least, greatest], early stops", "intervals, early stops")])
def test_a_narrow_terminal_gets_less_and_is_told_what(width, measured, judged, tmp_path):
    text = printed(fill(tmp_path, replicates=8), width)
    lines = text[:text.index("Winning tickets")].splitlines()
    said = [line for line in lines if line.startswith("Left out")]
    assert said == [f"Left out for lack of width: {parts}. A wider terminal or a file has it all."
                    for parts in (measured, judged) if parts]
    tabled = [line for line in lines if not line.startswith(("Left out", "figure", "page", "res",
                                                             "verdict"))]
    assert max(map(len, tabled)) <= width and "…" not in text
    # A level's accuracy and its verdict are always there, on one line.
    assert sum("winning" in line and "+5.00" in line for line in tabled) == 3


def test_only_what_a_table_has_is_said_to_be_left_out():
    def make(without):
        return Table("level", *("steps" for _ in range(3) if "steps" not in without))
    stream = io.StringIO()
    widths.show(make, ["macs", "steps", "ranges"], Console(file=stream, width=20))
    assert stream.getvalue().splitlines()[-1] == (
        "Left out for lack of width: steps. A wider terminal or a file has it all.")


def test_one_verdict_stands_everywhere_with_its_margins(tmp_path):
    fill(tmp_path, replicates=8)
    sentence = runs.read(tmp_path).verdict.sentence
    assert sentence.startswith("Winning tickets at levels 1-3; the sparsest, with 21.0% of")
    page = tmp_path / "plots" / "report.html"
    for asked, said, outcome in ((None, "19%", "winning"), ("steps:0.5", "50%", "winning"),
                                 ("accuracy:0,steps:0", "0%", "inconclusive")):
        stream = io.StringIO()
        margins = None if asked is None else parse(asked)
        report.show(tmp_path, Console(file=stream, width=120), margins=margins)
        *_, last = stream.getvalue().splitlines()
        kept = json.loads((tmp_path / "plots" / "verdict.json").read_text())["p"]
        assert kept["sentence"] == last and kept["outcome"] == outcome
        assert (last == sentence) == (asked is None)
        text = html.unescape(page.read_text())
        assert last in text and f"{said} of the dense network's steps" in text
        assert f"margins: {said} of the dense network's steps" in \
            " ".join(stream.getvalue().split())
        assert text.count(f'<span class="badge {outcome}">') == 3


def test_what_is_left_of_multiply_adds_stands_beside_the_density(tmp_path):
    results = costed(store.results(fill(tmp_path)))
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    console.print(tables.measured(results, "p", without=[tables.RANGES]))
    console.print(cost_tables.table(results, "p: what it costs"))
    # Of a run of an earlier version, whose rows have the share alone.
    earlier = results.drop(columns=["parameters", "macs"])
    console.print(cost_tables.table(earlier, "earlier"))
    rows = [line.split() for line in stream.getvalue().splitlines()
            if line.split()[:1] == ["2"]]
    assert "re-" in stream.getvalue() and "…" not in stream.getvalue()
    assert rows == [["2", "51.0", "26.0", "110", "92.00", "160", "87.00"],
                    ["2", "51.0", "2,550", "51.0", "20,808", "26.0"], ["2", "51.0", "26.0"]]


def test_costs_are_printed_where_filters_are_pruned_and_only_there(tmp_path, monkeypatch):
    assert "macs" not in printed(fill(tmp_path), 80)
    read = runs.read
    monkeypatch.setattr(report, "read_all", lambda roots, margins: [dataclasses.replace(
        read(tmp_path), results=costed(read(tmp_path).results))])
    text = printed(tmp_path, 80)
    assert "macs" in text and "p: what it costs" in text and "multiply-adds" in text


def test_other_controls_have_tables_of_their_own_as_wide_as_the_terminal(tmp_path):
    fill(tmp_path, branches=("ticket", "random_mask", "constant", "shuffled_mask"))
    text = printed(tmp_path, 80)
    assert text.count("ticket less controls") == 1 and "vs random mask" in text
    assert max(map(len, text.replace(str(tmp_path), "").splitlines()[:-12])) <= 80
    start = text.index("ticket less controls")
    rows = [line.split() for line in text[start:].splitlines() if line.strip()[:1].isdigit()]
    assert rows[0] == ["1", "80.0", "+5.00", "+5.00", "+5.00"]
    assert "inconclusive (6)" in text and "matches the dense network" in text


def test_a_narrow_terminal_gets_means_alone_without_wrapping(tmp_path):
    text = printed(fill(tmp_path), 80)
    rows = [line for line in text.splitlines() if line.split() and line.split()[0].isdigit()]
    assert [len(row.split()) for row in rows] == [4, 6, 6, 6, 7, 7, 7]
    assert "[" not in "".join(rows)


def test_lines_are_means_with_bars_from_least_to_greatest(tmp_path):
    axes = Figure().subplots()
    drawing.against_density(axes, store.results(fill(tmp_path)), "early_stop_step")
    ticket, reinit = axes.containers
    np.testing.assert_allclose(ticket[0].get_xdata(), np.array(DENSITIES) * 100)
    np.testing.assert_allclose(ticket[0].get_ydata(), 110)
    bars = ticket[2][0].get_segments()
    np.testing.assert_allclose([sorted(bar[:, 1]) for bar in bars], [[100, 120]] * 4)
    # The control's line begins at the dense network.
    np.testing.assert_allclose(reinit[0].get_ydata(), [110, 160, 160, 160])


def test_density_runs_from_dense_to_sparse_on_a_log_axis(tmp_path):
    axes = Figure().subplots()
    drawing.against_density(axes, store.results(fill(tmp_path)), "test_accuracy_early_stop")
    left, right = axes.get_xlim()
    assert axes.get_xscale() == "log" and left > 100 and right < 21


def test_learning_curves_are_those_of_the_papers_densities(tmp_path):
    axes = Figure().subplots()
    drawing.learning_curves(axes, store.curves(fill(tmp_path)), store.results(tmp_path), "ticket")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["100.0%", "51.0%", "21.0%"]
    assert all(line.get_ydata().tolist() == [0.8, 0.9, 0.95] for line in axes.get_lines())


def test_several_workdirs_have_one_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "one", 1)
    fill(tmp_path / "two", 1, config=CONFIG.replace(strategy="one_shot"))
    stream = io.StringIO()
    roots = [tmp_path / "one", tmp_path / "two"]
    report.show(roots, Console(file=stream, width=100))
    lines = stream.getvalue().splitlines()
    assert "figure: report/summary.png" in lines and "page: report/report.html" in lines
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "summary.png", "curves_1.png", "curves_2.png", "report.html", "verdict.json"}
    assert lines[-1].startswith(f"p, one shot: {ALONE}")
    assert any(line.startswith(f"p, iterative: {ALONE}") for line in lines)
    assert [*json.loads((tmp_path / "report" / "verdict.json").read_text())] == \
        ["p, iterative", "p, one shot"]
    assert not any((root / "plots").exists() for root in roots)
    report.show(roots[:1], Console(file=stream, width=100), out=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "report.html").exists()
    assert not (roots[0] / "plots").exists()


def test_workdirs_of_one_runs_replicates_have_one_report_of_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "one", 1)
    fill(tmp_path / "two", 1, config=CONFIG.replace(first_replicate=1))
    stream = io.StringIO()
    report.show([tmp_path / "one", tmp_path / "two"], Console(file=stream, width=100))
    text = stream.getvalue()
    assert "mean of 2 replicates" in text and "page: report/report.html" in text
    assert all(f"results: {tmp_path / name / 'results.csv'}" in text for name in ("one", "two"))
    page = (tmp_path / "report" / "report.html").read_text()
    assert all(str(tmp_path / name) in page for name in ("one", "two"))
    assert not (tmp_path / "one" / "plots").exists()
    fill(tmp_path / "again", 1)
    report.show([tmp_path / "one", tmp_path / "again"], Console(file=stream, width=100))
    assert "again are not joined: both have replicates 0." in stream.getvalue()


def test_one_replicate_is_said_to_be_one(tmp_path):
    text = printed(fill(tmp_path, replicates=1), 120)
    assert "one replicate; accuracy" in text and text.splitlines()[-1].startswith(ALONE)


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe", b'{"preset": 3}'])
def test_a_folder_that_is_no_workdir_is_an_error_that_names_it(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(WorkdirError, match=str(tmp_path)):
        report.show(tmp_path, Console(file=io.StringIO()))


def test_a_workdir_without_results_is_an_error(tmp_path):
    Store(tmp_path, CONFIG).begin()
    with pytest.raises(WorkdirError, match="finished training"):
        report.show(tmp_path, Console(file=io.StringIO()))


LAST = Training(1, 3)


def test_trainings_that_diverged_are_named_and_counted_and_left_out_of_means(tmp_path):
    text = printed(fill(tmp_path, diverges=[LAST, Training(0, 1, "reinit")]), 120)
    lines = text.splitlines()
    assert "replicate 1, level 3, ticket: diverged at step 50" in lines
    assert "replicate 0, level 1, reinit: diverged at step 50" in lines
    assert lines[-1].startswith(UNTOLD)
    assert lines[-1].endswith("and 0.2 points). 2 of 14 trainings diverged.")
    rows = {line.split()[0]: line for line in lines if line.split() and line.strip()[0].isdigit()}
    assert "3*" in rows and rows["3*"].split()[:4] == ["3*", "21.0", "100", "93.00"]


def test_curves_that_diverged_are_not_drawn(tmp_path):
    fill(tmp_path, replicates=1, diverges=[Training(0, 3)])
    axes = Figure().subplots()
    drawing.learning_curves(axes, store.curves(tmp_path), store.results(tmp_path), "ticket")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["100.0%", "51.0%"]


def test_a_report_of_a_run_all_of_which_diverged_says_so(tmp_path):
    store = Store(tmp_path, CONFIG)
    store.begin()
    workdirs.finish(store, Training(0, 0), workdirs.DIVERGED)
    lines = printed(tmp_path, 120).splitlines()
    assert lines[1] == f"page: {tmp_path / 'plots' / 'report.html'}"
    assert lines[2] == "replicate 0, level 0, ticket: diverged at step 50"
    assert lines[-1].startswith("No verdict") and lines[-1].endswith("1 of 1 trainings diverged.")


def test_a_results_csv_that_is_not_what_the_trainings_say_is_written_anew_and_said(tmp_path):
    path, said = fill(tmp_path) / "results.csv", []
    before = path.read_bytes()
    report._renew(tmp_path, said.append)
    assert said == []
    for content in (b"", b"\xff", b"replicate,level\n0,0\n", before + b"\n", None):
        path.unlink() if content is None else path.write_bytes(content)
        report._renew(tmp_path, said.append)
        assert said.pop() == f"{path} did not match the finished trainings and was rewritten."
        assert path.read_bytes() == before
    path.write_bytes(b"")
    assert f"{path} did not match the finished trainings" in printed(tmp_path, 120)


def test_while_a_run_goes_on_the_report_writes_no_results_csv(tmp_path):
    fill(tmp_path)
    (tmp_path / "results.csv").write_text("being written by the run")
    with workdir_lock.held(tmp_path):
        assert UNTOLD in printed(tmp_path, 120)
    assert (tmp_path / "results.csv").read_text() == "being written by the run"


def test_a_picture_that_cannot_be_written_leaves_the_verdict_and_is_an_error(tmp_path, monkeypatch):
    fill(tmp_path)
    stream = io.StringIO()
    (tmp_path / "plots").write_text("in the way")
    with pytest.raises(OSError) as caught:
        report.show(tmp_path, Console(file=stream, width=120))
    assert str(tmp_path / "plots") in str(caught.value.filename)
    assert stream.getvalue().splitlines()[-1].startswith(UNTOLD)


def test_tensorboards_files_lie_in_a_folder_a_run_or_are_an_error_after_the_verdict(tmp_path):
    root, folder = fill(tmp_path / "w", 1), tmp_path / "t"
    stream = io.StringIO()
    report.show(root, Console(file=stream, width=120), tensorboard=folder)
    assert f"tensorboard: {folder}" in stream.getvalue().splitlines()
    assert list((folder / "p" / "by_level").iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError):
        report.show(root, Console(file=stream, width=120), tensorboard=tmp_path / "file")
    assert stream.getvalue().splitlines()[-1].startswith(ALONE)


@pytest.mark.parametrize("name", ["result.json", "curve.csv"])
def test_a_report_of_a_damaged_run_names_the_file(tmp_path, name):
    fill(tmp_path)
    path = tmp_path / "replicate_0" / "level_01" / "ticket_0" / name
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(WorkdirError, match=f"{path} is not what was written.*--repair"):
        printed(tmp_path, 120)


def test_early_stops_at_the_last_step_are_said_not_to_be_reached(tmp_path):
    config = Config(preset="p", network="n", dataset="d", steps=60, rounds=1, validation_every=20)
    store = Store(tmp_path, config)
    store.begin()
    for training, step in ((Training(0, 0), 60), (Training(0, 1), 40), (Training(0, 1, "reinit"),
                                                                       60)):
        workdirs.finish(store, training, {**workdirs.RESULT, "early_stop_step": step})
    assert "In 2 of 3 trainings the validation loss was lowest at the last step" in \
        printed(tmp_path, 120)
    assert "their early stop is not reached" in (tmp_path / "plots/report.html").read_text()


def test_scratch_has_its_early_stop_where_its_own_training_ends(tmp_path):
    config = Config(preset="p", network="n", dataset="d", steps=60, rounds=1, validation_every=20,
                    branches=("ticket", "scratch"))
    store = Store(tmp_path, config)
    store.begin()
    for training, step in ((Training(0, 0), 40), (Training(0, 1), 40), (
            Training(0, 1, "scratch"), 60)):
        workdirs.finish(store, training, {**workdirs.RESULT, "early_stop_step": step,
                                          "density": 1.0 if not training.level else 0.7})
    assert "not reached" not in printed(tmp_path, 120)  # It ends at step 86.
    workdirs.finish(store, Training(0, 1, "scratch"), {**workdirs.RESULT, "early_stop_step": 86,
                                                       "density": 0.7})
    assert "In 1 of 3 trainings the validation loss was lowest at the last" in \
        printed(tmp_path, 120)


def test_levels_whose_ticket_is_not_trained_are_in_the_table_with_their_controls():
    results = rows.rows((0, "ticket", 0, 100, 0.9), (0, "ticket", 2, 90, 0.91),
                        (0, "reinit", 1, 120, 0.87), (0, "reinit", 2, 120, 0.8))
    table = tables.measured(results, "title")
    levels, densities, _, tickets, _, controls = (list(column.cells) for column in table.columns)
    assert (levels, densities) == (["0", "1", "2"], ["100.0", "50.0", "25.0"])
    assert (tickets, controls) == (["90.00", "", "91.00"], ["", "87.00", "80.00"])


def test_tables_of_controls_have_the_levels_that_they_are_trained_at():
    results = rows.rows((0, "ticket", 0, 100, 0.9), (0, "ticket", 1, 90, 0.91),
                        (0, "ticket", 2, 90, 0.91), (0, "constant", 2, 120, 0.9))
    table = tables.against_controls(results, ["constant"], "title")
    assert [list(column.cells) for column in table.columns] == [["2"], ["25.0"], ["+1.00"]]
    assert not tables.against_controls(results, ["reinit"], "title").rows


def test_a_fit_has_the_report_of_a_run(tmp_path):
    root = fit_workdirs.fill(tmp_path / "w")
    text = printed(root, 110)
    rows = [line.split() for line in text.splitlines() if line.split() and
            line.split()[0].isdigit()]
    assert rows[:3] == [["0", "100.0", "20", "80.00", "0.4", "0.8", "0.8", "0.6"],
                        ["1", "50.0", "10", "90.00", "0.35", "0.85", "0.6", "0.8"],
                        ["2", "25.0", "10", "75.00", "0.7", "0.7", "0.4", "0.9"]]
    assert rows[3] == ["1", "50.0", "-50", "+10.00", "inconclusive", "(one", "replicate)"]
    assert "no reinit" not in text
    assert text.splitlines()[-1].startswith("Inconclusive: one search is too few for any")
    assert {path.name for path in (root / "plots").iterdir()} == {
        "summary.png", "curves.png", "results.csv", "report.html", "verdict.json"}
    table = pd.read_csv(root / "plots" / "results.csv")
    assert table.val_accuracy_early_stop.tolist() == [0.8, 0.9, 0.75]
    page = (root / "plots" / "report.html").read_text()
    assert "no reinit" not in page
    for part in ("trains no re-initialised control",
                 "The early stop was chosen on the same data.", "tensorflow 9.9",
                 "epochs_per_round", "points above dense"):
        assert part in page
    assert not (root / "results.csv").exists()


@pytest.mark.parametrize(("gone", "said", "pictures"), [
    (("val_accuracy", "accuracy"), "loss on the validation data", {"summary.png", "curves.png"}),
    (("val_accuracy", "val_loss"), "no validation data", set())])
def test_a_fit_of_other_metrics_is_reported_by_what_it_has(tmp_path, gone, said, pictures):
    history = {name: values for name, values in fit_workdirs.HISTORY.items() if name not in gone}
    root = fit_workdirs.fill(tmp_path, history=history)
    text = printed(root, 110)
    assert said in text
    assert {path.name for path in (root / "plots").glob("*.png")} == pictures
    assert pictures or "The learning curves are left out: fit was given no validation_data." in \
        text.splitlines()


def test_runs_and_fits_are_in_one_report(tmp_path):
    fill(tmp_path / "run", 2)
    fit_workdirs.fill(tmp_path / "fit")
    stream = io.StringIO()
    report.show([tmp_path / "run", tmp_path / "fit"], Console(file=stream, width=110),
                out=tmp_path / "out", tensorboard=tmp_path / "t")
    lines = stream.getvalue().splitlines()
    assert lines[-1].startswith("fit: Inconclusive: one search")
    assert any(line.startswith(f"p: {UNTOLD}") for line in lines)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "summary.png", "curves_1.png", "curves_2.png", "results_2.csv", "report.html",
        "verdict.json"}
    assert list((tmp_path / "t" / "fit" / "by_level").iterdir())
