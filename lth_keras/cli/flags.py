"""Converts the values of flags from text, with errors that name the flag."""

from collections.abc import Sequence

from lth_keras.arguments import check_choice
from lth_keras.errors import LotteryError


def whole(name: str, text: str, least: int = 0) -> int:
    """Returns the whole number that a flag's text holds.

    Raises:
      LotteryError: if the text is not a whole number, or the number is below `least`.

    Example:
      >>> whole("jobs", "3", least=1)
      3
    """
    if not text.isdecimal() or int(text) < least:
        raise LotteryError(f"--{name} must be a whole number >= {least}. Received: {text!r}.")
    return int(text)


def number(name: str, text: str) -> float:
    """Returns the number that a flag's text holds.

    Raises:
      LotteryError: if the text is not a number.

    Example:
      >>> number("scale", "0.5")
      0.5
    """
    try:
        return float(text)
    except ValueError:
        raise LotteryError(f"--{name} must be a number. Received: {text!r}.") from None


def choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """Checks that a flag's value is one of the allowed words, and returns it.

    Raises:
      LotteryError: if it is not; the message lists the allowed words.

    Example:
      >>> choice("backend", "ray", ("loky", "ray", "dask"))
      'ray'
    """
    check_choice(f"--{name}", value, allowed)
    return value
