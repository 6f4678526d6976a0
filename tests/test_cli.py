import os
import re
import signal
import subprocess
import sys

import pytest

from lth_keras import cli, presets, ticketfile
from lth_keras.store import COLUMNS

SMALL = ["run", "digits", "--steps", "40", "--rounds", "2", "--replicates", "1",
         "--set", "validation_every=20"]


def lth(*arguments):
    """Runs the command in this process; returns its exit code."""
    try:
        return cli._main(cli._parse(["lth", *map(str, arguments)]))
    except SystemExit as stopped:
        return stopped.code


@pytest.mark.parametrize("arguments, said", [
    ([], "COMMAND must be one of run, report, presets. Received: none."),
    (["foo"], "COMMAND must be one of"),
    (["run"], "PRESET must be one of digits, lenet_300_100. Received: none."),
    (["run", "nope"], "preset must be one of digits, lenet_300_100. Received: 'nope'."),
    (["run", "digits", "--bogus", "1"], "A flag must be one of --branches"),
    (["run", "digits", "--round", "1"], "A flag must be one of --branches"),
    (["run", "digits", "extra"], "one argument beside flags. Received: extra."),
    (["run", "digits", "--steps"], "--steps takes one value. Received: none."),
    (["run", "digits", "--steps", "many"], "steps must be a whole number. Received: 'many'."),
    (["run", "digits", "--steps", "0"], "steps must be a whole number >= 1. Received: 0."),
    (["run", "digits", "--rounds", "-1"], "rounds must be a whole number >= 0. Received: -1."),
    (["run", "digits", "--branches", "nope"], "branches must be of ticket, reinit"),
    (["run", "digits", "--set", "nope=1"], "A setting must be one of batch_size"),
    (["run", "digits", "--set", "nope"], "--set takes KEY=VALUE. Received: 'nope'."),
    (["run", "digits", "--set", "fraction=a:b"], "fraction must be a number, or such as"),
    (["run", "digits", "--set", "dataset=nope"], "dataset must be one of digits, mnist."),
    (["run", "digits", "--set", "network=nope"], "network must be one of lenet_300_100."),
    (["run", "digits", "--set", "criterion=nope"], "criterion must be one of magnitude, random."),
    (["run", "digits", "--set", "validation_size=1437"], "must leave examples to train on"),
    (["run", "digits", "--workdir", "/dev/null/x"], "A workdir must be a folder"),
    (["run", "lenet_300_100", "--data_dir", "/nowhere"], "Run `tfds build mnist --data_dir"),
    (["report"], "WORKDIR must be a folder that `lth run` made. Received: none."),
    (["report", "/nowhere"], "with a config.json. Received: /nowhere."),
])
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(
        arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lth(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("lth") and said in error
    assert error.count("\n") == 1 and "Received:" in error


@pytest.mark.parametrize("command", [[], ["run"], ["report"], ["presets"]])
def test_help_is_complete(command, capsys):
    assert lth(*command, "--help") == 0
    text = capsys.readouterr().out
    if command == ["run"]:
        for name in [*presets.PRESETS, "--rounds", "--steps", "--replicates", "--seed",
                     "--branches", "--workdir", "--data_dir", "--set", "learning_rate"]:
            assert name in text
    if not command:
        assert all(name in text for name in ("run", "report", "presets"))


def test_presets_are_listed_with_their_cost(capsys):
    assert lth("presets") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in presets.PRESETS)
    assert "75 networks of 1,000 steps" in text


def test_a_search_ends_in_files_table_picture_and_verdict(tmp_path, capsys):
    assert lth(*SMALL, "--workdir", tmp_path / "run") == 0
    text = capsys.readouterr().out
    assert "5 networks to train for 40 steps each" in text
    assert re.search(r"^ +2 +64\.3 ", text, re.MULTILINE)
    assert text.splitlines()[-1].startswith(("Winning ticket", "No winning ticket"))
    root = tmp_path / "run"
    assert (root / "results.csv").read_text().startswith(",".join(COLUMNS))
    assert {path.name for path in (root / "plots").iterdir()} == {"summary.png", "curves.png"}
    ticket = ticketfile.read(root / "replicate_0" / "level_02" / "ticket.safetensors")
    assert ticket.level == 2
    assert lth(*SMALL, "--workdir", root) == 0
    assert "0 networks to train" in capsys.readouterr().out
    assert lth(*SMALL, "--workdir", root, "--seed", "1") == 2
    assert "seed=default there, 1 asked" in capsys.readouterr().err
    assert lth("report", root) == 0


def test_the_default_workdir_is_named_by_preset_and_fingerprint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert lth("run", "digits", "--steps", "20", "--rounds", "0", "--replicates", "1") == 0
    fingerprint = presets.get("digits").replace(steps=20).fingerprint
    assert (tmp_path / "runs" / f"digits-{fingerprint}" / "results.csv").exists()
    capsys.readouterr()


def test_ctrl_c_leaves_a_workdir_that_the_same_command_continues(tmp_path):
    arguments = ["run", "digits", "--steps", "200", "--rounds", "2", "--replicates", "1",
                 "--set", "validation_every=20"]
    command = [sys.executable, "-m", "lth_keras", *arguments, "--workdir"]
    # A shell's background jobs, and so their children, are deaf to Ctrl-C until they listen.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([*command, str(tmp_path / "stopped")], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "PYTHONUNBUFFERED": "1"})
    signal.signal(signal.SIGINT, heard)
    for line in process.stdout:
        if "level 1, ticket" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(60) == 130
    assert "the same command goes on from there" in rest and "Traceback" not in rest
    done = subprocess.run([*command, str(tmp_path / "stopped")], capture_output=True, text=True,
                          check=True).stdout
    assert "level 0" not in done and "level 2, reinit" in done
    assert lth(*arguments, "--workdir", tmp_path / "whole") == 0
    for level in range(3):
        names = [tmp_path / run / "replicate_0" / f"level_{level:02d}" / "ticket.safetensors"
                 for run in ("stopped", "whole")]
        assert names[0].read_bytes() == names[1].read_bytes()
