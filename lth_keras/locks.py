"""One process at a time: the lock of a folder, which ends with its process."""

import os
import pathlib

import filelock

from lth_keras.errors import WorkdirError

NAME = ".lock"


def hold(root: "str | os.PathLike[str]") -> filelock.BaseFileLock:
    """Takes the lock of a folder, making the folder if need be; call its `release()`.

    Raises:
      WorkdirError: if another process has it, or if the folder cannot be written.
    """
    root = pathlib.Path(root)
    # A thread that saves may be the one that lets go.
    lock = filelock.FileLock(root / NAME, timeout=0, thread_local=False)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise WorkdirError("A workdir serves one process at a time. Received: "
                           f"{root}, which another process is using; wait for its end, or give "
                           "another workdir.") from None
    except (OSError, NotImplementedError) as error:
        raise WorkdirError("A workdir must be a folder that can be written. Received: "
                           f"{root}: {getattr(error, 'strerror', None) or error}.") from None
    return lock
