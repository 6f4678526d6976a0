"""Files that are whole or absent: written under another name, synced, then renamed."""

import json
import os
import pathlib
import secrets
from typing import Any


def write(path: "str | os.PathLike[str]", content: "bytes | str") -> None:
    """Writes a file so that a reader finds the old content or the new, never a part.

    Args:
      path: where it goes; folders are made as needed.
      content: bytes, or text to be written as UTF-8.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Example:
      >>> canonical_json({"b": 1, "a": [0.5]})
      '{"a":[0.5],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sync_folder(folder: pathlib.Path) -> None:
    if os.name != "posix":  # Elsewhere a folder cannot be opened to be synced.
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
