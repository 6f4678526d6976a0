"""Silences the messages that TensorFlow and other libraries print about themselves.

A user of `lth` should see our own lines alone, and an error as one line.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def handles(*numbers: int) -> Iterator[None]:
    """Discards everything that is written to the given file descriptors, C++ libraries included.

    Args:
      *numbers: 1 for standard output, 2 for standard error.

    Example:
      >>> with handles(2):
      ...     _ = os.write(2, b"a greeting that nobody sees")
    """
    # contextlib.redirect_stderr replaces sys.stderr alone: C++ writes to the descriptor itself.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # What Python has buffered so far must still be seen.
    originals = [os.dup(number) for number in numbers]
    try:
        with open(os.devnull, "wb") as nowhere:
            for number in numbers:
                os.dup2(nowhere.fileno(), number)
        yield
    finally:
        for number, original in zip(numbers, originals, strict=True):
            os.dup2(original, number)
            os.close(original)


@contextlib.contextmanager
def logs(level: int) -> Iterator[None]:
    """Drops messages of Python's logging, up to and including a level.

    Example:
      >>> with logs(logging.WARNING):
      ...     logging.getLogger("library").warning("deprecated")
    """
    before, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)
        # A library's first message adds a handler for the sys.stderr of that moment, which may
        # be closed later on: the next message would then print a traceback.
        for handler in set(logging.root.handlers) - set(handlers):
            logging.root.removeHandler(handler)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Hides what TensorFlow prints while it is imported; errors are still raised.

    Example:
      >>> with loading():
      ...     import tensorflow
    """
    # CUDA's libraries print before any log level applies, so the level alone is not enough.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with handles(2):
        yield


@contextlib.contextmanager
def everything() -> Iterator[None]:
    """Discards all output: both file descriptors, `sys.stdout` and `sys.stderr`, logs, warnings.

    Example:
      >>> with everything():
      ...     print("converting", file=sys.stderr)
    """
    with handles(1, 2), logs(logging.CRITICAL), warnings.catch_warnings(), \
            open(os.devnull, "w") as sink, \
            contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        yield
