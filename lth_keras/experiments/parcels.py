"""Messages between processes of this machine: each is a file, and a pipe carries its name.

A few bytes are written to a pipe at once or not at all.  Of a longer message, such as a network's
weights, a process that is killed can have written half, and the reader would wait for the rest
forever.

The files are pickles, as messages between processes are, in a folder that only its owner can
read.  Nothing that a run keeps is a pickle.
"""

import os
import pathlib
import pickle
import tempfile
import traceback
from collections.abc import Callable
from typing import Any


class RemoteError(Exception):
    """Holds the traceback of an error in a worker process, as the cause of that error here."""


def send(folder: str, content: Any) -> str:
    """Writes a value to a new file in a folder that both processes know; returns the file's path.

    Example:
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     receive(send(folder, {"steps": 3})), os.listdir(folder)
      ({'steps': 3}, [])
    """
    handle, path = tempfile.mkstemp(".parcel", dir=folder)
    with os.fdopen(handle, "wb") as file:
        pickle.dump(content, file, pickle.HIGHEST_PROTOCOL)
    return path


def receive(path: str) -> Any:
    """Reads the value in a file that `send` wrote, and removes the file."""
    file = pathlib.Path(path)
    content = pickle.loads(file.read_bytes())
    file.unlink()
    return content


def call(path: str, folder: str) -> str:
    """Runs in a worker: calls the function in a file; returns the file with its result or error."""
    function, arguments = receive(path)
    outcome: tuple[Any, Exception | None, str]
    try:
        outcome = function(*arguments), None, ""
    except Exception as error:
        outcome = None, error, traceback.format_exc()
    return send(folder, outcome)


def opened(path: str) -> Any:
    """Reads the result of a `call`.

    Raises:
      Exception: what the function raised, caused by a RemoteError.
    """
    result, error, where = receive(path)
    if error is not None:
        raise error from RemoteError(where)
    return result


def packed(folder: str, function: Callable[..., Any], *arguments: Any) -> str:
    """Writes a function and its arguments to a file, for `call`; returns the file's path."""
    return send(folder, (function, arguments))
