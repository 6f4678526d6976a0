"""Locks workdirs: each belongs to one run or one search, and to one process at a time.

A workdir is a folder with the files from which a later process continues: the results of an
`lth run` (`experiments.results.store.Store`), or a search in `fit`
(`search.fit.search_workdir.Workdir`).
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock

from lth_keras.errors import WorkdirError
from lth_keras.files import atomic

NAME = ".lock"
CONFIG, STATE, START = "config.json", "state.safetensors", "start.safetensors"
_LONGEST = 300  # How much is read of a lock file, which anybody may have written.


@dataclasses.dataclass(frozen=True)
class Owner:
    """A kind of owner of workdirs.

    Attributes:
      who: its name in errors.
      holds: what one workdir contains one of, in errors.
      files: the files by which its workdirs are recognised.
      argument: the argument by which a user chooses another workdir.
      absent: the value, in errors, of a setting that was not stored.
      names: a pattern of what may lie in a folder that is to become its workdir; "" for anything.
      remains: a shell pattern of folders that only its workdirs have, by which one is recognised
        whose files are lost.
    """

    who: str
    holds: str
    files: tuple[str, ...]
    argument: str
    absent: Any
    names: str = ""
    remains: str = ""


# What is left of a run whose config.json is gone, and what operating systems put into folders.
_OF_RUNS = (r"config\.json|results\.csv|plots|analysis|deployment|replicate_[0-9]+|\.lock|"
            r"\.DS_Store|Thumbs\.db|desktop\.ini|lost\+found")
RUN = Owner("an `lth run`", "experiment", (CONFIG,), "--workdir", "default", _OF_RUNS,
            "replicate_*/level_*")
SEARCH = Owner("a LotteryTicketCallback", "search", (STATE, START), "workdir", None)


def refuse_other(root: pathlib.Path, mine: Owner) -> None:
    """Raises WorkdirError if a folder is of the other kind, or holds what nobody here has made.

    Args:
      root: the folder, which may not exist yet.
      mine: the kind of workdir that the caller needs.
    """
    for owner in (SEARCH, RUN):
        for name in owner.files:
            if os.path.lexists(root / name):
                if owner == mine:
                    return
                raise WorkdirError(f"A workdir holds one {mine.holds}. Received: {root}, the "
                                   f"folder of {owner.who}, whose {name} it holds. Use another "
                                   f"{mine.argument}.")
    if mine.names and (strange := _strange(root, mine)):
        more = f" and {len(strange) - 3:,} more" if len(strange) > 3 else ""
        raise WorkdirError("A workdir must be a new or an empty folder, or one that "
                           f"{mine.who.removeprefix('an ')} has made. Received: {root}, which "
                           f"holds {', '.join(strange[:3])}{more}. Name a folder in it, as by "
                           f"{mine.argument} {root / 'run'}.")


def _strange(root: pathlib.Path, mine: Owner) -> list[str]:
    # What cannot be listed cannot be written to either, which its lock will say.
    with contextlib.suppress(OSError):
        return sorted(name for name in os.listdir(root)
                      if not re.fullmatch(mine.names, atomic.temporary_of(name) or name)
                      and not any(root.glob(mine.remains)))
    return []


def refuse_changed(root: pathlib.Path, mine: Owner, there: Mapping[str, Any],
                   asked: Mapping[str, Any]) -> None:
    """Raises WorkdirError if a workdir was made with other settings; the message says which differ.

    Args:
      root: the workdir.
      mine: its kind.
      there: the stored settings, name -> value.
      asked: the settings of the caller.

    Example:
      >>> refuse_changed(pathlib.Path("runs"), SEARCH, {"a": 0}, {"a": 1})  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      lth_keras.errors.WorkdirError: ... Received: runs, with a=0 there, 1 asked. ...
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
    """A context that holds the lock of a folder.

    The folder is created if necessary, and removed afterwards if nothing was written into it.  The
    operating system releases the lock when the process ends, even if it is killed.

    Args:
      root: the folder.
      check: a function that raises if the folder must not be used.  It is called before anything is
        written there, and again with the lock held, because another process may have used the
        folder in between.

    Raises:
      WorkdirError: if another process holds the lock, or the folder cannot be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, held(folder):
      ...     sorted(os.listdir(folder))
      ['.lock']
    """
    root = pathlib.Path(root)
    check()
    made = [folder for folder in (root, *root.parents) if not os.path.lexists(folder)]
    # Not bound to this thread: the thread that saves in the background may release it.
    lock = filelock.FileLock(root / NAME, timeout=0, thread_local=False)
    try:
        _acquire(lock, root)
        check()
        # Only for the error message of other processes, so it may fail.
        with contextlib.suppress(OSError), open(root / NAME, "r+", encoding="utf-8") as file:
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with contextlib.suppress(OSError):  # Somebody may have deleted the folder.
            if lock.is_locked and made and os.listdir(root) == [NAME]:
                (root / NAME).unlink()
        lock.release()
        with contextlib.suppress(OSError):  # rmdir fails on a folder that is not empty.
            for folder in made:
                folder.rmdir()


def _acquire(lock: filelock.BaseFileLock, root: pathlib.Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        holder = _holder(root)
        lock.acquire()
    except filelock.Timeout:
        raise WorkdirError("A workdir can be used by one process at a time. Received: "
                           f"{root}, which another process is using{holder}. Wait until it ends, "
                           "or use another workdir.") from None
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
