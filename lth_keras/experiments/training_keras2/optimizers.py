"""Makes the optimizer and learning-rate schedule of a configuration.

Where a training begins in its schedule, and how far the schedule is stretched, are variables, so
that one compiled program trains from step 0, from step k, and for any number of steps.
"""

from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.experiments.config.config import Config


@keras.saving.register_keras_serializable("lth_keras")
class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate with linear warm-up, which is divided by ten at given steps.

    Args:
      learning_rate: the learning rate after the warm-up, > 0.
      warmup_steps: steps over which it rises linearly from 0, >= 0.
      drops: rising steps, at each of which it is divided by ten.

    Attributes:
      first: the step of the schedule at the optimizer's step 0, float32.
      stretch: optimizer steps for each step of the schedule, float32.

    Example:
      >>> rate = Rate(0.5, warmup_steps=2, drops=(4,))
      >>> [round(float(rate(step)), 3) for step in range(6)]
      [0.0, 0.25, 0.5, 0.5, 0.05, 0.05]
      >>> begin_schedule_at(keras.optimizers.SGD(rate), first=4)
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
        """Returns the learning rate at an optimizer's step."""
        learning_rate, warmup, drops = self._config.values()
        place = self.first + tf.cast(step, tf.float32) / self.stretch
        dropped = tf.reduce_sum(tf.cast(place >= tf.constant(drops, tf.float32, (len(drops),)),
                                        tf.int32))
        # Divided in float64 and then looked up, so that each rate is the float32 nearest to it.
        rates = tf.constant([learning_rate / 10**count for count in range(len(drops) + 1)],
                            tf.float32)
        return rates[dropped] * tf.minimum(1.0, place / warmup if warmup else 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that the schedule was made with."""
        return dict(self._config)


@keras.saving.register_keras_serializable("lth_keras")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is added to the gradient, so that it enters the momentum.

        g <- gradient + weight_decay x w
        v <- momentum x v - learning_rate x g
        w <- w + v

    This is the weight decay of PyTorch's SGD and of the papers: the same as a penalty of
    weight_decay / 2 x |w|^2 in the loss, but the reported loss does not contain it.  The weight
    decay of `keras.optimizers.SGD` bypasses the momentum (Loshchilov & Hutter 2019 call the two L2
    and decoupled).

    Args:
      learning_rate: a number > 0, or a schedule.
      momentum: the momentum, in [0, 1).
      weight_decay: the weight decay, >= 0, of every trained weight that
        `exclude_from_weight_decay` does not name.
      **options: options of `keras.optimizers.SGD`.

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
        """Does nothing: Keras calls this before the step, and `update_step` adds the decay."""

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Updates one weight by its gradient."""
        # A pruned weight is 0, so its decay is 0 too, and it stays pruned.
        if self._use_weight_decay(variable):
            decay = tf.cast(self.weight_decay, variable.dtype)
            gradient = tf.convert_to_tensor(gradient) + decay * variable
        super().update_step(gradient, variable)


def learning_rate(config: Config) -> "float | Rate":
    """Returns the learning rate of a configuration: a number, or a schedule if it changes.

    Example:
      >>> from lth_keras.experiments.config import presets
      >>> learning_rate(presets.get("lenet_300_100"))
      0.0012
    """
    if not (config.warmup_steps or config.learning_rate_drops):
        return config.learning_rate
    return Rate(config.learning_rate, config.warmup_steps, config.learning_rate_drops)


def begin_schedule_at(optimizer: Any, first: float, stretch: float = 1.0) -> None:
    """Sets the step of the learning-rate schedule at which a training begins.

    A constant learning rate has no schedule; then nothing is done.

    Args:
      optimizer: the optimizer of the model that is trained.
      first: the step of the schedule at the training's first step.
      stretch: training steps for each step of the schedule, > 0; `strategies.CONSTANT` keeps the
        learning rate at that of step `first`.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # If it is a LossScaleOptimizer.
    rate = inner._learning_rate
    if isinstance(rate, Rate):
        rate.first.assign(first)
        rate.stretch.assign(stretch)


def build_optimizer(config: Config) -> Any:
    """Makes the optimizer of a configuration, without building it.

    Returns:
      A Keras optimizer; with mixed_float16 a LossScaleOptimizer, since small gradients would
      become 0.

    Example:
      >>> from lth_keras.experiments.config import presets
      >>> build_optimizer(presets.get("vgg19")).name
      'CoupledSGD'
    """
    rate = learning_rate(config)
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate)
    elif config.weight_decay:  # Adam has none: the papers use weight decay with SGD only.
        optimizer = CoupledSGD(rate, config.momentum, config.weight_decay)
    else:
        optimizer = keras.optimizers.SGD(rate, momentum=config.momentum)
    if config.dtype_policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer
