"""Parcels: what goes between processes of this machine lies in files; pipes carry their names.

A message of a few bytes is written to a pipe at once or not at all.  Of a longer one, such as a
network's weights, a process that is killed can have written half, and who reads it would wait for
the rest forever.

The files are pickles, as messages between processes are, in a folder that only its owner can
reach.  Nothing that a run keeps is read so.
"""

import os
import pathlib
import pickle
import tempfile
import traceback
from collections.abc import Callable
from typing import Any


class RemoteError(Exception):
    """Where in a worker process an error was raised: its cause here."""


def send(folder: str, content: Any) -> str:
    """Puts something into a folder that both processes know; returns its file.

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
    """What was put into a file, which is then gone."""
    file = pathlib.Path(path)
    content = pickle.loads(file.read_bytes())
    file.unlink()
    return content


def call(path: str, folder: str) -> str:
    """In a worker: calls the function in a parcel; returns the parcel with what came of it."""
    function, arguments = receive(path)
    outcome: tuple[Any, Exception | None, str]
    try:
        outcome = function(*arguments), None, ""
    except Exception as error:
        outcome = None, error, traceback.format_exc()
    return send(folder, outcome)


def opened(path: str) -> Any:
    """The result in the parcel of a call.

    Raises:
      Exception: what the function raised, caused by a RemoteError.
    """
    result, error, where = receive(path)
    if error is not None:
        raise error from RemoteError(where)
    return result


def packed(folder: str, function: Callable[..., Any], *arguments: Any) -> str:
    """A call as a parcel."""
    return send(folder, (function, arguments))
