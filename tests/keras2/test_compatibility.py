"""Models of every kind are searched, stripped, saved and loaded; the page that says so."""

import importlib.util
import json
import pathlib

import compat_models
import pytest
from compat import Case

ROOT = pathlib.Path(__file__).parents[2]
FAST = ["many", "sparse", "bfloat16", "applications.MobileNet", "applications.MobileNetV2"]


def page_module():
    spec = importlib.util.spec_from_file_location("compatibility", ROOT / "docs/compatibility.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FAST)
def test_it_is_searched_stripped_saved_and_loaded(name):
    compat_models.CASES[name].ours()


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in compat_models.CASES if name not in FAST])
def test_every_model_of_the_catalogue_works_or_has_the_limit_that_is_stated(name):
    compat_models.CASES[name].ours()


def test_the_catalogue_has_every_network_of_keras_applications():
    found = [name for name in compat_models.CASES if name.startswith("applications.")]
    assert len(found) >= 70
    assert {"applications.ConvNeXtTiny", "applications.NASNetLarge"} <= set(found)


def test_a_limit_that_a_dense_model_does_not_have_is_found_out():
    model = compat_models.MODELS["sequential"]
    false = compat_models.Model(model.title, model.build, no_xla="a reason that is not so")
    with pytest.raises(AssertionError, match="does not have"):
        false.case.ours()


def test_the_page_says_what_works_and_the_first_line_of_what_does_not(tmp_path):
    module = page_module()
    cases = {"good": Case("a | b", print, print), "bad": Case("c", print, None),
             "limited": Case("d", print, print, "for a reason"), "waiting": Case("e", print, None),
             "neither": Case("f", print, print)}
    for name, side, said in [("good", "ours", ""), ("good", "stock", "ValueError: no"),
                             ("bad", "ours", "TypeError: x"), ("limited", "ours", ""),
                             ("limited", "stock", "")]:
        (tmp_path / f"models.{name}.{side}.json").write_text(json.dumps(said))
    lines = module.page({"models": cases}, tmp_path).splitlines()
    assert "| a \\| b | ValueError: no | works |" in lines
    assert "| c | - | TypeError: x |" in lines
    assert "| d | works | works; for a reason |" in lines
    assert {"| e | - | not run |", "| f | not run | not run |"} <= set(lines)
    assert ("With lth_keras 3 of 5 cases were run: 1 work, 1 have the limit stated, 1 fail.  "
            "With stock tfmot 2 of 3: 1 work, 1 fail.") in lines
    assert len([line for line in lines if line.startswith("| ")]) == 1 + len(cases)


def test_a_case_that_fails_dies_or_stays_gives_one_line(tmp_path, monkeypatch):
    module = page_module()
    (tmp_path / "compat_models.py").write_text(
        "import os, time\nfrom compat import Case\n"
        "def fails():\n    raise ValueError('at 0x7f of /a/b/c.py\\nmore')\n"
        "CASES = {'one': Case('One', lambda: print('noise'), fails),\n"
        "         'dies': Case('Dies', lambda: os._exit(3), None),\n"
        "         'stays': Case('Stays', lambda: time.sleep(60), None)}\n")
    program = (ROOT / "docs/compatibility.py").read_text()
    script = tmp_path / "docs" / "compatibility.py"
    script.parent.mkdir()
    script.write_text(program)
    (tmp_path / "tests").mkdir()
    (tmp_path / "compat_models.py").rename(tmp_path / "tests" / "compat_models.py")
    (tmp_path / "tests" / "compat.py").write_text((ROOT / "tests" / "compat.py").read_text())
    monkeypatch.setattr(module, "__file__", str(script))
    worker = module.Worker(limit=60)
    assert worker.run("models", "one", "ours") == ""
    assert worker.run("models", "one", "stock") == "ValueError: at 0x of c.py"
    assert "ended with" in worker.run("models", "dies", "ours")
    assert worker.run("models", "one", "ours") == ""
    worker._limit = 1
    assert worker.run("models", "stays", "ours") == "not done in 1 s"


def test_the_page_in_the_repository_has_no_case_of_ours_that_fails():
    limits = {case.limit for cases in page_module().load().values() for case in cases.values()}
    text = (ROOT / "docs" / "compatibility.md").read_text()
    rows = [line.removesuffix(" |").split(" | ") for line in text.splitlines()
            if line.startswith("| ") and not line.startswith("| model or feature")]
    cells = [row[-1].replace("\\|", "|") for row in rows]
    assert cells.count("works") > len(cells) / 2
    assert not [cell for cell in cells if cell not in {"works", "not run", *limits - {""}}
                and not cell.startswith("works; ")]
