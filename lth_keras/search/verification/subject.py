"""The model that `lth.verify` checks, built as often as a check needs it."""

import abc
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.core.verification import CHECKS, cut, Finding, Recording
from lth_keras.errors import LotteryError
from lth_keras.search.contents import Contents, Held
from lth_keras.search.search import Search

EAGERLY = {"run_eagerly": True, "jit_compile": False, "steps_per_execution": 1}
STEP_BY_STEP = {"steps_per_execution": 1}


class Subject(abc.ABC):
    """The model that is checked, built again for each training, always with the same weights.

    Args:
      build: a function that returns the compiled model.
      batches, seed: see below.

    Attributes:
      batches: the batches of a training, one for each step.
      seed: the seed of initial weights and of random numbers in training.
      name: the model's name.
      skipped: check -> the reason why it was skipped.
      notes: further information for the report.
      dense: the recorded training of the model without masks, after the first check.
      eager: the model with masks that the first check trained eagerly.
      pruned: the model with masks that the second check trained, and the third prunes.
    """

    # What the checks are called for models of this Keras: name -> what must hold.
    checks: Mapping[str, str] = CHECKS
    bare, covered = "the model without masks", "with masks"
    # Probable causes.
    no_gradient = "a gradient that does not reach it"
    own_code = ""
    seen_gradient = ""
    contents: Contents

    def __init__(self, build: Callable[[], Any], batches: list[Any], seed: int):
        self._build = build
        self.batches, self.seed = batches, seed
        self.name = ""
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []
        self.dense: Recording | None = None
        self.eager: Any = None
        self.pruned: Any = None
        self._start: dict[str, Array] = {}

    # What each Keras has its own of.

    @abc.abstractmethod
    def plain(self, **settings: Any) -> Any:
        """Builds the model without masks, compiled as by `build` except for these settings."""

    @abc.abstractmethod
    def masked(self, **settings: Any) -> Any:
        """Builds the model with masks, compiled as by `build` except for these settings."""

    @abc.abstractmethod
    def train(self, model: Any, after_step: Callable[[], None] | None = None,
              seed: int | None = None) -> Recording:
        """Trains a model on the batches and returns the recording."""

    @abc.abstractmethod
    def predictions(self, model: Any) -> list[Any] | None:
        """The model's predictions for the first batch as arrays, or None if it has no call."""

    @abc.abstractmethod
    def stored(self, variable: Any) -> Array:
        """A copy of a variable's value."""

    @abc.abstractmethod
    def weights(self, model: Any) -> dict[str, Any]:
        """The variables of a model's weights by name."""

    @abc.abstractmethod
    def prunable(self, model: Any) -> Collection[str]:
        """The names of the weights that have masks."""

    @abc.abstractmethod
    def mask_ids(self, model: Any) -> set[int]:
        """The ids of the variables of a model that are masks."""

    @abc.abstractmethod
    def kept(self, model: Any) -> Iterator[Finding]:
        """The last check: what a trained sparse model is without its masks, and in its file."""

    @contextlib.contextmanager
    def gradients_seen(self, model: Any, see: Callable[[Any, Any], None]) -> Iterator[None]:
        """A context in which `see` is called with what optimizers get in eager training.

        An engine that masks gradients in the optimizer has nothing to see.

        Args:
          model: the model.
          see: a function of each variable and its gradient, an array or None.
        """
        yield

    # The same for all.

    def search(self, model: Any, fraction: float, check: bool = False) -> Search:
        """A search of a model that `masked` has made."""
        return Search(model, fraction=fraction, check=check)

    def stored_in(self, variable: Any) -> Any:
        """The variable that holds a weight, if it is seen through another."""
        return variable

    def losses(self, model: Any) -> int:
        """The number of regularization and added losses in the last call of a model."""
        try:
            return len(model.losses)
        except Exception:
            return 0

    def left_dense(self, model: Any) -> list[str]:
        """A note on weights that are left dense."""
        # A note and not a finding: the user may have excluded them, but may also not know of them.
        pruned = self.prunable(model)
        trained = {id(weight) for weight in model.trainable_weights}
        left = [name for name, weight in self.weights(model).items() if id(weight) in trained
                and name not in pruned and len(weight.shape) > 1]
        return [f"left dense, of rank 2 or more: {', '.join(left)}"] if left else []

    def values(self, model: Any) -> dict[int, tuple[Held, Array]]:
        """All variables that a model holds, with their values, by id.

        Not masks, which pruning changes, nor metrics, which every epoch resets.
        """
        masks = self.mask_ids(model)
        return {id(held.value): (held, self.stored(held.value))
                for held in self.contents.of(model)
                if isinstance(held.value, self.contents.variables)
                and id(self.stored_in(held.value)) not in masks and held.kind != "metric"}

    def put_back_seeds(self, model: Any, start: dict[int, tuple[Held, Array]]) -> list[str]:
        """Restores the states of seeds, and describes what else a rewinding has not restored.

        Args:
          model: the model after the rewinding.
          start: `values` before the round.

        Returns:
          The probable causes of a round that differs, in words, each once.
        """
        suspects: dict[str, None] = {}
        for key, (held, value) in self.values(model).items():
            kind = held.kind
            then = start[key][1] if key in start else None
            if kind == "seed":
                if then is not None:
                    held.value.assign(then)
            elif np.any(value) if then is None else value.tobytes() != then.tobytes():
                if kind == "optimizer":
                    owner = next(owner for owner in held.owners
                                 if self.contents.is_optimizer(owner))
                    path = held.path.split("._", 1)[0]
                    suspects[f"an optimizer ({path}, {type(owner).__name__})"] = None
                else:
                    suspects[f"a {kind} ({held.path})"] = None
        return list(suspects)

    def started(self, model: Any) -> Any:
        """Gives a model the weights of the first one that was built, and returns it."""
        # The seed alone is not enough: a user's initializer may draw from a generator that it does
        # not reset.
        weights = self.weights(model)
        if not self._start:
            self._start = {name: self.stored(variable) for name, variable in weights.items()}
        if weights.keys() != self._start.keys():
            raise LotteryError(
                "build must make the same weights every time, under the same names, or no ticket "
                "can be applied to a model that was built anew. Received: in one of two models "
                f"alone {cut(sorted(weights.keys() ^ self._start.keys()))}.")
        for name, value in self._start.items():
            weights[name].assign(value)
        return model


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether predictions are equal up to rounding.

    Example:
      >>> same([np.array([1.0])], [np.array([1.0 + 1e-7])]), same([np.array([1.0])], [])
      (True, False)
    """
    return len(one) == len(other) and all(
        mine.shape == theirs.shape and np.allclose(mine, theirs, 1e-5, 1e-6, equal_nan=True)
        for mine, theirs in zip(one, other, strict=True))
