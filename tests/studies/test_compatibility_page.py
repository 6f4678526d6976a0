"""The page of what works with stock tfmot and with this package."""

import argparse
import pathlib
import shutil

import compatibility  # studies/compatibility.py
from compat import BackendCase, Case

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_says_what_works_and_the_first_line_of_what_does_not(tmp_path):
    cases = {"good": Case("a | b", print, print), "bad": Case("c", print, None),
             "limited": Case("d", print, print, "for a reason"), "waiting": Case("e", print, None),
             "neither": Case("f", print, print)}
    results = compatibility.Results(tmp_path / "kept.json")
    for name, side, said in [("good", "ours", ""), ("good", "stock", "ValueError: no"),
                             ("bad", "ours", "TypeError: x"), ("limited", "ours", ""),
                             ("limited", "stock", "")]:
        results.keep("models", name, side, said)
    # They are read back from the file.
    again = compatibility.Results(tmp_path / "kept.json")
    lines = compatibility.page({"models": cases}, again).splitlines()
    assert any(line.startswith("Run 20") and "tf_keras" in line for line in lines)
    assert "| a \\| b | ValueError: no | works |" in lines
    assert "| c | - | TypeError: x |" in lines
    assert "| d | works | works; for a reason |" in lines
    assert {"| e | - | not run |", "| f | not run | not run |"} <= set(lines)
    assert ("With lth_keras 3 of 5 cases were run: 1 work, 1 have the limit stated, 1 fail.  "
            "With stock tfmot 2 of 3: 1 work, 1 fail.") in lines
    assert len([line for line in lines if line.startswith("| ")]) == 1 + len(cases)


def test_keras_3_models_have_a_column_for_each_backend(tmp_path):
    cases = {"good": BackendCase("a", print), "waiting": BackendCase("c", print),
             "limited": BackendCase("b", print, {"jax": "refused: why"})}
    results = compatibility.Results(tmp_path / "kept.json")
    for name, side, said in [("good", "tensorflow", ""), ("good", "torch", "TypeError: x"),
                             ("limited", "jax", "")]:
        results.keep("keras3", name, side, said)
    lines = compatibility.page({"keras3": cases}, results).splitlines()
    assert "| model or feature | tensorflow | jax | torch |" in lines
    assert "| a | works | not run | TypeError: x |" in lines
    assert "| b | not run | refused: why | not run |" in lines
    assert not [line for line in lines if line.startswith("| c ")]
    assert any("On jax 1 of 3 cases were run: 0 work, 1 have the limit stated, 0 fail." in line
               for line in lines)


def test_a_process_has_the_backend_of_its_case(tmp_path, monkeypatch):
    script = copied(tmp_path, "keras3", (
        "import os\nfrom compat import BackendCase\n"
        "def tell():\n    raise ValueError(os.environ['KERAS_BACKEND'])\n"
        "CASES = {'one': BackendCase('One', tell)}\n"))
    monkeypatch.setattr(compatibility, "__file__", str(script))
    worker = compatibility.Worker(limit=60)
    assert [worker.run("keras3", "one", side) for side in ("jax", "torch")] \
        == ["ValueError: jax", "ValueError: torch"]


def copied(folder, part, text):
    """A copy of the script, beside a catalogue of its own."""
    support = folder / "tests" / "support"
    support.mkdir(parents=True)
    (support / f"compat_{part}.py").write_text(text)
    script = folder / "studies" / "compatibility.py"
    script.parent.mkdir()
    shutil.copy(ROOT / "studies" / "compatibility.py", script)
    shutil.copy(ROOT / "tests" / "support" / "compat.py", support)
    return script


def test_a_case_that_fails_dies_or_stays_gives_one_line(tmp_path, monkeypatch):
    script = copied(tmp_path, "models", (
        "import os, time\nfrom compat import Case\n"
        "def fails():\n    raise ValueError('at 0x7f of /a/b/c.py\\nmore')\n"
        "CASES = {'one': Case('One', lambda: print('noise'), fails),\n"
        "         'dies': Case('Dies', lambda: os._exit(3), None),\n"
        "         'stays': Case('Stays', lambda: time.sleep(60), None)}\n"))
    monkeypatch.setattr(compatibility, "__file__", str(script))
    worker = compatibility.Worker(limit=60)
    assert worker.run("models", "one", "ours") == ""
    assert worker.run("models", "one", "stock") == "ValueError: at 0x of c.py"
    assert "ended with" in worker.run("models", "dies", "ours")
    assert worker.run("models", "one", "ours") == ""
    worker._limit = 1
    assert worker.run("models", "stays", "ours") == "not done in 1 s"


def test_the_page_in_the_repository_has_no_case_of_ours_that_fails():
    limits = {limit for cases in compatibility.load().values() for case in cases.values()
              for limit in (getattr(case, "limit", ""), *getattr(case, "limits", {}).values())}
    text = (ROOT / "docs" / "compatibility.md").read_text()
    rows = [line.removesuffix(" |").split(" | ") for line in text.splitlines()
            if line.startswith("| ") and not line.startswith("| model or feature")]
    # Of two columns of results the first is of stock tfmot.
    cells = [cell.replace("\\|", "|") for row in rows
             for cell in (row[1:] if len(row) == 4 else row[-1:])]
    assert cells.count("works") > len(cells) / 2
    assert not [cell for cell in cells if cell not in {"works", "not run", *limits - {""}}
                and not cell.startswith("works; ")]


def test_what_was_run_before_is_run_again_only_if_asked(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(compatibility.Worker, "run", lambda self, *what: ran.append(what) or "")
    monkeypatch.setattr(compatibility.Worker, "__init__", lambda self, limit: None)
    cases = {"one": Case("a", print, print), "other": Case("b", print, None)}
    options = argparse.Namespace(sides=["ours", "stock"], again=None, only="", jobs=1, limit=1)
    results = compatibility.Results(tmp_path / "kept.json")
    results.keep("models", "one", "ours", "TypeError: x")
    compatibility.run({"models": cases}, options, results)
    assert sorted(ran) == [("models", "one", "stock"), ("models", "other", "ours")]
    options.again = "one"
    compatibility.run({"models": cases}, options, results)
    assert sorted(ran[2:]) == [("models", "one", "ours"), ("models", "one", "stock")]
    assert results.of("models", "one", "ours")["said"] == ""
