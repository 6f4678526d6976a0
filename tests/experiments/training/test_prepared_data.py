"""Data sets in one file, which is read as untrusted."""

import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lth_keras.errors import LotteryError
from lth_keras.experiments.training import datasets, prepared_data


def arrays(**changes):
    rng = np.random.default_rng(0)
    whole = {"x_train": rng.integers(0, 256, (6, 4, 4, 1)).astype(np.uint8),
             "y_train": np.array([0, 1, 2, 0, 1, 2], np.int32),
             "x_test": rng.integers(0, 256, (3, 4, 4, 1)).astype(np.uint8),
             "y_test": np.array([0, 1, 2], np.int32)}
    return {**whole, **changes}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "mnist.npz"
    prepared_data.write(file, "mnist", arrays())
    return file


@pytest.mark.parametrize("named", [True, False])
def test_a_file_or_the_folder_that_has_it_takes_the_place_of_tensorflow_datasets(path, named):
    found = datasets.load("mnist", str(path if named else path.parent))
    for name, value in arrays().items():
        assert_array_equal(getattr(found, name), value)
        assert getattr(found, name).dtype == value.dtype
    assert found.classes == 3


def test_a_folder_without_it_is_that_of_tensorflow_datasets(tmp_path):
    with pytest.raises(LotteryError, match="tfds build mnist|tensorflow-datasets is not installed"):
        datasets.load("mnist", str(tmp_path))


def test_without_tensorflow_datasets_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.importlib, "import_module", _missing)
    with pytest.raises(LotteryError, match="lth data prepare cifar10 --out cifar10.npz"):
        datasets.load("cifar10", str(tmp_path))


def _missing(name):
    raise ImportError(name)


def test_another_data_set_is_refused(path):
    with pytest.raises(LotteryError, match="the data set of the run, cifar10. Received: .*'mnist'"):
        prepared_data.read(path, "cifar10")


@pytest.mark.parametrize(("changes", "message"), [
    ({"x_train": np.zeros((6, 4), np.float64)}, "float64"),
    ({"y_train": np.zeros(5, np.int32)}, r"y_train int32\(5,\)"),
    ({"y_test": np.array([0, -1, 2], np.int32)}, "int32 and >= 0"),
    ({"y_test": np.zeros(3, np.int64)}, "int64"),
    ({"x_test": np.zeros((3, 5, 4, 1), np.uint8)}, "examples of one shape"),
    ({"x_test": np.zeros((0, 4, 4, 1), np.uint8), "y_test": np.zeros(0, np.int32)}, "of one shape"),
    ({"x_train": np.full((6, 4), np.nan, np.float32),
      "x_test": np.zeros((3, 4), np.float32)}, "finite numbers")])
def test_arrays_that_are_no_data_set_are_refused_written_and_read(tmp_path, changes, message):
    with pytest.raises(LotteryError, match=message):
        prepared_data.write(tmp_path / "wrong.npz", "mnist", arrays(**changes))
    np.savez(tmp_path / "wrong.npz", name=np.array("mnist"), **arrays(**changes))
    with pytest.raises(LotteryError, match=message):
        prepared_data.read(tmp_path / "wrong.npz", "mnist")


def test_pickled_objects_are_never_loaded(tmp_path):
    class Run:
        def __reduce__(self):
            return (_touch, (str(tmp_path / "ran"),))
    objects = np.empty(6, object)
    objects[:] = [Run()] * 6
    np.savez(tmp_path / "bad.npz", name=np.array("mnist"), **arrays(x_train=objects))
    with pytest.raises(LotteryError, match="must hold the arrays"):
        prepared_data.read(tmp_path / "bad.npz", "mnist")
    assert not (tmp_path / "ran").exists()


def _touch(path):
    open(path, "w").close()


@pytest.mark.parametrize("at", [0, 10, 200, -30, -1])
def test_damage_is_found(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    try:
        found = prepared_data.read(path, "mnist")
    except LotteryError:
        return
    for name, value in arrays().items():  # What no reader looks at, such as a date, may differ.
        assert_array_equal(found[name], value)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "no.npz").write_bytes(content)
    with pytest.raises(LotteryError, match="lth data prepare mnist --out FILE.npz"):
        prepared_data.read(tmp_path / "no.npz", "mnist")
    with pytest.raises(LotteryError, match="must be readable"):
        prepared_data.read(tmp_path / "nowhere.npz", "mnist")


def test_a_file_that_says_it_is_huge_is_refused_unread(path, monkeypatch):
    class Huge(zipfile.ZipFile):
        def infolist(self):
            found = super().infolist()
            found[0].file_size = 2**40
            return found
    monkeypatch.setattr(prepared_data.zipfile, "ZipFile", Huge)
    with pytest.raises(LotteryError, match="at most 16 GiB. Received: .* of 1,024 GiB"):
        prepared_data.read(path, "mnist")
