"""Evaluation: the error of given weights, in a run's own network and on its own test set."""

import numpy as np

from lth_keras.core.masks import Arrays
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training import data_feed, models
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.program import Program
from lth_keras.keras2.masking.weight_names import named_weights


class Evaluator:
    """The network of a configuration, compiled once to evaluate any weights of it.

    It is not wrapped: a ticket's weights are zero where it is pruned, and those between two
    networks are what they are.

    Args:
      config: the settings.
      data: the data set that they name.
      resident_mib: data larger than so many MiB are streamed to the device.

    Raises:
      LotteryError: if the settings fit the network or the data set not.
    """

    def __init__(self, config: Config, data: Data, resident_mib: int = data_feed.RESIDENT_MIB):
        model = models.build(config, data.input_shape, data.classes)
        models.compile_model(model, config)
        self._variables = named_weights(model)
        self._feed = data_feed.make(Program(model, data), data, resident_mib)
        self._test = np.arange(len(data.y_test))

    def error(self, weights: Arrays) -> float:
        """The share of the test set that a network gets wrong, in [0, 1].

        Args:
          weights: name -> array, of every weight of the network.

        Raises:
          LotteryError: if they are not the network's.
        """
        if set(weights) != set(self._variables):
            differ = sorted(set(weights) ^ set(self._variables))
            raise LotteryError("A network is evaluated with all its weights and no others. "
                               f"Received: weights that differ from it in {differ!s:.200}.")
        for name, variable in self._variables.items():
            variable.assign(weights[name])
        return 1 - float(self._feed.evaluate("test", self._test)["accuracy"])
