import dataclasses
import subprocess
import sys

import fit_workdirs
import pytest
import workdirs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import runs
from lth_keras.reports import tensorboard

CONFIG = Config(preset="p", network="n", dataset="d", steps=100, rounds=1, replicates=2)


def read(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def scalars(folder, tag):
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def workdir(root):
    store = workdirs.fill(root, CONFIG)
    workdirs.finish(store, Training(1, 1, "reinit", 1), workdirs.DIVERGED)
    return runs.read(root)


def test_results_are_scalars_over_levels_and_curves_over_steps(tmp_path):
    run = workdir(tmp_path / "w")
    tensorboard.write(run, tmp_path / "t")
    by_level = tmp_path / "t" / "by_level" / "replicate_1" / "ticket_0"
    rows = run.results[(run.results.replicate == 1) & (run.results.branch == "ticket")]
    assert scalars(by_level, "results/early_stop_step") == \
        list(zip(rows.level, rows.early_stop_step, strict=True))
    assert [step for step, _ in scalars(by_level, "results/test_accuracy_early_stop")] == [0, 1]
    training = tmp_path / "t" / "curves" / "replicate_0" / "level_01" / "reinit_0"
    assert scalars(training, "curve/val_loss") == [(50, 0.625), (100, 0.375)]
    assert scalars(training, "curve/accuracy") == [(50, 0.75), (100, 0.875)]
    assert [event.wall_time for event in read(training).Scalars("curve/loss")] == [0.625, 1.25]
    assert scalars(training, "results/test_accuracy_final") == [(100, pytest.approx(0.96))]


def test_the_verdict_is_text(tmp_path):
    run = workdir(tmp_path / "w")
    tensorboard.write(run, tmp_path / "t")
    found = read(tmp_path / "t" / "verdict")
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode()
             for tag in found.Tags()["tensors"]}
    assert texts == {"verdict": run.verdict.sentence,
                     "verdict/level_01": str(run.verdict.levels[0])}


def test_densities_of_weights_and_accuracies_at_steps_are_scalars_where_there_are_any(tmp_path):
    run = workdir(tmp_path / "w")
    run.results["density_fc1/kernel"] = 0.25
    run.results["test_accuracy_step_50"] = 0.5
    tensorboard.write(run, tmp_path / "t")
    folder = tmp_path / "t" / "by_level" / "replicate_0" / "ticket_0"
    assert scalars(folder, "density/fc1/kernel") == [(0, 0.25), (1, 0.25)]
    assert scalars(folder, "results/test_accuracy_step_50") == [(0, 0.5), (1, 0.5)]


def test_a_training_is_a_session_of_hparams(tmp_path):
    tensorboard.write(workdir(tmp_path / "w"), tmp_path / "t")
    for name, status in (("reinit_0", "STATUS_SUCCESS"), ("reinit_1", "STATUS_FAILURE")):
        found = read(tmp_path / "t" / "curves" / "replicate_1" / "level_01" / name)
        tags = found.PluginTagToContent("hparams")
        start = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
        assert start.hparams["steps"].number_value == 100
        assert start.hparams["optimizer"].string_value == "adam"
        assert start.hparams["branch"].string_value == "reinit"
        assert start.hparams["level"].number_value == 1
        end = metadata.parse_session_end_info_plugin_data(tags[metadata.SESSION_END_INFO_TAG])
        assert type(end).DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[
            end.status].name == status


def test_what_diverged_has_no_results_but_density_and_seconds(tmp_path):
    tensorboard.write(workdir(tmp_path / "w"), tmp_path / "t")
    found = read(tmp_path / "t" / "by_level" / "replicate_1" / "reinit_1")
    assert sorted(found.Tags()["scalars"]) == ["results/density", "results/seconds"]


def test_written_again_it_is_the_same_files(tmp_path):
    run = workdir(tmp_path / "w")

    def files():
        tensorboard.write(run, tmp_path / "t")
        return {path: path.read_bytes() for path in (tmp_path / "t").rglob("*") if path.is_file()}
    first = files()
    # Seven trainings, of five chains, and the verdict.
    assert len(first) == 7 + 5 + 1 and files() == first


def test_events_are_written_without_tensorflow(tmp_path):
    workdir(tmp_path / "w")
    program = ("import sys, pathlib; sys.argv = ['lth']; "
               "from lth_keras.experiments.results import runs; "
               "from lth_keras.reports import tensorboard; "
               "tensorboard.write(runs.read(pathlib.Path('w')), pathlib.Path('t')); "
               "sys.exit('tensorflow' in sys.modules)")
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    assert (tmp_path / "t" / "by_level").is_dir()


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(LotteryError, match=r'pip install "lth_keras\[tensorboard\]"'):
        tensorboard.require()


def test_fits_that_are_replicates_have_their_own_seeds(tmp_path):
    run, = runs.read_all([fit_workdirs.fill(tmp_path / str(seed), seed) for seed in (3, 5)])
    tensorboard.write(run, tmp_path / "t")
    for replicate, seed in enumerate((3, 5)):
        found = read(tmp_path / "t" / "curves" / f"replicate_{replicate}" / "level_01" / "ticket_0")
        tags = found.PluginTagToContent("hparams")
        start = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
        assert start.hparams["seed"].number_value == seed
        assert start.hparams["scope"].string_value == "layer"


@pytest.mark.parametrize("labels", [("实验一", "实验二"), ("a/b", "a b"), ("Run", "run")])
def test_runs_whose_labels_look_alike_have_folders_of_their_own(tmp_path, labels):
    run = workdir(tmp_path / "w")
    given = [dataclasses.replace(run, label=f"p ({label})") for label in labels] + [
        dataclasses.replace(run, label="other")]
    tensorboard.write_all(given, tmp_path / "t")
    there = [*map(str.casefold, (path.name for path in (tmp_path / "t").iterdir()))]
    assert len({*there}) == 3 and "other" in there
    assert all((folder / "verdict").is_dir() for folder in (tmp_path / "t").iterdir())
    # A folder keeps its name whatever is written beside it.
    assert tensorboard.folder_names(given)[:2] == tensorboard.folder_names(given[1::-1])[::-1]
