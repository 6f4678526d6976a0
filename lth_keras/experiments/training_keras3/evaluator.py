"""Evaluates the test error and loss of given weights in a run's network, with Keras 3."""

from lth_keras.core.masks import Arrays
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras3.network_states import ModelLayout
from lth_keras.experiments.training_keras3.trainer import compiled_model, program_of


class Evaluator:
    """Evaluates any weights of a configuration's network, which is compiled once.

    Args:
      config: the settings.
      data: the data set that the settings name.

    Raises:
      LotteryError: if the settings do not fit the network or the data set.
    """
    # A ticket's pruned weights are stored as zeros: no masks are needed.

    def __init__(self, config: Config, data: Data):
        model = compiled_model(config, data)
        self._layout = ModelLayout(model)
        self._names = set(self._layout.weights(*self._layout.fresh[:2]))
        self._program = program_of(model, self._layout, data, config, together=1)

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
        if set(weights) != self._names:
            differ = sorted(set(weights) ^ self._names)
            raise LotteryError("A network must be evaluated with all its weights and no others. "
                               f"Received: weights that differ in {differ!s:.200}.")
        self._program.begin([self._layout.state(weights, {}, 0)], [0])
        logs = self._program.evaluate("test")
        return {name: float(logs[name][0]) for name in ("accuracy", "loss")}
