"""How the masks of `lth.SparseTraining` move in a step, of one weight; and in which steps."""

from typing import Any

from lth_keras.sparse_training.array_ops import ArrayOps
from lth_keras.sparse_training.largest import largest, size_bits

METHODS = ("static", "gradual", "set", "rigl")


def update_of(ops: ArrayOps, step: Any, begin: int, every: int, *, last: int,
              updates: int) -> tuple[Any, Any]:
    """Which update a step is.

    Args:
      ops: the library of the arrays.
      step: the number of the step, int32; the first is 1.
      begin: the first step that is one.
      every: the number of steps from one to the next.
      last: the last step that is one, however few steps after the one before.
      updates: how many there are.

    Returns:
      Whether it is one, and which: from 0, and at most the last, whatever the step is.

    Example:
      >>> import numpy as np
      >>> from lth_keras.sparse_training.array_ops import NUMPY
      >>> [tuple(map(int, update_of(NUMPY, np.int32(step), 2, 3, last=6, updates=3)))
      ...  for step in range(1, 9)]
      [(0, 0), (1, 0), (0, 0), (0, 0), (1, 1), (1, 2), (0, 2), (0, 2)]
    """
    since = step - begin
    is_one = ((since >= 0) & (since % every == 0) & (step < last)) | (step == last)
    number = ops.where(since < 0, 0, ops.where(step < last, since // every, updates - 1))
    return is_one, number


def shrunk(ops: ArrayOps, weight: Any, mask: Any, number: Any) -> Any:
    """The mask that keeps so many of the largest |w| among those that are kept.

    Example:
      >>> import numpy as np
      >>> from lth_keras.sparse_training.array_ops import NUMPY
      >>> weight, mask = np.array([3, -2, 0, 9], np.float32), np.array([True, True, True, False])
      >>> shrunk(NUMPY, weight, mask, np.int32(2)).tolist()
      [True, True, False, False]
    """
    keys = ops.where(mask, size_bits(ops, weight), -1)
    kept: Any = largest(ops, keys, number, number - number)[0]
    return kept


def regrown(ops: ArrayOps, weight: Any, mask: Any, drop: Any, growth: Any) -> Any:
    """The mask without so many of the smallest |w|, and with as many others.

    Those that go may come back at once, as in the authors' code: then they never left.

    Args:
      ops: the library of the arrays.
      weight: the weight.
      mask: the condition that an element is kept.
      drop: how many go, and come, int32.
      growth: int32, not negative: the largest of those that are not kept come.

    Example:
      >>> import numpy as np
      >>> from lth_keras.sparse_training.array_ops import NUMPY
      >>> weight, mask = np.array([3, -2, 0, 0], np.float32), np.array([True, True, False, False])
      >>> regrown(NUMPY, weight, mask, np.int32(1), np.array([0, 4, 7, 5], np.int32)).tolist()
      [True, False, True, False]
    """
    stays = shrunk(ops, weight, mask, ops.sum(ops.whole(mask)) - drop)
    grown, _ = largest(ops, ops.where(stays, -1, growth), drop, drop - drop)
    return stays | grown
