"""Files that are whole or absent, and files that are read as anybody's.

Written under another name, synced, then renamed; read only if they are plain files of a
bounded size that lie in their folder itself, not behind a link; JSON that carries its own
SHA-256.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

_SEAL = "sha256"
# What may be wrong with a file that another put there, or took away; other errors may pass.
_DAMAGES = {errno.ENOENT: "is missing", errno.ENOTDIR: "is missing",
            errno.ELOOP: "is a link, and what is in a workdir lies there itself",
            errno.EISDIR: "is not a file", errno.EINVAL: "is not a file",
            errno.ENXIO: "is not a file"}


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


def remove_unfinished(root: pathlib.Path, paths: Iterable[pathlib.Path], ours: str) -> None:
    """Takes away what killed processes left of the files that they were writing.

    Args:
      root: a folder in which nobody writes now.
      paths: those in it that may be such files.
      ours: a pattern of the paths in the folder that `write` is given.
    """
    for path in paths:
        name = temporary_of(path.name)
        if name and re.fullmatch(ours, path.with_name(name).relative_to(root).as_posix()):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(path: "str | os.PathLike[str]", flags: int = 0) -> Iterator[tuple[BinaryIO, int]]:
    """A plain file to be read, and its size; its name may be anything's.

    Raises:
      OSError: if it cannot be read, or is not a plain file (EINVAL).
    """
    # A pipe would otherwise be waited for.
    flags |= os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a file", os.fspath(path))
        yield file, status.st_size


def read(path: "str | os.PathLike[str]", most: int,
         within: "pathlib.Path | None" = None) -> bytes:
    """The bytes of a file, which may be anything, and whose name may be anything's.

    Args:
      path: the file; its last part must not be a link.
      most: the most bytes that it may have.
      within: a folder above it; no part of the path below that may be a link either.

    Raises:
      OSError: if it cannot be read, is not a plain file (EINVAL; ELOOP if a link), or is
        larger (EFBIG).
    """
    if within is not None:
        refuse_links(within, pathlib.Path(path))
    with opened(path, getattr(os, "O_NOFOLLOW", 0)) as (file, size):
        data = file.read(min(size, most) + 1)
        if size > most or len(data) > most:
            raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", os.fspath(path))
        return data


def refuse_links(root: pathlib.Path, path: pathlib.Path) -> None:
    """Nothing, if no part of a path below the root is a link.

    Raises:
      OSError: if one is (ELOOP); it names that part.
    """
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise OSError(errno.ELOOP, "is a link", os.fspath(part))


def damage(error: OSError) -> "str | None":
    """What is wrong with a file that cannot be read, if that is no mishap that may pass.

    Example:
      >>> damage(FileNotFoundError(2, "No such file or directory"))
      'is missing'
      >>> damage(PermissionError(13, "Permission denied"))
    """
    if error.errno == errno.EFBIG:
        return str(error.strerror)
    return _DAMAGES.get(error.errno or 0)


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
    seals = {_SEAL: digest(canonical_json(content).encode())}
    return json.dumps({**content, **seals}, indent=2, allow_nan=False) + "\n"


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


def digest(data: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def mark(data: bytes) -> str:
    """What bytes can be known by: their number, and their SHA-256.

    Example:
      >>> mark(b"abc")[:24]
      '3 bytes, sha256 ba7816bf'
    """
    return f"{len(data)} bytes, sha256 {digest(data)}"


def read_marked(path: "str | os.PathLike[str]", mark_of_it: str,
                within: "pathlib.Path | None" = None) -> bytes:
    """The bytes of a file that has a mark; no more are read than it says.

    Args:
      path: the file.
      mark_of_it: its mark.
      within: as `read` takes it.

    Raises:
      ValueError: if the file has another.
      OSError: as `read` does.
    """
    data = read(path, int(mark_of_it.split(maxsplit=1)[0]), within)
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
