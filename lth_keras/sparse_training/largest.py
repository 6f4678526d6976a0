"""The k largest of an array, exactly, by counting: no sort in a training step.

The bits of float32 numbers that are not negative, read as whole numbers, are ordered as the numbers
are.  So the k-th largest is found by bisection: how many elements are as large as the number in the
middle?  That takes at most 31 passes that compare and count, whatever k is; it ends as soon as
exactly k are; and it starts around the number that was found in the step before, which is near, so
that about a third of the passes are left.

Of equal elements the last ones stay, as in `core.pruning.without_lowest`.  Which these are is found
in the same way, from their positions.
"""

from typing import Any

from lth_keras.sparse_training.array_ops import ArrayOps

_SIZE = 0x7FFFFFFF  # All bits but the sign.
_INFINITY = 0x7F800000  # Its bits; those of NaN, without its sign, are larger.
_NEAR, _FAR = 16, 1 << 22  # How far from the last threshold the second count is, and the last.


def size_bits(ops: ArrayOps, value: Any) -> Any:
    """Whole numbers that are ordered as the sizes of float32 numbers; NaN is the largest.

    Example:
      >>> import numpy as np
      >>> from lth_keras.sparse_training.array_ops import NUMPY
      >>> np.argsort(size_bits(NUMPY, np.array([-2.0, 0.5, np.nan, -0.0], np.float32))).tolist()
      [3, 1, 0, 2]
    """
    return ops.bits(value) & _SIZE


def any_nan(ops: ArrayOps, bits: Any) -> Any:
    """Whether one of the numbers with these `size_bits` is NaN."""
    return _count(ops, bits > _INFINITY) > 0


def largest(ops: ArrayOps, keys: Any, number: Any, near: Any) -> tuple[Any, Any]:
    """Where the so many largest keys are; of equal ones the last.

    Args:
      ops: the library of the arrays.
      keys: int32, of any shape; an element that does not take part is -1.
      number: how many, int32, at most as many as take part.
      near: where to look first, int32: a threshold of keys that were about the same. The result
        does not depend on it.

    Returns:
      A condition of the keys' shape, which holds at exactly so many places; and the threshold, the
      least key where it holds, or one between that and the next.

    Example:
      >>> import numpy as np
      >>> from lth_keras.sparse_training.array_ops import NUMPY
      >>> found, least = largest(NUMPY, np.array([5, 7, -1, 5, 5], np.int32), np.int32(3),
      ...                        np.int32(0))
      >>> found.tolist(), int(least)
      ([False, True, False, True, True], 5)
    """
    least = _threshold(ops, keys, number, near)
    above = keys > least
    # Equal keys are rare: mostly all that are as large as the threshold stay, as one count says.
    place = ops.where(keys == least, ops.positions(keys.shape), -1)
    first = _threshold(ops, place, number - _count(ops, above), near)
    return above | (place >= first), least


def _threshold(ops: ArrayOps, keys: Any, number: Any, near: Any) -> Any:
    # A number that exactly so many keys reach, or, where equal keys leave none, the largest that
    # more reach.  If all or none are asked for, the answer is there without a loop.
    def goes_on(low: Any, high: Any, reached: Any, far: Any) -> Any:
        return (reached != number) & (high - low > 1)

    def halve(low: Any, high: Any, reached: Any, far: Any) -> tuple[Any, ...]:
        middle = low + (high - low) // 2
        nearby = ops.where(middle > near + far, near + far,
                           ops.where(middle < near - far, near - far, middle))
        middle = ops.where((far < _FAR) & (nearby > low) & (nearby < high), nearby, middle)
        count = _count(ops, keys >= middle)
        enough = count >= number
        return (ops.where(enough, middle, low), ops.where(enough, high, middle),
                ops.where(enough, count, reached),
                ops.where(far < _FAR, ops.where(far < _NEAR, _NEAR, far * 8), far))
    zero = number - number
    state = (ops.where(number > 0, zero, _SIZE), zero + _SIZE,
             ops.where(number > 0, _count(ops, keys >= 0), zero), zero)
    return ops.loop(goes_on, halve, state)[0]


def _count(ops: ArrayOps, condition: Any) -> Any:
    return ops.sum(ops.whole(condition))
