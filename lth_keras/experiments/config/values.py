"""Values of settings: what they must be, and how they are read from text."""

import re
from collections.abc import Mapping
from typing import Any

from lth_keras.errors import LotteryError


def check_whole(name: str, value: Any, least: int | None) -> None:
    """Nothing, for a whole number from `least` on.

    Raises:
      LotteryError: for anything else.
    """
    low = least is not None and isinstance(value, int) and value < least
    if isinstance(value, bool) or not isinstance(value, int) or low:
        bound = "" if least is None else f" >= {least}"
        raise LotteryError(f"{name} must be a whole number{bound}. Received: {value!r}.")


def check_share(name: str, value: Any) -> None:
    """Nothing, for a number in (0, 1].

    Raises:
      LotteryError: for anything else.
    """
    if not 0 < number(name, value) <= 1:
        raise LotteryError(f"{name} must be a number in (0, 1]. Received: {value!r}.")


def number(name: str, value: Any) -> float:
    """The value as a float.

    Raises:
      LotteryError: if it is no number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LotteryError(f"{name} must be a number. Received: {value!r}.")
    return float(value)


def rising(name: str, value: Any, most: int) -> tuple[int, ...]:
    """Steps as a tuple.

    Args:
      name: of the setting.
      value: a tuple or list of whole numbers in [1, most], each above the one before.
      most: the highest allowed.

    Raises:
      LotteryError: for anything else.
    """
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    whole = all(type(step) is int and 1 <= step <= most for step in numbers)
    if not whole or list(numbers) != sorted(set(numbers)):
        raise LotteryError(f"{name} must be rising steps in [1, steps={most}], with a slash "
                           f"between them. Received: {value!r:.100}. (--scale shortens a preset "
                           "as a whole.)")
    return numbers


def parse(name: str, text: str, now: Any) -> Any:
    """A setting's value from text, of the type that it has now.

    Raises:
      LotteryError: if the text is none.

    Example:
      >>> parse("steps", "300", 1), parse("measured_steps", "100/200", ())
      (300, (100, 200))
    """
    if name == "branches":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        if name == "fraction":
            return _parse_fraction(text)
        if isinstance(now, tuple):
            return tuple(int(part) for part in re.split("[/,]", text) if part.strip())
        return type(now)(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number", tuple: "steps, such as 100/200"}.get(
            type(now) if name != "fraction" else dict, "a number, or such as "
            "default:0.2,output:0.1")
        raise LotteryError(f"{name} must be {kind}. Received: {text!r}.") from None


def _parse_fraction(text: str) -> "float | Mapping[str, float]":
    if ":" not in text:
        return float(text)
    pairs = [(key.strip(), float(value)) for key, value in
             (part.rsplit(":", 1) for part in text.split(","))]
    keys = {key for key, _ in pairs}
    if len(keys) < len(pairs) or "" in keys:
        raise ValueError("an entry is missing or given twice")
    return dict(pairs)
