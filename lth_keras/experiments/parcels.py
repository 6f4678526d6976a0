"""Sends values between processes on this machine as files; only a file's name goes through a pipe.

Why not through the pipe itself: a process that is killed while it writes a long message, such as a
network's weights, leaves half of it, and the reader waits forever for the rest.  A short message,
such as a name, is written to a pipe whole or not at all.

The files are pickles in a temporary folder that only its owner can read, as messages of
multiprocessing are.  Nothing that a run keeps is a pickle.
"""

import os
import pathlib
import pickle
import tempfile
import traceback
from collections.abc import Callable
from typing import Any


class RemoteError(Exception):
    """Holds the traceback of an error in a worker process; it is the cause of the error raised."""


def send(folder: str, content: Any) -> str:
    """Writes a value to a new file in a folder that both processes know, and returns its path.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     receive(send(folder, {"steps": 3})), os.listdir(folder)
      ({'steps': 3}, [])
    """
    # mkstemp makes a file that only its owner can read: whoever can write it can run code here.
    handle, path = tempfile.mkstemp(".parcel", dir=folder)
    with os.fdopen(handle, "wb") as file:
        pickle.dump(content, file, pickle.HIGHEST_PROTOCOL)
    return path


def receive(path: str) -> Any:
    """Reads the value of a file that `send` wrote, and removes the file.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     receive(send(folder, [1, 2]))
      [1, 2]
    """
    file = pathlib.Path(path)
    content = pickle.loads(file.read_bytes())
    file.unlink()
    return content


def call(path: str, folder: str) -> str:
    """Calls the function in a file of `packed`, in a worker; returns the file of its result.

    An error is a result too, which `opened` raises again.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     opened(call(packed(folder, max, 2, 3), folder))
      3
    """
    # The result is written by the worker too: an error with its traceback as text, since a
    # traceback itself cannot be pickled.
    function, arguments = receive(path)
    outcome: tuple[Any, Exception | None, str]
    try:
        outcome = function(*arguments), None, ""
    except Exception as error:
        outcome = None, error, traceback.format_exc()
    return send(folder, outcome)


def opened(path: str) -> Any:
    """Returns the result in a file of `call`, or raises the function's error.

    Raises:
      Exception: the error of the function, whose cause is a RemoteError with its traceback.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     opened(call(packed(folder, int, "many"), folder))
      Traceback (most recent call last):
        ...
      ValueError: invalid literal for int() with base 10: 'many'
    """
    result, error, where = receive(path)
    if error is not None:
        raise error from RemoteError(where)
    return result


def packed(folder: str, function: Callable[..., Any], *arguments: Any) -> str:
    """Writes a function and its arguments to a file for `call`, and returns the file's path.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     opened(call(packed(folder, sorted, "cab"), folder))
      ['a', 'b', 'c']
    """
    return send(folder, (function, arguments))
