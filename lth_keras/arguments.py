"""Messages: what errors say, in one form.

The rule first, then "Received: ...", then what to do.
"""

import difflib
from collections.abc import Iterable

from lth_keras.errors import LotteryError


def one_line(text: object, longest: int = 240) -> str:
    r"""What another program said, as one line.

    Example:
      >>> one_line("failed\n  at node 3", longest=12)
      'failed at...'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[:longest - 3]}..."


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Nothing, for one of some words.

    Raises:
      LotteryError: for anything else; it lists the words, and says which is meant if one is near.

    Example:
      >>> check_choice("scope", "globl", ("layer", "global"))
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: scope must be one of layer, global. Received: 'globl'. \
Did you mean global?
    """
    words = tuple(allowed)
    if value not in words:
        raise LotteryError(f"{name} must be one of {', '.join(words)}. Received: {value!r:.100}."
                           f"{meant(value, words)}")


def meant(value: object, allowed: Iterable[str]) -> str:
    """The word that a wrong one is nearest to, as a question; nothing if there is none near.

    Example:
      >>> meant("lenet_300", ["lenet_300_100", "conv2"]), meant("x", ["lenet_300_100"])
      (' Did you mean lenet_300_100?', '')
    """
    near = difflib.get_close_matches(str(value)[:100], tuple(allowed), 1)
    return f" Did you mean {near[0]}?" if near else ""
