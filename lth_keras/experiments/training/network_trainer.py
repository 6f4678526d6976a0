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

    def measure(self, spec: TrainingSpec) -> Speed:
        """Compiles the training, and measures its speed."""

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
