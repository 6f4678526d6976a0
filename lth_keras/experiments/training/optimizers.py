"""Optimizers: the configuration's, and SGD with weight decay as the papers have it."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training import rates


@keras.saving.register_keras_serializable("lth_keras")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is part of the gradient, so that momentum gathers it too.

        g <- gradient + weight_decay x w
        v <- momentum x v - learning_rate x g
        w <- w + v

    As PyTorch's SGD has it, and as a penalty of weight_decay / 2 x |w|^2 in the loss would, with
    the loss left alone.  The weight decay of `keras.optimizers.SGD` shrinks weights beside the
    gradient, without momentum (Loshchilov & Hutter 2019 call the two L2 and decoupled).

    Args:
      learning_rate: a number > 0, or a schedule.
      momentum: in [0, 1).
      weight_decay: >= 0; of every trained weight that `exclude_from_weight_decay` does not name.
      **options: those of `keras.optimizers.SGD`.

    Example:
      >>> weight = tf.Variable([1.0, 0.0])
      >>> optimizer = CoupledSGD(0.5, momentum=0.5, weight_decay=0.25)
      >>> for _ in range(2):
      ...     _ = optimizer.apply_gradients([(tf.constant([0.5, 0.0]), weight)])
      >>> weight.numpy()  # 1 - 0.375, then - 0.1875 - 0.5 * (0.5 + 0.25 * 0.625)
      array([0.109375, 0.      ], dtype=float32)
    """

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, weight_decay: float = 0.0,
                 name: str = "CoupledSGD", **options: Any):
        super().__init__(learning_rate, momentum=momentum, weight_decay=weight_decay, name=name,
                         **options)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: Keras calls this before the step, which does it."""

    def update_step(self, gradient: Any, variable: Any) -> None:
        """One weight's step, from its gradient."""
        if self._use_weight_decay(variable):
            decay = tf.cast(self.weight_decay, variable.dtype)
            gradient = tf.convert_to_tensor(gradient) + decay * variable
        super().update_step(gradient, variable)


def of(config: Config) -> Any:
    """The optimizer of a configuration, not built.

    Returns:
      A Keras optimizer; under mixed_float16, whose gradients would underflow, one that scales
      the loss.
    """
    rate = rates.of(config)
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate)
    elif config.weight_decay:
        optimizer = CoupledSGD(rate, config.momentum, config.weight_decay)
    else:
        optimizer = keras.optimizers.SGD(rate, momentum=config.momentum)
    if config.dtype_policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer
