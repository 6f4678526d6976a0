"""Random numbers of a training step, the same in every array library.

A number is a hash of a key, a step, a weight's number and an element's position: nothing is kept
between steps but their count, and a training that is begun again with the same key draws the same.
The hash is two rounds of the 32-bit mixer "lowbias32" (Chris Wellons, hash-prospector), with all
that an element shares with others added before and between them; its multiplications wrap around.
"""

from typing import Any

import numpy as np

from lth_keras.sparse_training.array_ops import ArrayOps

_FIRST, _SECOND = (int(np.uint32(factor).astype(np.int32)) for factor in (0x7FEB352D, 0x846CA68B))


def words(ops: ArrayOps, shape: tuple[int, ...], key: Any, step: Any, place: int) -> Any:
    """Random whole numbers in [0, 2^31), int32.

    Args:
      ops: the library of the arrays.
      shape: how many.
      key: two int32, drawn from the training's seed.
      step: int32, the number of a step.
      place: the number of a weight.

    Example:
      >>> from lth_keras.sparse_training.array_ops import NUMPY
      >>> key = np.array([1, 2], np.int32)
      >>> first, again, other = (words(NUMPY, (1000,), key, np.array([step], np.int32), 0)
      ...                        for step in (5, 5, 6))
      >>> bool((first == again).all()), bool((first == other).any())
      (True, False)
    """
    shared = _mixed(ops, _mixed(ops, key ^ step) + (2 * place + 1))
    return _mixed(ops, _mixed(ops, ops.positions(shape) + shared[0]) ^ shared[1]) & 0x7FFFFFFF


def uniform(ops: ArrayOps, shape: tuple[int, ...], key: Any, step: Any, place: int) -> Any:
    """Random float32 numbers in [0, 1), multiples of 2^-24; the arguments are those of `words`."""
    return ops.real(ops.shift(words(ops, shape, key, step, place), 7)) * float(2.0 ** -24)


def _mixed(ops: ArrayOps, value: Any) -> Any:
    value = (value ^ _logical(ops, value, 16)) * _FIRST
    value = (value ^ _logical(ops, value, 15)) * _SECOND
    return value ^ _logical(ops, value, 16)


def _logical(ops: ArrayOps, value: Any, by: int) -> Any:
    # The shift of a number without a sign: zeros come in from the left.
    return ops.shift(value, by) & ((1 << (32 - by)) - 1)
