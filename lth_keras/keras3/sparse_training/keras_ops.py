"""`sparse_training.array_ops` with Keras 3, on any backend."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import keras

from lth_keras.sparse_training.array_ops import ArrayOps


class KerasOps(ArrayOps):
    """`ArrayOps` of Keras 3.

    Example:
      >>> int(KerasOps().bits(keras.ops.ones(()))) == 0x3F800000
      True
    """

    def bits(self, value: Any) -> Any:
        return _BITS[keras.backend.backend()](value)

    def real(self, value: Any) -> Any:
        return keras.ops.cast(value, "float32")

    def whole(self, value: Any) -> Any:
        return keras.ops.cast(value, "int32")

    def sum(self, value: Any) -> Any:
        return keras.ops.cast(keras.ops.sum(value), value.dtype)

    def where(self, condition: Any, value: Any, other: Any) -> Any:
        return keras.ops.where(condition, value, other)

    def sign(self, value: Any) -> Any:
        return keras.ops.sign(value)

    def sigmoid(self, value: Any) -> Any:
        return keras.ops.sigmoid(value)

    def shift(self, value: Any, by: int) -> Any:
        return keras.ops.right_shift(value, by)

    def positions(self, shape: Any) -> Any:
        return keras.ops.reshape(keras.ops.arange(math.prod(shape), dtype="int32"), shape)

    def cond(self, condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        return keras.ops.cond(condition, yes, no)

    def take(self, values: Any, place: Any) -> Any:
        return keras.ops.take(values, place)

    def loop(self, goes_on: Callable[..., Any], body: Callable[..., Any],
             state: tuple[Any, ...]) -> Any:
        return keras.ops.while_loop(goes_on, body, state)


def _of_tensorflow(value: Any) -> Any:
    tf = importlib.import_module("tensorflow")
    return tf.bitcast(value, tf.int32)


def _of_jax(value: Any) -> Any:
    jax = importlib.import_module("jax")
    return jax.lax.bitcast_convert_type(value, "int32")


def _of_torch(value: Any) -> Any:
    return value.view(importlib.import_module("torch").int32)


_BITS = {"tensorflow": _of_tensorflow, "jax": _of_jax, "torch": _of_torch}
