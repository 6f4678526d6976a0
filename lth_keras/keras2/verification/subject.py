"""Builds the model that `lth.verify` checks, as often as a check needs it."""

from collections.abc import Callable
from typing import Any

import tf_keras as keras

from lth_keras.core.masks import Array
from lth_keras.core.verification import cut, Recording
from lth_keras.errors import LotteryError
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import check_keras2, named_weights, wrappers
from lth_keras.keras2.masking.wrap import strip_pruning
from lth_keras.keras2.verification.trained import compiled_as, train


class Subject:
    """The model that is checked, built again for each training, always with the same weights.

    Args:
      build: a function that returns the compiled model.
      wrap: a function that returns a model in wrappers.
      batches, seed: see below.

    Attributes:
      batches: the batches of a training, one for each step.
      seed: the seed of initial weights and of random numbers in training.
      name: the model's name.
      skipped: check -> the reason why it was skipped.
      notes: further information for the report.
      dense: the recorded training of the model without wrappers, after `checks.wrapping`.
      eager: the wrapped model that `checks.wrapping` trained eagerly.
      pruned: the wrapped model that `checks.rewinding` trained, and `checks.pruning` prunes.
    """

    def __init__(self, build: Callable[[], Any], wrap: Callable[[Any], Any], batches: list[Any],
                 seed: int):
        if isinstance(build, keras.layers.Layer) or not callable(build):
            raise LotteryError(
                "build must be a function without arguments that returns a new compiled model at "
                f"every call. Received: {build!r:.100}.")
        self._build, self._wrap = build, wrap
        self.batches, self.seed = batches, seed
        self.name = ""
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        self.dense: Recording | None = None
        self.eager: Any = None
        self.pruned: Any = None
        self._start: dict[str, Array] = {}

    def plain(self, **settings: Any) -> Any:
        """Builds the model without wrappers, compiled as by `build` except for these settings."""
        model = self._built()
        bare = strip_pruning(model) if wrappers(model) else model
        return self._started(compiled_as(bare, model, **settings))

    def wrapped(self, **settings: Any) -> Any:
        """Builds the model with wrappers, compiled as by `build` except for these settings."""
        model = self._built()
        covered = model if wrappers(model) else self._wrap(model)
        return self._started(compiled_as(covered, model, **settings))

    def train(self, model: Any, after_step: Callable[[], None] | None = None) -> Recording:
        """Trains a model on the batches and returns the recording."""
        return train(model, self.batches, self.seed, after_step)

    def _built(self) -> Any:
        keras.utils.set_random_seed(self.seed)
        model = self._build()
        check_keras2(model)
        if getattr(model, "optimizer", None) is None:
            raise LotteryError("build must return a tf_keras model that is built and compiled, and "
                               f"not trained. Received: {model!r:.100}, which is not compiled.")
        self.name = model.name
        return model

    def _started(self, model: Any) -> Any:
        # All models get the weights of the first. The seed alone is not enough: a user's
        # initializer may draw from a generator that it does not reset.
        weights = named_weights(model)
        if not self._start:
            self._start = rewinding.read(weights)
        if weights.keys() != self._start.keys():
            raise LotteryError(
                "build must make the same weights every time, under the same names, or no ticket "
                "can be applied to a model that was built anew. Received: in one of two models "
                f"alone {cut(sorted(weights.keys() ^ self._start.keys()))}.")
        for name, value in self._start.items():
            weights[name].assign(value)
        return model
