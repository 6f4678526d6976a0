import pathlib

import pandas as pd
import pytest
import workdirs
from rows import rows

from lth_keras.errors import WorkdirError
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.margins import DEFAULT, Margins
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import runs, store
from lth_keras.experiments.results.runs import about, Run

CONFIG = Config(preset="p", network="n", dataset="d", steps=3000, rounds=1)
RESULTS = rows((0, "ticket", 0, 100, 0.9), (1, "ticket", 0, 100, 0.9), (2, "ticket", 0, None, None))


def run(label="p", config=CONFIG, results=RESULTS):
    return Run(pathlib.Path("w"), config, results, label)


def labels(tmp_path, *configs):
    roots = [tmp_path / str(number) for number, _ in enumerate(configs)]
    for root, config in zip(roots, configs, strict=True):
        workdirs.fill(root, config)
    return [found.label.replace(str(tmp_path), "") for found in runs.read_all(roots)]


def test_runs_of_other_presets_go_by_their_names(tmp_path):
    assert labels(tmp_path, CONFIG, Config(preset="q", network="n", dataset="d", steps=100,
                                           rounds=1, seed=7)) == ["p", "q"]


def test_runs_of_one_preset_are_told_apart_by_what_differs(tmp_path):
    assert labels(tmp_path, CONFIG, CONFIG.replace(strategy="one_shot"),
                  CONFIG.replace(learning_rate=0.1, steps=2000)) == [
        "p, iterative, learning_rate 0.0012", "p, one shot, learning_rate 0.0012",
        "p, iterative, learning_rate 0.1"]


def test_settings_of_several_values_are_named_by_them(tmp_path):
    sgd = CONFIG.replace(optimizer="sgd")
    drops = sgd.replace(learning_rate_drops=(1000, 2000), measured_steps=(1000,))
    assert labels(tmp_path, sgd, drops) == ["p, learning_rate_drops none",
                                            "p, learning_rate_drops 1000/2000"]


def test_runs_that_differ_in_nothing_named_are_told_apart_by_their_folders(tmp_path):
    assert labels(tmp_path, CONFIG, CONFIG.replace(rounds=2)) == ["p (/0)", "p (/1)"]


def test_workdirs_that_share_the_replicates_of_a_run_are_one(tmp_path):
    apart = CONFIG.replace(replicates=2)
    workdirs.fill(tmp_path / "b", apart.replace(first_replicate=2))
    workdirs.fill(tmp_path / "a", apart)
    workdirs.fill(tmp_path / "whole", apart.replace(replicates=4))
    joined, = runs.read_all([tmp_path / "b", tmp_path / "a"])
    whole, = runs.read_all([tmp_path / "whole"])
    assert joined.label == "p" and joined.roots == (tmp_path / "b", tmp_path / "a")
    measured = ["replicate", "branch", "branch_index", "level", "density"]
    pd.testing.assert_frame_equal(joined.results[measured], whole.results[measured])
    assert list(joined.results.columns) == list(whole.results.columns)
    assert joined.results.dtypes.equals(whole.results.dtypes)
    assert joined.curves.replicate.tolist() == whole.curves.replicate.tolist()
    assert about([joined], "") == "3,000 steps, mean of 4 replicates"


def test_runs_that_share_a_replicate_or_no_settings_stay_apart(tmp_path):
    workdirs.fill(tmp_path / "a", CONFIG.replace(replicates=2))
    workdirs.fill(tmp_path / "b", CONFIG.replace(first_replicate=1))
    workdirs.fill(tmp_path / "c", CONFIG.replace(first_replicate=2, seed=1))
    found = runs.read_all([tmp_path / name for name in "abc"])
    assert [len(run.roots) for run in found] == [1, 1, 1]
    assert runs.apart(found) == [
        f"{tmp_path / 'a'} and {tmp_path / 'b'} are not joined: both have replicates 1."]


def test_workdirs_with_other_margins_are_joined_only_if_the_report_gives_its_own(tmp_path):
    workdirs.fill(tmp_path / "a", CONFIG.replace(replicates=1))
    workdirs.fill(tmp_path / "b", CONFIG.replace(first_replicate=1, replicates=1,
                                                 margin="accuracy:0.05"))
    roots = [tmp_path / "a", tmp_path / "b"]
    found = runs.read_all(roots)
    assert [run.margins.accuracy for run in found] == [0.002, 0.05]
    line, = runs.apart(found)
    assert line == (f"{roots[0]} and {roots[1]} are not joined: their margins are {DEFAULT} and "
                    "accuracy:0.05,steps:0.19,loss:0.01, unless --margin gives others.")
    joined, = runs.read_all(roots, Margins(accuracy=0.01))
    assert joined.margins.accuracy == 0.01 and runs.apart([joined]) == []


def test_a_workdir_where_all_diverged_is_joined_too(tmp_path):
    whole = CONFIG.replace(rounds=0, branches=("ticket",))
    workdirs.fill(tmp_path / "a", whole)
    run = store.Store(tmp_path / "b", whole.replace(first_replicate=1))
    run.begin()
    workdirs.finish(run, Training(1, 0), workdirs.DIVERGED)
    joined, = runs.read_all([tmp_path / "a", tmp_path / "b"])
    assert joined.results.early_stop_step.tolist()[0] == 0
    assert joined.results.early_stop_step.isna().tolist() == [False, True]
    assert joined.results.early_stop_step.dtype == "float64"
    assert about([joined], "") == "3,000 steps, one replicate, 1 training diverged"


WHOLE = rows(*((number, "ticket", 0, 100, 0.9) for number in range(3)))


def test_a_title_says_steps_replicates_and_scale():
    assert about([run(results=WHOLE)], "bars") == \
        "3,000 steps, mean of 3 replicates, bars from least to greatest"
    assert about([run(results=WHOLE)], "") == "3,000 steps, mean of 3 replicates"
    assert about([run(results=WHOLE[:1])], "bars") == "3,000 steps, one replicate"
    further = pd.concat([WHOLE, WHOLE[:2].assign(level=1)])
    assert about([run(results=further)], "") == "3,000 steps, mean of 2 to 3 replicates"
    scaled = run(config=CONFIG.scaled(0.1), results=WHOLE)
    assert about([scaled], "") == "300 steps, mean of 3 replicates, scale 0.1"


def test_a_title_counts_the_replicates_that_are_averaged():
    assert about([run()], "") == "3,000 steps, mean of 2 replicates, 1 training diverged"
    sparser = pd.concat([WHOLE, rows((0, "ticket", 1, 90, 0.9), (1, "ticket", 1, None, None),
                                     (2, "ticket", 1, None, None))])
    assert about([run(results=sparser)], "") == \
        "3,000 steps, mean of 1 to 3 replicates, 2 trainings diverged"
    assert "3 trainings diverged" in about([run(results=pd.concat(3 * [RESULTS[2:]]))], "")


def test_a_title_of_several_says_once_what_is_alike():
    scaled = run("q", CONFIG.scaled(0.1), WHOLE)
    both = [run("a", results=WHOLE), run("b", results=WHOLE)]
    assert about(both, "") == "3,000 steps, mean of 3 replicates"
    assert about([both[0], scaled, both[1]], "").splitlines() == [
        "a, b: 3,000 steps, mean of 3 replicates",
        "q: 300 steps, mean of 3 replicates, scale 0.1"]


def test_a_title_names_what_makes_a_run_another_than_its_preset():
    def titled(**settings):
        config = presets.get("digits").replace(**settings)
        return about([run("digits", config, WHOLE)], "")
    plain = "1,500 steps, mean of 3 replicates"
    assert titled() == titled(replicates="3", rounds="1", branches="ticket", seed="7") == plain
    assert titled(strategy="one_shot", fraction="0.5") == f"{plain}, one shot, fraction 0.5"
    assert titled(learning_rate="0.01", retraining="fine_tuning", rewind_step="100",
                  dropout="0.5").endswith(", 1 more setting changed")
    half = run("digits", presets.get("digits").scaled(0.5), WHOLE)
    assert about([half], "") == "750 steps, mean of 3 replicates, scale 0.5"


def test_what_diverged_is_named_with_its_repeat():
    results = pd.concat([RESULTS, RESULTS[2:].assign(branch_index=1)], ignore_index=True)
    results["diverged_at_step"] = [None, None, 50.0, 1050.0]
    assert run(results=results).diverged == [
        "replicate 2, level 0, ticket: diverged at step 50",
        "replicate 2, level 0, ticket 1: diverged at step 1,050"]


def test_a_run_without_a_trained_ticket_cannot_be_drawn():
    assert run().drawable and run().branches == ["ticket"]
    assert not run(results=RESULTS[2:]).drawable


def test_a_folder_that_is_no_workdir_is_an_error(tmp_path):
    with pytest.raises(WorkdirError, match="A workdir is a folder that `lth run` made"):
        runs.read_all([tmp_path])
