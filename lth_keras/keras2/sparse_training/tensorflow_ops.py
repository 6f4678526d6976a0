"""`sparse_training.array_ops` with TensorFlow."""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lth_keras.sparse_training.array_ops import ArrayOps


class TensorFlowOps(ArrayOps):
    """`ArrayOps` of TensorFlow: eagerly, in a graph, or compiled by XLA.

    Example:
      >>> int(TensorFlowOps().bits(tf.constant(1.0))) == 0x3F800000
      True
    """

    def bits(self, value: Any) -> Any:
        return tf.bitcast(value, tf.int32)

    def real(self, value: Any) -> Any:
        return tf.cast(value, tf.float32)

    def whole(self, value: Any) -> Any:
        return tf.cast(value, tf.int32)

    def sum(self, value: Any) -> Any:
        return tf.reduce_sum(value)

    def where(self, condition: Any, value: Any, other: Any) -> Any:
        return tf.where(condition, value, other)

    def sign(self, value: Any) -> Any:
        return tf.sign(value)

    def sigmoid(self, value: Any) -> Any:
        return tf.sigmoid(value)

    def shift(self, value: Any, by: int) -> Any:
        return tf.bitwise.right_shift(value, by)

    def positions(self, shape: Any) -> Any:
        return tf.reshape(tf.range(math.prod(shape), dtype=tf.int32), shape)

    def cond(self, condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        return tf.cond(condition, yes, no)

    def take(self, values: Any, place: Any) -> Any:
        # Not values[place]: XLA would compile the step anew for each place.
        return tf.gather(values, place)

    def loop(self, goes_on: Callable[..., Any], body: Callable[..., Any],
             state: tuple[Any, ...]) -> Any:
        return tf.while_loop(goes_on, body, state)
