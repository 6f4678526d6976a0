"""Trains a network whose masks are found while it trains, by an optimizer that holds them.

The optimizers are those of a user's own fit, `lth.Supermask` and `lth.SparseTraining`; here each
serves all trainings of its method: what they begin with is in its variables.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.spec import Trained, TrainingSpec
from lth_keras.experiments.training_keras2 import models, optimizers
from lth_keras.experiments.training_keras2.trainer import Trainer
from lth_keras.sparse_training.sparse_training import SparseTraining
from lth_keras.sparse_training.supermask import Supermask
from lth_keras.sparse_training.supermask_methods import METHODS as SUPERMASKS


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
        self._optimizer = _optimizer(model, config, method)
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


def _optimizer(model: Any, config: Config, method: str) -> Any:
    # How many weights are kept is set before each training.
    inner = optimizers.build_optimizer(config)
    if method in SUPERMASKS:
        return Supermask(model, inner, 1.0, method)
    # Evci et al., ICML 2020, appendix B, for RigL and SET: three quarters of the training.
    return SparseTraining(model, inner, method, density=1.0, every=config.mask_update_every,
                          until=config.steps * 3 // 4,
                          begin=config.steps // 10 if method == "gradual" else 0)
