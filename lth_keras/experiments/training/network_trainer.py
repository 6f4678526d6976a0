"""What a round needs of whatever trains its networks, with either Keras; and how fast it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.structure import Structure
from lth_keras.experiments.results.outcome import Speed
from lth_keras.experiments.training.spec import Trained, TrainingSpec
from lth_keras.initial.scored_model import ScoredModel

# Called after each validation, with the place of a training in its group and the number of steps
# since the training's last validation.
OnInterval = Callable[[int, int], None]
_MEASURED = 1.0  # About how many seconds of steps a measurement of the speed takes.
WITHIN = 20.0  # Seconds of a measurement after which nothing is tried a second time.


class NetworkTrainer(Protocol):
    """Trains a network of one architecture, compiled once, from any weights and masks.

    Attributes:
      prunable: weight name -> the weight's name and layer, for every prunable weight, in the order
        of the model.
      shapes: weight name -> shape, for the same weights.
      structures: weight name -> the structure that the weight is pruned in, for the same weights.
      together: how many trainings it runs at the same time, >= 1.
      provenance: what decides the bits of its trainings beside their settings, for tickets.
    """

    prunable: Mapping[str, Prunable]
    shapes: Mapping[str, tuple[int, ...]]
    structures: Mapping[str, Structure]
    together: int
    provenance: Mapping[str, Any]

    def initial_weights(self, rng: np.random.Generator) -> dict[str, Array]:
        """Draws theta_0: a value for every weight of the network, by name."""

    def train(self, specs: Sequence[TrainingSpec], on_interval: OnInterval) -> list[Trained]:
        """Trains networks, each from its own weights and masks and with a fresh optimizer."""

    def stopwatch(self, spec: TrainingSpec) -> "Stopwatch":
        """What compiles a training like those to come, and measures its speed."""

    def loss_gradient(self, weights: Arrays, masks: Arrays, indices: Array) -> dict[str, Array]:
        """Computes the mean gradient of the loss for every prunable weight.

        Args:
          weights: name -> array, for every weight.
          masks: weight name -> 0/1 array.
          indices: the training examples over which it is the mean; they are not augmented.
        """

    def activations(self, weights: Arrays, masks: Arrays, indices: Array) -> dict[str, Array]:
        """Computes what filters give to the next layers, for every kernel that makes filters.

        Args:
          weights: name -> array, for every weight.
          masks: weight name -> 0/1 array.
          indices: the training examples over which it is the mean; they are not augmented.
        """

    def scored_model(self, weights: Arrays) -> ScoredModel:
        """Gives the dense network with given weights to what scores it at initialisation.

        Args:
          weights: name -> array, for every weight.
        """

    def smaller(self, counts: Sequence[int]) -> "NetworkTrainer":
        """Makes a trainer of the same network with fewer units, which trains it without masks.

        Args:
          counts: how many units each group of its structure keeps, >= 1.
        """

    def uses(self) -> Mapping[str, float]:
        """How often each number of a weight is multiplied with for an example, by weight name."""


class Stopwatch:
    """Measures the speed of training one network, within a time.

    Args:
      seconds: trains a number of steps, which end with a validation, and returns how long they
        took; its first call compiles.
      most: the largest number of steps that it can train.
      evaluated: the examples that are evaluated at the end of a training, divided by those of a
        validation.
      together: how many networks are trained at the same time.

    Example:
      >>> speed = Stopwatch(lambda steps: 0.25 * steps + 0.5, most=10, evaluated=2.0).measure()
      >>> speed.step, speed.validation, speed.evaluation, speed.timed
      (0.25, 0.5, 1.0, 4)
    """

    def __init__(self, seconds: Callable[[int], float], most: int, evaluated: float,
                 together: int = 1):
        self._seconds, self._most, self._evaluated = seconds, most, evaluated
        self._together = together
        self._first: float | None = None

    def compile(self) -> float:
        """Compiles the training, once; returns the seconds of that, a step and a validation."""
        if self._first is None:
            self._first = self._seconds(1)
        return self._first

    def measure(self, within: float = WITHIN) -> Speed:
        """Measures the speed, and compiles before that if `compile` has not been called.

        Args:
          within: about how many seconds it may take after compiling: when they are over, nothing
            is tried a second time.
        """
        first, taken = self.compile(), _Budget(within, self._seconds)
        short = taken.best_of_two(1)
        # The steps end with a validation, which may take longer than many steps: double the steps
        # until their time shows beside it.
        count, long = 1, short
        while count < self._most and long - short < _MEASURED / 2 and (
                count == 1 or taken.has(2 * long)):
            count = min(2 * count, self._most)
            long = taken(count)
        if long - short >= _MEASURED / 2 and taken.has(long):
            # A second time, so that a pause of the machine is not mistaken for them.
            long = min(long, taken(count))
        step = max(0.0, long - short) / max(1, count - 1)
        validation = max(0.0, short - step)
        return Speed(max(0.0, first - short), step, validation, validation * self._evaluated,
                     self._together, timed=count)


class _Budget:
    # Counts what the calls of a function that returns its seconds have taken.

    def __init__(self, within: float, seconds: Callable[[int], float]):
        self._left, self._seconds = within, seconds

    def __call__(self, count: int) -> float:
        taken = self._seconds(count)
        self._left -= taken
        return taken

    def has(self, seconds: float) -> bool:
        return self._left >= seconds

    def best_of_two(self, count: int) -> float:
        one = self(count)
        return min(one, self(count)) if self.has(2 * one) else one
