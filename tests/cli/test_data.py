"""`lth data`."""

import pytest

from lth_keras.cli import main
from lth_keras.experiments.training import datasets


def lth(*arguments):
    return main._main(main._parse(["lth", "data", *map(str, arguments)]))


def test_a_data_set_is_written_to_a_file_that_a_run_reads(tmp_path, capsys, monkeypatch):
    assert lth("prepare", "digits", "--out", tmp_path / "d" / "digits.npz") == 0
    assert "digits: 1,437 training and 360 test examples in" in capsys.readouterr().out
    found, own = (datasets.prepared_data.read(tmp_path / "d" / "digits.npz", "digits"),
                  datasets.load("digits"))
    assert all((found[name] == getattr(own, name)).all() for name in found)


@pytest.mark.parametrize(("arguments", "message"), [
    ((), "TASK must be one of prepare. Received: None"),
    (("make",), "TASK must be one of prepare. Received: 'make'"),
    (("prepare",), "DATASET must be one of digits, mnist, cifar10"),
    (("prepare", "digit", "--out", "a.npz"), "Received: 'digit'. Did you mean digits?"),
    (("prepare", "digits"), "--out must be the file to write, FILE.npz. Received: none."),
    (("prepare", "digits", "--out", "d.csv"), "must be a file NAME.npz. Received: d.csv")])
def test_wrong_arguments_are_refused(arguments, message, capsys):
    assert lth(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_missing_data_set_is_downloaded_where_that_is_asked_for(tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "download", lambda *arguments: asked.append(arguments[:2]))
    monkeypatch.setattr(datasets, "load", lambda *_: datasets.digits())
    assert lth("prepare", "mnist", "--download", "--out", tmp_path / "mnist.npz") == 0
    assert asked == [("mnist", None)]
