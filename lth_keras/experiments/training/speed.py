"""Measures how fast a process trains, in a few seconds."""

from collections.abc import Callable

from lth_keras.experiments.results.outcome import Speed

_MEASURED = 1.0  # About how many seconds of steps a measurement takes.


def measured(seconds: Callable[[int], float], most: int, evaluated: float,
             together: int = 1) -> Speed:
    """Measures the speed of training.

    Args:
      seconds: trains a number of steps, which end with a validation, and returns how long they
        took; its first call compiles.
      most: the largest number of steps that it can train.
      evaluated: the examples that are evaluated at the end of a training, divided by those of a
        validation.
      together: how many networks are trained at the same time.

    Example:
      >>> speed = measured(lambda steps: 0.25 * steps + 0.5, most=10, evaluated=2.0)
      >>> speed.step, speed.validation, speed.evaluation
      (0.25, 0.5, 1.0)
    """
    first, short = seconds(1), min(seconds(1), seconds(1))
    # The steps end with a validation, which may take longer than many steps: double the steps
    # until their time shows beside it.  The last count is measured twice, so that a pause of the
    # machine is not mistaken for it.
    count, taken = 1, short
    while count < most and taken - short < _MEASURED / 2:
        count = min(2 * count, most)
        taken = seconds(count)
        if taken - short >= _MEASURED / 2:
            taken = min(taken, seconds(count))
    step = max(0.0, taken - short) / max(1, count - 1)
    validation = max(0.0, short - step)
    return Speed(max(0.0, first - short), step, validation, validation * evaluated, together)
