"""What the documents say runs: their programs, their commands, their links, their counts."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from documents import headings

from lth_keras.cli import main, run

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in [
    *ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("studies/*/*.md"),
    *ROOT.glob("docs/*/*.md")])


def blocks(name, language="python"):
    """The fenced blocks of a document in one language; "" has commands and what they print."""
    found = re.findall(r"^```(.*?)\n(.*?)^```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)
    return [text for kind, text in found if kind == language]


def run_as_one_program(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    exec(compile("\n".join(blocks(name)), name, "exec"), {"__name__": "document"})


def commands():
    for name in DOCUMENTS:
        for text in blocks(name, ""):
            for line in text.splitlines():
                if line.startswith("lth "):
                    yield pytest.param(line, id=f"{name}: {line}")


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.thorough
def test_the_readmes_program_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    run_as_one_program("README.md", tmp_path, monkeypatch)
    printed, = (text for text in blocks("README.md", "") if "val_accuracy" in text)

    def rows(text):
        return [[float(value) for value in line.split()[1:]] for line in text.splitlines()[1:]]
    here = rows(capsys.readouterr().out)
    there = rows(printed)
    assert [row[:2] for row in here] == [row[:2] for row in there]
    # Bits differ from machine to machine; that the ticket is as accurate does not.
    for shown in (here, there):
        assert shown[-1][3] >= shown[0][3] - 0.01 and shown[0][3] > 0.96
    assert (tmp_path / "winner.ticket").exists()


@pytest.mark.thorough
def test_the_guides_search_for_filters_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    begin, *_ = parts = blocks("docs/guide.md")
    program, = (text for text in parts if 'structure="filters"' in text)
    monkeypatch.chdir(tmp_path)
    exec(compile(begin.partition("\nmodel = ")[0] + program, "guide", "exec"),
         {"__name__": "document"})
    # The page leaves out what the callback says of its rounds.
    here = [line for line in capsys.readouterr().out.splitlines()
            if not re.match("level [0-9]+ (of|ended)", line)]
    there = blocks("docs/guide.md", "text")[0].splitlines()
    rows = [place for place, line in enumerate(there) if re.match("[0-9] ", line)]
    assert [line for place, line in enumerate(here) if place not in rows] \
        == [line for place, line in enumerate(there) if place not in rows]
    # Bits of an accuracy differ from machine to machine.
    assert [here[place].split()[:3] for place in rows] == [
        there[place].split()[:3] for place in rows]
    assert all(float(here[place].split()[3]) > 0.95 for place in rows) and len(rows) == 3
    assert (tmp_path / "small.keras").exists()


@pytest.mark.thorough
def test_the_guides_tickets_without_training_are_as_it_says(tmp_path, monkeypatch, capsys):
    begin, *_ = parts = blocks("docs/guide.md")
    program, = (text for text in parts if "prune_at_init" in text)
    monkeypatch.chdir(tmp_path)
    exec(compile(begin.partition("\nmodel = ")[0] + program, "guide", "exec"),
         {"__name__": "document"})
    here, there = ([line.split() for line in text.splitlines() if " kept [" in line]
                   for text in (capsys.readouterr().out, blocks("docs/guide.md", "text")[1]))
    # By rounding, a weight or two may be of another layer.
    assert [line[:2] for line in here] == [line[:2] for line in there] and len(here) == 5
    accuracy = {line[0]: float(line[-1]) for line in here}
    assert accuracy["random"] < min(accuracy[name] for name in ("snip", "grasp", "synflow"))


@pytest.mark.thorough
def test_the_guides_sparse_trainings_are_as_it_says(tmp_path, monkeypatch, capsys):
    begin, *_ = parts = blocks("docs/guide.md")
    program, = (text for text in parts if "lth.Supermask" in text)
    monkeypatch.chdir(tmp_path)
    exec(compile(begin.partition("\nmodel = ")[0] + program, "guide", "exec"),
         {"__name__": "document"})
    here, there = ([line.split() for line in text.splitlines() if " kept 0." in line]
                   for text in (capsys.readouterr().out, blocks("docs/guide.md", "text")[2]))
    assert [line[:2] for line in here] == [line[:2] for line in there] and len(here) == 7
    assert [line[2] for line in here[:-1]] == [line[2] for line in there[:-1]]
    accuracy = {line[0]: float(line[-1]) for line in here}
    assert accuracy["static"] < min(accuracy[name] for name in ("gradual", "set", "rigl"))
    assert min(accuracy.values()) > 0.6


@pytest.mark.long
def test_the_guides_program_runs(tmp_path, monkeypatch, capsys):
    run_as_one_program("docs/guide.md", tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert "level 2, density 0.36, loss " in said and "[1.0, 0.8, 0.64" in said


@pytest.mark.thorough
def test_the_guides_loop_on_jax_runs_and_is_compiled_once():
    pytest.importorskip("jax")
    program, = blocks("docs/guide.md", "py")  # Not "python": it is a program of its own.
    counted = program.replace("def loss_of(", "traces = []\n\n\ndef loss_of(").replace(
        "    outputs, others = ", "    traces.append(search.level)\n    outputs, others = ")
    shows = "assert set(traces) == {0}, traces\nprint([int((weight == 0).sum()) for weight in " \
            "search.network.prunable_weights().values()])\n"
    done = subprocess.run([sys.executable, "-c", counted + shows], capture_output=True, text=True,
                          check=False, env={**os.environ, "KERAS_BACKEND": "jax",
                                            "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "level 2, density 0.36, loss 0." in done.stdout
    assert done.stdout.splitlines()[-1] == "[4096, 640]"


@pytest.mark.long
def test_the_program_on_deploying_runs(tmp_path, monkeypatch, capsys):
    run_as_one_program("docs/deploying.md", tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert "['float32', 'dynamic_int8'] {}" in said and "weights before" in said


@pytest.mark.parametrize("command", commands())
def test_a_command_that_is_shown_is_one_that_the_command_line_takes(command):
    parsed = main._parse(shlex.split(command, comments=True))
    if parsed.command == "run":
        run._config(parsed)


def test_commands_are_found_in_the_documents():
    assert len([*commands()]) > 15


def test_contributings_code_works():
    from lth_keras.controls import control
    from lth_keras.core import criteria
    from lth_keras.core.structures import words
    try:
        exec("\n".join(blocks("CONTRIBUTING.md")), {})
        assert criteria.get("growth")(-2.0, 3.0, None) == pytest.approx(1.5)
        assert words.parse("outputs").units((3, 3, 8, 16)) == 16
    finally:
        criteria.CRITERIA.pop("growth", None)
        control.CONTROLS.pop("halved", None)
        words.KINDS.pop("outputs", None)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_within_the_repository_lead_somewhere(name):
    path = ROOT / name
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text()):
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_the_readme_states_two_commands_for_ci():
    found = re.findall(r"^python -m pip install.*$", (ROOT / "README.md").read_text(),
                       re.MULTILINE)
    assert found == ['python -m pip install ".[experiments]" && lth run digits',
                     'python -m pip install -e ".[test]" && python -m pytest']


@pytest.mark.thorough
def test_the_example_finds_saves_and_trains_a_ticket(tmp_path):
    ticket = tmp_path / "winner.ticket"
    done = subprocess.run([sys.executable, ROOT / "examples" / "cnn_fit.py", "--rounds=1",
                           "--epochs=1", f"--ticket={ticket}"],
                          capture_output=True, text=True, check=True).stdout
    assert "70.11% of the weights left" in done and "trained anew: density" in done
    assert ticket.exists()


@pytest.mark.thorough
def test_the_example_of_filters_exports_a_network_of_fewer_multiply_adds(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "examples" / "mobilenet_filters.py", "--rounds=1",
                           "--macs=0.8", "--epochs=1", "--examples=128", f"--out={tmp_path}"],
                          capture_output=True, text=True, check=True).stdout
    rows = {tuple(line.split()[:2]): [float(cell.replace(",", "")) for cell in line.split()[2:5]]
            for line in done.splitlines() if line.split()[0] in ("dense", "ticket")}
    assert [*rows] == [(name, format_) for name in ("dense", "ticket")
                       for format_ in ("float32", "int8")]
    for format_ in ("float32", "int8"):
        dense, ticket = (rows[name, format_] for name in ("dense", "ticket"))
        assert dense[0] == 4_725_120 and 0.6 < ticket[0] / dense[0] <= 0.8
        assert ticket[1] < dense[1] and ticket[2] < dense[2]
    file = tmp_path / "ticket" / "model_float32.tflite"
    assert file.stat().st_size == rows["ticket", "float32"][2]
