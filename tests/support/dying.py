"""What ends a search in `fit` in the middle, whichever Keras its model is of."""

import itertools
import os
import signal

from lth_keras.search.fit.hooks import Hooks


class Death(BaseException):
    """Stands for the end of the process."""


def die():
    """Ends the process, as it were."""
    raise Death


def kill():
    """Ends the process."""
    os.kill(os.getpid(), signal.SIGKILL)


class Dies(Hooks):
    """Ends the process in a call of a hook, or of os.fsync or os.replace, which every file that is
    written goes through.

    Args:
      moment: the name of the hook or function.
      count: in which of its calls, from 1.
      die: what ends the process.
    """

    def __init__(self, moment, count, die=die):
        calls = itertools.count(1)

        def call():
            if next(calls) == count:
                die()
        if moment.startswith("on_"):
            setattr(self, moment, lambda *arguments, **options: call())
        else:
            original = getattr(os, moment)
            setattr(os, moment, lambda *arguments: call() or original(*arguments))
