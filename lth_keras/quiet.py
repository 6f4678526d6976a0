"""Quiet: what libraries say of themselves, kept from those who did not ask."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def handles(*numbers: int) -> Iterator[None]:
    """Sends what is written to file handles nowhere, also what libraries write from C++.

    Args:
      *numbers: 1 for standard output, 2 for standard error.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(number) for number in numbers]
    try:
        with open(os.devnull, "wb") as nowhere:
            for number in numbers:
                os.dup2(nowhere.fileno(), number)
        yield
    finally:
        for number, copy in zip(numbers, kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


@contextlib.contextmanager
def logs(level: int) -> Iterator[None]:
    """Drops what is logged through Python, up to a level.

    A library's first message gives the root logger a handler of the stderr of that moment, which
    may be no more afterwards: it is taken away again.
    """
    before, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)
        for handler in set(logging.root.handlers) - set(handlers):
            logging.root.removeHandler(handler)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """While TensorFlow is loaded: its libraries greet on stderr before any log level applies."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with handles(2):
        yield
