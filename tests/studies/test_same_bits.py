"""The comparison of two workdirs to the bit finds what differs, and nothing else."""

import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import same_bits  # studies/same_bits.py
import workdirs
from safetensors.numpy import load_file, save_file

from lth_keras.experiments.config import presets

CONFIG = presets.get("digits").replace(rounds=1, replicates=1, branches=("ticket", "reinit"))
TRAINED = "replicate_0/level_01/ticket_0/trained.safetensors"
CURVE = "replicate_0/level_01/reinit_0/curve.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("run") / "before"
    workdirs.fill(root, CONFIG)
    return root


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "after")


def compared(made, copy):
    return list(same_bits.differences(made, copy))


def test_a_copy_is_the_same(made, copy, monkeypatch, capsys):
    assert compared(made, copy) == []
    monkeypatch.setattr(sys, "argv", ["same_bits.py", str(made), str(copy)])
    same_bits.main()
    assert capsys.readouterr().out == ("the same bits: 5 files with 10 arrays, 3 rows of results, "
                                       "3 learning curves\n")


def test_seconds_pages_and_a_newer_head_may_differ(made, copy):
    table = pd.read_csv(copy / "results.csv")
    table.assign(seconds=9.0).to_csv(copy / "results.csv", index=False)
    (copy / "plots").mkdir()
    (copy / "plots" / "report.html").touch()
    save_file(load_file(copy / TRAINED), copy / TRAINED, {"other": "versions"})
    assert compared(made, copy) == []


@pytest.mark.parametrize("change", [
    lambda array: array * np.float32(1 + 2**-23), lambda array: array.astype(np.float64),
    lambda array: array.reshape(1, -1), lambda array: -array * 0])
def test_one_bit_of_an_array(made, copy, change):
    arrays = load_file(copy / TRAINED)
    arrays["weights/w"] = np.ascontiguousarray(change(arrays["weights/w"]))
    save_file(arrays, copy / TRAINED)
    assert compared(made, copy) == [f"{TRAINED}: weights/w differs"]


def test_zero_of_another_sign_and_equal_nan(tmp_path):
    for name, zero in (("one", 0.0), ("same", 0.0), ("other", -0.0)):
        (tmp_path / name).mkdir()
        save_file({"w": np.array([zero, np.nan])}, tmp_path / name / "a.safetensors", {"by": name})
    assert compared(tmp_path / "one", tmp_path / "same") == []
    assert compared(tmp_path / "one", tmp_path / "other") == ["a.safetensors: w differs"]


def test_an_array_or_a_file_that_one_lacks(made, copy):
    arrays = load_file(copy / TRAINED)
    del arrays["masks/w"]
    save_file(arrays, copy / TRAINED)
    (copy / CURVE).unlink()
    assert compared(made, copy) == [f"{CURVE}: only in {made}",
                                    f"{TRAINED}: has the arrays masks/w in one alone"]
    (copy / TRAINED).write_bytes(b"damaged")
    assert f"{TRAINED}: cannot be read" in "\n".join(compared(made, copy))


def test_the_last_digit_of_a_result_and_of_a_curve(made, copy):
    for name, old, new in (("results.csv", "0.30000000000000004", "0.3"),
                           (CURVE, "0.625", "0.626")):
        text = (copy / name).read_text()
        assert old in text
        (copy / name).write_text(text.replace(old, new, 1))
    first, second = compared(made, copy)
    assert first.startswith(f"{CURVE}: val_loss differs in 1 of 2 rows, first in row 1: 0.625 and")
    assert second == ("results.csv: val_loss_min differs in 1 of 3 rows, first in row 1: "
                      "0.30000000000000004 and 0.3")


def test_rows_and_columns_that_one_lacks(made, copy):
    table = pd.read_csv(copy / "results.csv")
    table.iloc[:2].to_csv(copy / "results.csv", index=False)
    assert compared(made, copy) == ["results.csv: 3 rows and 2"]
    table.drop(columns="val_loss_min").to_csv(copy / "results.csv", index=False)
    assert compared(made, copy) == ["results.csv: columns val_loss_min differ"]


def test_a_difference_is_printed_and_ends_with_an_error(made, copy, monkeypatch):
    (copy / CURVE).unlink()
    monkeypatch.setattr(sys, "argv", ["same_bits.py", str(made), str(copy)])
    with pytest.raises(SystemExit, match="curve.csv: only in"):
        same_bits.main()


def test_a_folder_without_tickets_is_no_workdir(made, tmp_path):
    assert compared(tmp_path, tmp_path) == [f"{tmp_path}: no workdir, for it has no ticket"]
