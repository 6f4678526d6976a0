"""Flags' values, read from text; an error names the flag."""

from collections.abc import Sequence

from lth_keras.arguments import check_choice
from lth_keras.errors import LotteryError


def whole(name: str, text: str, least: int = 0) -> int:
    """A whole number.

    Raises:
      LotteryError: for other text, or a number below the least.

    Example:
      >>> whole("jobs", "3", least=1)
      3
    """
    if not text.isdecimal() or int(text) < least:
        raise LotteryError(f"--{name} must be a whole number >= {least}. Received: {text!r}.")
    return int(text)


def number(name: str, text: str) -> float:
    """A number.

    Raises:
      LotteryError: for other text.
    """
    try:
        return float(text)
    except ValueError:
        raise LotteryError(f"--{name} must be a number. Received: {text!r}.") from None


def choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """One of some words.

    Raises:
      LotteryError: for another.
    """
    check_choice(f"--{name}", value, allowed)
    return value
