import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def blocks(name, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def test_the_readmes_code_runs_as_one_program(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program = "\n".join(blocks("README.md"))
    assert "LotteryTicketCallback" in program and "Ticket.load" in program
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    capsys.readouterr()


def test_contributings_criterion_works():
    from lth_keras.core import criteria
    try:
        exec("\n".join(blocks("CONTRIBUTING.md")), {})
        assert criteria.get("movement")(-2.0, 3.0, None) == 1.0
    finally:
        criteria.CRITERIA.pop("movement", None)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "examples/README.md"])
def test_links_within_the_repository_lead_somewhere(name):
    path = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text())
    assert all((path.parent / link).exists() for link in links)


def test_the_readme_states_two_commands_for_ci():
    commands = re.findall(r"^python -m pip install.*$", (ROOT / "README.md").read_text(),
                          re.MULTILINE)
    assert commands == ["python -m pip install . && lth run digits",
                        'python -m pip install -e ".[test]" && python -m pytest']


def test_the_example_finds_saves_and_trains_a_ticket(tmp_path):
    ticket = tmp_path / "winner.ticket"
    done = subprocess.run([sys.executable, ROOT / "examples" / "cnn_fit.py", "--rounds=2",
                           "--epochs=2", f"--ticket={ticket}"],
                          capture_output=True, text=True, check=True).stdout
    assert "density 49.17%" in done and "the ticket trained anew" in done
    assert ticket.exists()
