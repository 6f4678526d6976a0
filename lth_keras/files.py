"""Files that are whole or absent, and files that are read as anybody's.

Written under another name, synced, then renamed; read only if they are plain files of a
bounded size; JSON that carries its own SHA-256.
"""

import errno
import hashlib
import json
import os
import pathlib
import re
import secrets
import stat
from typing import Any

_SEAL = "sha256"


def write(path: "str | os.PathLike[str]", content: "bytes | str") -> None:
    """Writes a file so that a reader finds the old content or the new, never a part.

    Args:
      path: where it goes; folders are made as needed.
      content: bytes, or text to be written as UTF-8.

    Raises:
      OSError: if it cannot be written; it names the file, and the old content is there still.
    """
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    except OSError as error:  # Of the file that was asked for: a full disk names none.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def temporary_of(name: str) -> "str | None":
    """The name of the file that a temporary file was to become, if it is one of `write`'s.

    Example:
      >>> temporary_of(".result.json.4242.0a1b2c3d"), temporary_of("result.json")
      ('result.json', None)
    """
    match = re.fullmatch(r"\.(.+)\.[0-9]+\.[0-9a-f]{8}", name)
    return match[1] if match else None


def read(path: "str | os.PathLike[str]", most: int) -> bytes:
    """The bytes of a file, which may be anything, and whose name may be anything's.

    Args:
      path: the file; its last part must not be a link.
      most: the most bytes that it may have.

    Raises:
      OSError: if it cannot be read, is not a plain file (EINVAL; ELOOP if a link), or is
        larger (EFBIG).
    """
    # A pipe would otherwise be waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags | getattr(os, "O_BINARY", 0))
              ) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a file", os.fspath(path))
        data = file.read(min(status.st_size, most) + 1)
        if status.st_size > most or len(data) > most:
            raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", os.fspath(path))
        return data


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text.

    Example:
      >>> canonical_json({"b": 1, "a": [0.5]})
      '{"a":[0.5],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seal(content: "dict[str, Any]") -> str:
    """JSON text that carries a SHA-256 of the rest of it.

    Example:
      >>> unseal(seal({"steps": 3}).encode())
      {'steps': 3}
    """
    digest = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    return json.dumps({**content, _SEAL: digest}, indent=2, allow_nan=False) + "\n"


def unseal(data: bytes) -> "dict[str, Any]":
    """What was sealed in bytes that may be anything.

    Raises:
      ValueError: if they are not, byte for byte, what `seal` gives for what they hold.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON text") from None
    if not isinstance(content, dict) or _SEAL not in content:
        raise ValueError("is no JSON object with a SHA-256")
    del content[_SEAL]
    try:
        whole = seal(content).encode() == data
    except (ValueError, RecursionError):  # Numbers that JSON does not have; nested deep.
        whole = False
    if not whole:
        raise ValueError("is not what was written: its SHA-256 does not fit")
    return content


def mark(data: bytes) -> str:
    """What bytes can be known by: their number, and their SHA-256.

    Example:
      >>> mark(b"abc")[:24]
      '3 bytes, sha256 ba7816bf'
    """
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def read_marked(path: "str | os.PathLike[str]", mark_of_it: str) -> bytes:
    """The bytes of a file that has a mark; no more are read than it says.

    Raises:
      ValueError: if the file has another.
      OSError: as `read` does.
    """
    data = read(path, int(mark_of_it.split(maxsplit=1)[0]))
    if mark(data) != mark_of_it:
        raise ValueError("is not what was written: its SHA-256 does not fit")
    return data


def _sync_folder(folder: pathlib.Path) -> None:
    if os.name != "posix":  # Elsewhere a folder cannot be opened to be synced.
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
