"""Criteria of units: functions that score whole filters, with all that hangs on them.

    scores = criterion(units, rng)

    units    the numbers that each unit of a group has at the end of the round: a `UnitValues`
    rng      a numpy Generator
    scores   an array of a number for each unit, shape (units.size,), without NaN

A criterion that needs more declares it, as in `core.criteria`, and gets it by name: "gradient" and
others as a `UnitValues`, "activation" as an array of shape (units.size,).

Scores are comparable between groups: they are means over a unit's numbers, so that a filter with
more inputs does not count for more under scope="global".
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.criteria import CRITERIA, Criterion, Score
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.coupled import Member, UnitGroup
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError


class UnitValues:
    """The numbers of each unit of a group.

    Args:
      group: the group.
      arrays: weight name -> array, for the weights of the group.
      masks: weight name -> 0/1 array; pruned numbers are left out.

    Example:
      >>> group = UnitGroup(("fc",), 2, (Member("fc/kernel", 1, np.array([0, 1]), "filter"),))
      >>> units = UnitValues(group, {"fc/kernel": np.array([[3.0, 1], [4.0, 1]])},
      ...                    {"fc/kernel": np.array([[1, 1], [1, 0]])})
      >>> [values.tolist() for values in units.filters], units.size
      ([[3.0, 4.0], [1.0]], 2)
    """

    def __init__(self, group: UnitGroup, arrays: Arrays, masks: Arrays):
        self.group, self._arrays, self._masks = group, arrays, masks

    @property
    def size(self) -> int:
        """How many units there are."""
        return self.group.size

    @property
    def filters(self) -> list[Array]:
        """The weights of the filters that make each unit, an array of rank 1 for each."""
        return self._of("filter")

    @property
    def scales(self) -> list[Array]:
        """The scales (gamma) of the normalisations of each unit, an array of rank 1 for each."""
        return self._of("scale")

    def _of(self, role: str) -> list[Array]:
        found: list[list[Array]] = [[] for _ in range(self.size)]
        for member in self.group.members:
            if member.role == role:
                kept = self.group.numbers(member, self._masks[member.weight])
                numbers = self.group.numbers(member, self._arrays[member.weight])
                for unit, (values, there) in enumerate(zip(numbers, kept, strict=True)):
                    found[unit].append(values[there != 0])
        return [np.concatenate(parts) if parts else np.zeros(0) for parts in found]


def register(name: str, needs: Collection[str] = ()) -> Callable[[Score], Score]:
    """Decorates a criterion of units, so that settings with structure="filters" accept its name.

    If `core.criteria` has a criterion of this name, which scores single weights, this is its way to
    score units.

    Args:
      name: the name for callbacks, presets and the command line.
      needs: the arguments that it takes besides (units, rng); see `criteria.NEEDS`.

    Raises:
      LotteryError: if a criterion of units with this name is already registered, or one of single
        weights that needs something else.

    Example:
      >>> @register("largest")
      ... def largest(units, rng):
      ...     return np.array([np.abs(values).max(initial=0) for values in units.filters])
      >>> CRITERIA["largest"].units_only
      True
      >>> del CRITERIA["largest"]
    """
    def add(score: Score) -> Score:
        known = CRITERIA.get(name)
        if known is not None and (known.score_units is not None
                                  or known.needs != tuple(needs)):
            raise LotteryError("A criterion must have a name that no other criterion has. "
                               f"Received: {name!r}, which is already registered.")
        CRITERIA[name] = Criterion(name, score if known is None else known.score, tuple(needs),
                                   score, known is None)
        return score
    return add


def check(criterion: Criterion, structure: Structure) -> Criterion:
    """Checks that a criterion can score what a structure prunes, and returns it.

    Raises:
      LotteryError: if it scores units alone, or needs what only they have, and single weights or
        blocks are pruned.

    Example:
      >>> from lth_keras.core.structures.words import parse
      >>> check(CRITERIA["l2"], parse("filters")).name
      'l2'
      >>> check(CRITERIA["l2"], parse("none"))  # doctest: +IGNORE_EXCEPTION_DETAIL
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: criterion='l2' scores whole filters ...
    """
    if criterion.units_only and not structure.coupled:
        raise LotteryError(f"criterion={criterion.name!r} scores whole filters, so it needs "
                           f"structure=\"filters\". Received: structure={str(structure)!r}. To "
                           "prune single weights by their size, use criterion=\"magnitude\".")
    if "activation" in criterion.needs and not structure.coupled:
        raise LotteryError("activation is what whole filters give to the next layers, so a "
                           "criterion that needs it needs structure=\"filters\". Received: "
                           f"criterion={criterion.name!r} with structure={str(structure)!r}.")
    return criterion


def check_scores(criterion: Criterion, groups: Sequence[UnitGroup],
                 shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Tries a criterion of units on ones, so that an error comes before any training.

    Args:
      criterion: any criterion; one of single weights is not tried.
      groups: the groups that it will score.
      shapes: weight name -> shape, for the weights that have masks.

    Raises:
      LotteryError: if the criterion cannot score one of the groups.
    """
    for group in groups if criterion.score_units else ():
        # Views of one number: a large kernel would take gigabytes.
        ones = {name: np.broadcast_to(1.0, shapes[name])
                for name in group.weights if name in shapes}
        of_units = {member.weight: np.ones(len(member.units)) for member in group.filters}
        score_units(criterion, group, initial=ones, final=ones, masks=ones,
                    rng=np.random.default_rng(0),
                    needed={need: of_units if need == "activation" else ones
                            for need in criterion.needs})


def score_units(criterion: Criterion, group: UnitGroup, *, initial: Arrays, final: Arrays,
                masks: Arrays, rng: np.random.Generator,
                needed: "Mapping[str, Arrays] | None" = None) -> Array:
    """Scores the units of a group; see above.

    Args:
      criterion: any criterion; of one for single weights, it is the mean of its filters' scores.
      group: the group.
      initial: weight name -> array at theta_k.
      final: weight name -> array at the end of the round.
      masks: weight name -> 0/1 array.
      rng: the generator of criteria that draw random numbers.
      needed: need -> weight name -> array, for each need of the criterion.

    Returns:
      float64 array, shape (group.size,); of units that are pruned already it means nothing.

    Raises:
      LotteryError: if the criterion cannot score this group.
    """
    needed = needed or {}
    if criterion.score_units is None:
        scored = {member.weight: criterion(
            initial[member.weight], final[member.weight], rng,
            **{need: arrays[member.weight] for need, arrays in needed.items()})
            for member in group.filters}
        _check_finite(criterion, scored)
        return mean(UnitValues(group, scored, masks).filters)
    more: dict[str, Any] = {need: _activation(group, arrays) if need == "activation"
                            else UnitValues(group, arrays, masks)
                            for need, arrays in needed.items()}
    found = np.asarray(criterion.score_units(UnitValues(group, final, masks), rng, **more),
                       np.float64)
    if found.shape != (group.size,):
        raise LotteryError("A criterion must give a score to each unit. Received: "
                           f"{criterion.name!r}, which gave an array of shape {found.shape} for "
                           f"{group.size} units of {', '.join(group.layers)}.")
    return found


def _check_finite(criterion: Criterion, scored: Arrays) -> None:
    # A mean with an infinite score says nothing of the others.
    for name, scores in scored.items():
        if np.isinf(scores).any():
            raise LotteryError("Scores of single weights must be finite for their mean to score "
                               f"a filter. Received: infinite scores of {name} by criterion="
                               f"{criterion.name!r}, which can prune single weights alone.")


def mean(values: list[Array]) -> Array:
    """The mean of each unit's numbers in float64, 0 if there are none.

    Example:
      >>> mean([np.array([1.0, 2.0]), np.zeros(0)])
      array([1.5, 0. ])
    """
    return np.array([each.mean(dtype=np.float64) if each.size else 0.0 for each in values])


def _activation(group: UnitGroup, arrays: Arrays) -> Array:
    # The mean over the layers that make a unit, and over the channels it has of each.
    def of(member: Member) -> list[Array]:
        return [arrays[member.weight][member.units == unit] for unit in range(group.size)]
    return mean([np.concatenate(parts) for parts in zip(*map(of, group.filters), strict=True)])


@register("l1")
def l1(units: UnitValues, rng: np.random.Generator) -> Array:
    """Scores by the L1 norm of a unit's filters, divided by their number of weights.

    Li et al., ICLR 2017 (arXiv:1608.08710), section 3.1, who compare the filters of one layer.
    """
    return mean([np.abs(values) for values in units.filters])


@register("l2")
def l2(units: UnitValues, rng: np.random.Generator) -> Array:
    """Scores by the L2 norm of a unit's filters, divided by the root of their number of weights."""
    return np.sqrt(mean([np.square(values, dtype=np.float64) for values in units.filters]))


@register("batch_norm_scale")
def batch_norm_scale(units: UnitValues, rng: np.random.Generator) -> Array:
    """Scores by |gamma| of the batch normalisation that follows.

    Liu et al., ICCV 2017 (arXiv:1708.06519, network slimming), section 3.

    Raises:
      LotteryError: if a unit has none.
    """
    if not all(values.size for values, kept in zip(units.scales, units.filters, strict=True)
               if kept.size):
        raise LotteryError("batch_norm_scale needs a batch normalisation with a scale after every "
                           "layer whose filters are pruned. Received: none after "
                           f"{', '.join(units.group.layers)}. Leave that out by exclude=, or by a "
                           "fraction of 0, or use criterion=\"l1\".")
    return mean([np.abs(values) for values in units.scales])


@register("random")
def random(units: UnitValues, rng: np.random.Generator) -> Array:
    """Scores by a uniform random number for each unit."""
    return rng.random(units.size)


@register("taylor", needs=("gradient",))
def taylor(units: UnitValues, rng: np.random.Generator, gradient: UnitValues) -> Array:
    """Scores by (sum of w x dL/dw over a unit's filters)^2, divided by their number of weights.

    To first order it is the square of the loss's change if the unit is pruned (Molchanov et al.,
    CVPR 2019, arXiv:1906.10771, section 3.1).
    """
    return np.array([np.square(np.dot(values.astype(np.float64), slopes)) / max(values.size, 1)
                     for values, slopes in zip(units.filters, gradient.filters, strict=True)])


@register("activation", needs=("activation",))
def activation(units: UnitValues, rng: np.random.Generator, activation: Array) -> Array:
    """Scores by the mean |a| of what a unit gives to the next layers, over the scoring data.

    Molchanov et al., ICLR 2017 (arXiv:1611.06440), section 2.2, "activation".
    """
    return activation
