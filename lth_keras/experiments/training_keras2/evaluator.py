"""Evaluates the test error and loss of given weights, in a run's network and on its test set."""

import numpy as np

from lth_keras.core.masks import Arrays
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras2 import data_feed, models
from lth_keras.experiments.training_keras2.program import Program
from lth_keras.keras2.masking.weight_names import named_weights


class Evaluator:
    """Evaluates any weights of a configuration's network, which is compiled once.

    Args:
      config: the settings.
      data: the data set that the settings name.
      resident_mib: data larger than this many MiB are streamed to the device.

    Raises:
      LotteryError: if the settings do not fit the network or the data set.
    """
    # The network needs no wrappers: a ticket's pruned weights are stored as zeros, and networks
    # on the line between two others have no masks of their own.

    def __init__(self, config: Config, data: Data, resident_mib: int = data_feed.RESIDENT_MIB):
        model = models.build(config, data.input_shape, data.classes)
        models.compile_model(model, config)
        self._variables = named_weights(model)
        self._feed = data_feed.make(Program(model, data), data, resident_mib)
        self._test = np.arange(len(data.y_test))

    def error(self, weights: Arrays) -> float:
        """Returns the share of test examples that a network classifies wrongly, in [0, 1].

        Args:
          weights: name -> array, for every weight of the network.

        Raises:
          LotteryError: if the names are not those of the network's weights.
        """
        return 1 - self.evaluate(weights)["accuracy"]

    def evaluate(self, weights: Arrays) -> dict[str, float]:
        """Returns the accuracy, in [0, 1], and the mean loss of a network on the test examples.

        Args:
          weights: name -> array, for every weight of the network.

        Raises:
          LotteryError: if the names are not those of the network's weights.
        """
        if set(weights) != set(self._variables):
            differ = sorted(set(weights) ^ set(self._variables))
            raise LotteryError("A network must be evaluated with all its weights and no others. "
                               f"Received: weights that differ in {differ!s:.200}.")
        for name, variable in self._variables.items():
            variable.assign(weights[name])
        logs = self._feed.evaluate("test", self._test)
        return {name: float(logs[name]) for name in ("accuracy", "loss")}
