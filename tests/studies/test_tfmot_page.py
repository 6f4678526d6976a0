"""The page of tfmot's own tests, run with this package's functions in place of tfmot's."""

import pathlib

import tfmot_tests  # studies/tfmot_tests.py

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_counts_what_passes_and_gives_the_reason_of_what_does_not():
    stock = {"prune: a": "", "prune: testPruneSubclassModel": "", "prune: b": "",
             "prune: c": tfmot_tests.NEVER}
    called = {**stock, "prune: a": "lth_keras.errors.LotteryError: x",
              "prune: testPruneSubclassModel": "E", "prune: b": "E"}
    translated = {**stock, "prune: testPruneSubclassModel": "E", "prune: b": "E"}
    page = tfmot_tests.page({tfmot_tests.STOCK: stock, tfmot_tests.AS_CALLED: called,
                             tfmot_tests.TRANSLATED: translated}, "0.8.1")
    assert "Of 3 tests that call them 3 pass with tfmot's own functions." in page
    assert "0 pass, and 1 end in an error" in page and "the wrappers) 1 pass." in page
    assert "The other 2 differ by design, but for 1 without a reason." in page
    assert "| prune: a | differs | passes |  |" in page
    assert f"| prune: b | differs | differs | {tfmot_tests.UNEXPLAINED} |" in page
    assert "since it is not built |" in page and "prune: c" not in page


def test_the_page_in_the_repository_has_a_reason_for_every_test_that_differs():
    text = (ROOT / "docs" / "tfmot.md").read_text()
    assert tfmot_tests.UNEXPLAINED not in text and "differ by design." in text
    assert text.count("| differs | differs |") + text.count("| passes | differs |") == 24
