import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_keras import files

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8)


@pytest.mark.parametrize(("content", "expected"), [
    (b"\x00\xff\r\n", b"\x00\xff\r\n"), ("a\nb\n", b"a\nb\n"), ("θ_k", "θ_k".encode()), ("", b"")])
def test_what_is_written_is_there_and_nothing_else(tmp_path, content, expected):
    files.write(tmp_path / "a.txt", content)
    assert (tmp_path / "a.txt").read_bytes() == expected
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    files.write(path, "a long first content")
    files.write(str(path), "short")
    assert path.read_text() == "short"


def test_folders_are_made_as_needed(tmp_path):
    files.write(tmp_path / "a" / "b" / "c.txt", "c")
    files.write(tmp_path / "a" / "b" / "d.txt", "d")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["c.txt", "d.txt"]


def test_a_bare_name_is_written_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write("a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_content_and_no_temporary(tmp_path, monkeypatch, broken, error):
    def fail(*arguments):
        raise error

    path = tmp_path / "a.txt"
    files.write(path, "old")
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(error)):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_content_that_cannot_be_written_leaves_the_old_and_no_temporary(tmp_path):
    files.write(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError):
        files.write(tmp_path / "a.txt", 3)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_first_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        files.write(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_an_error_that_leaves_no_temporary(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError):
        files.write(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_new_content_is_whole_and_synced_before_it_takes_the_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.txt", []
    files.write(path, "old")
    sync, replace = os.fsync, os.replace

    def note_sync(handle):
        seen.append("sync")
        sync(handle)

    def note_replace(source, target):
        seen.append((os.path.dirname(source), pathlib.Path(source).read_text(), path.read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    files.write(path, "new")
    assert seen[:2] == ["sync", (str(tmp_path), "new", "old")]
    assert seen[2:] == (["sync"] if os.name == "posix" else [])


def test_writers_of_one_file_do_not_share_a_temporary(tmp_path, monkeypatch):
    sources, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (sources.append(source),
                                                               replace(source, target)))
    for content in "abc":
        files.write(tmp_path / "a.txt", content)
    assert len(set(sources)) == 3


@given(json_values)
def test_canonical_json_reads_back(value):
    assert json.loads(files.canonical_json(value)) == value


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4), st.randoms())
def test_canonical_json_does_not_depend_on_the_order_of_keys(value, random):
    shuffled = random.sample(list(value.items()), len(value))
    assert files.canonical_json(dict(shuffled)) == files.canonical_json(value)


def test_canonical_json_in_figures():
    assert files.canonical_json({"b": [1, 2.5], "a": {"d": None, "c": "é"}}) == \
        '{"a":{"c":"\\u00e9","d":null},"b":[1,2.5]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_canonical_json_refuses_what_json_has_no_number_for(value):
    with pytest.raises(ValueError):
        files.canonical_json(value)
