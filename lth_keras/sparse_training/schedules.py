"""When masks move, and by how much: exact counts for every update, made before a training.

A training looks its counts up in a table, so that they are exact whatever it computes with.
"""

import math

import numpy as np

from lth_keras.core.masks import Array


def cubic_counts(size: int, kept: int, updates: int) -> Array:
    """How many weights are kept after each update of gradual pruning, fast at first.

    The share that is pruned after update i of n is 1 - (1 - i/n)^3 of what is pruned at the end.

    Args:
      size: how many weights there are.
      kept: how many are kept at the end.
      updates: n >= 1.

    Returns:
      int32 of shape (n + 1,): from `size`, before the first update, to `kept`. Halves are rounded
      to the even number.

    Example:
      >>> cubic_counts(1000, 200, 4).tolist()
      [1000, 538, 300, 212, 200]

    Reference: Zhu & Gupta 2017, arXiv:1710.01878, equation 1.
    """
    return np.array([kept + _rounded((size - kept) * (updates - done) ** 3, updates ** 3)
                     for done in range(updates + 1)], np.int32)


def cosine_drops(kept: int, drop: float, every: int, until: int) -> Array:
    """How many weights are dropped, and as many grown, in each update of SET and RigL.

    In step t that is the share drop/2 (1 + cos(pi t / until)) of those that are kept.

    Args:
      kept: how many weights are kept.
      drop: the largest share, in [0, 1].
      every: the number of steps from one update to the next, >= 1.
      until: the last step that may be an update.

    Returns:
      int32, one for each of the steps every, 2 every ... up to `until`.

    Example:
      >>> cosine_drops(1000, 0.3, 100, 400).tolist()
      [256, 150, 44, 0]

    Reference: Evci et al., ICML 2020, arXiv:1911.11134, section 3; Dettmers & Zettlemoyer 2019.
    """
    steps = np.arange(1, until // every + 1) * every
    shares = [drop / 2 * (1 + math.cos(math.pi * step / until)) for step in steps]
    return np.array([min(kept, round(share * kept)) for share in shares], np.int32)


def _rounded(numerator: int, denominator: int) -> int:
    # In whole numbers: the quotient of two floats may be off by one.
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))
