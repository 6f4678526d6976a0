"""The masks of a run whose strategy scores the weights before training (`config.at_init`)."""

import logging
import math
from collections.abc import Callable

import numpy as np

from lth_keras import quiet
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.next_masks import PruningRule
from lth_keras.core.seeding import generator
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import Config, SCOPE
from lth_keras.experiments.config.strategies import STRATEGIES
from lth_keras.experiments.training.datasets import Data, scaled
from lth_keras.experiments.training.network_trainer import NetworkTrainer
from lth_keras.initial.distributions import Kept, shared
from lth_keras.initial.prune_at_init import masks_at_init, WITH_DATA


class AtInitMasks:
    """Prunes a configuration's network before it is trained, as `lth.prune_at_init` does.

    Args:
      config: the settings.
      data: the data set.
      trainer: what trains the network, and gives it to what scores it.
      rule: what says how many weights each level keeps.
      examples: replicate -> the indices of its training examples.
    """

    def __init__(self, config: Config, data: Data, trainer: NetworkTrainer, rule: PruningRule,
                 examples: Callable[[int], Array]):
        self._config, self._data, self._trainer = config, data, trainer
        self._rule, self._examples = rule, examples
        self._method = STRATEGIES[config.strategy].at_init

    def masks(self, replicate: int, level: int, theta: Arrays,
              inverted: bool = False) -> dict[str, Array]:
        """Makes the masks of a level.

        Args:
          replicate: the replicate.
          level: the level, whose number of weights is kept.
          theta: name -> array at theta_k, for every weight.
          inverted: whether the highest scores are pruned in place of the lowest.
        """
        shapes = self._trainer.shapes
        kept: Kept = self._rule.kept_at(
            level, {name: math.prod(shape) for name, shape in shapes.items()})
        if self._config.distribution != SCOPE:
            kept = shared(shapes, kept, self._config.distribution)
        data = self._scoring_data(replicate) if self._method in WITH_DATA else None
        # One seed for all levels of a replicate: with it the levels' random masks are nested.
        seed = int(self._rng(replicate, "at_init").integers(2**31))
        # TensorFlow warns that it compiles the loss again, which is nothing beside a training.
        with quiet.logs(logging.WARNING):
            return masks_at_init(self._trainer.scored_model(theta), self._method, kept, data=data,
                                 seed=seed, inverted=inverted)

    def _scoring_data(self, replicate: int) -> tuple[Array, Array]:
        # So many examples of each class, drawn from those that are trained on.
        drawn = self._rng(replicate, "scoring").permutation(self._examples(replicate))
        classes = self._data.y_train
        chosen = np.sort(np.concatenate([
            drawn[classes[drawn] == each][:self._config.scoring_per_class]
            for each in range(self._data.classes)]))
        return scaled(self._data.x_train[chosen]), classes[chosen]

    def _rng(self, replicate: int, purpose: str) -> np.random.Generator:
        return generator(self._config.seed, purpose, replicate=replicate, level=0, branch=TICKET,
                         branch_index=0)
