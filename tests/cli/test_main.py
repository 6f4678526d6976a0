import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

import pytest
import small

from lth_keras.cli import analyse, main
from lth_keras.errors import LotteryError
from lth_keras.experiments import clusters
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.trainings import trainings
from lth_keras.experiments.results.store import COLUMNS, Store
from lth_keras.experiments.training import datasets
from lth_keras.experiments.training.datasets import DATASETS
from lth_keras.experiments.training.networks import NETWORKS
from lth_keras.experiments.worker import Placement
from lth_keras.files import workdir_lock
from lth_keras.files.ticket import Ticket

SMALL = ["run", "digits", "--steps", "200", "--rounds", "2", "--replicates", "1",
         "--branches", "reinit", "--set", "validation_every=20"]


def lth(*arguments):
    """Runs the command in this process; returns its exit code."""
    try:
        return main._main(main._parse(["lth", *map(str, arguments)]))
    except SystemExit as stopped:
        return stopped.code


@pytest.fixture
def inline(monkeypatch):
    """Trains in this process: no worker has to load TensorFlow."""
    monkeypatch.setitem(clusters.BACKENDS, "loky", small.Inline)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments, said", [
    (["foo"], "of run, report, analyse, export, data, presets, completion. Received: 'foo'."),
    (["--steps", "3"], "A flag must be one of --help, --version. Received: '--steps'."),
    (["rum"], "Received: 'rum'. Did you mean run?"),
    (["run", "digits", "--stps", "1"], "Received: --stps 1. Did you mean --steps?"),
    (["run"], "PRESET must be one of digits, lenet_300_100, lenet_300_100_sgd"),
    (["run"], "Received: none. `lth presets` describes them; `lth run digits` needs no data."),
    (["run", "nope"], "lenet5_filters, conv2_filters. Received: 'nope'."),
    (["run", "mnist"], "Received: 'mnist'. Did you mean lenet_300_100, which trains on mnist?"),
    (["run", "CIFAR-10"], "Did you mean conv2, which trains on cifar10?"),
    (["run", "cifar10"], "Received: 'cifar10'. Did you mean conv2, which trains on cifar10?"),
    (["run", "LeNet-300-100"], "Received: 'LeNet-300-100'. Did you mean lenet_300_100?"),
    (["run", "lenet"], "Received: 'lenet'. Did you mean lenet_300_100?"),
    (["run", "digits", "--bogus", "1"], "A flag must be one of --backend, --branches"),
    (["run", "digits", "--round", "1"], "A flag must be one of --backend, --branches"),
    (["run", "digits", "extra"], "one argument that is not a flag. Received: extra."),
    (["run", "digits", "--steps"], "--steps must have a value. Received: none."),
    (["run", "digits", "--steps", "many"], "steps must be a whole number. Received: 'many'."),
    (["run", "digits", "--steps", "0"], "steps must be a whole number >= 1. Received: 0."),
    (["run", "digits", "--replicates", "100000"], "at most 100,000 networks. Received: replicates="
     "100,000 and rounds=3, which are 500,000 networks. Ask for fewer, or give each machine"),
    (["run", "digits", "--rounds", "-1"], "rounds must be a whole number >= 0. Received: -1."),
    (["run", "digits", "--branches", "nope"], "branches must name ticket, reinit"),
    (["run", "digits", "--set", "nope=1"], "A setting must be one of against, augmentation"),
    (["run", "digits", "--set", "nope"], "--set takes KEY=VALUE. Received: 'nope'."),
    (["run", "digits", "--set", "fraction=a:b"], "fraction must be a number, or such as"),
    (["run", "digits", "--set", "dataset=nope"], "dataset must be one of digits, mnist, cifar10,"),
    (["run", "digits", "--set", "network=nope"],
     "network must be one of lenet_300_100, conv2, conv4, conv6, lenet5, vgg16, vgg19, resn"),
    (["run", "digits", "--set", "network=resnet18", "--set", "dropout=0.5"],
     "dropout must be 0 unless the network has hidden dense layers, as lenet_300_100, conv2"),
    (["run", "digits", "--set", "criterion=nope"],
     "criterion must be one of magnitude, random, taylor, large_final"),
    (["run", "digits", "--set", "validation_size=1437"], "must leave examples to train on"),
    (["run", "digits", "--set", "augmentation=nope"], "augmentation must be one of none, flip"),
    (["run", "digits", "--set", "dtype_policy=half"], "dtype_policy must be one of float32, mixed"),
    (["run", "digits", "--jobs", "0"], "--jobs must be a whole number >= 1. Received: '0'."),
    (["run", "digits", "--jobs", "-1"], "--jobs must be a whole number >= 1. Received: '-1'."),
    (["run", "digits", "--jobs", "all"], "--jobs must be a whole number >= 1. Received: 'all'."),
    (["run", "digits", "--jobs", ""], "--jobs must be a whole number >= 1. Received: ''."),
    (["run", "digits", "--threads", "-1"], "--threads must be a whole number >= 0"),
    (["run", "digits", "--threads", "1.5"], "--threads must be a whole number >= 0"),
    (["run", "digits", "--resident_mib", "2G"], "--resident_mib must be a whole number >= 0"),
    (["run", "digits", "--backend", "spark"],
     "--backend must be one of loky, ray, dask. Received: 'spark'."),
    (["run", "digits", "--distribute", "gpus"],
     "--distribute must be one of none, mirrored, tpu. Received: 'gpus'."),
    (["run", "digits", "--on_divergence", "never"],
     "--on_divergence must be one of stop, continue. Received: 'never'."),
    ([*SMALL, "--workdir", "/dev/null/x"], "A workdir must be a folder"),
    (["run", "lenet_300_100", "--data_dir", "/nowhere"], "run `tfds build mnist --data_dir"),
    (["report"],
     "WORKDIR must be a workdir of `lth run` or of a LotteryTicketCallback. Received: none."),
    (["report", "/nowhere"], "with a config.json. Received: /nowhere."),
    (["report", "/nowhere", "--margin", "steps:2"], "margin must be shares in [0, 1) by name"),
    (["report", "/nowhere", "--deployment", "--margin", "steps:0"], "--margin is for the report"),
    (["run", "digits", "--margin", "0.2,19%"], "A margin must be one of accuracy, steps, loss"),
    (["run", "digits", "--margin", "accuracy:-1"], "margin must be shares in [0, 1) by name"),
])
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(
        arguments, said, capsys, elsewhere, inline):
    assert lth(*arguments) == 2
    assert os.listdir(elsewhere) == []
    error = capsys.readouterr().err
    assert error.startswith("lth") and said in error
    assert error.count("\n") == 1 and "Received:" in error


def test_the_folder_that_holds_workdirs_is_answered_with_their_names(capsys, elsewhere, inline):
    for name in ("two", "one"):
        (elsewhere / "runs" / name).mkdir(parents=True)
        (elsewhere / "runs" / name / "config.json").write_text("{}")
    assert lth("report", "runs") == 2
    assert "Received: runs. Workdirs in it: runs/one, runs/two." in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["run"], ["report"], ["analyse"], ["presets"]])
def test_help_is_complete(command, capsys):
    assert lth(*command, "--help") == 0
    text = capsys.readouterr().out
    if command == ["run"]:
        for name in [*presets.PRESETS, "--rounds", "--steps", "--replicates", "--seed",
                     "--branches", "--workdir", "--data_dir", "--set", "learning_rate", "--jobs",
                     "--threads", "--backend", "--distribute", "--resident_mib", "--dry_run",
                     "--on_divergence", "--repair", *NETWORKS, *DATASETS, "lenet_WIDTH_WIDTH"]:
            assert name in text
    if not command:
        assert all(name in text for name in ("run", "report", "analyse", "presets"))
    if command == ["analyse"]:
        for name in [*analyse.KINDS, "--levels", "--out", "--points", "--data_dir"]:
            assert name in text


def test_presets_are_listed_with_their_cost(capsys):
    assert lth("presets") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in presets.PRESETS)
    assert "50,200 weights, 14 replicates, 3 rounds" in text
    assert "70 networks of 1,500 steps, 105,000 steps in all" in text
    assert "20,024,000 weights" in text


# What the process that runs `lth run` has loaded in the end.
_WATCHED = """
import atexit, sys
sys.argv = ["lth", *sys.argv[1:]]
from lth_keras.cli import main as cli
from lth_keras.files.ticket import Ticket
heavy = {"tensorflow", "tf_keras", "tensorflow_datasets", "sklearn", "ray", "distributed"}
atexit.register(lambda: print("loaded:", *sorted(heavy & set(sys.modules))))
cli.main()
"""


def stopped(root, by=signal.SIGINT):
    """What a search prints that hears a signal at level 1: Ctrl-C, or another."""
    # A shell's background jobs, and so their children, are deaf to Ctrl-C until they listen; those
    # of nohup to the end of the terminal.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen([sys.executable, "-c", _WATCHED, *SMALL, "--jobs", "1", "--workdir",
                                str(root)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    signal.signal(signal.SIGINT, heard)
    signal.signal(signal.SIGHUP, hung_up)
    printed = ""
    for line in process.stdout:
        printed += line
        if "level 1, ticket" in line:
            process.send_signal(by)
            break
    printed += process.stdout.read()
    assert process.wait(60) == 128 + by
    return printed


@pytest.mark.thorough
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_command_leaves_nothing_behind(by, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    printed = stopped(tmp_path / "run", by)
    assert "the same command continues from there" in printed
    assert "Traceback" not in printed and "leaked" not in printed and "Error" not in printed
    assert not list((tmp_path / "temporary").glob("lth_*"))
    with workdir_lock.held(tmp_path / "run"):
        assert (tmp_path / "run" / "replicate_0" / "level_00").exists()


@pytest.mark.thorough
def test_after_ctrl_c_the_same_command_goes_on_to_files_table_picture_and_verdict(
        finished, tmp_path, capsys, inline):
    root = tmp_path / "run"
    printed = stopped(root)
    lines = printed.splitlines()
    assert "5 networks to train for 200 steps each" in lines[0]
    assert lines[1] == "Starting a process: loading the data and compiling the network."
    assert lines[2] == "Measuring the speed, for about 20 s at most."
    assert re.fullmatch(r"[0-9.]+ ms a step in .+, [0-9.]+ of it for validation \(compiled in "
                        r"[0-9.]+ s, measured over [0-9]+ steps\): about .+ in all", lines[3])
    assert lines[4].startswith("replicate 0, level 0, ticket: early stop at step ")
    assert "the same command continues from there" in printed and "Traceback" not in printed
    assert lines[-1] == "loaded:"
    assert lth(*SMALL, "--workdir", root) == 0
    text, error = capsys.readouterr()
    assert not error and "level 0" not in text and "level 2, reinit" in text
    assert re.search(r"^ +2 +64\.3 ", text, re.MULTILINE)
    assert text.splitlines()[-1].startswith(
        "Inconclusive: one replicate is too few for any statistical test; ")
    assert (root / "results.csv").read_text().startswith(",".join(COLUMNS))
    assert {path.name for path in (root / "plots").iterdir()} == {
        "summary.png", "curves.png", "figure_3.png", "figure_4.png", "report.html", "verdict.json"}
    for level in range(3):
        here, there = (folder / "replicate_0" / f"level_{level:02d}" / "ticket.safetensors"
                       for folder in (root, finished))
        assert Ticket.load(here).level == level and here.read_bytes() == there.read_bytes()


@pytest.mark.thorough
def test_a_finished_search_is_not_trained_again_and_one_of_other_settings_refused(
        finished, capsys):
    assert lth(*SMALL, "--workdir", finished) == 0
    text = capsys.readouterr().out
    assert "0 networks to train" in text and "ms a step" not in text
    assert lth(*SMALL, "--workdir", finished, "--seed", "1") == 2
    assert "seed=default there, 1 asked" in capsys.readouterr().err
    assert lth("report", finished) == 0


def test_a_dry_run_says_how_long_it_would_take_and_trains_nothing(tmp_path, capsys, inline):
    assert lth(*SMALL, "--dry_run", "--workdir", tmp_path / "run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "5 networks to train" in lines[0] and "in all" in lines[3]
    assert lines[1].startswith("Starting ") and lines[2].startswith("Measuring ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("begun", [False, True])
def test_a_missing_data_set_is_said_before_a_worker_starts(begun, tmp_path, monkeypatch, capsys):
    def pool(*_):
        pytest.fail("a worker was started")
    monkeypatch.setitem(clusters.BACKENDS, "loky", pool)
    command = ["run", "lenet_300_100", "--data_dir", tmp_path / "data", "--workdir",
               tmp_path / "run"]
    if begun:
        Store(tmp_path / "run", presets.get("lenet_300_100")).begin()
    assert lth(*command) == 2
    assert f"no {tmp_path}/data/mnist/3.0.1. Give `lth run` --download" in capsys.readouterr().err
    # On a cluster, only the workers need it.
    monkeypatch.setitem(clusters.BACKENDS, "dask", pool)
    with pytest.raises(BaseException, match="a worker was started"):
        lth(*command, "--backend", "dask")


def test_a_missing_data_set_is_downloaded_by_a_run(tmp_path, monkeypatch):
    asked = []

    def require(config, data_dir, download, say):
        asked.append((config.dataset, data_dir, download))
        raise LotteryError("enough")
    monkeypatch.setattr(datasets, "require", require)
    assert lth("run", "lenet_300_100", "--download", "--data_dir", "d", "--workdir",
               tmp_path / "run") == 2
    assert asked == [("mnist", "d", True)]


@pytest.mark.parametrize("arguments, jobs, threads", [
    ([], None, 1), (["--jobs", "3"], 3, 1), (["--threads", "2"], None, 2),
    (["--distribute", "mirrored"], 1, 0), (["--distribute", "mirrored", "--threads", "3"], 1, 3),
    (["--distribute", "tpu", "--jobs", "2"], 2, 0)])
def test_a_distributed_training_has_all_cores(arguments, jobs, threads, tmp_path, monkeypatch):
    given = []

    def pool(jobs, waiting, config, placement):
        given.append((jobs, placement.threads))
        raise LotteryError("enough")
    monkeypatch.setitem(clusters.BACKENDS, "loky", pool)
    assert lth("run", "digits", *arguments, "--workdir", tmp_path / "run") == 2
    assert given == [(jobs, threads)]


def test_flags_reach_the_workers(tmp_path, monkeypatch):
    given = []

    def pool(jobs, waiting, config, placement):
        assert list(waiting) == list(trainings(config))
        given.append(placement)
        raise LotteryError("enough")
    monkeypatch.setitem(clusters.BACKENDS, "dask", pool)
    lth("run", "digits", "--backend", "dask", "--threads", "0", "--resident_mib", "7",
        "--distribute", "mirrored", "--data_dir", "there", "--workdir", tmp_path / "run")
    assert given == [Placement("there", "mirrored", 0, 7)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clusters.BACKENDS, "loky", small.Inline)
        assert lth(*SMALL, "--workdir", root) == 0
    return root


def test_the_default_workdir_is_named_by_preset_and_fingerprint(
        finished, elsewhere, capsys, inline):
    config = presets.get("digits").replace(steps=200, validation_every=20)
    shutil.copytree(finished, elsewhere / "runs" / f"digits-{config.fingerprint}")
    assert lth(*SMALL) == 0
    assert "0 networks to train" in capsys.readouterr().out
    assert len(os.listdir("runs")) == 1


def test_a_second_run_on_a_workdir_is_refused_and_touches_nothing(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with workdir_lock.held(finished):
        assert lth(*SMALL, "--rounds", "5", "--workdir", finished) == 2
        error = capsys.readouterr().err
        assert f"Received: {finished}, which another process is using (process {os.getpid()} on " \
            in error and error.count("\n") == 1
        assert lth("report", finished) == 0  # Which takes no lock.
    changed = {path for path in finished.rglob("*") if path.stat().st_mtime_ns != before.get(path)}
    assert changed <= {finished / ".lock", *(finished / "plots").iterdir(), finished / "plots"}


def test_the_folder_of_a_search_in_fit_is_refused_and_nothing_comes_into_it(tmp_path, capsys):
    (tmp_path / "state.safetensors").write_bytes(b"a search")
    assert lth(*SMALL, "--workdir", tmp_path) == 2
    assert "the folder of a LotteryTicketCallback, whose state.safetensors it holds" \
        in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["state.safetensors"]


@pytest.mark.parametrize(("there", "said"), [
    (["notes.txt"], "notes.txt"), ([".git/HEAD"], ".git"),
    (["runs/one/config.json"], "runs"), (["a", "b", "c", "d", "e"], "a, b, c and 2 more")])
def test_a_folder_with_strangers_files_is_not_taken(there, said, tmp_path, capsys, inline):
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert lth(*SMALL, "--workdir", tmp_path) == 2
    assert capsys.readouterr().err == (
        "lth run: error: A workdir must be a new or an empty folder, or one that `lth run` has "
        f"made. Received: {tmp_path}, which holds {said}. Name a folder in it, as by --workdir "
        f"{tmp_path}/run.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {name.partition("/")[0] for name in there})


def test_what_a_killed_run_and_operating_systems_leave_is_no_strangers(tmp_path):
    for name in (".lock", ".config.json.42.0a1b2c3d", ".DS_Store", "replicate_0/x", "plots/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    workdir_lock.refuse_other(tmp_path, workdir_lock.RUN)
    workdir_lock.refuse_other(tmp_path / "none", workdir_lock.RUN)


def test_more_rounds_than_there_can_be_levels_are_refused(tmp_path, capsys):
    assert lth(*SMALL, "--rounds", "10000", "--workdir", tmp_path / "run") == 2
    assert "rounds must be at most 9,999. Received: 10,000." in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_damage_is_one_line_with_its_file_and_repair_makes_only_it_again(
        finished, tmp_path, capsys, inline):
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    ticket = root / "replicate_0" / "level_01" / "ticket.safetensors"
    whole = ticket.read_bytes()
    ticket.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert lth(*SMALL, "--workdir", root) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(ticket) in error and "--repair" in error
    assert lth(*SMALL, "--workdir", root, "--repair") == 0
    said = capsys.readouterr().out
    assert f"damaged: {ticket} is not what was written" in said and "1 network to train" in said
    assert small.contents(root) == small.contents(finished)
    assert lth(*SMALL, "--workdir", root, "--repair") == 0
    assert f"Nothing in {root} is damaged." in capsys.readouterr().out


DIVERGING = ["--set", "learning_rate=1e30"]


def test_a_run_that_diverges_ends_in_one_line_and_exit_code_1_and_is_not_trained_again(
        tmp_path, capsys, inline):
    for _ in range(2):
        assert lth(*SMALL, *DIVERGING, "--workdir", tmp_path / "run") == 1
        out, error = capsys.readouterr()
        assert "Received: replicate 0, level 0, ticket, which diverged at step 20." in error
        assert error.count("\n") == 1
    assert "ms a step" not in out
    assert lth(*SMALL, *DIVERGING, "--workdir", tmp_path / "run", "--on_divergence",
               "continue") == 0
    out = capsys.readouterr().out
    assert "0 networks to train" in out and "1 of 1 trainings diverged." in out
    assert lth("report", tmp_path / "run") == 0
    assert "replicate 0, level 0, ticket: diverged at step 20" in capsys.readouterr().out


@contextlib.contextmanager
def small_files():
    """A disk that takes no file of more than 100,000 bytes: real errors, from the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_is_one_line_and_the_same_command_goes_on(
        finished, tmp_path, capsys, inline):
    root = tmp_path / "run"
    with small_files():
        assert lth(*SMALL, "--workdir", root) == 2
    error = capsys.readouterr().err
    assert re.search(r"ticket.safetensors: File too large. Finished trainings are kept", error)
    assert error.startswith("lth run: error: ") and error.count("\n") == 1
    assert lth(*SMALL, "--workdir", root) == 0
    assert small.contents(root) == small.contents(finished)
    capsys.readouterr()


def test_a_file_where_a_folder_is_asked_for_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for flag in ("--out", "--tensorboard"):
        assert lth("report", tmp_path, flag, tmp_path / "file") == 2
        error = capsys.readouterr().err
        assert re.search("must be existing or new folders.*Received: .*file, a file", error)
