"""Which: from scores to the next level's masks, exactly.

Pruning drops the k lowest scores among the weights still kept, where
k = round(fraction x remaining), a half to the even number.  Equal scores go by
position: in a weight the lowest index first, and between weights the order of the
mapping.  For distinct scores this is the published definition: sort what remains,
drop the smallest k (Frankle & Carbin 2019, section 2).

In a structure the same is done with its units, such as blocks, in place of weights; units that
keep a weight remain.  Structures by rounds, such as m of every n weights, say themselves what a
level prunes (`core.structures`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args, Literal

import numpy as np

from lth_keras.arguments import check_choice
from lth_keras.core.fractions import check, count
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError

Scope = Literal["layer", "global"]
SCOPES: tuple[str, ...] = get_args(Scope)


def prune(scores: Arrays, masks: Arrays, fraction: float | Mapping[str, float],
          scope: Scope = "layer", structures: "Mapping[str, Structure] | None" = None, *,
          level: int = 1, rounds: int = 1) -> dict[str, Array]:
    """The masks of the next level, in each weight's structure.

    Args:
      scores: weight name -> scores, of the weight's shape; the lowest are pruned.
      masks: weight name -> 0/1 array of the same shape.
      fraction: share of the remaining weights, or units of a structure, to prune, in
        [0, 1): one number, or one for each weight name.  A weight whose fraction is 0 stays
        as it is, and need not fit its structure.
      scope: "layer" compares the scores of each weight for itself; "global" compares
        all weights that share a fraction.
      structures: weight name -> structure; by default any weight may be pruned.
      level: of the new masks; in [1, rounds] where a structure is by rounds.
      rounds: of the whole search.

    Returns:
      Weight name -> uint8 mask, nested in the one given.

    Raises:
      LotteryError: if shapes or names disagree, a score is NaN, or a structure does not
        allow the scope, the rounds or the level.

    Example:
      >>> masks = {"w": np.ones(10, np.uint8)}
      >>> prune({"w": np.arange(10.0)}, masks, 0.2)["w"]
      array([0, 0, 1, 1, 1, 1, 1, 1, 1, 1], dtype=uint8)

      >>> from lth_keras.core.structures.words import parse
      >>> scores, masks = {"w": np.array([[3.0, 1, 2, 2]])}, {"w": np.ones((1, 4), np.uint8)}
      >>> prune(scores, masks, 0.5, structures={"w": parse("block_1x2_max")})["w"]
      array([[1, 1, 0, 0]], dtype=uint8)
    """
    check_choice("scope", scope, SCOPES)
    check_scores(scores, masks)
    fractions = _for_each_mask("A fraction", fraction, masks)
    check(fractions)
    asked = _for_each_mask("A structure", NONE if structures is None else structures, masks)
    # A weight that stays as it is may be of any shape.
    used = {name: asked[name] if fractions[name] else NONE for name in masks}
    for structure in used.values():
        structure.check_rounds(rounds)
        structure.check_scope(scope)
    pruned = {name: structure.prune(scores[name], masks[name], level, rounds)
              for name, structure in used.items() if structure.by_rounds}
    groups: dict[object, list[str]] = {}
    for name in masks:
        if name not in pruned:
            groups.setdefault(name if scope == "layer" else fractions[name], []).append(name)
    for names in groups.values():
        units = _prune_together(
            {name: used[name].unit_scores(scores[name], masks[name]) for name in names},
            {name: used[name].kept_units(masks[name]) for name in names},
            fractions[names[0]])
        pruned.update({name: used[name].spread(units[name], masks[name]) for name in names})
    return {name: pruned[name] for name in masks}


def prune_units(scores: Sequence[Array], kept: Sequence[Array], fractions: Sequence[float],
                scope: Scope = "layer", multiple_of: int = 1) -> list[Array]:
    """The units of the next level, of each group; a group always keeps at least one.

    Args:
      scores: of each group, an array of a number for each unit; the lowest are pruned.
      kept: of each group, a 0/1 array of the same shape.
      fractions: of each group, the share of its remaining units to prune, in [0, 1).
      scope: "layer" compares the units of each group; "global" those of all groups that share a
        fraction, except the best of each group, which stays.
      multiple_of: groups that lose units keep the largest multiple of this number that is not above
        what the fraction leaves, at least one multiple, and all of fewer units than that; >= 1.

    Returns:
      Of each group, a uint8 array, nested in the one given.

    Raises:
      LotteryError: if a score is NaN.

    Example:
      >>> scores = [np.array([1.0, 2, 3, 4]), np.array([0.5, 0.6])]
      >>> kept = [np.ones(4, np.uint8), np.ones(2, np.uint8)]
      >>> [units.tolist() for units in prune_units(scores, kept, [0.5, 0.5])]
      [[0, 0, 1, 1], [0, 1]]
      >>> [units.tolist() for units in prune_units(scores, kept, [0.5, 0.5], "global")]
      [[0, 0, 1, 1], [0, 1]]
      >>> [int(units.sum()) for units in prune_units(
      ...     [np.arange(32.0), np.arange(3.0)], [np.ones(32), np.ones(3)], [0.3, 0.3],
      ...     multiple_of=8)]  # 16 in place of 22, so that a small fraction gets there too.
      [16, 3]
    """
    check_choice("scope", scope, SCOPES)
    for values, units in zip(scores, kept, strict=True):
        if np.isnan(values[units != 0]).any():
            raise LotteryError("Scores must not be NaN. Received: NaN among the kept units; did "
                               "the round diverge?")
    together: dict[object, list[int]] = {}
    for place, fraction in enumerate(fractions):
        if fraction:
            together.setdefault(place if scope == "layer" else fraction, []).append(place)
    found: list[Array] = [(units != 0).astype(np.uint8) for units in kept]
    for places in together.values():
        remaining = sum(int(np.count_nonzero(found[place])) for place in places)
        free = {str(place): np.where(_best(scores[place], found[place]), 0, found[place])
                for place in places}
        number = min(count(fractions[places[0]], remaining),
                     sum(int(np.count_nonzero(units)) for units in free.values()))
        left = without_lowest({name: scores[int(name)] for name in free}, free, number)
        for place in places:
            stays = (left[str(place)] != 0) | _best(scores[place], found[place])
            found[place] = _rounded(scores[place], kept[place], stays, multiple_of)
    return found


def without_lowest(scores: Arrays, kept: Arrays, number: int) -> dict[str, Array]:
    """The masks without so many of the lowest scores, those of all weights compared.

    Args:
      scores: weight name -> scores, none of them NaN where a weight is kept.
      kept: weight name -> 0/1 array of the same shape, in the order in which equal scores go.
      number: how many of the kept to prune, at most all of them.

    Returns:
      Weight name -> uint8 mask, nested in the one given.

    Example:
      >>> scores = {"a": np.array([3.0, 1.0]), "b": np.array([1.0, 2.0])}
      >>> without_lowest(scores, {name: np.ones(2) for name in scores}, 1)
      {'a': array([1, 0], dtype=uint8), 'b': array([1, 1], dtype=uint8)}
    """
    flat = np.concatenate([(units != 0).ravel() for units in kept.values()])
    positions = np.flatnonzero(flat)
    values = np.concatenate([np.ravel(scores[name]) for name in kept])[positions]
    flat[positions[_lowest(values, number)]] = False
    parts = np.split(flat, np.cumsum([np.size(units) for units in kept.values()])[:-1])
    return {name: part.reshape(np.shape(units)).astype(np.uint8)
            for (name, units), part in zip(kept.items(), parts, strict=True)}


def _rounded(scores: Array, kept: Array, stays: Array, multiple_of: int) -> Array:
    # The best of the kept units, about as many as stay.
    before, after = int(np.count_nonzero(kept)), int(np.count_nonzero(stays))
    if multiple_of == 1 or before < multiple_of:
        return (stays if multiple_of == 1 else kept != 0).astype(np.uint8)
    number = max(1, after // multiple_of) * multiple_of
    return without_lowest({"": scores}, {"": kept}, before - number)[""]


def _best(scores: Array, kept: Array) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    # True for the kept unit with the highest score, of equal ones the last.
    there = np.flatnonzero(kept)
    best = np.zeros(kept.shape, bool)
    if there.size:
        values = scores[there]
        best[there[np.flatnonzero(values == values.max())[-1]]] = True
    return best


def _for_each_mask(what: str, value: Any, masks: Arrays) -> dict[str, Any]:
    values = dict(value) if isinstance(value, Mapping) else dict.fromkeys(masks, value)
    if set(values) != set(masks):
        raise LotteryError(f"{what} for each weight is needed. Received: {what.split()[1]}s for "
                           f"{sorted(values)}, masks for {sorted(masks)}.")
    return values


def _prune_together(scores: Arrays, kept: Arrays, fraction: float) -> dict[str, Array]:
    # Scores and 0/1 arrays of units -> which are kept, those of all weights compared.
    remaining = sum(int(np.count_nonzero(units)) for units in kept.values())
    return without_lowest(scores, kept, count(fraction, remaining))


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
    """Checks that scores fit their masks, and that no kept weight has a score of NaN.

    Raises:
      LotteryError: if not.

    Example:
      >>> check_scores({"w": np.array([1.0, np.nan])}, {"w": np.array([1, 0])})
      >>> check_scores({"w": np.array([1.0, np.nan])}, {"w": np.array([1, 1])})
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: Scores must not be NaN. Received: 1 NaN among the kept \
weights of 'w'; did the round diverge?
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
