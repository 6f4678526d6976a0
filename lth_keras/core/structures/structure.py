"""`Structure`, the base class of structures, and checks that a search can prune in them.

A structure divides the weights of one array into units, such as blocks, that are kept or pruned as
a whole.  Pruning then compares the scores of units instead of weights.  A few structures, such as m
of every n weights, prune no fraction of units; they compute the mask of each level themselves.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lth_keras.errors import LotteryError

Array = npt.NDArray[np.generic]


@dataclasses.dataclass(frozen=True)
class Structure:
    """Which weights of an array are kept or pruned together.

    A structure of units overrides `fits` and `unit_of`, and `unit_scores` if a unit's score is
    not the average of its weights'.  One that does not prune a fraction of units sets `by_rounds`
    and overrides `fits`, `prune`, `obeys`, `shuffled` and the checks.  One that has parameters is
    a frozen dataclass and overrides `from_word` and `__str__`.

    Attributes:
      word: its name, as in `--set structure=WORD`.  If the name contains numbers, a description of
        such names, for messages.
      needs: which weights it can prune, for messages.
      by_rounds: whether the level and the number of rounds determine how many weights are pruned.
        The fraction of a round is then ignored, except that 0 keeps a weight dense.
      coupled: whether its units lie in several weights, as filters do; see `filters`.
      by_axes: whether it takes the last two axes of a weight for its inputs and its outputs.
    """

    word: ClassVar[str]
    needs: ClassVar[str] = "other weights"
    by_rounds: ClassVar[bool] = False
    coupled: ClassVar[bool] = False
    by_axes: ClassVar[bool] = False

    @classmethod
    def from_word(cls, word: str) -> "Structure | None":
        """Returns the structure that a word names, or None if it names one of another class.

        Raises:
          LotteryError: if the word contains numbers that are not allowed.
        """
        return cls() if word == cls.word else None

    def __str__(self) -> str:
        """The word that names it; `from_word` makes an equal structure from it."""
        return self.word

    @property
    def is_none(self) -> bool:
        """Whether each weight may be pruned by itself."""
        return False

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `lth.prune_low_magnitude` that select it, as JSON values."""
        return {"structure": str(self)}

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether weights of this shape can be pruned in this structure."""
        return True

    def check_rounds(self, rounds: int) -> None:
        """Raises LotteryError if a search with this many rounds cannot end in the structure.

        Raises:
          LotteryError: if it cannot; the message lists the numbers of rounds that can.
        """

    def check_scope(self, scope: str) -> None:
        """Raises LotteryError if scores cannot be compared in this scope, see `core.pruning`.

        Raises:
          LotteryError: if they cannot.
        """

    # Units. These methods are called only with shapes that fit.

    def unit_of(self, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Returns the number of each weight's unit.

        Returns:
          An array of this shape: for each weight the number of its unit, from 0 to `units` - 1.
          Units of equal score are pruned in the order of their numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} must define unit_of, or prune by rounds")

    def units(self, shape: tuple[int, ...]) -> int:
        """Counts the units of an array; a round prunes a fraction of them."""
        return int(self.unit_of(shape).max(initial=-1)) + 1

    def unit_scores(self, scores: Array, mask: Array) -> Array:
        """Returns a score for each unit: the mean of its weights' scores, 0 for pruned weights.

        Args:
          scores: array of the weight's shape; values of pruned weights are ignored, even NaN.
          mask: 0/1 array of the same shape.

        Returns:
          An array with as many numbers as there are units.

        Raises:
          LotteryError: if the score of a kept weight is infinite.
        """
        sums = self._sums(averaged(scores, mask))
        averages: Array = sums / self._sums(np.ones(mask.shape))
        return averages

    def kept_units(self, mask: Array) -> Array:
        """Returns a uint8 array with 1 for each unit in which a weight is kept, otherwise 0."""
        kept = np.zeros(self.units(mask.shape), np.uint8)
        kept[self.unit_of(mask.shape)[mask != 0]] = 1
        return kept

    def spread(self, units: Array, mask: Array) -> Array:
        """Returns the mask that keeps the weights of kept units, except those already pruned.

        Args:
          units: 0/1 array with a number for each unit.
          mask: 0/1 array of the weight's shape.

        Returns:
          A uint8 array of the weight's shape.
        """
        return np.where(mask != 0, units.ravel()[self.unit_of(mask.shape)], 0).astype(np.uint8)

    def _sums(self, array: Array) -> Any:
        # The sum over the weights of each unit.
        return np.bincount(self.unit_of(array.shape).ravel(), weights=array.ravel())

    # Masks.

    def prune(self, scores: Array, mask: Array, level: int, rounds: int) -> Array:
        """Returns the mask of a level if `by_rounds`; arguments as for `core.pruning.prune`."""
        raise NotImplementedError(f"{type(self).__name__} must define prune to prune by rounds")

    def obeys(self, mask: Array) -> bool:
        """Whether a mask has the structure; its shape must fit."""
        whole = self.spread(self.kept_units(mask), np.ones_like(mask))
        return bool(np.array_equal(whole != 0, mask != 0))

    def shuffled(self, mask: Array, rng: np.random.Generator) -> Array:
        """Returns a random mask in the structure that keeps as many weights.

        Kept units are permuted among units of the same size.

        Args:
          mask: 0/1 array.  If nothing is pruned, its shape need not fit.
          rng: the random generator.
        """
        if np.all(mask):  # The shape of a weight that stays dense need not fit.
            return mask
        units, sizes = self.kept_units(mask), self._sums(np.ones(mask.shape))
        for size in np.unique(sizes):
            alike = np.flatnonzero(sizes == size)
            units[alike] = rng.permutation(units[alike])
        return self.spread(units, np.ones_like(mask))

    def shuffled_together(self, masks: Mapping[str, Array],
                          rng: np.random.Generator) -> dict[str, Array]:
        """Returns random masks of a network in the structure, each as `shuffled` makes it.

        Args:
          masks: weight name -> 0/1 array.
          rng: the random generator.
        """
        return {name: self.shuffled(mask, rng) for name, mask in masks.items()}


def averaged(scores: Array, mask: Array) -> npt.NDArray[np.float64]:
    """Scores that are to be averaged, 0 for pruned weights.

    Args:
      scores: an array; values of pruned weights are ignored, even NaN.
      mask: 0/1 array of the same shape.

    Raises:
      LotteryError: if one of a kept weight is infinite: a mean with it says nothing of the others.

    Example:
      >>> averaged(np.array([2, np.inf]), np.array([1, 0]))
      array([2., 0.])
    """
    kept = np.where(mask != 0, scores, 0).astype(np.float64)
    if np.isinf(kept).any():
        raise LotteryError("Scores of single weights must be finite for their mean to score a "
                           f"unit. Received: {int(np.isinf(kept).sum())} infinite, as criteria "
                           "such as \"large_final_same_sign\" give. Prune single weights by them, "
                           "or blocks by the greatest score of each, as block_1x4_max does.")
    return kept


def check_structures(structures: Mapping[str, Structure],
                     shapes: Mapping[str, tuple[int, ...]], fraction: Mapping[str, float],
                     scope: str, rounds: int) -> None:
    """Raises LotteryError if a search cannot prune every weight in its structure.

    Args:
      structures: weight name -> structure.
      shapes: weight name -> shape.
      fraction: weight name -> fraction of the remaining weights that a round prunes.  If it is 0,
        the weight stays dense and may have any shape.
      scope: where scores are compared, see `core.pruning`.
      rounds: how many times weights are pruned.

    Raises:
      LotteryError: if it cannot.

    Example:
      >>> from lth_keras.core.structures.words import parse
      >>> structures = {"conv": parse("block_1x4"), "dense": parse("block_1x4")}
      >>> shapes = {"conv": (3, 3, 8, 8), "dense": (8, 8)}
      >>> fraction = {"conv": 0.0, "dense": 0.2}
      >>> check_structures(structures, shapes, fraction, "layer", rounds=5)
    """
    pruned: dict[Structure, list[str]] = {}
    for name, structure in structures.items():
        if fraction[name]:
            pruned.setdefault(structure, []).append(name)
    for structure in pruned:
        structure.check_scope(scope)
    for structure, names in pruned.items():
        check_fits(structure, {name: shapes[name] for name in names})
        structure.check_rounds(rounds)


def check_axes(structures: Mapping[str, Structure], axes: Mapping[str, str]) -> None:
    """Raises LotteryError if a structure takes axes of a weight for others than they are.

    Args:
      structures: weight name -> structure.
      axes: weight name -> what its last two axes are, or "" if they are its inputs and outputs.

    Raises:
      LotteryError: if so; the message names all such weights.

    Example:
      >>> from lth_keras.core.structures.words import parse
      >>> check_axes({"up/kernel": parse("2:4")}, {"up/kernel": "outputs, inputs"})
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: 2:4 needs weights whose last two axes are inputs and outputs; \
leave other layers out by exclude=, or by a fraction of 0. Received: up/kernel (outputs, inputs).
    """
    wrong = {name: structure for name, structure in structures.items()
             if structure.by_axes and axes[name]}
    if wrong:
        raise LotteryError(
            f"{next(iter(wrong.values()))} needs weights whose last two axes are inputs and "
            "outputs; leave other layers out by exclude=, or by a fraction of 0. Received: "
            f"{', '.join(f'{name} ({axes[name]})' for name in wrong)}.")


def check_fits(structure: Structure, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises LotteryError if a weight cannot be pruned in a structure.

    Args:
      structure: the structure.
      shapes: weight name -> shape.

    Raises:
      LotteryError: if a shape does not fit; the message names all such weights.

    Example:
      >>> from lth_keras.core.structures.words import parse
      >>> check_fits(parse("2:4"), {"lstm/kernel": (8, 4, 4)})
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: 2:4 needs weights of rank 2 or 4; leave other layers out by \
exclude=, or by a fraction of 0. Received: lstm/kernel (8, 4, 4).
    """
    wrong = [f"{name} {tuple(shape)}" for name, shape in shapes.items()
             if not structure.fits(tuple(shape))]
    if wrong:
        raise LotteryError(f"{structure} needs {structure.needs}; leave other layers out by "
                           f"exclude=, or by a fraction of 0. Received: {', '.join(wrong)}.")
