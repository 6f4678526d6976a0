"""Files that are whole or absent, and that are read as untrusted.

Written under a temporary name, synced, then renamed; read only if they are plain files of a
bounded size that lie in their folder itself, not behind a link.
"""

import contextlib
import errno
import os
import pathlib
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO

# Errors of a file that is not what was written; any other error may pass.
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


def remove_unfinished(root: pathlib.Path, paths: Iterable[pathlib.Path],
                      ours: "str | re.Pattern[str]") -> None:
    """Removes the temporary files that killed processes left.

    Args:
      root: a folder in which nobody writes now.
      paths: those in it that may be such files.
      ours: a regular expression for the paths in the folder that `write` is given.
    """
    for path in paths:
        name = temporary_of(path.name)
        if name and re.fullmatch(ours, path.with_name(name).relative_to(root).as_posix()):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(path: "str | os.PathLike[str]", flags: int = 0) -> Iterator[tuple[BinaryIO, int]]:
    """Opens a plain file to read it, and gives its size; a pipe or a folder is refused.

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
    """Reads a file, which may be anything.

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
    """Raises an OSError (ELOOP) that names it if a part of a path below the root is a link."""
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise OSError(errno.ELOOP, "is a link", os.fspath(part))


def damage(error: OSError) -> "str | None":
    """What is wrong with a file that cannot be read, or None if another try may succeed.

    Example:
      >>> damage(FileNotFoundError(2, "No such file or directory"))
      'is missing'
      >>> damage(PermissionError(13, "Permission denied"))
    """
    if error.errno == errno.EFBIG:
        return str(error.strerror)
    return _DAMAGES.get(error.errno or 0)


def _sync_folder(folder: pathlib.Path) -> None:
    if os.name != "posix":  # Elsewhere a folder cannot be opened to be synced.
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
