"""Trains a network whose masks are found while it trains, by an optimizer that holds them.

The optimizers are those of a user's own fit, `lth.Supermask` and `lth.SparseTraining`; here each
serves all trainings of its method: what they begin with is in its variables.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.models import sparse_optimizer
from lth_keras.experiments.training.spec import Trained, TrainingSpec
from lth_keras.experiments.training_keras2 import models, optimizers
from lth_keras.experiments.training_keras2.trainer import Trainer


class SparseTrainer(Trainer):
    """Trains a configuration's network by a method that finds its masks.

    Args:
      config: the settings.
      data: the data set.
      method: one of `lth.Supermask` or `lth.SparseTraining`.
      resident_mib: data larger than this many MiB are streamed to the device.

    Raises:
      LotteryError: if the network is trained on several devices.
    """

    def __init__(self, config: Config, data: Data, method: str, resident_mib: int):
        model = models.build(config, data.input_shape, data.classes)
        if model.distribute_strategy.num_replicas_in_sync > 1:
            raise LotteryError(f"The branch {method} is trained on one device. Received: "
                               f"{model.distribute_strategy.num_replicas_in_sync}. Leave "
                               "distribute (--distribute) out.")
        self._optimizer = sparse_optimizer(
            model, optimizers.build_optimizer(config), config, method)
        models.TF_KERAS.compile(model, self._optimizer, jit_compile=True)
        super().__init__(model, data, config.augmentation, resident_mib)

    def train(self, plan: TrainingSpec,
              on_interval: Callable[[int], None] = lambda steps: None) -> Trained:
        trained = super().train(plan, on_interval)
        return trained if trained.diverged else dataclasses.replace(trained, masks=self._found)

    def _keep_fresh(self) -> None:
        pass  # The optimizer has what it begins with.

    def _assign(self, plan: TrainingSpec) -> None:
        self._optimizer.begin(plan.weights, {
            name: int(np.count_nonzero(mask)) for name, mask in plan.masks.items()}, plan.seed)

    def _settle(self) -> None:
        # Before the early stop's weights are evaluated, which overwrites the last step's.
        self._found = self._optimizer.masks()
        self._optimizer.settle()
