"""Who may use a workdir: one run or one search, and one process at a time.

A workdir is a folder in which what outlives a process is kept: the results of an `lth run`, by
`experiments.results.store.Store`, or a search in `fit`, by `keras2.fit.search_workdir.Workdir`.
"""

import contextlib
import dataclasses
import os
import pathlib
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock

from lth_keras.errors import WorkdirError

NAME = ".lock"
CONFIG, STATE, START = "config.json", "state.safetensors", "start.safetensors"
_LONGEST = 300  # Characters that are read of who holds a lock.


@dataclasses.dataclass(frozen=True)
class Owner:
    """What a workdir can be of.

    Attributes:
      who: what errors call it.
      holds: what its workdir holds one of.
      files: those that its workdir is known by.
      argument: how a user names another workdir.
      absent: the value of a setting that is not written down.
    """

    who: str
    holds: str
    files: tuple[str, ...]
    argument: str
    absent: Any


RUN = Owner("an `lth run`", "experiment", (CONFIG,), "--workdir", "default")
SEARCH = Owner("a LotteryTicketCallback", "search", (STATE, START), "workdir", None)


def refuse_other(root: pathlib.Path, mine: Owner) -> None:
    """Raises a WorkdirError if a folder is another owner's, whose files would be overwritten."""
    for owner in (SEARCH, RUN):
        for name in owner.files:
            if os.path.lexists(root / name):
                if owner == mine:
                    return
                raise WorkdirError(f"A workdir holds one {mine.holds}. Received: {root}, the "
                                   f"folder of {owner.who}, whose {name} it holds. Use another "
                                   f"{mine.argument}.")


def refuse_changed(root: pathlib.Path, mine: Owner, there: Mapping[str, Any],
                   asked: Mapping[str, Any]) -> None:
    """Raises a WorkdirError that says what differs if a workdir has other settings than asked.

    Args:
      root: the workdir.
      mine: whose it is.
      there: the settings in it; name -> value.
      asked: those asked for.
    """
    pairs = {name: (there.get(name, mine.absent), asked.get(name, mine.absent))
             for name in sorted({*there, *asked})}
    differ = [f"{name}={one!s:.80} there, {other!s:.80} asked"
              for name, (one, other) in pairs.items() if one != other]
    if differ:
        raise WorkdirError(f"A workdir holds one {mine.holds}. Received: {root}, with "
                           f"{'; '.join(differ)}. Use another {mine.argument}.")


@contextlib.contextmanager
def held(root: "str | os.PathLike[str]",
         check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock of a folder, which is made if need be and goes again if it stays empty.

    The operating system frees the lock when the process ends, however it ends.

    Args:
      root: the folder.
      check: raises if the folder is not to be touched.  It is called before anything is written
        there, and again under the lock, as the folder may be another's by then.

    Raises:
      WorkdirError: if another process has it, or if the folder cannot be written.
    """
    root = pathlib.Path(root)
    check()
    made = [folder for folder in (root, *root.parents) if not os.path.lexists(folder)]
    # A thread that saves may be the one that lets go.
    lock = filelock.FileLock(root / NAME, timeout=0, thread_local=False)
    try:
        _acquire(lock, root)
        check()
        # For the message to others; the lock holds without it.
        with contextlib.suppress(OSError), open(root / NAME, "r+", encoding="utf-8") as file:
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with contextlib.suppress(OSError):  # The folder may be gone.
            if lock.is_locked and made and os.listdir(root) == [NAME]:
                (root / NAME).unlink()
        lock.release()
        with contextlib.suppress(OSError):  # Those that hold something stay.
            for folder in made:
                folder.rmdir()


def _acquire(lock: filelock.BaseFileLock, root: pathlib.Path) -> None:
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


def _holder(root: pathlib.Path) -> str:
    try:
        with open(root / NAME, encoding="utf-8") as file:
            text = file.read(_LONGEST)
    except (OSError, UnicodeDecodeError):
        return ""
    return f" ({text})" if text and text.isprintable() else ""
