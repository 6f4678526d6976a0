"""The page of what works with stock tfmot and with this package."""

import json
import pathlib
import shutil

import compatibility  # studies/compatibility.py
from compat import Case

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_says_what_works_and_the_first_line_of_what_does_not(tmp_path):
    cases = {"good": Case("a | b", print, print), "bad": Case("c", print, None),
             "limited": Case("d", print, print, "for a reason"), "waiting": Case("e", print, None),
             "neither": Case("f", print, print)}
    for name, side, said in [("good", "ours", ""), ("good", "stock", "ValueError: no"),
                             ("bad", "ours", "TypeError: x"), ("limited", "ours", ""),
                             ("limited", "stock", "")]:
        (tmp_path / f"models.{name}.{side}.json").write_text(json.dumps(said))
    lines = compatibility.page({"models": cases}, tmp_path).splitlines()
    assert "| a \\| b | ValueError: no | works |" in lines
    assert "| c | - | TypeError: x |" in lines
    assert "| d | works | works; for a reason |" in lines
    assert {"| e | - | not run |", "| f | not run | not run |"} <= set(lines)
    assert ("With lth_keras 3 of 5 cases were run: 1 work, 1 have the limit stated, 1 fail.  "
            "With stock tfmot 2 of 3: 1 work, 1 fail.") in lines
    assert len([line for line in lines if line.startswith("| ")]) == 1 + len(cases)


def test_a_case_that_fails_dies_or_stays_gives_one_line(tmp_path, monkeypatch):
    support = tmp_path / "tests" / "support"
    support.mkdir(parents=True)
    (support / "compat_models.py").write_text(
        "import os, time\nfrom compat import Case\n"
        "def fails():\n    raise ValueError('at 0x7f of /a/b/c.py\\nmore')\n"
        "CASES = {'one': Case('One', lambda: print('noise'), fails),\n"
        "         'dies': Case('Dies', lambda: os._exit(3), None),\n"
        "         'stays': Case('Stays', lambda: time.sleep(60), None)}\n")
    script = tmp_path / "studies" / "compatibility.py"
    script.parent.mkdir()
    shutil.copy(ROOT / "studies" / "compatibility.py", script)
    shutil.copy(ROOT / "tests" / "support" / "compat.py", support)
    monkeypatch.setattr(compatibility, "__file__", str(script))
    worker = compatibility.Worker(limit=60)
    assert worker.run("models", "one", "ours") == ""
    assert worker.run("models", "one", "stock") == "ValueError: at 0x of c.py"
    assert "ended with" in worker.run("models", "dies", "ours")
    assert worker.run("models", "one", "ours") == ""
    worker._limit = 1
    assert worker.run("models", "stays", "ours") == "not done in 1 s"


def test_the_page_in_the_repository_has_no_case_of_ours_that_fails():
    limits = {case.limit for cases in compatibility.load().values() for case in cases.values()}
    text = (ROOT / "docs" / "compatibility.md").read_text()
    rows = [line.removesuffix(" |").split(" | ") for line in text.splitlines()
            if line.startswith("| ") and not line.startswith("| model or feature")]
    cells = [row[-1].replace("\\|", "|") for row in rows]
    assert cells.count("works") > len(cells) / 2
    assert not [cell for cell in cells if cell not in {"works", "not run", *limits - {""}}
                and not cell.startswith("works; ")]
