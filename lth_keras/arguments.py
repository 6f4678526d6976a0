"""Checks of arguments and settings, whose errors all have one form.

The rule first, then "Received: ...", then what to do.
"""

import difflib
from collections.abc import Iterable
from typing import Any

from lth_keras.errors import LotteryError


def one_line(text: object, longest: int = 240) -> str:
    r"""Returns a text on one line, cut to a length: for quoting what another program said.

    Example:
      >>> one_line("failed\n  at node 3", longest=12)
      'failed at...'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[:longest - 3]}..."


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Refuses a value that is not one of some words.

    Raises:
      LotteryError: if it is none of them; lists them, and suggests the nearest.

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
    """Returns " Did you mean WORD?" for the allowed word nearest to a wrong one, or "".

    Example:
      >>> meant("lenet_300", ["lenet_300_100", "conv2"]), meant("x", ["lenet_300_100"])
      (' Did you mean lenet_300_100?', '')
    """
    near = difflib.get_close_matches(str(value)[:100], tuple(allowed), 1)
    return f" Did you mean {near[0]}?" if near else ""


def check_whole(name: str, value: Any, least: int | None = None) -> int:
    """Returns a whole number, if it is one and not too small.

    Args:
      name: what the number is called where the user gave it.
      value: anything; True and False are no numbers, nor is 3.0 a whole one.
      least: the smallest number allowed, or None for any.

    Raises:
      LotteryError: if the value is no whole number, or below `least`.

    Example:
      >>> check_whole("rounds", 3, least=0)
      3
      >>> check_whole("rounds", -1, least=0)
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: rounds must be a whole number >= 0. Received: -1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or \
            (least is not None and value < least):
        bound = "" if least is None else f" >= {least}"
        raise LotteryError(f"{name} must be a whole number{bound}. Received: {value!r}.")
    return value


def check_number(name: str, value: Any) -> float:
    """Returns an int or a float as a float.

    Raises:
      LotteryError: if the value is neither; True and False are no numbers.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LotteryError(f"{name} must be a number. Received: {value!r}.")
    return float(value)


def check_share(name: str, value: Any) -> float:
    """Returns a number in (0, 1] as a float.

    Raises:
      LotteryError: if the value is no number, or not in (0, 1].
    """
    share = check_number(name, value)
    if not 0 < share <= 1:
        raise LotteryError(f"{name} must be a number in (0, 1]. Received: {value!r}.")
    return share
