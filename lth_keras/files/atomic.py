"""Writes files atomically, and reads them as untrusted.

A file is written under a temporary name, synced, then renamed, so that it is whole or absent.  It
is read only if it is a plain file up to a size limit, and not behind a link.
"""

import contextlib
import errno
import os
import pathlib
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

IS_A_LINK = "is a link, which a workdir must not contain"
# Errors that mean damage. Any other, such as a lack of permission, may be gone at the next attempt.
_DAMAGES = {errno.ENOENT: "is missing", errno.ENOTDIR: "is missing", errno.ELOOP: IS_A_LINK,
            errno.EISDIR: "is not a file", errno.EINVAL: "is not a file",
            errno.ENXIO: "is not a file"}


def write(path: "str | os.PathLike[str]", content: "bytes | str") -> None:
    """Writes a file so that a reader finds either the old content or the new, never a part.

    Args:
      path: the file; missing folders are created.
      content: bytes, or text to be written as UTF-8.

    Raises:
      OSError: if the file cannot be written; the error names it, and it keeps its old content.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(folder + "/level_01/mask.txt", "1011")
      ...     read(folder + "/level_01/mask.txt", most=10)
      b'1011'
    """
    path = pathlib.Path(path)
    data = content.encode() if isinstance(content, str) else content
    # In the same folder, since a rename is atomic only within one file system. Random, so that two
    # threads that write the same file do not share it.
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                # Before the rename: after a power failure the new name must not be an empty file.
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:  # Named again: the error of a full disk has no file name.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def temporary_of(name: str) -> "str | None":
    """Returns the name that `write` was to give a temporary file, or None if it is not one.

    Example:
      >>> temporary_of(".result.json.4242.0a1b2c3d"), temporary_of("result.json")
      ('result.json', None)
    """
    match = re.fullmatch(r"\.(.+)\.[0-9]+\.[0-9a-f]{8}", name)
    return match[1] if match else None


def remove_unfinished(root: pathlib.Path, paths: Iterable[pathlib.Path],
                      ours: "str | re.Pattern[str]") -> None:
    """Removes the temporary files that killed processes have left behind.

    Args:
      root: a folder in which no process writes now.
      paths: the files in it that may be temporary.
      ours: a regular expression of the paths, relative to the folder, of the files that this
        package writes there.  Temporary files of other names are a user's, and stay.
    """
    for path in paths:
        name = temporary_of(path.name)
        if name and re.fullmatch(ours, path.with_name(name).relative_to(root).as_posix()):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(path: "str | os.PathLike[str]", flags: int = 0) -> Iterator[tuple[BinaryIO, int]]:
    """Opens a plain file to read it, and gives the open file and its size.

    Args:
      path: the file.
      flags: further flags of `os.open`.

    Raises:
      OSError: if the file cannot be read, or is not a plain file (EINVAL).
    """
    # Without O_NONBLOCK, opening a named pipe would wait for a writer.
    flags |= os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a file", os.fspath(path))
        yield file, status.st_size


def read(path: "str | os.PathLike[str]", most: int,
         within: "pathlib.Path | None" = None) -> bytes:
    """Reads a file that may be anything.

    Args:
      path: the file, which must not be a link.
      most: the largest size allowed, in bytes.
      within: a folder that contains it; no folder in between may be a link either.

    Raises:
      OSError: if the file cannot be read, is a link (ELOOP), is not a plain file (EINVAL), or is
        too large (EFBIG).

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(folder + "/curve.csv", "step,loss")
      ...     read(folder + "/curve.csv", most=5)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      OSError: [Errno 27] is larger than 5 bytes: '...curve.csv'
    """
    if within is not None:
        refuse_links(within, pathlib.Path(path))
    with opened(path, getattr(os, "O_NOFOLLOW", 0)) as (file, size):
        # One byte more, to notice a file that has grown since its size was read.
        data = file.read(min(size, most) + 1)
        if size > most or len(data) > most:
            raise OSError(errno.EFBIG, f"is larger than {most:,} bytes", os.fspath(path))
        return data


def refuse_links(root: pathlib.Path, path: pathlib.Path) -> None:
    """Raises OSError (ELOOP), which names the link, if any part of a path below root is a link."""
    for part in (path, *path.parents):
        if part == root:
            break
        if part.is_symlink():
            raise OSError(errno.ELOOP, "is a link", os.fspath(part))


def damage(error: OSError) -> "str | None":
    """Says what is wrong with a file that cannot be read; None if another attempt may succeed.

    Example:
      >>> damage(FileNotFoundError(2, "No such file or directory"))
      'is missing'
      >>> damage(PermissionError(13, "Permission denied"))
    """
    if error.errno == errno.EFBIG:
        return str(error.strerror)
    return _DAMAGES.get(error.errno or 0)


@contextlib.contextmanager
def explained(explain: Callable[[str], Exception]) -> Iterator[None]:
    """A context in which a file is read: turns every error into one that says what is wrong.

    Args:
      explain: makes the error to raise from the words that say what is wrong with the file.

    Example:
      >>> with explained(lambda why: RuntimeError(f"The ticket {why}.")):
      ...     read("/nowhere", most=10)
      Traceback (most recent call last):
        ...
      RuntimeError: The ticket is missing.
    """
    try:
        yield
    except ValueError as error:
        raise explain(str(error).rstrip(".")) from None
    except OSError as error:
        raise explain(damage(error) or f"cannot be read: {error.strerror or error}") from None


def _sync_folder(folder: pathlib.Path) -> None:
    # The rename itself is lost in a power failure if the folder is not synced. Only POSIX systems
    # can open a folder for that.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
