"""Checks tfmot's arguments for structures, and says which of them a saved model stores."""

from typing import Any

from lth_keras.arguments import check_choice
from lth_keras.errors import LotteryError

POOLINGS = ("AVG", "MAX")
_MOST = 9999  # Far more than any hardware uses.


def check_pair(name: str, value: Any, example: tuple[int, int]) -> tuple[int, int]:
    """Returns a pair of whole numbers as a tuple.

    Args:
      name: the name of the argument, for the message.
      value: the value to check.
      example: an allowed value, for the message.

    Raises:
      LotteryError: if they are not two whole numbers in [1, 9999].

    Example:
      >>> check_pair("block_size", [1, 4], example=(1, 4))
      (1, 4)
    """
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(type(item) is int and 1 <= item <= _MOST for item in pair):
        raise LotteryError(f"{name} must be two whole numbers in [1, {_MOST:,}], such as "
                           f"{example}. Received: {value!r:.100}.")
    return pair


def check_pooling(value: Any) -> None:
    """Raises LotteryError if a value is not a kind of block pooling.

    Raises:
      LotteryError: if it is neither "AVG" nor "MAX".

    Example:
      >>> check_pooling("MAX")
    """
    check_choice("block_pooling_type", value, POOLINGS)


def pooling_option(pooling: str) -> dict[str, str]:
    """Returns the stored arguments for `block_pooling_type`: none for tfmot's default.

    Structures without blocks have it too, because tfmot's wrappers accept it with any.

    Example:
      >>> pooling_option("AVG"), pooling_option("MAX")
      ({}, {'block_pooling_type': 'MAX'})
    """
    return {} if pooling == POOLINGS[0] else {"block_pooling_type": pooling}
