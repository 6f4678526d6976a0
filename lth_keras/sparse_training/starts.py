"""What a sparse training starts from: exact counts, scores, random masks, and keys to draw with."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lth_keras.arguments import check_choice, check_number
from lth_keras.core.fractions import count
from lth_keras.core.masks import Array, ones
from lth_keras.core.pruning import without_lowest
from lth_keras.core.seeding import generator
from lth_keras.errors import LotteryError
from lth_keras.initial.distributions import DISTRIBUTIONS, kept_counts

Shapes = Mapping[str, tuple[int, ...]]
LAYERWISE = DISTRIBUTIONS[1:]


def counts(shapes: Shapes, kept: Any, what: str, distribution: "str | None") -> dict[str, int]:
    """How many weights each kernel keeps; a warning names those that keep none of a share.

    Args:
      shapes: weight name -> shape.
      kept: a share of each kernel, or of all of them where a distribution shares it out; or weight
        name -> a whole number.
      what: the argument's name.
      distribution: one of LAYERWISE; or None, where each kernel keeps the share for itself.

    Raises:
      LotteryError: if it is none of these, or keeps more weights than there are.

    Example:
      >>> shapes = {"a": (784, 300), "b": (300, 100)}
      >>> counts(shapes, 0.02, "density", "erk"), counts(shapes, {"a": 10, "b": 0}, "kept", None)
      ({'a': 3874, 'b': 1430}, {'a': 10, 'b': 0})
    """
    if distribution is not None:
        check_choice("distribution", distribution, LAYERWISE)
    if isinstance(kept, Mapping):
        return check_counts(shapes, kept, what)
    share = check_number(what, kept)
    if not 0 <= share <= 1:
        raise LotteryError(f"{what} must be a number in [0, 1], or give a whole number for each "
                           f"weight's name. Received: {kept!r}.")
    if distribution is None:
        found = {name: count(share, math.prod(shape)) for name, shape in shapes.items()}
    else:
        number = count(share, sum(math.prod(shape) for shape in shapes.values()))
        found = kept_counts(shapes, number, distribution)
    empty = [f"{name!r} of {math.prod(shapes[name]):,} weights"
             for name, number in found.items() if not number]
    if share and empty:
        warnings.warn(f"A layer that keeps no weight lets nothing through. Received: {what}={share}"
                      f", which keeps none of {', '.join(empty[:3])}. Give a larger share, or a "
                      "whole number for each weight's name; or leave layers out by exclude=.",
                      stacklevel=3)
    return found


def check_counts(shapes: Shapes, given: Mapping[str, Any], what: str) -> dict[str, int]:
    """Checks that there is a possible whole number for each weight, and returns them in order.

    Raises:
      LotteryError: if not.

    Example:
      >>> check_counts({"a": (2, 2)}, {"a": 5}, "kept")
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: kept must be a whole number in [0, 4] for 'a'. Received: 5.
    """
    if set(given) != set(shapes):
        raise LotteryError(f"{what} must give a whole number for each of {', '.join(shapes)}. "
                           f"Received: {', '.join(map(str, given)) or 'none'}.")
    for name, shape in shapes.items():
        number = given[name]
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) \
                or not 0 <= number <= math.prod(shape):
            raise LotteryError(f"{what} must be a whole number in [0, {math.prod(shape)}] for "
                               f"{name!r}. Received: {number!r}.")
    return {name: int(given[name]) for name in shapes}


def scores(shapes: Shapes, seed: int) -> dict[str, Array]:
    """Scores to start from: uniform in +-1 / sqrt(fan_in), as Ramanujan et al. 2020 draw them.

    The fan-in of a kernel is the number of its elements for each of its last axis.

    Example:
      >>> bool(np.abs(scores({"w": (100, 3)}, 0)["w"]).max() <= 0.1)
      True
    """
    rng = generator(seed, "supermask scores")
    return {name: (rng.uniform(-1, 1, shape) / math.sqrt(max(1, math.prod(shape[:-1])))).astype(
        np.float32) for name, shape in shapes.items()}


def constants(weight: Any) -> Array:
    """A kernel of which each weight is its sign times the standard deviation of them all.

    Example:
      >>> constants(np.array([1.0, -1.0, 7.0, -7.0]))
      array([ 5., -5.,  5., -5.], dtype=float32)

    Reference: Zhou et al., NeurIPS 2019, arXiv:1905.01067, section 5 ("signed constants").
    """
    found: Array = (np.sign(weight) * np.std(weight)).astype(np.float32)
    return found


def random_masks(kept: Mapping[str, int], shapes: Shapes, seed: int) -> dict[str, Array]:
    """Random masks that keep given numbers of weights.

    Example:
      >>> int(random_masks({"w": 3}, {"w": (5, 5)}, 0)["w"].sum())
      3
    """
    rng = generator(seed, "sparse training masks")
    return {name: without_lowest({name: rng.random(shape)}, ones({name: shape}),
                                 math.prod(shape) - kept[name])[name]
            for name, shape in shapes.items()}


def key(seed: int) -> Array:
    """The key that a training draws random numbers with, two int32.

    Example:
      >>> key(0).dtype, key(0).shape
      (dtype('int32'), (2,))
    """
    return generator(seed, "sparse training draws").integers(
        0, 2**31, 2).astype(np.int32)
