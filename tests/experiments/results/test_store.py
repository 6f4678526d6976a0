import dataclasses
import json
import os
import shutil

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from workdirs import CURVE, DIVERGED, finish, RESULT, ticket

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import paths, store
from lth_keras.experiments.results.paths import DamagedError, read_config
from lth_keras.experiments.results.record import COLUMNS
from lth_keras.experiments.results.store import Store
from lth_keras.files import atomic, checksums

CONFIG = Config(preset="p", network="n", dataset="d", steps=100)
TRAININGS = [Training(10, 0), Training(2, 10, "reinit"), Training(2, 9), Training(2, 100),
             Training(2, 10), Training(2, 9, "random_mask", 1), Training(2, 9, "random_mask")]
IN_ORDER = [(2, 9, "random_mask", 0), (2, 9, "random_mask", 1), (2, 9, "ticket", 0),
            (2, 10, "reinit", 0), (2, 10, "ticket", 0), (2, 100, "ticket", 0),
            (10, 0, "ticket", 0)]
KEYS = ["replicate", "level", "branch", "branch_index"]


def begun(root, config=CONFIG):
    run = Store(root, config)
    run.begin()
    return run


def filled(root):
    run = begun(root)
    for number, training in enumerate(TRAININGS):
        finish(run, training, {**RESULT, "early_stop_step": number}, CURVE.assign(loss=number))
    return run


def keys(table):
    return [tuple(row) for row in table[KEYS].itertuples(index=False)]


def test_a_workdir_is_made_with_its_configuration(tmp_path):
    begun(tmp_path / "new" / "run")
    assert read_config(tmp_path / "new" / "run") == CONFIG
    assert os.listdir(tmp_path / "new" / "run") == ["config.json"]


def test_a_store_writes_nothing_before_it_is_begun(tmp_path):
    Store(tmp_path / "new" / "run", CONFIG)
    assert os.listdir(tmp_path) == []


def test_things_lie_where_the_layout_says(tmp_path):
    run = begun(tmp_path)
    assert run.ticket(0, 3) == tmp_path / "replicate_0" / "level_03" / "ticket.safetensors"
    assert paths.folder(run.root, Training(1, 12, "random_mask", 2)) \
        == tmp_path / "replicate_1" / "level_12" / "random_mask_2"
    finish(run, Training(0, 3, "reinit"), RESULT, CURVE)
    assert sorted(os.listdir(tmp_path / "replicate_0" / "level_03" / "reinit_0")) \
        == ["curve.csv", "result.json"]
    assert sorted(os.listdir(tmp_path)) == ["config.json", "replicate_0", "results.csv"]


def test_no_two_trainings_share_a_folder(tmp_path):
    run = Store(tmp_path, CONFIG)
    assert len({paths.folder(run.root, training) for training in TRAININGS}) == len(TRAININGS)


def test_a_training_says_what_it_is():
    assert str(Training(1, 3, "reinit")) == "replicate 1, level 3, reinit"


def test_a_training_is_done_once_its_result_is_there(tmp_path):
    run = Store(tmp_path, CONFIG)
    assert not run.is_done(Training(0, 0))
    finish(run, Training(0, 0), RESULT, CURVE)
    assert run.is_done(Training(0, 0))
    assert Store(tmp_path, CONFIG).is_done(Training(0, 0))
    for other in (Training(1, 0), Training(0, 1), Training(0, 0, "reinit"),
                  Training(0, 0, branch_index=1)):
        assert not run.is_done(other)


def test_the_result_is_written_after_the_curve(tmp_path, monkeypatch):
    written = []
    write = atomic.write
    monkeypatch.setattr(atomic, "write", lambda path, content: (written.append(path.name),
                                                               write(path, content)))
    finish(Store(tmp_path, CONFIG), Training(0, 0), RESULT, CURVE)
    assert written == ["ticket.safetensors", "ticket.safetensors", "trained.safetensors",
                       "curve.csv", "result.json", "results.csv"]


def test_a_training_stopped_before_its_result_is_not_done(tmp_path, monkeypatch):
    run, replace = Store(tmp_path, CONFIG), os.replace

    def stop(source, target):
        if target.name == "result.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(OSError):
        finish(run, Training(0, 0), RESULT, CURVE)
    assert not run.is_done(Training(0, 0))
    assert sorted(os.listdir(paths.folder(run.root, Training(0, 0)))) == [
        "curve.csv", "trained.safetensors"]
    assert store.results(tmp_path).empty


@pytest.mark.parametrize("result", [
    {"density": 1.0}, {**RESULT, "density": 0.0}, {**RESULT, "test_accuracy_final": 1.5},
    {**RESULT, "early_stop_step": None}, {**RESULT, "val_loss_min": 1e301},
    {**RESULT, "seconds": -1.0}, {**RESULT, "diverged_at_step": 50},
    {**RESULT, "macs_left": 1.5}, {**RESULT, "parameters": 0.5}, {**RESULT, "macs": -1}])
def test_a_result_that_lacks_or_exceeds_a_column_is_not_done(tmp_path, result):
    run = Store(tmp_path, CONFIG)
    with pytest.raises(LotteryError, match="no possible value of "):
        finish(run, Training(0, 0), result, CURVE)
    assert not run.is_done(Training(0, 0))


def test_the_columns_are_those_of_the_design():
    assert COLUMNS[:11] == (
        "replicate", "branch", "branch_index", "level", "density", "early_stop_step",
        "val_loss_min", "test_accuracy_early_stop", "test_accuracy_final", "train_accuracy_final",
        "seconds")
    assert COLUMNS[11:] == ("diverged_at_step",)


def test_results_are_in_order_with_exact_columns_and_values(tmp_path):
    filled(tmp_path)
    table = store.results(tmp_path)
    assert tuple(table.columns) == COLUMNS
    assert list(table.index) == list(range(len(TRAININGS)))
    assert keys(table) == IN_ORDER
    for row in table.to_dict("records"):
        number = TRAININGS.index(Training(*(row[key] for key in KEYS)))
        assert pd.isna(row.pop("diverged_at_step"))
        assert {name: row.get(name) for name in RESULT} == {**RESULT, "early_stop_step": number}


def test_results_csv_holds_the_results(tmp_path):
    filled(tmp_path)
    there = pd.read_csv(tmp_path / "results.csv", float_precision="round_trip")
    assert_frame_equal(there, store.results(tmp_path), check_exact=True, check_dtype=False)
    first = (tmp_path / "results.csv").read_text().splitlines()[0]
    assert first == ",".join(COLUMNS)


def test_results_csv_can_be_written_again(tmp_path):
    filled(tmp_path)
    before = (tmp_path / "results.csv").read_bytes()
    (tmp_path / "results.csv").unlink()
    store.write_results(tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == before


def test_a_training_finished_again_has_one_row(tmp_path):
    run = Store(tmp_path, CONFIG)
    for seconds in (1.0, 2.0):
        finish(run, Training(0, 0), {**RESULT, "seconds": seconds}, CURVE)
    assert store.results(tmp_path).seconds.tolist() == [2.0]


def test_more_measures_than_the_columns_do_not_change_the_table(tmp_path):
    finish(Store(tmp_path, CONFIG), Training(0, 0), {**RESULT, "extra": 1}, CURVE)
    assert tuple(store.results(tmp_path).columns) == COLUMNS


def test_costs_of_filters_are_columns_which_rows_of_earlier_versions_lack(tmp_path):
    run = Store(tmp_path, CONFIG)
    finish(run, Training(0, 0), {**RESULT, "macs_left": 1.0}, CURVE)
    costs = {"macs_left": 0.5, "parameters": 10, "macs": 2**40}
    finish(run, Training(0, 1), {**RESULT, **costs}, CURVE)
    table = store.results(tmp_path)
    assert tuple(table.columns) == (*COLUMNS, *costs)
    assert table[[*costs]].iloc[1].to_dict() == costs
    assert table.parameters.isna().tolist() == [True, False]


def test_a_workdir_without_results_has_empty_tables(tmp_path):
    store.write_results(tmp_path)
    assert tuple(store.results(tmp_path).columns) == COLUMNS
    assert store.results(tmp_path).empty and store.curves(tmp_path).empty
    assert (tmp_path / "results.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_curves_say_whose_they_are(tmp_path):
    filled(tmp_path)
    table = store.curves(tmp_path)
    assert len(table) == 2 * len(TRAININGS)
    assert list(table.index) == list(range(len(table)))
    for number, training in enumerate(TRAININGS):
        chosen = table[table.loss == number]
        assert keys(chosen) == [dataclasses.astuple(training)] * 2
        assert_frame_equal(chosen[list(CURVE.columns)].reset_index(drop=True),
                           CURVE.assign(loss=number), check_dtype=False)


def test_a_curve_is_kept_as_it_was_measured(tmp_path):
    run = Store(tmp_path, CONFIG)
    finish(run, Training(0, 0), RESULT, CURVE)
    assert_frame_equal(pd.read_csv(paths.folder(run.root, Training(0, 0)) / "curve.csv"), CURVE)


def test_the_columns_of_curves_are_the_training_and_then_its_curve(tmp_path):
    filled(tmp_path)
    assert list(store.curves(tmp_path).columns) == [*KEYS, *CURVE.columns]


def test_curves_are_in_the_order_of_the_results(tmp_path):
    filled(tmp_path)
    assert keys(store.curves(tmp_path).drop_duplicates(KEYS)) == IN_ORDER


def test_a_curve_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    path = paths.folder(filled(tmp_path).root, TRAININGS[0]) / "curve.csv"
    path.write_text("")
    with pytest.raises(WorkdirError) as caught:
        store.curves(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"null", b"3", b"\xff\xfe\x00",
                                     b'{"replicate": 0}', b"<html>"])
def test_a_damaged_result_is_an_error_that_names_it(tmp_path, content):
    path = paths.folder(filled(tmp_path).root, TRAININGS[3]) / "result.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="--repair") as caught:
        store.results(tmp_path)
    assert str(path) in str(caught.value)


def test_a_result_cut_off_anywhere_is_an_error_that_names_it(tmp_path):
    run = Store(tmp_path, CONFIG)
    finish(run, Training(0, 0), RESULT, CURVE)
    path = paths.folder(run.root, Training(0, 0)) / "result.json"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WorkdirError, match="result.json is .* --repair"):
            store.results(tmp_path)


def test_the_same_experiment_goes_on_in_its_workdir(tmp_path):
    filled(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    Store(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_bytes() == before
    assert len(store.results(tmp_path)) == len(TRAININGS)


@pytest.mark.parametrize("more", [{"rounds": 30}, {"rounds": 1}, {"replicates": 5},
                                  {"first_replicate": 3},
                                  {"branches": ("ticket",)}])
def test_another_extent_goes_on_in_the_same_workdir(tmp_path, more):
    filled(tmp_path)
    begun(tmp_path, CONFIG.replace(**more))
    assert read_config(tmp_path) == CONFIG.replace(**more)
    assert len(store.results(tmp_path)) == len(TRAININGS)


def test_a_workdir_of_another_experiment_is_refused_with_what_differs(tmp_path):
    begun(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    other = dataclasses.replace(CONFIG, preset="q", steps=200, fraction={"default": 0.2},
                                rounds=3)
    with pytest.raises(WorkdirError, match="one experiment. Received: ") as caught:
        Store(tmp_path, other)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "preset=p there, q asked" in message
    assert "steps=100 there, 200 asked" in message
    assert "fraction=default there, {'default': 0.2} asked" in message
    assert "rounds" not in message and "seed" not in message
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_setting_back_at_its_default_differs_too(tmp_path):
    begun(tmp_path, CONFIG.replace(seed=3))
    with pytest.raises(WorkdirError, match="with seed=3 there, default asked"):
        Store(tmp_path, CONFIG)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"preset": "p"}',
                                     b"a folder of something else"])
def test_a_config_that_is_none_is_refused_and_left(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(WorkdirError, match="--repair") as caught:
        Store(tmp_path, CONFIG)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_config_is_refused(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(WorkdirError, match="config.json"):
        Store(tmp_path, CONFIG)


def test_a_config_that_cannot_be_replaced_is_left(tmp_path, monkeypatch):
    begun(tmp_path)
    before = (tmp_path / "config.json").read_bytes()

    def refuse(source, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(WorkdirError, match="can be written. Received: .*Permission denied"):
        begun(tmp_path, CONFIG.replace(rounds=3))
    assert (tmp_path / "config.json").read_bytes() == before
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("part", ["a.txt", "a.txt/run", "a.txt/x/run", "x" * 300],
                         ids=["file", "in a file", "deep in a file", "long name"])
def test_a_path_where_no_folder_can_be_is_refused(tmp_path, part):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(WorkdirError) as caught:
        begun(tmp_path / part)
    assert str(tmp_path / part) in str(caught.value)
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0,
                    reason="root may write anywhere")
@pytest.mark.parametrize("mode", [0o500, 0o400, 0o000])
def test_a_folder_without_permission_is_refused(tmp_path, mode):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(mode)
    try:
        with pytest.raises(WorkdirError):
            begun(folder)
    finally:
        folder.chmod(0o700)


def test_what_is_kept_reads_as_json_and_ends_in_a_newline(tmp_path):
    run = filled(tmp_path)
    for path in (tmp_path / "config.json", paths.folder(run.root, TRAININGS[0]) / "result.json"):
        text = path.read_text()
        assert text.endswith("}\n") and json.loads(text)
    assert list(json.loads(text)["row"]) == list(COLUMNS)


def test_a_copy_beside_the_results_is_not_a_result(tmp_path):
    workdir = Store(tmp_path, CONFIG)
    finish(workdir, Training(0, 0), RESULT, CURVE)
    shutil.copytree(tmp_path / "replicate_0", tmp_path / "replicate_0_backup")
    assert len(store.results(tmp_path)) == 1
    assert set(store.curves(tmp_path).replicate) == {0}


def test_a_training_that_diverged_has_a_row_without_measures_and_makes_no_ticket(tmp_path):
    run = begun(tmp_path)
    finish(run, Training(0, 0), DIVERGED)
    assert not run.ticket(0, 1).exists() and run.is_done(Training(0, 0))
    assert run.record(Training(0, 0)).diverged_at == 50
    finish(run, Training(1, 0))
    table = store.results(tmp_path)
    assert table.diverged_at_step.tolist()[0] == 50 and pd.isna(table.diverged_at_step[1])
    assert table.early_stop_step.tolist()[1] == 60 and pd.isna(table.early_stop_step[0])
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[1:] == ["0,ticket,0,0,0.8,,,,,,0.5,50",
                         "1,ticket,0,0,0.8,60,0.30000000000000004,0.97,0.96,1.0,1.25,"]


def test_a_training_done_again_to_other_bits_takes_what_followed_with_it(tmp_path):
    run = begun(tmp_path)
    for level in range(4):
        finish(run, Training(0, level))
        finish(run, Training(1, level))
    assert finish(run, Training(0, 1)) == []
    assert finish(run, Training(0, 1), theta=2.5) == [Training(0, 2), Training(0, 3)]
    assert list(paths.found(tmp_path)) == [Training(0, 0), Training(0, 1),
                                            *(Training(1, level) for level in range(4))]
    assert run.read_ticket(0, 2)[0].weights["w"][0] == 2.5


def newer(level, theta=1.5):
    return dataclasses.replace(ticket(level, theta), provenance={"versions": {"numpy": "99.0"}})


def test_a_network_that_is_repeated_with_newer_packages_leaves_the_ticket_of_the_first(tmp_path):
    run = begun(tmp_path)
    for level in range(3):
        finish(run, Training(0, level))
    before = run.ticket(0, 0).read_bytes()
    run.finish(Training(0, 0, "ticket", 1), RESULT, CURVE, newer(0))
    assert run.ticket(0, 0).read_bytes() == before
    assert run.record(Training(0, 0, "ticket", 1)).ticket == run.record(Training(0, 0)).ticket
    # Nor does a repair take what followed with it, where it comes to the same bits.
    assert run.finish(Training(0, 0), RESULT, CURVE, newer(0), following=newer(1)) == []
    assert run.read_ticket(0, 1)[0].provenance == {} and run.is_done(Training(0, 2))
    # Other bits are another ticket.
    assert run.finish(Training(0, 0), RESULT, CURVE, newer(0), following=newer(1, 2.5)) == [
        Training(0, 1), Training(0, 2)]
    assert run.read_ticket(0, 1)[0].provenance["versions"] == {"numpy": "99.0"}


def test_what_repeats_the_dense_network_from_step_k_goes_with_it(tmp_path):
    config = dataclasses.replace(CONFIG, rewind_step=50, validation_every=50)
    repeat = Training(0, 0, "ticket", 1)
    for asked, gone in ((config, [repeat, Training(0, 1)]), (CONFIG, [Training(0, 1)])):
        root = tmp_path / str(asked.rewind_step)
        run = begun(root, asked)
        for training in (Training(0, 0), Training(0, 1), repeat):
            finish(run, training)
        assert sorted(finish(run, Training(0, 0), theta=2.5), key=str) == sorted(gone, key=str)


def test_a_ticket_is_read_only_if_its_record_vouches_for_it(tmp_path):
    run = begun(tmp_path)
    finish(run, Training(0, 0))
    read, mark = run.read_ticket(0, 1)
    assert read.level == 1 and mark == checksums.mark(run.ticket(0, 1).read_bytes())
    ticket(1, theta=9.0).save(run.ticket(0, 1))  # Whole, but another's.
    with pytest.raises(DamagedError, match="level_01/ticket.safetensors is not what was written"):
        run.read_ticket(0, 1)
