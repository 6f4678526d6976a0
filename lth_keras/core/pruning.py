"""Which: from scores to the next level's masks, exactly.

Pruning drops the k lowest scores among the weights still kept, where
k = round(fraction x remaining), a half to the even number.  Equal scores go by
position: in a weight the lowest index first, and between weights the order of the
mapping.  For distinct scores this is the published definition: sort what remains,
drop the smallest k (Frankle & Carbin 2019, section 2).
"""

from collections.abc import Mapping, Sequence
from typing import get_args, Literal

import numpy as np

from lth_keras.arguments import check_choice
from lth_keras.core.fractions import check, count
from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError

Scope = Literal["layer", "global"]
SCOPES: tuple[str, ...] = get_args(Scope)


def prune(scores: Arrays, masks: Arrays, fraction: float | Mapping[str, float],
          scope: Scope = "layer") -> dict[str, Array]:
    """The masks of the next level.

    Args:
      scores: weight name -> scores, of the weight's shape; the lowest are pruned.
      masks: weight name -> 0/1 array of the same shape.
      fraction: share of the remaining weights to prune, in [0, 1): one number, or one
        for each weight name.
      scope: "layer" compares the scores of each weight for itself; "global" compares
        all weights that share a fraction.

    Returns:
      Weight name -> uint8 mask, nested in the one given.

    Raises:
      LotteryError: if shapes or names disagree, or a score is NaN.

    Example:
      >>> masks = {"w": np.ones(10, np.uint8)}
      >>> prune({"w": np.arange(10.0)}, masks, 0.2)["w"]
      array([0, 0, 1, 1, 1, 1, 1, 1, 1, 1], dtype=uint8)
    """
    check_choice("scope", scope, SCOPES)
    check_scores(scores, masks)
    fractions = dict(fraction) if isinstance(fraction, Mapping) else dict.fromkeys(masks, fraction)
    if set(fractions) != set(masks):
        raise LotteryError("A fraction for each weight is needed. Received: fractions for "
                           f"{sorted(fractions)}, masks for {sorted(masks)}.")
    check(fractions)
    groups: dict[object, list[str]] = {}
    for name in masks:
        groups.setdefault(name if scope == "layer" else fractions[name], []).append(name)
    pruned: dict[str, Array] = {}
    for names in groups.values():
        pruned.update(_prune_together(scores, masks, fractions[names[0]], names))
    return {name: pruned[name] for name in masks}


def _prune_together(scores: Arrays, masks: Arrays, fraction: float,
                    names: Sequence[str]) -> dict[str, Array]:
    flat = np.concatenate([(masks[name] != 0).ravel() for name in names])
    positions = np.flatnonzero(flat)
    values = np.concatenate([np.ravel(scores[name]) for name in names])[positions]
    flat[positions[_lowest(values, count(fraction, len(positions)))]] = False
    parts = np.split(flat, np.cumsum([np.size(masks[name]) for name in names])[:-1])
    return {name: part.reshape(np.shape(masks[name])).astype(np.uint8)
            for name, part in zip(names, parts, strict=True)}


def _lowest(values: Array, number: int) -> Array:
    # Where the so many lowest are, equal ones by position; linear in time, unlike a sort.
    if not number:
        return np.zeros(len(values), bool)
    highest = np.partition(values, number - 1)[number - 1]
    chosen: Array = values < highest
    equal = np.flatnonzero(values == highest)
    chosen[equal[:number - np.count_nonzero(chosen)]] = True
    return chosen


def check_scores(scores: Arrays, masks: Arrays) -> None:
    """Scores are of the weights that masks are of, and no kept weight's is NaN.

    Raises:
      LotteryError: if not.
    """
    if not masks:
        raise LotteryError("Pruning needs at least one mask. Received: none.")
    if set(scores) != set(masks):
        raise LotteryError("Scores and masks must be of the same weights. Received: scores "
                           f"for {sorted(scores)}, masks for {sorted(masks)}.")
    for name, mask in masks.items():
        if np.shape(scores[name]) != np.shape(mask):
            raise LotteryError(f"The scores of {name!r} must have its mask's shape "
                               f"{np.shape(mask)}. Received: {np.shape(scores[name])}.")
        bad = int(np.count_nonzero(np.isnan(scores[name][mask != 0])))
        if bad:
            raise LotteryError(f"Scores must not be NaN. Received: {bad} NaN among the kept "
                               f"weights of {name!r}; did the round diverge?")
