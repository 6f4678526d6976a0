"""How a file is known to be what was written: by SHA-256, in one way everywhere.

A file that stands alone (a ticket, a search's state, a run's config.json) has a head, a JSON
object.  Its "sha256" is that of the rest of the head, as canonical JSON, and of the arrays that
follow it, if there are any.  A file that another one vouches for is named there by its mark,
"3 bytes, sha256 ba7816...": of a table, of a ticket in a run or in a search.
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
    """JSON with sorted keys and no spaces: equal values give equal text.

    Example:
      >>> canonical_json({"b": 1, "a": [0.5]})
      '{"a":[0.5],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def signed(head: Mapping[str, Any], arrays: "Arrays | None" = None) -> dict[str, Any]:
    """A head with the SHA-256 of itself and of the arrays that follow it, as "sha256".

    Example:
      >>> verified(signed({"steps": 3}))
      {'steps': 3}
    """
    digest = hashlib.sha256(canonical_json(head).encode())
    for key, value in sorted((arrays or {}).items()):
        digest.update(f"\n{key} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return {**head, "sha256": digest.hexdigest()}


def verified(head: Mapping[str, Any], arrays: "Arrays | None" = None) -> dict[str, Any]:
    """A head without its "sha256".

    Raises:
      ValueError: if that is not the SHA-256 of the rest and of the arrays.
    """
    rest = {name: value for name, value in head.items() if name != "sha256"}
    if signed(rest, arrays)["sha256"] != head.get("sha256"):
        raise ValueError(_NOT_WRITTEN)
    return rest


def seal(content: Mapping[str, Any]) -> str:
    """The text of a JSON file that is a signed head alone.

    Example:
      >>> unseal(seal({"steps": 3}).encode())
      {'steps': 3}
    """
    return json.dumps(signed(content), indent=2, allow_nan=False) + "\n"


def unseal(data: bytes) -> dict[str, Any]:
    """What `seal` was given, from bytes that may be anything.

    Raises:
      ValueError: if they are not, byte for byte, what `seal` gives for what they hold.
    """
    try:
        content = verified(json.loads(data))
        whole = seal(content).encode() == data
    except (ValueError, AttributeError, RecursionError):  # No JSON, no object, nested too deep.
        whole = False
    if not whole:
        raise ValueError(_NOT_WRITTEN)
    return content


def mark(data: bytes) -> str:
    """What a file that another one vouches for is known by: its size and its SHA-256.

    Example:
      >>> mark(b"abc")[:24]
      '3 bytes, sha256 ba7816bf'
    """
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def is_mark(value: Any) -> bool:
    """Whether a value can be what `mark` gives."""
    return isinstance(value, str) and \
        re.fullmatch(r"(0|[1-9][0-9]{0,10}) bytes, sha256 [0-9a-f]{64}", value) is not None


def read_marked(path: "str | os.PathLike[str]", expected: str,
                within: "pathlib.Path | None" = None, most: "int | None" = None) -> bytes:
    """Reads a file that has a mark; no more bytes are read than the mark says.

    Args:
      path: the file.
      expected: its mark; or its SHA-256 alone, as the first states had it.
      within: as `atomic.read` takes it.
      most: the most bytes that it may have, instead of those that the mark says.

    Raises:
      ValueError: if the file has another mark.
      OSError: as `atomic.read` does.
    """
    data = atomic.read(path, int(expected.split(maxsplit=1)[0]) if most is None else most, within)
    there = mark(data)
    if expected not in (there, there.split()[-1]):
        raise ValueError(_NOT_WRITTEN)
    return data
