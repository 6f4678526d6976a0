"""What a command loads before it works, and what becomes of its output."""

import os
import shutil
import subprocess
import sys

import pytest

from lth_keras import __version__
from lth_keras.cli import main, output

# What a page of text does without.
HEAVY = {"pandas", "matplotlib", "scipy", "joblib", "absl", "sklearn", "tensorflow", "tf_keras",
         "keras", "jax", "tensorflow_datasets", "tensorflow_model_optimization", "jinja2"}
_WATCHED = """
import atexit, sys
sys.argv = ["lth", *sys.argv[1:]]
from lth_keras.cli import main
atexit.register(lambda: print("loaded:", *sorted(sys.modules), file=sys.stderr))
main.main()
"""


def started(*arguments, program=_WATCHED, **options):
    """The command in a process of its own."""
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True,
                          check=False, **options)


def loaded(*arguments):
    ended = started(*arguments, text=True)
    assert ended.returncode == 0 and ended.stdout, ended.stderr
    return {name.partition(".")[0] for name in ended.stderr.partition("loaded:")[2].split()}


@pytest.mark.parametrize("arguments", [
    (), ("--help",), ("--version",), ("presets",), ("completion", "bash"),
    *((command, "--help") for command in main.COMMANDS)], ids=" ".join)
def test_a_page_of_text_loads_nothing_that_takes_long(arguments):
    assert not loaded(*arguments) & HEAVY


def test_help_needs_no_numpy():
    assert not loaded("--help") & {"numpy", "rich"}


def test_the_command_alone_is_help(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        with pytest.raises(SystemExit) as ended:
            main._parse(["lth", *arguments])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert all(f"\n  {name} " in text for name in main.COMMANDS) and "--version" in text


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main._parse(["lth", "--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"lth_keras {__version__} (Python 3.")


@pytest.mark.parametrize(("arguments", "said"), [
    (["--helpfull"], "lth: error: A flag must be one of --help, --version. Received: "
                     "'--helpfull'. Did you mean --help?"),
    (["--flagfile=x"], "lth: error: A flag must be one of --help, --version. Received: "
                       "'--flagfile=x'."),
    (["presets", "--helpfull"], "lth presets: error: A flag must be one of --help. Received: "
                                "--helpfull. Did you mean --help?")])
def test_flags_of_other_libraries_are_none(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main._parse(["lth", *arguments])
    assert ended.value.code == 2 and capsys.readouterr().err == f"{said}\n"


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not there")
@pytest.mark.parametrize(("arguments", "code"), [
    ("--help", 0), ("run --help", 0), ("presets", 141), ("completion bash", 141)])
def test_a_closed_pipe_is_no_error(arguments, code):
    # The reader has gone before anything is printed. (argparse ends its help as if nothing was.)
    ended = subprocess.run(
        ["bash", "-c", f"{{ sleep 1; exec {sys.executable} -m lth_keras {arguments}; }} | true; "
                       "echo ${PIPESTATUS[0]}"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"{code}\n" and ended.stderr == ""


@pytest.mark.parametrize("language", [
    {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}])
def test_paths_that_no_encoding_knows_are_shown_escaped(language, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xc3\xa4"
    ended = started(b"report", path, program="from lth_keras.cli import main; main.main()",
                    env={**os.environ, **language})
    assert ended.returncode == 2 and b"Traceback" not in ended.stderr
    assert b"with a config.json. Received: " in ended.stderr and b"\\udcff" in ended.stderr
    ended = started(b"presets", env={**os.environ, **language})
    assert ended.returncode == 0 and b"digits: LeNet" in ended.stdout


def test_a_file_is_as_wide_as_any_table_and_columns_can_be_asked_for(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output.console().width == 400
    monkeypatch.setenv("COLUMNS", "60")
    assert output.console().width == 60


@pytest.mark.thorough
def test_a_run_in_a_folder_whose_name_is_not_utf_8_ends_and_is_reported(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff"
    ended = started(b"run", b"digits", b"--steps", b"20", b"--rounds", b"0", b"--replicates", b"1",
                    b"--jobs", b"1", b"--set", b"validation_every=20", b"--branches", b"ticket",
                    b"--workdir", path, env={**os.environ, "LC_ALL": "C"})
    assert ended.returncode == 0, ended.stderr
    assert b"\\udcff" in ended.stdout and os.path.exists(path + b"/plots/report.html")
