import hashlib
import json

import numpy as np
import pytest

from lth_keras.files import checksums

ARRAYS = {"b": np.arange(3, dtype=np.int32), "a": np.ones((2, 2), np.float32)}


def test_a_head_alone_and_one_with_arrays_are_signed_by_one_rule():
    text = b'{"x":1}'
    assert checksums.signed({"x": 1})["sha256"] == hashlib.sha256(text).hexdigest()
    for name, shape in (("a", "(2, 2)"), ("b", "(3,)")):
        text += f"\n{name} {ARRAYS[name].dtype.str} {shape}\n".encode() + ARRAYS[name].tobytes()
    assert checksums.signed({"x": 1}, ARRAYS)["sha256"] == hashlib.sha256(text).hexdigest()
    assert json.loads(checksums.seal({"x": 1})) == checksums.signed({"x": 1})


@pytest.mark.parametrize("head", [{}, {"sha256": None}, {"x": 1}, {"x": 1, "sha256": "0" * 64}])
def test_what_is_not_signed_is_refused(head):
    with pytest.raises(ValueError, match="SHA-256 does not match"):
        checksums.verified(head)


@pytest.mark.parametrize("change", [{"a": ARRAYS["a"] + 1}, {"c": ARRAYS["a"]},
                                    {"a": ARRAYS["a"].reshape(4)}, {"a": ARRAYS["a"].view("i4")}])
def test_other_arrays_than_those_that_were_signed_are_refused(change):
    head = checksums.signed({"x": 1}, ARRAYS)
    assert checksums.verified(head, ARRAYS) == {"x": 1}
    with pytest.raises(ValueError, match="SHA-256 does not match"):
        checksums.verified(head, {**ARRAYS, **change})


@pytest.mark.parametrize(("value", "fits"), [
    (checksums.mark(b"abc"), True), (checksums.mark(b""), True), (None, False), (3, False),
    ("", False), ("-1 bytes, sha256 " + "0" * 64, False), ("01 bytes, sha256 " + "0" * 64, False),
    ("1 bytes, sha256 " + "0" * 63, False), ("1 bytes, sha256 " + "0" * 64 + "\n", False)])
def test_only_marks_are_taken_as_marks(value, fits):
    assert checksums.is_mark(value) is fits


def test_a_file_is_read_by_its_mark_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert checksums.read_marked(tmp_path / "a", checksums.mark(b"abc")) == b"abc"
    with pytest.raises(ValueError, match="SHA-256 does not match"):
        checksums.read_marked(tmp_path / "a", checksums.mark(b"abd"))
    with pytest.raises(OSError, match="larger than 2 bytes"):
        checksums.read_marked(tmp_path / "a", checksums.mark(b"ab"))


def test_a_file_is_read_by_its_sha256_alone_up_to_the_bytes_that_it_may_have(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert checksums.read_marked(tmp_path / "a", digest, most=3) == b"abc"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        checksums.read_marked(tmp_path / "a", digest, most=2)
    for other in ("", digest[1:], "0" * 64, "bytes", checksums.mark(b"abd")):
        with pytest.raises(ValueError, match="SHA-256 does not match"):
            checksums.read_marked(tmp_path / "a", other, most=3)
