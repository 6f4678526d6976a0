"""The model that `lth.verify` checks, built as often as a check needs it."""

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
    """The model that is checked, built as often as a check needs it, always from the same weights.

    Args:
      build: makes it, compiled.
      wrap: wraps it.
      batches, seed: see below.

    Attributes:
      batches: one a step.
      seed: of initial weights and draws.
      name: the model's name.
      skipped: check -> why it was not made.
      notes: what else the report says.
      dense: the training of the model that is not wrapped, once `wrapping` has made it.
      eager: the wrapped model that was trained eagerly, as the model is after that.
      pruned: the wrapped model after half of its weights were pruned and it was trained.
    """

    def __init__(self, build: Callable[[], Any], wrap: Callable[[Any], Any], batches: list[Any],
                 seed: int):
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
        """The model without wrappers, compiled as `build` does but for these settings."""
        model = self._built()
        bare = strip_pruning(model) if wrappers(model) else model
        return self._started(compiled_as(bare, model, **settings))

    def wrapped(self, **settings: Any) -> Any:
        """The model with wrappers, likewise."""
        model = self._built()
        covered = model if wrappers(model) else self._wrap(model)
        return self._started(compiled_as(covered, model, **settings))

    def train(self, model: Any, after_step: Callable[[], None] | None = None) -> Recording:
        """Trains one of its models on the batches."""
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
        # The weights of the first that was made, since an initializer's draws may not be repeated.
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
