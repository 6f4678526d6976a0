"""Trains networks of all branches: masks that stay, and those that are found in training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.models import sparse_optimizer
from lth_keras.experiments.training.network_trainer import OnInterval
from lth_keras.experiments.training.spec import Trained, TrainingRecord, TrainingSpec
from lth_keras.experiments.training_keras3.network_states import ModelLayout, NetworkState
from lth_keras.experiments.training_keras3.trainer import PlainNetworkTrainer


class SparseLayout(ModelLayout):
    """Where the weights, masks and scores of a model lie, whose optimizer finds its masks.

    Args:
      model: a model that is compiled with `lth.Supermask` or `lth.SparseTraining`.  Its variables
        are overwritten whenever a state is made or settled.
    """

    def __init__(self, model: Any):
        super().__init__(model, has_masks=False)
        self._optimizer = model.optimizer

    def state(self, weights: Arrays, masks: Arrays, seed: int) -> NetworkState:
        self._optimizer.begin(weights, {
            name: int(np.count_nonzero(mask)) for name, mask in masks.items()}, seed)
        return self._seeded(self.read()._replace(metrics=list(self.fresh.metrics)), seed)

    def settled(self, state: NetworkState) -> tuple[NetworkState, dict[str, Array]]:
        """The state of a training at its end, with the weights of its masks; and the masks."""
        self.write(state)
        masks: dict[str, Array] = self._optimizer.masks()
        self._optimizer.settle()
        return self.read(), masks


class SparseNetworkTrainer(PlainNetworkTrainer):
    """Trains a configuration's network by a method that finds its masks.

    Args:
      config: the settings.
      data: the data set that the settings name.
      method: one of `lth.Supermask` or `lth.SparseTraining`.
      resident_mib, together: as `PlainNetworkTrainer` takes them.
    """

    def __init__(self, config: Config, data: Data, method: str, resident_mib: int,
                 together: int | None = None):
        self._method = method
        super().__init__(config, data, resident_mib, together)

    def _optimizer(self, model: Any, inner: Any) -> Any:
        return sparse_optimizer(model, inner, self._made_with[0], self._method)

    def _layout_of(self, model: Any) -> ModelLayout:
        return SparseLayout(model)

    def _train(self, specs: Sequence[TrainingSpec], on_interval: OnInterval) -> list[Trained]:
        found = super()._train(specs, on_interval)
        return [trained if trained.diverged else dataclasses.replace(trained, masks=masks)
                for trained, masks in zip(found, self._masks, strict=True)]

    def _settle(self, records: Sequence[TrainingRecord]) -> None:
        assert isinstance(self._layout, SparseLayout)
        states = self.program.states()
        self._masks: list[dict[str, Array] | None] = [None] * len(records)
        for place, record in enumerate(records):
            if not record.stopped:
                states[place], self._masks[place] = self._layout.settled(states[place])
        self.program.put(states)


class BranchTrainer(PlainNetworkTrainer):
    """Trains the networks of all branches of a configuration.

    Those whose masks are found in training have a program for each method, which is compiled when
    the first of them comes.

    Args:
      config, data, resident_mib, together: as `PlainNetworkTrainer` takes them.
    """

    def __init__(self, config: Config, data: Data, resident_mib: int,
                 together: int | None = None):
        super().__init__(config, data, resident_mib, together)
        self._sparse: dict[str, SparseNetworkTrainer] = {}

    def _trainer_of(self, method: str) -> PlainNetworkTrainer:
        if not method:
            return self
        if method not in self._sparse:
            config, data, resident_mib = self._made_with
            self._sparse[method] = SparseNetworkTrainer(
                config, data, method, resident_mib, self.together)
        return self._sparse[method]
