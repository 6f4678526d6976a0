"""The core step of every search: from the trained network of a level to the start of the next.

    scores  = criterion(theta, trained, rng)     for every prunable weight
    masks   = the lowest scores pruned           in each weight's structure
    weights = theta_k                            to which survivors are rewound

(Frankle & Carbin, ICLR 2019, section 1.)  `lth run`, `Search` and the callback all call this step;
they differ in how they train, and in what they do with the arrays.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from lth_keras.arguments import check_whole
from lth_keras.core import criteria, fractions, unit_criteria
from lth_keras.core.fractions import Fraction, Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.pruning import prune, prune_units, Scope
from lth_keras.core.structures.coupled import kept_units, spread_units, UnitGroup
from lth_keras.core.structures.filters import described, Filters, groups_of
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import check_axes, check_structures, Structure
from lth_keras.errors import LotteryError

Provided = Mapping[str, Callable[[], Arrays]]  # Need -> computes an array for each weight name.


@dataclasses.dataclass(frozen=True, eq=False)
class PruningRule:
    """The settings that decide which weights a search prunes.

    Attributes:
      criterion: scores the weights.
      fractions: weight name -> share of the remaining weights that a round prunes, in [0, 1). If
        filters are pruned: of the kernels that make them, the share of the remaining filters.
      structures: weight name -> structure in which the weight is pruned.
      scope: "layer" or "global": among which weights scores are compared; see `core.pruning`.
      rounds: how many times the network is pruned altogether.
      multiple_of: filters that remain of a layer are a multiple of this number, >= 1.

    Example:
      >>> rule = PruningRule.of([Prunable("a/kernel", "a", "Dense")], {"a/kernel": (2, 2)},
      ...                       fraction=0.5)
      >>> theta, trained = np.eye(2), np.array([[3.0, 1.0], [2.0, 4.0]])
      >>> weights, masks = rule.next_start({"a/kernel": theta}, {"a/kernel": np.ones((2, 2))},
      ...                                  {"a/kernel": trained}, np.random.default_rng(0))
      >>> masks["a/kernel"]
      array([[1, 0],
             [0, 1]], dtype=uint8)
      >>> weights["a/kernel"] is theta
      True
    """

    criterion: criteria.Criterion
    fractions: Mapping[str, float]
    structures: Mapping[str, Structure]
    scope: Scope = "layer"
    rounds: int = 1
    multiple_of: int = 1

    @classmethod
    def of(cls, weights: Sequence[Prunable], shapes: Mapping[str, tuple[int, ...]], *,
           fraction: Fraction, criterion: criteria.CriterionLike = "magnitude",
           structures: "Mapping[str, Structure] | None" = None, scope: Scope = "layer",
           rounds: int = 1, multiple_of: int = 1, provided: Collection[str] = (),
           caller: str = "A search") -> "PruningRule":
        """Makes the rule of a search over given weights, and checks it before any training.

        Args:
          weights: the prunable weights.
          shapes: weight name -> shape.
          fraction: a number in [0, 1), a mapping by layer, or a list by stage; see
            `core.fractions`.
          criterion: a registered name or a function; see `core.criteria`.
          structures: weight name -> structure. Defaults to pruning single weights.
          scope: "layer" or "global".
          rounds: how many times the network will be pruned, >= 0.
          multiple_of: so many filters, or a multiple, remain of a layer that loses some, >= 1;
            other structures have 1.
          provided: the needs of a criterion that the caller can meet; see `criteria.NEEDS`.
          caller: the name of the search, for messages.

        Raises:
          LotteryError: if an entry of `fraction` matches no weight or a weight matches no entry,
            if the criterion is unknown, needs what is not provided or cannot score the filters,
            or if a weight cannot be pruned in its structure.
        """
        # All checks are here, before training, where an error costs nothing.
        structures = structures or dict.fromkeys((weight.name for weight in weights), NONE)
        groups = groups_of(structures)
        check_multiple(multiple_of, bool(groups))
        makers = {member.weight for group in groups for member in group.filters}
        fraction = fractions.check(fraction)
        resolved = fractions.by_stage(fraction, groups) \
            if isinstance(fraction, tuple) and groups else fractions.resolve(
                fraction, [weight for weight in weights if not groups or weight.name in makers],
                [weight for weight in weights if groups and weight.name not in makers])
        pruned = [group for group in groups if _fraction_of(group, resolved)]
        check_structures({name: structures[name] for name in resolved}, shapes, resolved, scope,
                         rounds)
        check_axes({name: structures[name] for name, share in resolved.items() if share},
                   {weight.name: weight.axes for weight in weights})
        criterion = criteria.check_needs(criterion, provided, caller)
        for structure in {*structures.values()}:
            unit_criteria.check(criterion, structure)
        unit_criteria.check_scores(criterion, pruned, shapes)
        return cls(criterion, resolved, structures, scope, rounds, multiple_of)

    @property
    def groups(self) -> tuple[UnitGroup, ...]:
        """The groups of filters that are pruned; none if single weights or blocks are."""
        return groups_of(self.structures)

    @property
    def note(self) -> str:
        """What is pruned of a network whose filters are, and what stays dense; "" of others."""
        groups, pruned = self.groups, []
        dense = dict(next((each.dense for each in self.structures.values()
                           if isinstance(each, Filters)), {}))
        for group in groups:
            share, reason = _fraction_of(group, self.fractions), ""
            if not share:
                reason = "its fraction is 0"
            elif group.size < self.multiple_of:
                reason = f"it has fewer than multiple_of={self.multiple_of}"
            elif self.scope == "layer" and not fractions.count(share, group.size):
                # What a round leaves as it is stays so in every round.
                reason = f"{share:g} of {group.size} is rounded to none"
            if reason:
                dense.update(dict.fromkeys(group.layers, reason))
            else:
                pruned.append(group)
        return described(pruned, dense) if groups else ""

    def kept_at(self, level: int, units: Mapping[str, int]) -> list[tuple[list[str], int]]:
        """How many weights are kept at a level: all that a round prunes is a share of what is left.

        Args:
          level: how many times the network has been pruned by then, >= 0.
          units: weight name -> number of its weights, or of its units in a structure.

        Returns:
          Names of weights, and how many of all of theirs are kept: of each weight for itself, or
          with scope="global" of all that share a fraction.
        """
        together: dict[object, list[str]] = {}
        for name in units:
            together.setdefault(name if self.scope == "layer" else self.fractions[name],
                                []).append(name)
        found = []
        for names in together.values():
            left = sum(units[name] for name in names)
            for _ in range(level):
                left -= fractions.count(self.fractions[names[0]], left)
            found.append((names, left))
        return found

    def next_start(self, theta: Arrays, masks: Arrays, trained: Arrays, rng: np.random.Generator,
                   *, level: int = 0, survivors: "Arrays | None" = None,
                   provided: "Provided | None" = None) -> tuple[Arrays, dict[str, Array]]:
        """Computes the weights and masks from which the next level starts.

        Args:
          theta: weight name -> array at step k of level 0, for every prunable weight.
          masks: weight name -> 0/1 array of the level that ends. Criteria that draw random numbers
            draw them in the order of this mapping.
          trained: weight name -> array at the end of the training whose weights are scored.
          rng: the generator of criteria that draw random numbers.
          level: the level of the network that was trained, >= 0.
          survivors: the weights to which survivors are reset. Defaults to `theta`; a search that
            does not rewind gives the trained weights.
          provided: need -> a function without arguments that computes it. It is called only if the
            criterion needs it.

        Returns:
          The weights, not masked, and weight name -> uint8 mask; each keeps only weights that the
          given mask keeps.

        Raises:
          LotteryError: if a score is NaN or has another shape than its weight, or if M:N sparsity
            has already been reached.
        """
        # What a criterion needs may cost a pass over the training data: computed only if needed,
        # and once for all weights.
        providers: Provided = {**(provided or {}), "mask": lambda: masks}
        needed = {need: providers[need]() for need in self.criterion.needs}
        reset = theta if survivors is None else survivors
        if self.groups:
            return reset, self._next_units(theta, masks, trained, rng, needed)
        scores = {name: self.criterion(theta[name], trained[name], rng, **{
            need: arrays[name] for need, arrays in needed.items()}) for name in masks}
        # level + 1: the structure's share of this round depends on which round it is.
        return reset, prune(scores, masks, self.fractions, self.scope, self.structures,
                            level=level + 1, rounds=self.rounds)

    def _next_units(self, theta: Arrays, masks: Arrays, trained: Arrays, rng: np.random.Generator,
                    needed: Mapping[str, Arrays]) -> dict[str, Array]:
        groups = self.groups
        shares = [_fraction_of(group, self.fractions) for group in groups]
        # Those that stay need no scores, and a criterion need not be able to score them.
        scores = [unit_criteria.score_units(
            self.criterion, group, initial=theta, final=trained, masks=masks, rng=rng,
            needed=needed) if share else np.zeros(group.size)
            for group, share in zip(groups, shares, strict=True)]
        units = prune_units(scores, kept_units(groups, masks), shares, self.scope, self.multiple_of)
        return spread_units(groups, units, masks)


def check_multiple(multiple_of: object, filters: bool) -> None:
    """Checks the number whose multiples remain of a layer's filters.

    Args:
      multiple_of: the number.
      filters: whether filters are pruned.

    Raises:
      LotteryError: if it is no whole number >= 1, or above 1 where no filters are pruned.

    Example:
      >>> check_multiple(8, filters=True)
    """
    check_whole("multiple_of", multiple_of, 1)
    if multiple_of != 1 and not filters:
        raise LotteryError("multiple_of is of filters, and needs structure=\"filters\". Received: "
                           f"{multiple_of} with another structure.")


def _fraction_of(group: UnitGroup, resolved: Mapping[str, float]) -> float:
    found = {resolved[member.weight] for member in group.filters}
    if len(found) > 1 and 0.0 not in found:
        raise LotteryError("Layers whose outputs are added are pruned together, so they need one "
                           f"fraction. Received: {', '.join(group.layers)} with "
                           f"{', '.join(f'{each:g}' for each in sorted(found))}.")
    # A layer that stays dense keeps all filters of its group.
    return min(found)

