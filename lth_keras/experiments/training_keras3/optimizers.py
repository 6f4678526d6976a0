"""Makes the optimizer and learning-rate schedule of a configuration with Keras 3.

They compute what `training_keras2.optimizers` does.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from lth_keras.experiments.config.config import Config


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate with linear warm-up, which is divided by ten at given steps.

    Args:
      learning_rate: the learning rate after the warm-up, > 0.
      warmup_steps: steps over which it rises linearly from 0, >= 0.
      drops: rising steps, at each of which it is divided by ten.

    Attributes:
      first: the step of the schedule at the optimizer's step 0.
      stretch: optimizer steps for each step of the schedule, > 0.

    Example:
      >>> rate = Rate(0.5, warmup_steps=2, drops=(4,))
      >>> [round(float(rate(step)), 3) for step in range(6)]
      [0.0, 0.25, 0.5, 0.5, 0.05, 0.05]
    """

    def __init__(self, learning_rate: float, warmup_steps: int = 0, drops: tuple[int, ...] = ()):
        self._config: dict[str, Any] = {
            "learning_rate": learning_rate, "warmup_steps": warmup_steps, "drops": tuple(drops)}
        # Variables, since TensorFlow compiles other values into its program.
        self.first: Any = keras.Variable(0.0, trainable=False)
        self.stretch: Any = keras.Variable(1.0, trainable=False)

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate at an optimizer's step."""
        learning_rate, warmup, drops = self._config.values()
        place = ops.convert_to_tensor(self.first) \
            + ops.cast(step, "float32") / ops.convert_to_tensor(self.stretch)
        dropped = ops.sum(ops.cast(place >= ops.convert_to_tensor(drops, "float32"), "int32")) \
            if drops else 0
        # Divided in float64 and then looked up, so that each rate is the float32 nearest to it.
        rates = ops.convert_to_tensor(
            [learning_rate / 10**count for count in range(len(drops) + 1)], "float32")
        return ops.take(rates, dropped) * (ops.minimum(1.0, place / warmup) if warmup else 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that the schedule was made with."""
        return dict(self._config)


class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is added to the gradient, so that it enters the momentum.

        g <- gradient + weight_decay x w
        v <- momentum x v - learning_rate x g
        w <- w + v

    This is the weight decay of PyTorch's SGD and of the papers; that of `keras.optimizers.SGD`
    bypasses the momentum (Loshchilov & Hutter 2019 call the two L2 and decoupled).

    Example:
      >>> weight = keras.Variable([1.0, 0.0])
      >>> optimizer = CoupledSGD(0.5, momentum=0.5, weight_decay=0.25)
      >>> for _ in range(2):
      ...     _ = optimizer.apply([ops.convert_to_tensor([0.5, 0.0])], [weight])
      >>> ops.convert_to_numpy(weight)  # 1 - 0.375, then - 0.1875 - 0.5 * (0.5 + 0.25 * 0.625)
      array([0.109375, 0.      ], dtype=float32)
    """

    def _apply_weight_decay(self, variables: Any) -> None:
        """Does nothing: Keras calls this before the step, and `update_step` adds the decay."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one weight by its gradient."""
        # A pruned weight is 0, so its decay is 0 too, and it stays pruned.
        if self._use_weight_decay(variable):
            gradient = gradient + ops.cast(self.weight_decay, variable.dtype) * variable
        super().update_step(gradient, variable, learning_rate)


def build_optimizer(config: Config) -> Any:
    """Makes the optimizer of a configuration, without building it.

    With mixed_float16, Keras adds loss scaling when the model is compiled.

    Example:
      >>> from lth_keras.experiments.config import presets
      >>> build_optimizer(presets.get("vgg19")).momentum
      0.9
    """
    rate: Any = config.learning_rate
    if config.warmup_steps or config.learning_rate_drops:
        rate = Rate(rate, config.warmup_steps, config.learning_rate_drops)
    if config.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    if config.weight_decay:  # Adam has none: the papers use weight decay with SGD only.
        return CoupledSGD(rate, config.momentum, weight_decay=config.weight_decay)
    return keras.optimizers.SGD(rate, momentum=config.momentum)


def schedule_of(optimizer: Any) -> "Rate | None":
    """The learning-rate schedule of an optimizer, or None if its learning rate is constant."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # If it is a LossScaleOptimizer.
    return inner._learning_rate if isinstance(inner._learning_rate, Rate) else None


@contextlib.contextmanager
def scheduled(optimizer: Any, first: Any, stretch: Any) -> Iterator[None]:
    """Lets an optimizer's schedule begin elsewhere, while a compiled function is traced.

    Args:
      optimizer: the optimizer.
      first: the step of the schedule at the training's first step, a traced float32.
      stretch: training steps for each step of the schedule, a traced float32.
    """
    rate = schedule_of(optimizer)
    if rate is None:
        yield
        return
    kept = rate.first, rate.stretch
    rate.first, rate.stretch = first, stretch
    try:
        yield
    finally:
        rate.first, rate.stretch = kept
