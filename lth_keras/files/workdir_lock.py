"""One process at a time: the lock of a folder, which ends with its process."""

import contextlib
import os
import pathlib
import socket
from collections.abc import Callable, Iterator

import filelock

from lth_keras.errors import WorkdirError

NAME = ".lock"
_LONGEST = 300  # Characters that are read of who holds a lock.


def hold(root: "str | os.PathLike[str]",
         check: Callable[[], None] = lambda: None) -> filelock.BaseFileLock:
    """Takes the lock of a folder, making the folder if need be; call its `release()`.

    The operating system frees it when the process ends, however it ends.

    Args:
      root: the folder.
      check: raises if the folder is not to be touched.  It is asked before anything comes into
        the folder, and again under the lock, as the folder may be another's by then.

    Raises:
      WorkdirError: if another process has it, or if the folder cannot be written.
    """
    root = pathlib.Path(root)
    check()
    # A thread that saves may be the one that lets go.
    lock = filelock.FileLock(root / NAME, timeout=0, thread_local=False)
    try:
        root.mkdir(parents=True, exist_ok=True)
        holder = _holder(root)
        lock.acquire()
    except filelock.Timeout:
        raise WorkdirError("A workdir serves one process at a time. Received: "
                           f"{root}, which another process is using{holder}; wait for its end, or "
                           "give another workdir.") from None
    except (OSError, NotImplementedError) as error:
        raise WorkdirError("A workdir must be a folder that can be written. Received: "
                           f"{getattr(error, 'filename', None) or root}: "
                           f"{getattr(error, 'strerror', None) or error}.") from None
    try:
        check()
    except BaseException:
        lock.release()
        raise
    # For the message above; the lock holds without it.
    with contextlib.suppress(OSError), open(root / NAME, "r+", encoding="utf-8") as file:
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
    return lock


@contextlib.contextmanager
def held(root: "str | os.PathLike[str]",
         check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock of a folder; folders made for it go again if nothing else came into them.

    Args:
      root: the folder.
      check: as `hold` asks it.

    Raises:
      WorkdirError: as `hold` does.
    """
    root = pathlib.Path(root)
    made = [folder for folder in (root, *root.parents) if not os.path.lexists(folder)]
    try:
        lock = hold(root, check)
    except WorkdirError:
        _remove(made)
        raise
    try:
        yield
    finally:
        if made and os.listdir(root) == [NAME]:
            (root / NAME).unlink()
        lock.release()
        _remove(made)


def _holder(root: pathlib.Path) -> str:
    try:
        with open(root / NAME, encoding="utf-8") as file:
            text = file.read(_LONGEST)
    except (OSError, UnicodeDecodeError):
        return ""
    return f" ({text})" if text and text.isprintable() else ""


def _remove(folders: list[pathlib.Path]) -> None:
    with contextlib.suppress(OSError):  # Those that hold something stay.
        for folder in folders:
            folder.rmdir()
