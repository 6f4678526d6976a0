"""Checks of the arguments that tfmot has for structures, and what is kept of them in a file."""

from typing import Any

from lth_keras.arguments import check_choice
from lth_keras.errors import LotteryError

POOLINGS = ("AVG", "MAX")
_MOST = 9999  # Far beyond any hardware's.


def check_pair(name: str, value: Any, example: tuple[int, int]) -> tuple[int, int]:
    """Returns two whole numbers as a tuple.

    Args:
      name: what they are called where the user gave them.
      value: anything.
      example: what they may look like, for the message.

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
    """Makes sure that a block's score is asked for as the average or as the maximum.

    Raises:
      LotteryError: if not.
    """
    check_choice("block_pooling_type", value, POOLINGS)


def pooling_option(pooling: str) -> dict[str, str]:
    """What a file keeps of `block_pooling_type`: nothing if it is tfmot's default.

    Structures without blocks have it too, since tfmot's wrappers may be given it with any.

    Example:
      >>> pooling_option("AVG"), pooling_option("MAX")
      ({}, {'block_pooling_type': 'MAX'})
    """
    return {} if pooling == POOLINGS[0] else {"block_pooling_type": pooling}
