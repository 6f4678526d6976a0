"""What a structure must be able to do; and checks that a search can end in the structures.

A structure sorts the weights of one array into units that are kept or pruned as a whole: a block,
say.  Pruning then compares units where it would compare weights.  In a few structures, such as m of
every n weights, what is pruned is no fraction of units: these say themselves what a level prunes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lth_keras.errors import LotteryError

Array = npt.NDArray[np.generic]  # As in `core.masks`, which comes after this package.


@dataclasses.dataclass(frozen=True)
class Structure:
    """Which weights of an array are kept or pruned together.

    A structure of units overrides `fits` and `unit_of`, and `unit_scores` if a unit's score is
    not the average of its weights'.  One that does not prune a fraction of units sets `by_rounds`
    and overrides `fits`, `prune`, `obeys`, `shuffled` and the checks.  One that has parameters is
    a frozen dataclass and overrides `from_word` and `__str__`.

    Attributes:
      word: its word, as in `--set structure=WORD`; for messages, where it has many, what they
        look like.
      needs: which weights it needs, for messages.
      by_rounds: whether the level and the number of rounds say how many weights are pruned.  A
        round's fraction then only says, by 0, that a weight stays dense.
    """

    word: ClassVar[str]
    needs: ClassVar[str] = "other weights"
    by_rounds: ClassVar[bool] = False

    @classmethod
    def from_word(cls, word: str) -> "Structure | None":
        """Returns the structure of a word, or None if it is not a word of this kind.

        Raises:
          LotteryError: if it is one, with numbers that are not allowed.
        """
        return cls() if word == cls.word else None

    def __str__(self) -> str:
        """Its word, from which `from_word` makes an equal structure."""
        return self.word

    @property
    def is_none(self) -> bool:
        """Whether any weight may be pruned without another."""
        return False

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `lth.prune_low_magnitude` that ask for it, as plain data."""
        return {"structure": str(self)}

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether weights of this shape can be pruned in it."""
        return True

    def check_rounds(self, rounds: int) -> None:
        """Raises LotteryError if a search of so many rounds cannot end in the structure.

        Raises:
          LotteryError: if it cannot; the message says which numbers of rounds can.
        """

    def check_scope(self, scope: str) -> None:
        """Raises LotteryError if scores cannot be compared in this scope, see `core.pruning`.

        Raises:
          LotteryError: if they cannot.
        """

    # Units.  Shapes are shapes that fit.

    def unit_of(self, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Numbers the units.

        Returns:
          An array of this shape: for each weight the number of its unit, from 0 to `units` - 1.
          Units of equal score are pruned in the order of their numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} must say which unit a weight is in")

    def units(self, shape: tuple[int, ...]) -> int:
        """How many units a weight has: what a round's fraction is taken of."""
        return int(self.unit_of(shape).max(initial=-1)) + 1

    def unit_scores(self, scores: Array, mask: Array) -> Array:
        """A score for each unit: the average of its weights', a pruned weight's being 0.

        Args:
          scores: of the weight's shape; anything, even NaN, where a weight is pruned.
          mask: 0/1 array of the same shape.

        Returns:
          An array with as many numbers as there are units.
        """
        sums = self._sums(np.where(mask != 0, scores, 0).astype(np.float64))
        averages: Array = sums / self._sums(np.ones(mask.shape))
        return averages

    def kept_units(self, mask: Array) -> Array:
        """Which units keep a weight: a uint8 array of 0 and 1 with as many numbers as units."""
        kept = np.zeros(self.units(mask.shape), np.uint8)
        kept[self.unit_of(mask.shape)[mask != 0]] = 1
        return kept

    def spread(self, units: Array, mask: Array) -> Array:
        """The mask of the weights of kept units, without those that are pruned already.

        Args:
          units: 0/1 array of the units.
          mask: 0/1 array of the weight's shape.

        Returns:
          A uint8 array of the weight's shape.
        """
        return np.where(mask != 0, units.ravel()[self.unit_of(mask.shape)], 0).astype(np.uint8)

    def _sums(self, array: Array) -> Any:
        # One number a unit.
        return np.bincount(self.unit_of(array.shape).ravel(), weights=array.ravel())

    # Masks.

    def prune(self, scores: Array, mask: Array, level: int, rounds: int) -> Array:
        """The mask of a level, if `by_rounds`; see `core.pruning.prune` for the arguments."""
        raise NotImplementedError(f"{type(self).__name__} must say what a level prunes")

    def obeys(self, mask: Array) -> bool:
        """Whether a mask, of a shape that fits, has the structure."""
        whole = self.spread(self.kept_units(mask), np.ones_like(mask))
        return bool(np.array_equal(whole != 0, mask != 0))

    def shuffled(self, mask: Array, rng: np.random.Generator) -> Array:
        """A mask in the structure that keeps as many weights, anywhere that it allows.

        Units change places with those of their size.

        Args:
          mask: 0/1 array; of any shape, if nothing is pruned.
          rng: draws the places.
        """
        if np.all(mask):  # A weight that stays dense need not fit.
            return mask
        units, sizes = self.kept_units(mask), self._sums(np.ones(mask.shape))
        for size in np.unique(sizes):
            alike = np.flatnonzero(sizes == size)
            units[alike] = rng.permutation(units[alike])
        return self.spread(units, np.ones_like(mask))


def check_structures(structures: Mapping[str, Structure],
                     shapes: Mapping[str, tuple[int, ...]], fraction: Mapping[str, float],
                     scope: str, rounds: int) -> None:
    """Makes sure that a search can prune every weight in its structure.

    Args:
      structures: weight name -> structure.
      shapes: weight name -> shape.
      fraction: weight name -> share of the remaining weights that a round prunes.  Where it is
        0 nothing is pruned, so that any shape will do.
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


def check_fits(structure: Structure, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Makes sure that every weight can be pruned in a structure.

    Args:
      structure: the structure.
      shapes: weight name -> shape.

    Raises:
      LotteryError: if one cannot; it names them all.

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
