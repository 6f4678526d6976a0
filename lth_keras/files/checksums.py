"""SHA-256 checksums, by which altered and damaged files are recognised, in one way everywhere.

A file that stands alone (a ticket, a search's state, a run's config.json) has a head, a JSON
object.  The head's "sha256" is the checksum of the rest of the head, as canonical JSON, and of the
arrays that follow it, if any.  A file that belongs to another one (a table, a ticket of a run or of
a search) is listed there with its mark, such as "3 bytes, sha256 ba7816...".
"""

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from lth_keras.core.masks import Arrays
from lth_keras.files import atomic

_NOT_WRITTEN = "is not what was written: its SHA-256 does not match"


def canonical_json(value: Any) -> str:
    """Returns JSON with sorted keys and no spaces, so that equal values give equal text.

    Example:
      >>> canonical_json({"b": 1, "a": [0.5]})
      '{"a":[0.5],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def signed(head: Mapping[str, Any], arrays: "Arrays | None" = None) -> dict[str, Any]:
    """Returns a head with "sha256": the checksum of the head and of the arrays that follow it.

    Example:
      >>> verified(signed({"steps": 3}))
      {'steps': 3}
    """
    digest = hashlib.sha256(canonical_json(head).encode())
    # Names, types and shapes too: the same bytes as another array would otherwise pass.
    for key, value in sorted((arrays or {}).items()):
        digest.update(f"\n{key} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return {**head, "sha256": digest.hexdigest()}


def verified(head: Mapping[str, Any], arrays: "Arrays | None" = None) -> dict[str, Any]:
    """Checks the "sha256" of a head, and returns the head without it.

    Raises:
      ValueError: if it is not the checksum of the rest of the head and of the arrays.

    Example:
      >>> verified({**signed({"steps": 3}), "steps": 4})
      Traceback (most recent call last):
        ...
      ValueError: is not what was written: its SHA-256 does not match
    """
    rest = {name: value for name, value in head.items() if name != "sha256"}
    if signed(rest, arrays)["sha256"] != head.get("sha256"):
        raise ValueError(_NOT_WRITTEN)
    return rest


def seal(content: Mapping[str, Any]) -> str:
    """Returns the text of a JSON file that consists of a signed head.

    Example:
      >>> unseal(seal({"steps": 3}).encode())
      {'steps': 3}
    """
    return json.dumps(signed(content), indent=2, allow_nan=False) + "\n"


def unseal(data: bytes) -> dict[str, Any]:
    """Returns what `seal` was given, from the bytes of a file that may be anything.

    Raises:
      ValueError: if the bytes are not exactly what `seal` returns for their content.

    Example:
      >>> unseal(seal({"steps": 3}).replace("3", "4").encode())
      Traceback (most recent call last):
        ...
      ValueError: is not what was written: its SHA-256 does not match
    """
    try:
        content = verified(json.loads(data))
        # JSON has many spellings of one value; only that which `seal` writes is accepted.
        whole = seal(content).encode() == data
    except (ValueError, AttributeError, RecursionError):  # No JSON, no object, nested too deep.
        whole = False
    if not whole:
        raise ValueError(_NOT_WRITTEN)
    return content


def mark(data: bytes) -> str:
    """Returns the mark of a file's bytes: their number and their SHA-256.

    Example:
      >>> mark(b"abc")[:24]
      '3 bytes, sha256 ba7816bf'
    """
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def is_mark(value: Any) -> bool:
    """Whether a value has the form of a mark.

    Example:
      >>> is_mark(mark(b"abc")), is_mark("3 bytes")
      (True, False)
    """
    return isinstance(value, str) and \
        re.fullmatch(r"(0|[1-9][0-9]{0,10}) bytes, sha256 [0-9a-f]{64}", value) is not None


def read_marked(path: "str | os.PathLike[str]", expected: str,
                within: "pathlib.Path | None" = None, most: "int | None" = None) -> bytes:
    """Reads a file and checks its mark.

    Args:
      path: the file.
      expected: its mark; or only its SHA-256, as states of format 1 have it.
      within: see `atomic.read`.
      most: the largest size allowed, in bytes. Defaults to the size in the mark.

    Raises:
      ValueError: if the file's mark is another.
      OSError: see `atomic.read`.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     atomic.write(folder + "/curve.csv", b"step,loss")
      ...     read_marked(folder + "/curve.csv", mark(b"step,loss"))
      b'step,loss'
    """
    data = atomic.read(path, int(expected.split(maxsplit=1)[0]) if most is None else most, within)
    there = mark(data)
    if expected not in (there, there.split()[-1]):
        raise ValueError(_NOT_WRITTEN)
    return data
