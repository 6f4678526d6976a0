"""The notebooks run and come to what they show, and their prose says what their outputs do."""

import json
import os
import pathlib
import re

import pytest
from documents import headings

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?%?")


def cells(path, kind):
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def printed(cell):
    return "".join("".join(output["text"]) for output in cell["outputs"]
                   if output["output_type"] == "stream" and output["name"] == "stdout")


def pictures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell["outputs"])


def source(cell):
    return "".join(cell["source"])


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["shipping", "the_paper", "your_model"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_run_in_order_without_an_error(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    kinds = {(output["output_type"], output.get("name", "stdout"))
             for cell in code for output in cell["outputs"]}
    assert kinds <= {("stream", "stdout"), ("display_data", "stdout")}
    assert not any(str(ROOT) in json.dumps(cell) for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_numbers_of_the_prose_are_those_of_the_outputs(path):
    code = cells(path, "code")
    there = {text.replace(",", "") for cell in code
             for text in NUMBER.findall(printed(cell) + source(cell))}
    # 40% is 0.4 in a program.
    there |= {f"{100 * float(text):g}%" for text in there if re.fullmatch(r"0\.\d+", text)}
    prose = "\n".join(source(cell) for cell in cells(path, "markdown"))
    said = NUMBER.findall(re.sub(r"\[[^\]]*\]\([^)]*\)|`[^`]*`", "", prose))
    assert len(said) >= 4
    assert [text for text in said if text.replace(",", "") not in there] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_links_of_a_notebook_lead_somewhere(path):
    for cell in cells(path, "markdown"):
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", source(cell)):
            file, _, heading = link.partition("#")
            assert (path.parent / file).exists(), link
            assert not heading or heading in headings(path.parent / file), link


@pytest.mark.thorough
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_showed(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path)}}).execute()
    here = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for before, after in zip(cells(path, "code"), here, strict=True):
        assert pictures(before) == pictures(after)
        if "varies" not in before["metadata"].get("tags", []):  # Which verdict, how many rows.
            assert words(printed(before)) == words(printed(after))
    # Bits differ from machine to machine; accuracies are not far from what they were.
    pairs = [(float(a[:-1]), float(b[:-1])) for before, after in zip(
        cells(path, "code"), here, strict=True) for a, b in zip(
        *(re.findall(r"9\d\.\d+%", printed(cell)) for cell in (before, after)), strict=False)]
    assert pairs and all(abs(a - b) < 2 for a, b in pairs)


def words(text):
    return NUMBER.sub("#", text).split()
