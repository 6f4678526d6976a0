import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_keras.files import atomic, checksums

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8)


@pytest.mark.parametrize(("content", "expected"), [
    (b"\x00\xff\r\n", b"\x00\xff\r\n"), ("a\nb\n", b"a\nb\n"), ("θ_k", "θ_k".encode()), ("", b"")])
def test_what_is_written_is_there_and_nothing_else(tmp_path, content, expected):
    atomic.write(tmp_path / "a.txt", content)
    assert (tmp_path / "a.txt").read_bytes() == expected
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write(path, "a long first content")
    atomic.write(str(path), "short")
    assert path.read_text() == "short"


def test_folders_are_made_as_needed(tmp_path):
    atomic.write(tmp_path / "a" / "b" / "c.txt", "c")
    atomic.write(tmp_path / "a" / "b" / "d.txt", "d")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["c.txt", "d.txt"]


def test_a_bare_name_is_written_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atomic.write("a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_content_and_no_temporary(tmp_path, monkeypatch, broken, error):
    def fail(*arguments):
        raise error

    path = tmp_path / "a.txt"
    atomic.write(path, "old")
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(error)):
        atomic.write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_content_that_cannot_be_written_leaves_the_old_and_no_temporary(tmp_path):
    atomic.write(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError):
        atomic.write(tmp_path / "a.txt", 3)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_first_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        atomic.write(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_an_error_that_leaves_no_temporary(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError):
        atomic.write(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_new_content_is_whole_and_synced_before_it_takes_the_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.txt", []
    atomic.write(path, "old")
    sync, replace = os.fsync, os.replace

    def note_sync(handle):
        seen.append("sync")
        sync(handle)

    def note_replace(source, target):
        seen.append((os.path.dirname(source), pathlib.Path(source).read_text(), path.read_text()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    atomic.write(path, "new")
    assert seen[:2] == ["sync", (str(tmp_path), "new", "old")]
    assert seen[2:] == (["sync"] if os.name == "posix" else [])


def test_writers_of_one_file_do_not_share_a_temporary(tmp_path, monkeypatch):
    sources, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (sources.append(source),
                                                               replace(source, target)))
    for content in "abc":
        atomic.write(tmp_path / "a.txt", content)
    assert len(set(sources)) == 3


def fails(path, most=100, within=None):
    """What is wrong with a file that is read."""
    with pytest.raises(OSError) as caught:
        atomic.read(path, most, within)
    return atomic.damage(caught.value)


def test_a_file_is_read_up_to_the_bytes_that_it_may_have(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert atomic.read(tmp_path / "a", 5) == b"12345"
    assert fails(tmp_path / "a", 4) == "is larger than 4 bytes"
    os.truncate(tmp_path / "a", 2**40)  # Which takes no room, and is not read.
    assert fails(tmp_path / "a") == "is larger than 100 bytes"


def test_what_is_no_file_is_not_read_nor_waited_for(tmp_path):
    assert fails(tmp_path / "none") == "is missing"
    assert fails(tmp_path) == "is not a file"
    os.mkfifo(tmp_path / "pipe")
    assert fails(tmp_path / "pipe") == "is not a file"


def test_a_link_is_not_followed_below_the_folder_that_a_file_lies_in(tmp_path):
    (tmp_path / "there" / "folder").mkdir(parents=True)
    (tmp_path / "there" / "folder" / "a").write_bytes(b"a")
    root = tmp_path / "root"
    root.symlink_to(tmp_path / "there")
    assert atomic.read(root / "folder" / "a", 1, within=root) == b"a"
    (root / "link").symlink_to("folder")
    (root / "b").symlink_to("folder/a")
    assert atomic.read(root / "link" / "a", 1) == b"a"
    for path in (root / "link" / "a", root / "b"):
        assert fails(path, within=root).startswith("is a link")
    assert fails(root / "b").startswith("is a link")


def test_an_error_that_may_pass_is_no_damage():
    assert atomic.damage(PermissionError(13, "Permission denied")) is None
    assert atomic.damage(OSError("of no number")) is None


def test_only_unfinished_files_of_ours_are_taken_away(tmp_path):
    kept = [".a.txt.1.0a1b2c3", ".b.txt.1.0a1b2c3d", "a.txt", "c/.a.txt.1.0a1b2c3d"]
    gone = [".a.txt.1.0a1b2c3d", "b/.a.txt.22.00000000"]
    for name in kept + gone:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    atomic.remove_unfinished(tmp_path, tmp_path.rglob("*"), r"(b/)?a\.txt")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")
                  if path.is_file()) == sorted(kept)


@given(json_values)
def test_canonical_json_reads_back(value):
    assert json.loads(checksums.canonical_json(value)) == value


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4), st.randoms())
def test_canonical_json_does_not_depend_on_the_order_of_keys(value, random):
    shuffled = random.sample(list(value.items()), len(value))
    assert checksums.canonical_json(dict(shuffled)) == checksums.canonical_json(value)


def test_canonical_json_in_figures():
    assert checksums.canonical_json({"b": [1, 2.5], "a": {"d": None, "c": "é"}}) == \
        '{"a":{"c":"\\u00e9","d":null},"b":[1,2.5]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_canonical_json_refuses_what_json_has_no_number_for(value):
    with pytest.raises(ValueError):
        checksums.canonical_json(value)
