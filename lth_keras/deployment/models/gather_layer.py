"""A Keras layer that selects some of the features of its input."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.errors import LotteryError


@keras.saving.register_keras_serializable("lth_keras")
class GatherFeatures(keras.layers.Layer):
    """Selects features of its input by their positions on the last axis.

    Args:
      positions: the indices of the features, each >= 0, in the order of the output; at least one.

    Raises:
      LotteryError: if positions is empty, or one of them is not a whole number >= 0.

    Example:
      >>> GatherFeatures([0, 2])(tf.constant([[5.0, 6.0, 7.0]])).numpy()
      array([[5., 7.]], dtype=float32)
    """

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.

    def __init__(self, positions: Sequence[int], **options: Any):
        super().__init__(**options)
        if not positions or any(isinstance(place, bool) or place != int(place) or place < 0
                                for place in positions):
            raise LotteryError("positions must hold at least one whole number, each >= 0. "
                               f"Received: {positions!s:.100}.")
        self.positions = [int(place) for place in positions]

    def call(self, inputs: Any) -> tf.Tensor:
        """Returns the features at the positions."""
        return tf.gather(inputs, tf.constant(self.positions, tf.int32), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that the layer was made with."""
        return {**super().get_config(), "positions": list(self.positions)}


# Files of version 0.1.0 hold the layer under this name.
keras.saving.get_custom_objects()["lth_keras>Take"] = GatherFeatures
