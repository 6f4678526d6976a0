"""Converts the values of flags from text, with errors that name the flag; words to complete."""

import argparse
from collections.abc import Iterable, Sequence

from lth_keras.arguments import check_choice
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import branches


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


def numbers(name: str, text: str, what: str) -> list[int]:
    """Returns the whole numbers that a flag's text lists, in the notation of branches.

    Args:
      name: the flag's name.
      text: numbers and ranges of them.
      what: what they are numbers of, for the message.

    Raises:
      LotteryError: if the text is something else.

    Example:
      >>> numbers("levels", "0/3/7-9", "levels"), numbers("levels", "1,2", "levels")
      ([0, 3, 7, 8, 9], [1, 2])
    """
    try:
        if text.strip() == "last":
            raise LotteryError("A branch's word, not a number.")
        return list(branches.parse(f"{branches.TICKET}@{text.replace(',', '/')}").levels or ())
    except LotteryError:
        raise LotteryError(f"--{name} must be {what} and ranges of {what}, such as 0/3/7-9. "
                           f"Received: {text!r:.100}.") from None


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


def completed(action: argparse.Action, words: Iterable[str]) -> None:
    """Names the words that a flag or an argument can be, for `lth completion`.

    argparse's own `choices` would be checked by it too, in its own words.

    Example:
      >>> action = argparse.ArgumentParser().add_argument("--backend")
      >>> completed(action, ("loky", "ray", "dask"))
      >>> words_of(action)
      ('loky', 'ray', 'dask')
    """
    vars(action)["words"] = tuple(words)


def words_of(action: argparse.Action) -> tuple[str, ...]:
    """Returns the words that a flag or an argument can be; () for a number or a file."""
    return tuple(vars(action).get("words", ()))
