"""The learning rate over a training: warm-up, and drops by ten.

Where a training begins in it, and how far it is stretched, are variables, so that one compiled
program trains from step 0, from step k, and for any budget.
"""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.experiments.config.config import Config

STILL = 1e30  # So far stretched, the learning rate stays where it begins.


@keras.saving.register_keras_serializable("lth_keras")
class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises from 0, stays, and is divided by ten at some steps.

    Args:
      learning_rate: after the warm-up, > 0.
      warmup_steps: steps over which it rises linearly from 0, >= 0.
      drops: rising steps, from each of which on it is a tenth of what it was.

    Attributes:
      first: the step of the schedule at which the optimizer's step 0 lies, float32.
      stretch: optimizer steps a step of the schedule, float32.

    Example:
      >>> rate = Rate(0.5, warmup_steps=2, drops=(4,))
      >>> [round(float(rate(step)), 3) for step in range(6)]
      [0.0, 0.25, 0.5, 0.5, 0.05, 0.05]
      >>> place(keras.optimizers.SGD(rate), first=4)
      >>> round(float(rate(0)), 3)
      0.05
    """

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.

    def __init__(self, learning_rate: float, warmup_steps: int = 0, drops: tuple[int, ...] = ()):
        self._config: dict[str, Any] = {
            "learning_rate": learning_rate, "warmup_steps": warmup_steps, "drops": tuple(drops)}
        self.first = tf.Variable(0.0, trainable=False, name="first")
        self.stretch = tf.Variable(1.0, trainable=False, name="stretch")

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate at an optimizer's step."""
        learning_rate, warmup, drops = self._config.values()
        place = self.first + tf.cast(step, tf.float32) / self.stretch
        dropped = tf.reduce_sum(tf.cast(place >= tf.constant(drops, tf.float32, (len(drops),)),
                                        tf.int32))
        rates = tf.constant([learning_rate / 10**count for count in range(len(drops) + 1)],
                            tf.float32)
        return rates[dropped] * tf.minimum(1.0, place / warmup if warmup else 1.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments that it was made with."""
        return dict(self._config)


def of(config: Config) -> "float | Rate":
    """The learning rate of a configuration: a number, if it never changes."""
    if not (config.warmup_steps or config.learning_rate_drops):
        return config.learning_rate
    return Rate(config.learning_rate, config.warmup_steps, config.learning_rate_drops)


def place(optimizer: Any, first: float, stretch: float = 1.0) -> None:
    """Sets where a training begins in its learning rate; nothing, if that never changes.

    Args:
      optimizer: the optimizer of the model that is trained.
      first: the step of the schedule that the training's first step has.
      stretch: training steps a step of the schedule, > 0; `STILL` to stay at `first`.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # Of one that scales the loss.
    rate = inner._learning_rate
    if isinstance(rate, Rate):
        rate.first.assign(first)
        rate.stretch.assign(stretch)
