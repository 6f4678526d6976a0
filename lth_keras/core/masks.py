"""Masks: which weights are kept.

A mask is an array of 0 and 1 with its weight's shape; 1 means kept.  Masks travel
as a mapping from a weight's name to its mask, and no function here writes into one
that it was given.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lth_keras.errors import LotteryError

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array]


def ones(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The masks of a dense network.

    Args:
      shapes: weight name -> shape.

    Returns:
      Weight name -> uint8 array of ones with that shape.

    Example:
      >>> ones({"dense/kernel": (1, 3)})["dense/kernel"]
      array([[1, 1, 1]], dtype=uint8)
    """
    return {name: np.ones(shape, np.uint8) for name, shape in shapes.items()}


def apply(weights: Arrays, masks: Arrays) -> dict[str, Array]:
    """Weights with the pruned ones at exactly +0.0; unmasked weights as they are.

    Args:
      weights: weight name -> array of any shape.
      masks: weight name -> 0/1 array of the same shape, for some of the weights.

    Returns:
      A new mapping with every name of `weights`.

    Example:
      >>> apply({"w": np.array([-2.0, 3.0]), "b": np.array([1.0])}, {"w": np.array([0, 1])})
      {'w': array([0., 3.]), 'b': array([1.])}
    """
    unknown = sorted(set(masks) - set(weights))
    if unknown:
        raise LotteryError(f"Every mask needs its weight. Received: masks for {unknown}, "
                           f"weights {sorted(weights)}.")
    _check_shapes(weights, masks)
    return {name: np.where(masks[name] != 0, value, np.zeros((), value.dtype))
            if name in masks else value for name, value in weights.items()}


def kept(masks: Arrays) -> int:
    """The number of weights kept, over all masks.

    Example:
      >>> kept({"a": np.array([1, 0]), "b": np.array([1, 1])})
      3
    """
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def size(masks: Arrays) -> int:
    """The number of prunable weights, kept or pruned.

    Example:
      >>> size({"a": np.array([1, 0]), "b": np.array([1, 1])})
      4
    """
    return sum(int(np.size(mask)) for mask in masks.values())


def density(masks: Arrays) -> float:
    """The fraction of prunable weights kept, in [0, 1]: the paper's P_m.

    Example:
      >>> density({"a": np.array([1, 0]), "b": np.array([1, 1])})
      0.75
    """
    total = size(masks)
    if not total:
        raise LotteryError("Density needs at least one prunable weight. Received: none.")
    return kept(masks) / total


def overlap(first: Arrays, second: Arrays) -> float:
    """Weights kept by both over weights kept by either, in [0, 1] (Jaccard index).

    Example:
      >>> overlap({"a": np.array([1, 1, 0])}, {"a": np.array([0, 1, 1])})
      0.3333333333333333
    """
    if set(first) != set(second):
        raise LotteryError("Masks can be compared only over the same weights. "
                           f"Received: {sorted(first)} and {sorted(second)}.")
    _check_shapes(first, second)
    both = sum(int(np.count_nonzero((first[name] != 0) & (second[name] != 0))) for name in first)
    either = kept(first) + kept(second) - both
    return both / either if either else 1.0


def revived(inner: Arrays, outer: Arrays) -> dict[str, int]:
    """How many weights `inner` keeps that `outer` has pruned, where there are any.

    Masks of successive levels are nested: this is then empty.

    Example:
      >>> revived({"a": np.array([1, 1])}, {"a": np.array([1, 0])})
      {'a': 1}
    """
    counts = {name: int(np.count_nonzero((inner[name] != 0) & (outer[name] == 0)))
              for name in inner}
    return {name: count for name, count in counts.items() if count}


def _check_shapes(arrays: Arrays, masks: Arrays) -> None:
    for name, mask in masks.items():
        if np.shape(mask) != np.shape(arrays[name]):
            raise LotteryError(f"A mask must have its weight's shape. Received: {name!r} with "
                               f"{np.shape(mask)} and {np.shape(arrays[name])}.")
