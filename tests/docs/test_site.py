"""The documentation site: every public name is on it, it builds without a warning, alone."""

import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

import lth_keras as lth

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = ["quickstart.md", "migrating/tfmot.md", "migrating/pytorch.md",
            "migrating/lottery_ticket_pruner.md"]
NAMES = [f"lth_keras.{name}" for name in lth.__all__] + [
    f"lth_keras.strong.{name}" for name in lth.strong.__all__]


def described():
    """The names that the API reference describes, each once for every time that it does."""
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    return re.findall(r"^::: (\S+)$", pages, re.MULTILINE)


def test_every_public_name_is_in_the_reference_once():
    assert {name: described().count(name) for name in NAMES} == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize("name", described())
def test_what_the_reference_describes_exists(name):
    module, found = name, None
    while found is None:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            module = module.rpartition(".")[0]
    for part in filter(None, name[len(module) + 1:].split(".")):
        found = getattr(found, part)
    assert found.__doc__


def test_the_reference_lists_on_each_page_what_it_describes_there():
    for path in (ROOT / "docs" / "api").glob("*.md"):
        text = path.read_text()
        assert re.findall(r"^\| \[`lth\.\S+`\]\(#(\S+)\)", text, re.MULTILINE) == re.findall(
            r"^::: (\S+)$", text, re.MULTILINE)
    index = (ROOT / "docs" / "api" / "index.md").read_text()
    assert [name for name in NAMES if not re.search(
        rf"`(?:lth\.)?{name.rpartition('.')[2]}`", index)] == []


@pytest.mark.thorough
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_of_the_pages_run(name, tmp_path):
    text = (ROOT / "docs" / name).read_text()
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    if "[1.0, " in done.stdout:
        densities = done.stdout.partition("[")[2].partition("]")[0].split(", ")
        assert len(densities) == 4 and float(densities[-1]) < 0.6
    else:
        shown, = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for row in shown.splitlines()[1:]:  # Accuracies differ from machine to machine.
            assert row.rpartition(" ")[0] in done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.thorough
def test_the_site_builds_strictly_and_has_every_name_with_its_example(site):
    pages = {path: path.read_text() for path in (site / "api").glob("*.html")}
    for name in NAMES:
        assert any(f'id="{name}"' in text for text in pages.values()), name
    prompts = sum(text.count('class="gp"') for text in pages.values())
    assert prompts > 100  # Examples are code, not quotations.


@pytest.mark.thorough
def test_the_site_loads_nothing_from_elsewhere(site):
    loads = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(?:https?:)?//[^>]*>"""
                       r"""|<link[^>]*rel=["']?(?:stylesheet|preconnect|icon)[^>]*"""
                       r"""href=["']?(?:https?:)?//[^>]*>|@import[^;]*//""")
    pages = [*site.rglob("*.html"), *site.glob("_site/*.css")]
    assert len(pages) > 30
    for page in pages:
        assert not loads.search(page.read_text()), page
    assert (site / "search" / "search_index.js").read_text().startswith("var __index = {")
