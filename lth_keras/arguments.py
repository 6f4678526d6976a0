"""Checks of arguments and settings, with error messages that all have one form.

A message gives the rule, then "Received: ...", then what to do.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from lth_keras.errors import LotteryError


def one_line(text: object, longest: int = 240) -> str:
    r"""Returns a text or the reason of an exception on one line, to quote it in a message.

    Args:
      text: text of another program, whose line breaks become spaces; or an exception, of whose
        message one line is taken: the one that a compiler marks with "error:", without the place
        in the graph, otherwise the first.
      longest: the length that the line is cut to, >= 4.

    Example:
      >>> one_line("failed\n  at node 3", longest=12)
      'failed at...'
      >>> one_line(ValueError("<unknown>:0: error: loc(callsite(x)): 'tf.Foo' op is custom\nnote"))
      "'tf.Foo' op is custom"
    """
    if isinstance(text, BaseException):
        lines = [line for line in str(text).splitlines() if line.strip()]
        # TensorFlow's converter raises a page of MLIR in which one line says what is wrong.
        told = next((line for line in lines if "error: " in line), (lines or [""])[0])
        text = re.sub(r"^.*?error: (loc\(.*?\)+: )?", "", told.strip()) or type(text).__name__
    line = " ".join(str(text).split())
    return line if len(line) <= longest else f"{line[:longest - 3]}..."


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Checks that a value is one of the allowed words.

    Raises:
      LotteryError: if it is not; the message lists the allowed words and suggests the nearest.

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
    """Returns " Did you mean WORD?" for the allowed word nearest to a misspelt one, or "".

    Example:
      >>> meant("lenet_300", ["lenet_300_100", "conv2"]), meant("x", ["lenet_300_100"])
      (' Did you mean lenet_300_100?', '')
    """
    # The time that difflib takes grows with the square of the length: cut what is absurdly long.
    near = difflib.get_close_matches(str(value)[:100], tuple(allowed), 1)
    return f" Did you mean {near[0]}?" if near else ""


def check_whole(name: str, value: Any, least: int | None = None) -> int:
    """Checks that a value is a whole number and large enough, and returns it.

    Args:
      name: the argument's name, as the user wrote it.
      value: anything; True, False and 3.0 do not count as whole numbers.
      least: the smallest number allowed, or None for any.

    Raises:
      LotteryError: if the value is not a whole number, or is below `least`.

    Example:
      >>> check_whole("rounds", 3, least=0)
      3
      >>> check_whole("rounds", -1, least=0)
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: rounds must be a whole number >= 0. Received: -1.
    """
    # bool is a subclass of int: rounds=True would otherwise be one round.
    if isinstance(value, bool) or not isinstance(value, int) or \
            (least is not None and value < least):
        bound = "" if least is None else f" >= {least}"
        raise LotteryError(f"{name} must be a whole number{bound}. Received: {value!r}.")
    return value


def check_number(name: str, value: Any) -> float:
    """Checks that a value is an int or a float, and returns it as a float.

    Raises:
      LotteryError: if it is neither; True and False do not count as numbers.

    Example:
      >>> check_number("tolerance", 1)
      1.0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LotteryError(f"{name} must be a number. Received: {value!r}.")
    return float(value)


def check_share(name: str, value: Any) -> float:
    """Checks that a value is a number in (0, 1], and returns it as a float.

    Raises:
      LotteryError: if it is not a number, or lies outside (0, 1].

    Example:
      >>> check_share("density", 0.036)
      0.036
    """
    share = check_number(name, value)
    if not 0 < share <= 1:
        raise LotteryError(f"{name} must be a number in (0, 1]. Received: {value!r}.")
    return share


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None.

    Example:
      >>> given(include=None, structure="2:4")
      {'structure': '2:4'}
    """
    return {name: value for name, value in options.items() if value is not None}
