"""What PyPI would get: a description without dead links, and files that contain what they need."""

import email
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

import lth_keras as lth

ROOT = pathlib.Path(__file__).parents[2]
yaml = pytest.importorskip("yaml")


@pytest.fixture
def setup():
    spec = importlib.util.spec_from_file_location("lth_keras_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_programs(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def programs(text):
    return re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)


def test_the_description_has_no_link_that_pypi_cannot_follow(setup):
    readme, text = (ROOT / "README.md").read_text(), setup.description()
    assert "](docs/" in readme
    assert all(link.startswith("http") for link in re.findall(r"\]\(([^)]*)\)",
                                                              without_programs(text)))
    assert "![" not in text and "guide](" not in text and "guide" in text
    assert programs(text) == programs(readme)


def test_with_an_address_links_and_pictures_go_there(setup, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text(
        "![Curve](docs/a.png)\n[guide](docs/guide.md#when), [paper](https://arxiv.org)\n"
        "```\n[x](y)\n```\n")
    (tmp_path / "setup.cfg").write_text("[metadata]\nurl = https://example.org/lth/\n")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    assert setup.description() == (
        "![Curve](https://example.org/lth/raw/HEAD/docs/a.png)\n"
        "[guide](https://example.org/lth/blob/HEAD/docs/guide.md#when), "
        "[paper](https://arxiv.org)\n```\n[x](y)\n```\n")


def test_the_citation_is_of_this_version_and_the_paper_of_the_readme():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0" and cited["message"] and cited["authors"]
    assert cited["version"] == lth.__version__ and cited["license"] == "Apache-2.0"
    paper = cited["preferred-citation"]
    readme = (ROOT / "README.md").read_text()
    assert paper["title"] in readme and paper["url"] in readme and str(paper["year"]) in readme


def test_the_hooks_download_nothing():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    assert {hook["language"] for hook in repos[0]["hooks"]} == {"system"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The source distribution, unpacked; it is built without what lies about here."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("distribution")
    build("--sdist", ROOT, out)
    packed, = out.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(out, filter="data")
    return out / packed.name.removesuffix(".tar.gz")


def build(kind, folder, out):
    done = subprocess.run([sys.executable, "-m", "build", kind, "--no-isolation", "--outdir",
                           str(out), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.thorough
def test_a_source_distribution_passes_tests_that_it_contains(source):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/core/test_masks.py", "tests/test_rooms.py",
         "tests/test_documents.py"], cwd=source, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(source)})
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50
    for path in ("docs/lenet_300_100.png", "studies/judging.py", "mkdocs.yml", "CITATION.cff"):
        assert (source / path).exists()


@pytest.mark.thorough
def test_a_wheel_has_the_package_and_its_files_alone(source, tmp_path):
    build("--wheel", source, tmp_path)
    wheel, = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about, = (name for name in names if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(about))
    assert {"lth_keras/py.typed", "lth_keras/reports/html_page.html"} <= {*names}
    assert {name.partition("/")[0] for name in names} == {
        "lth_keras", f"lth_keras-{lth.__version__}.dist-info"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "lth_keras").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}
    assert {"experiments", "deploy"} <= {*metadata.get_all("Provides-Extra")}
    assert metadata["Description-Content-Type"] == "text/markdown"
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert not any(re.match("matplotlib|scikit-learn|ai-edge", line) for line in needed)
