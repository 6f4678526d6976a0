"""Linear mode connectivity: the error along the straight line between two trained networks.

    weights(alpha) = (1 - alpha) * first + alpha * second
    instability    = max over alpha of error(alpha) - (error(0) + error(1)) / 2
    barrier        = max over alpha of error(alpha) - ((1 - alpha) * error(0) + alpha * error(1))

Two networks that were trained from the same weights with different data orders, and ended in the
same minimum, have no barrier of error between them (Frankle, Dziugaite, Roy & Carbin, ICML 2020,
arXiv:1912.05671, section 2).  Their errors are about equal.  The barrier allows for two networks of
which one is worse, as those of two levels are: an error that only rises from the one to the other
is no barrier (Paul et al., ICLR 2023, arXiv:2210.03044).
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError

POINTS = 30  # Evenly spaced values of alpha, as in the paper.
STABLE = 0.02  # Networks with a lower instability count as stable (the same paper, section 3).


@dataclasses.dataclass(frozen=True, eq=False)
class Path:
    """The error along the line between two networks.

    Attributes:
      alphas: evenly spaced from 0 (the first network) to 1 (the second), shape (points,).
      errors: the error at each alpha, in [0, 1], shape (points,).

    Example:
      >>> path = Path(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.5, 0.3]))
      >>> round(path.instability, 3), path.stable
      (0.3, False)
    """

    alphas: Array
    errors: Array

    @property
    def ends(self) -> float:
        """The mean error of the two networks."""
        return float(self.errors[0] + self.errors[-1]) / 2

    @property
    def highest(self) -> float:
        """The highest error on the line."""
        return float(self.errors.max())

    @property
    def instability(self) -> float:
        """The highest error on the line less the mean error of the two networks, >= 0."""
        return self.highest - self.ends

    @property
    def barrier(self) -> float:
        """The highest rise of the error above the straight line between the two errors, >= 0.

        Example:
          >>> Path(np.array([0.0, 0.5, 1.0]), np.array([0.1, 0.2, 0.3])).barrier
          0.0
        """
        straight = (1 - self.alphas) * self.errors[0] + self.alphas * self.errors[-1]
        return float(np.maximum(0, self.errors - straight).max())

    @property
    def stable(self) -> bool:
        """Whether the instability is below 2%."""
        return self.instability < STABLE


def interpolate(first: Arrays, second: Arrays, alpha: float) -> dict[str, Array]:
    """Interpolates between two networks: (1 - alpha) * first + alpha * second.

    All weights are interpolated, including batch normalisation's moving means and variances.
    Arrays of integers are taken from the first network.

    Args:
      first: weight name -> array.
      second: weight name -> array, with the same names and shapes.
      alpha: in [0, 1]; 0 gives the first network and 1 the second, bit for bit.

    Raises:
      LotteryError: if the networks have different weights, or alpha is outside [0, 1].

    Example:
      >>> interpolate({"w": np.array([0.0, 2.0])}, {"w": np.array([4.0, 2.0])}, 0.25)
      {'w': array([1., 2.])}
    """
    if not 0 <= alpha <= 1:
        raise LotteryError(f"alpha must lie in [0, 1]. Received: {alpha}.")
    shapes = [{name: np.shape(value) for name, value in network.items()}
              for network in (first, second)]
    if shapes[0] != shapes[1]:
        differ = sorted(name for name in {*first, *second}
                        if shapes[0].get(name) != shapes[1].get(name))
        raise LotteryError("Networks must have the same weights, with the same shapes, to be "
                           f"interpolated. Received: two that differ in {differ!s:.200}.")
    return {name: _between(np.asarray(value), np.asarray(second[name]), alpha)
            for name, value in first.items()}


def _between(first: Array, second: Array, alpha: float) -> Array:
    if not np.issubdtype(first.dtype, np.floating):  # Counters and seeds have no value in between.
        return first
    if alpha in (0, 1):  # The ends of the line are the networks themselves, bit for bit.
        return second if alpha else first
    # In float64: the rounding of float32 could show as a barrier between equal networks.
    line = (1 - alpha) * first.astype(np.float64) + alpha * second.astype(np.float64)
    return line.astype(first.dtype)


def walk(error: Callable[[Arrays], float], first: Arrays, second: Arrays,
         points: int = POINTS) -> Path:
    """Measures the error at evenly spaced points on the line between two networks.

    Args:
      error: a function that returns the error of weights, in [0, 1].
      first: weight name -> array.
      second: weight name -> array, with the same names and shapes.
      points: the number of points, including both ends, >= 2.

    Raises:
      LotteryError: if the networks have different weights, or there are fewer than two points.

    Example:
      Between two wells at -1 and 1 lies a barrier:

      >>> wells = lambda weights: float(1 - weights["w"] ** 2)
      >>> walk(wells, {"w": np.array(-1.0)}, {"w": np.array(1.0)}, points=3).instability
      1.0
    """
    if points < 2:
        raise LotteryError(f"points must be a whole number >= 2, for the two ends of the line. "
                           f"Received: {points}.")
    alphas = np.linspace(0, 1, points)
    return Path(alphas, np.array([error(interpolate(first, second, float(alpha)))
                                  for alpha in alphas]))
