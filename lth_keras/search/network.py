"""What a search needs of a model, whichever Keras it is of.

`Network` is a model as a search sees it: weights and masks by name, in NumPy, and what has to be
captured, restored and checked.  Each engine has one: `keras2.engine`, `keras3.engine`.  The rest
of this package trains nothing and knows no Keras; it finds the network of a model by the model's
class (`files.engines`).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError
from lth_keras.files.engines import engine_of


@dataclasses.dataclass(frozen=True)
class Restored:
    """What one rewinding restored.

    Attributes:
      weights: the number of trained weights (variables).
      statistics: the number of weights that are not trained, such as batch-norm statistics.
      slots: the number of optimizer slots.
      iterations: the optimizer's iteration count after rewinding.
      learning_rate: the learning rate, or None if a schedule computes it.

    Example:
      >>> print(Restored(4, 0, 8, 0, 0.001))
      restored 4 weights, 0 statistics, 8 optimizer slots, iterations 0, learning rate 0.001; data \
order goes on
    """

    weights: int
    statistics: int
    slots: int
    iterations: int
    learning_rate: float | None

    def __str__(self) -> str:
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:g}"
        return (f"restored {self.weights} weights, {self.statistics} statistics, "
                f"{self.slots} optimizer slots, iterations {self.iterations}{rate}; "
                "data order goes on")


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a model and its optimizers at one step, such as theta_k.

    Attributes:
      weights: name -> array, for every weight of the model.
      optimizer: the variables of its optimizers, in their own order, and the states of its layers.
      fresh_slots: for each optimizer that has slots, slot name -> its value in a fresh optimizer.
      counters: for each optimizer, the integers that it counts in Python attributes.
    """

    weights: dict[str, Array]
    optimizer: list[Array]
    fresh_slots: list[dict[str, float]] = dataclasses.field(default_factory=list)
    counters: list[dict[str, int]] = dataclasses.field(default_factory=list)


def check_same_variables(name: str, found: Sequence[Any], snapshot: Snapshot) -> None:
    """Checks that what training changes beside weights is what a snapshot has the values of.

    Args:
      name: the model's name.
      found: the variables as they are now.
      snapshot: what was captured.

    Raises:
      LotteryError: if there are others now, or of other shapes.
    """
    if [tuple(variable.shape) for variable in found] \
            != [value.shape for value in snapshot.optimizer]:
        raise LotteryError(
            "A model must keep its optimizers and what it trains from theta_k on, or it cannot be "
            f"rewound. Received: {name!r}, which had {len(snapshot.optimizer)} variables beside "
            f"its weights at step k and has {len(found)} now, or of other shapes. Do not compile "
            "it again, freeze or unfreeze layers, or make variables within a search; begin a new "
            "search instead.")


def moved_by_gradients(tried: Mapping[str, tuple[Array, Array]]) -> frozenset[str]:
    """The slots of an optimizer that every step with a gradient changes: moments, and no averages.

    Args:
      tried: slot -> its value for a weight before and after a step that had a gradient in the first
        place alone, as both engines' `optimizer_state` try it.

    Example:
      >>> one, moved = np.zeros((2, 2)), np.array([[0.1, 0.0], [0.0, 0.0]])
      >>> sorted(moved_by_gradients({"momentum": (one, moved), "other": (one, one)}))
      ['momentum']
    """
    return frozenset(kind for kind, (before, after) in tried.items()
                     if before[0, 0] != after[0, 0] and kind != "_model_variables_moving_average")


def untrained(optimizers: Sequence[tuple[Any, Mapping[str, Sequence[Any]]]], saved: Sequence[Any],
              theta: Snapshot, read: Callable[[Any], Array]) -> list[str]:
    """The weights that none of some optimizers has trained since a snapshot.

    That is known of a weight if every optimizer that has taken a step has slots for it, and none
    of these has changed.

    Args:
      optimizers: for each one its count of steps, and the slots of each weight by its name that any
        step with a gradient changes.
      saved: the variables that the snapshot has the values of.
      theta: the snapshot.
      read: gives the value of a variable.
    """
    values = {id(variable): value for variable, value in zip(saved, theta.optimizer, strict=False)}

    def is_as_it_was(variable: Any) -> bool:
        return np.array_equal(values.get(id(variable), ()), read(variable))
    stepped = [slots for steps, slots in optimizers if not is_as_it_was(steps)]
    return [name for name in (stepped[0] if stepped else ())
            if all(slots[name] and all(map(is_as_it_was, slots[name])) for slots in stepped)]


# What an engine says where it finds weights of another level.
PUT_BACK = (
    "If weights of an earlier level were put back, keep them within their level: list "
    "EarlyStopping(restore_best_weights=True) in round_callbacks, load no weights that were saved "
    "in another level, and average none with theirs. What a search has found is in its tickets.")

Slots = tuple[dict[tuple[str, str], Array], dict[tuple[str, str], float]]


class Network(Protocol):
    """A model as a search sees it.

    Attributes:
      model: the model.
      prunable: weight name -> the weight's name and layer, for every prunable weight, in the
        order of the model.
      shapes: weight name -> shape, for the same weights.
      structures: weight name -> the structure in which the weight is pruned.
      packages: the packages whose versions decide what a training computes.
    """

    model: Any
    prunable: Mapping[str, Prunable]
    shapes: Mapping[str, tuple[int, ...]]
    structures: Mapping[str, Structure]
    packages: Sequence[str]

    def check_ready(self) -> None:
        """Raises LotteryError unless the model is built, compiled, and can be pruned."""

    # Weights and masks.

    def weights(self) -> dict[str, Array]:
        """Copies of all weights by name; masks are not weights."""

    def weight_types(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """The shape and number type of every weight by name."""

    def prunable_weights(self) -> dict[str, Array]:
        """Copies of the prunable weights by name."""

    def masks(self) -> dict[str, Array]:
        """The masks by weight name, uint8."""

    def assign(self, weights: Arrays, masks: Arrays) -> None:
        """Assigns weights and masks; pruned weights are set to zero."""

    def assign_masks(self, masks: Arrays) -> None:
        """Assigns masks; weights are not changed."""

    def zero_pruned(self) -> None:
        """Sets pruned weights to zero, whatever moved them."""

    def enforce(self) -> None:
        """Sets pruned weights to zero if the step that just ran may have moved them."""

    # The state of a training.

    def capture(self, rewinds: bool = True) -> Snapshot:
        """Captures the model and its optimizers; builds the optimizers if necessary.

        Args:
          rewinds: whether it is to be restored with masks, which needs `fresh_slots`.
        """

    def snapshot(self, weights: Mapping[str, Array], optimizer: list[Array],
                 counters: list[dict[str, int]]) -> Snapshot:
        """Makes a snapshot from a file's arrays, to be restored with masks."""

    def restore(self, snapshot: Snapshot, masks: Arrays) -> Restored:
        """Rewinds: pruned weights are zero, and their slots as in a fresh optimizer."""

    def restore_all(self, snapshot: Snapshot) -> None:
        """Restores everything as it was captured, without masks."""

    def beside(self) -> list[Any]:
        """Variables that a resumed search needs and that no snapshot has: random states."""

    def stored(self, variable: Any) -> Array:
        """A copy of a variable's value."""

    def thresholds(self) -> dict[str, Array]:
        """What the model's own summaries show of each prunable weight; may be empty."""

    def assign_thresholds(self, thresholds: Arrays) -> None:
        """Assigns what `thresholds` gave."""

    # How the model is trained.

    def compiled(self) -> tuple[Any, ...]:
        """What is other once the model is compiled again, or its layers frozen or unfrozen."""

    def iterations(self, within: bool = True) -> int:
        """How many steps the model's optimizers have taken, together.

        Args:
          within: whether those count that models within it were compiled with.
        """

    def learning_rate(self) -> "float | None":
        """The learning rate as it is now, or None if a schedule computes it."""

    def unreached(self) -> list[str]:
        """Layers whose pruned weights were read in a training step without a masked gradient."""

    def slots(self, theta: Snapshot) -> Slots:
        """The optimizers' slots of prunable weights, and their values where nothing moved."""

    def unstepped(self, theta: Snapshot) -> list[str]:
        """Prunable weights that none of the model's optimizers can have trained since theta_k."""

    def check_trained(self, final: Arrays, masks: Arrays) -> None:
        """Checks, at the end of a round, that the model has its masks and was trained by them.

        Args:
          final: its prunable weights.
          masks: the masks of the level.

        Raises:
          LotteryError: if the model has other masks, or weights that are pruned were moved.
        """

    def loss_gradient(self, scoring_data: Any) -> Callable[[], Arrays]:
        """A function that computes the mean gradient of the loss over the data.

        One batch of them is tried at once, so that an error comes before any training.
        """

    def activations(self, scoring_data: Any) -> Callable[[], Arrays]:
        """A function that computes what filters give to the next layers; see `criteria.NEEDS`.

        One batch of the data is tried at once, so that an error comes before any training.
        """

    # One `fit`.

    def check_fit(self, schedule: Any) -> None:
        """Raises LotteryError unless `fit` can search with this schedule."""

    def begin_fit(self, schedule: Any) -> None:
        """Prepares the model for the steps of a search."""

    def steps_per_execution(self) -> "int | None":
        """After how many steps Keras calls callbacks; None if Keras chooses the number itself."""

    def check_not_restored(self) -> None:
        """Raises LotteryError if Keras' own BackupAndRestore has restored the fit."""

    def finalize(self) -> None:
        """Ends a training as `fit` does: with use_ema, weights become their averages."""

    def callback_list(self, callbacks: Sequence[Any], params: Mapping[str, Any]) -> Any:
        """Keras' own list that calls the hooks of callbacks."""

    def hold_start(self, starts: "FitStart") -> None:
        """Lets `starts` say with which epoch the fit that begins now is to begin.

        Raises:
          LotteryError: if something else restores the fit.
        """

    def check_start(self, starts: "FitStart") -> None:
        """Raises LotteryError if the fit began with another epoch than `starts` said."""

    def release_start(self, starts: "FitStart") -> None:
        """Undoes `hold_start`."""

    # What makes a model the same in another process.

    def identity(self) -> dict[str, Any]:
        """What decides the bits of the model's training: JSON values by name."""

    def unkept_draws(self) -> Iterable[str]:
        """The names of layers whose random draws cannot be kept."""


class FitStart(Protocol):
    """Says with which epoch a fit begins."""

    def first_epoch(self, initial_epoch: int | None) -> int | None:
        """The epoch to begin with, if the user asked for `initial_epoch`, or None for that one."""


def network_of(model: Any, **options: Any) -> Network:
    """The network of a model, by the engine that is registered for its class.

    Args:
      model: the model.
      **options: what to prune, for an engine that does not wrap layers: include, exclude,
        structure.

    Raises:
      LotteryError: if it is of no Keras that this package knows, or takes no such options.
    """
    found: Network = engine_of(model).network(model, **options)
    return found
