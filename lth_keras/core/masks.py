"""Masks, which say what weights are kept, and their density and overlap.

A mask is an array of 0 and 1 with its weight's shape; 1 means kept.  The masks of a network are a
mapping from each weight's name to its mask.  No function here changes its arguments.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from lth_keras.core.structures.structure import Array as Array  # noqa: PLC0414  For others too.
from lth_keras.errors import LotteryError

Arrays = Mapping[str, Array]
_CHANCE = 1000  # Fewer zeros in so many weights of a model without masks are an initializer's.


def ones(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Makes the masks of a dense network, which keep every weight.

    Args:
      shapes: weight name -> shape.

    Returns:
      Weight name -> uint8 array of ones with that shape.

    Example:
      >>> ones({"dense/kernel": (1, 3)})["dense/kernel"]
      array([[1, 1, 1]], dtype=uint8)
    """
    return {name: np.ones(shape, np.uint8) for name, shape in shapes.items()}


def of_zeros(weight: Array) -> Array:
    """The mask that the zeros of a weight without one stand for: of ones if they may be chance.

    Args:
      weight: an array of any shape.

    Returns:
      uint8 array: 0 where the weight is zero, if one in 1,000 of its elements or more are.

    Example:
      >>> of_zeros(np.array([2.0, 0.0])), of_zeros(np.append(np.ones(1000), 0.0)).min()
      (array([1, 0], dtype=uint8), np.uint8(1))
    """
    nonzero: Array = np.asarray(weight != 0)
    if (nonzero.size - np.count_nonzero(nonzero)) * _CHANCE < nonzero.size:
        nonzero = np.ones_like(nonzero)
    return nonzero.astype(np.uint8)


def apply(weights: Arrays, masks: Arrays) -> dict[str, Array]:
    """Sets pruned weights to exactly +0.0, and leaves weights without a mask as they are.

    Args:
      weights: weight name -> array of any shape.
      masks: weight name -> 0/1 array of the same shape, for some of the weights.

    Returns:
      A new mapping with every name of `weights`.

    Raises:
      LotteryError: if a mask has no weight, or another shape than its weight.

    Example:
      >>> apply({"w": np.array([-2.0, 3.0]), "b": np.array([1.0])}, {"w": np.array([0, 1])})
      {'w': array([0., 3.]), 'b': array([1.])}
    """
    unknown = sorted(set(masks) - set(weights))
    if unknown:
        raise LotteryError(f"Every mask needs its weight. Received: masks for {unknown}, "
                           f"weights {sorted(weights)}.")
    _check_shapes(weights, masks)
    # A product with the mask would give -0.0 for negative weights, and NaN for infinite ones.
    return {name: np.where(masks[name] != 0, value, np.zeros((), value.dtype))
            if name in masks else value for name, value in weights.items()}


def kept(masks: Arrays) -> int:
    """Counts the weights kept, over all masks.

    Example:
      >>> kept({"a": np.array([1, 0]), "b": np.array([1, 1])})
      3
    """
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def size(masks: Arrays) -> int:
    """Counts the prunable weights, kept or pruned.

    Example:
      >>> size({"a": np.array([1, 0]), "b": np.array([1, 1])})
      4
    """
    return sum(int(np.size(mask)) for mask in masks.values())


def density(masks: Arrays) -> float:
    """Returns the fraction of prunable weights kept, in [0, 1]: the paper's P_m.

    Raises:
      LotteryError: if there is no prunable weight.

    Example:
      >>> density({"a": np.array([1, 0]), "b": np.array([1, 1])})
      0.75
    """
    total = size(masks)
    if not total:
        raise LotteryError("Density needs at least one prunable weight. Received: none.")
    return kept(masks) / total


def costs(masks: Arrays, uses: "Mapping[str, float] | None" = None) -> tuple[float, float]:
    """What a dense network costs, and what its weights that are kept cost.

    Args:
      masks: weight name -> 0/1 array.
      uses: weight name -> how often each of its numbers is multiplied with for one example, so that
        costs are multiply-adds; by default each weight counts once.

    Example:
      >>> costs({"a": np.array([1, 0]), "b": np.array([1, 1])}, {"a": 16.0})
      (32.0, 16.0)
    """
    each = dict.fromkeys(masks, 1) if uses is None else uses
    dense, left = (sum(each.get(name, 0) * int(count(mask)) for name, mask in masks.items())
                   for count in (np.size, np.count_nonzero))
    return dense, left


def overlap(first: Arrays, second: Arrays) -> float:
    """Returns the weights kept by both divided by those kept by at least one (Jaccard index).

    It lies in [0, 1]; two masks that keep nothing have an overlap of 1.

    Raises:
      LotteryError: if the masks are not of the same weights.

    Example:
      >>> overlap({"a": np.array([1, 1, 0])}, {"a": np.array([0, 1, 1])})
      0.3333333333333333
    """
    if set(first) != set(second):
        raise LotteryError("Masks must be of the same weights to be compared. "
                           f"Received: {sorted(first)} and {sorted(second)}.")
    _check_shapes(first, second)
    # Counts over all layers are divided once: a mean over layers would give small layers the
    # weight of large ones.
    both = sum(int(np.count_nonzero((first[name] != 0) & (second[name] != 0))) for name in first)
    either = kept(first) + kept(second) - both
    return both / either if either else 1.0


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far two masks are apart.

    Attributes:
      hamming: share of the weights that one of them keeps and the other does not, in [0, 1].
      jaccard: the same among the weights that at least one of them keeps: 1 - overlap.
      chance: the hamming distance to be expected of random masks that keep as many of each weight.

    Example:
      >>> Distance(hamming=0.1, jaccard=0.2, chance=0.5).relative
      0.2
    """

    hamming: float
    jaccard: float
    chance: float

    @property
    def relative(self) -> float:
        """The hamming distance divided by that of chance: 0 for equal masks, about 1 for random."""
        return self.hamming / self.chance if self.chance else 0.0


def distance(first: Arrays, second: Arrays, among: "Arrays | None" = None) -> Distance:
    """Measures how far two masks are apart.

    Random masks of density d differ in 2 d (1 - d) of the weights: few, if d is near 0 or 1.

    Args:
      first: weight name -> 0/1 array.
      second: the same of the same weights.
      among: weight name -> 0/1 array, the weights that count. Defaults to all.

    Raises:
      LotteryError: if the masks are not of the same weights, or no weight counts.

    Example:
      >>> found = distance({"a": np.array([1, 1, 0, 0])}, {"a": np.array([1, 0, 1, 0])})
      >>> found.hamming, found.chance, found.relative
      (0.5, 0.5, 1.0)
      >>> round(found.jaccard, 3)
      0.667
    """
    among = ones({name: np.shape(mask) for name, mask in first.items()}) if among is None else among
    counted = [{name: np.asarray(mask)[among[name] != 0] for name, mask in masks.items()}
               for masks in (first, second)]
    same = overlap(*counted)
    one, other = counted
    total = size(one)
    if not total:
        raise LotteryError("A distance needs at least one weight. Received: none that counts.")
    differ = sum(int(np.count_nonzero((mask != 0) != (other[name] != 0)))
                 for name, mask in one.items())
    # By weight: layers differ in density, and random masks are to keep that.
    chance = 0.0
    for name, mask in one.items():
        both = [int(np.count_nonzero(each)) / max(1, mask.size) for each in (mask, other[name])]
        chance += mask.size * (both[0] * (1 - both[1]) + both[1] * (1 - both[0]))
    return Distance(differ / total, 1 - same, chance / total)


def revived(inner: Arrays, outer: Arrays) -> dict[str, int]:
    """Counts the weights that `inner` keeps and `outer` has pruned, for each mask that has any.

    Masks of successive levels are nested, so for them the result is empty.

    Example:
      >>> revived({"a": np.array([1, 1])}, {"a": np.array([1, 0])})
      {'a': 1}
    """
    # Counts rather than a yes or no: the error that reports them tells a bug from a stray value.
    counts = {name: int(np.count_nonzero((inner[name] != 0) & (outer[name] == 0)))
              for name in inner}
    return {name: count for name, count in counts.items() if count}


def _check_shapes(arrays: Arrays, masks: Arrays) -> None:
    for name, mask in masks.items():
        if np.shape(mask) != np.shape(arrays[name]):
            raise LotteryError(f"A mask must have its weight's shape. Received: {name!r} with "
                               f"{np.shape(mask)} and {np.shape(arrays[name])}.")
