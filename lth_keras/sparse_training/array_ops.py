"""The few operations that sparse trainings need of an array library.

What a training step computes is written once, in this package, for any library whose arrays have
Python's operators.  `keras2.sparse_training` computes it with TensorFlow, `keras3.sparse_training`
with Keras on any backend, and `NUMPY` on the host, where it checks and starts.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class ArrayOps(Protocol):
    """Functions of arrays that Python has no operator for."""

    def bits(self, value: Any) -> Any:
        """The bits of float32 numbers, as int32."""

    def real(self, value: Any) -> Any:
        """Whole numbers or a condition as float32."""

    def whole(self, value: Any) -> Any:
        """Numbers or a condition as int32."""

    def sum(self, value: Any) -> Any:
        """The sum of all elements, of the same type."""

    def where(self, condition: Any, value: Any, other: Any) -> Any:
        """One value where a condition holds, elsewhere another."""

    def sign(self, value: Any) -> Any:
        """-1, 0 or 1."""

    def sigmoid(self, value: Any) -> Any:
        """1 / (1 + exp(-value))."""

    def shift(self, value: Any, by: int) -> Any:
        """Of int32, shifted right; what comes in from the left is the sign."""

    def positions(self, shape: tuple[int, ...]) -> Any:
        """0, 1, 2 ... of int32 in an array of a shape."""

    def cond(self, condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """What one of two functions gives; only that one is computed."""

    def take(self, values: Any, place: Any) -> Any:
        """The element of a list of numbers at a place, int32."""

    def loop(self, goes_on: Callable[..., Any], body: Callable[..., Any],
             state: tuple[Any, ...]) -> Any:
        """The state after a body has been applied to it for as long as a condition of it holds."""


class NumPyOps(ArrayOps):
    """`ArrayOps` of NumPy.

    Example:
      >>> NUMPY.bits(np.float32(1)) == 0x3F800000
      np.True_
    """

    def bits(self, value: Any) -> Any:
        return np.asarray(value, np.float32).view(np.int32)

    def real(self, value: Any) -> Any:
        return np.asarray(value).astype(np.float32)

    def whole(self, value: Any) -> Any:
        return np.asarray(value).astype(np.int32)

    def sum(self, value: Any) -> Any:
        return np.sum(value, dtype=np.asarray(value).dtype)

    def where(self, condition: Any, value: Any, other: Any) -> Any:
        return np.where(condition, value, other)

    def sign(self, value: Any) -> Any:
        return np.sign(value)

    def sigmoid(self, value: Any) -> Any:
        return np.float32(1) / (np.float32(1) + np.exp(-np.asarray(value, np.float32)))

    def shift(self, value: Any, by: int) -> Any:
        return np.right_shift(value, np.int32(by))

    def positions(self, shape: tuple[int, ...]) -> Any:
        return np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)

    def cond(self, condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        return yes() if condition else no()

    def take(self, values: Any, place: Any) -> Any:
        return values[place]

    def loop(self, goes_on: Callable[..., Any], body: Callable[..., Any],
             state: tuple[Any, ...]) -> Any:
        while goes_on(*state):
            state = body(*state)
        return state


NUMPY: ArrayOps = NumPyOps()
