"""A layer that takes some of the features of its input."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.errors import LotteryError


@keras.saving.register_keras_serializable("lth_keras")
class GatherFeatures(keras.layers.Layer):
    """Takes some of the features of its input: positions on the last axis.

    Args:
      positions: which, in the order in which they are given on, each >= 0; at least one.

    Raises:
      LotteryError: if there is none, or one is no such number.

    Example:
      >>> GatherFeatures([0, 2])(tf.constant([[5.0, 6.0, 7.0]])).numpy()
      array([[5., 7.]], dtype=float32)
    """

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.

    def __init__(self, positions: Sequence[int], **options: Any):
        super().__init__(**options)
        if not positions or any(isinstance(place, bool) or place != int(place) or place < 0
                                for place in positions):
            raise LotteryError("GatherFeatures needs positions, each a whole number >= 0. "
                               f"Received: {positions!s:.100}.")
        self.positions = [int(place) for place in positions]

    def call(self, inputs: Any) -> tf.Tensor:
        """The features at the positions."""
        return tf.gather(inputs, tf.constant(self.positions, tf.int32), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments that it was made with."""
        return {**super().get_config(), "positions": list(self.positions)}


# Files of version 0.1.0 have it under this name.
keras.saving.get_custom_objects()["lth_keras>Take"] = GatherFeatures
