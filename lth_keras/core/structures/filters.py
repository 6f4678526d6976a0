"""The structure "filters": whole filters and units, with everything that hangs on them.

What hangs on a filter depends on the network (`graph.coupling`), so the structure has no units of a
single array: a search gives it the groups of its network (`Filters.of`), and prunes these.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from lth_keras.core.structures.coupled import kept_units, spread_units, UnitGroup
from lth_keras.core.structures.structure import Array, Structure


def groups_of(structures: Mapping[str, Structure]) -> tuple[UnitGroup, ...]:
    """The groups of a network's filters; none if single weights or blocks are pruned.

    Args:
      structures: weight name -> structure.
    """
    # All weights of a network share one structure if its filters are pruned.
    return next((structure.groups for structure in structures.values()
                 if isinstance(structure, Filters)), ())


def masks_of_zeros(groups: Sequence[UnitGroup], weights: Mapping[str, Array]) -> dict[str, Array]:
    """The masks of a network whose pruned filters are zero, with all that hangs on them.

    Args:
      groups: the groups of the network.
      weights: weight name -> array, for all weights of the groups that have masks.

    Returns:
      Weight name -> uint8 mask; a filter is kept if any of its numbers is not zero.

    Example:
      >>> from lth_keras.core.structures.coupled import Member
      >>> group = UnitGroup(("fc",), 2, (Member("fc/kernel", 1, np.arange(2), "filter"),
      ...                                Member("fc/bias", 0, np.arange(2))))
      >>> masks_of_zeros([group], {"fc/kernel": np.zeros((1, 2)), "fc/bias": np.array([0, 3.0])})
      {'fc/kernel': array([[0, 1]], dtype=uint8), 'fc/bias': array([0, 1], dtype=uint8)}
    """
    # A filter of zeros with a bias is not pruned: it gives a constant to the next layers.
    units = []
    for group in groups:
        kept = np.zeros(group.size, bool)
        for member in group.members:
            if member.role != "statistic":
                for unit, numbers in enumerate(group.numbers(member, weights[member.weight])):
                    kept[unit] |= bool(np.any(numbers))
        units.append(kept)
    return spread_units(groups, units, {
        name: np.ones(np.shape(value), np.uint8) for name, value in weights.items()})


def described(groups: Sequence[UnitGroup], dense: Mapping[str, str]) -> str:
    """Says how many filters are pruned, and which layers keep all of theirs and why.

    Args:
      groups: the groups that are pruned.
      dense: layer name -> why its filters stay, a reason or "other layer: its reason".

    Example:
      >>> described([UnitGroup(("stem", "outer"), 8, ())], {"out": "it makes an output"})
      'filters: 8 of 2 layers are pruned; all are kept of out (it makes an output)'
    """
    layers = {layer for group in groups for layer in group.layers}
    told = f"filters: {sum(group.size for group in groups):,} of {len(layers)} " \
           f"layer{'s'[:len(layers) != 1]} are pruned"
    alike: dict[str, dict[str, str]] = {}
    for layer, reason in dense.items():
        alike.setdefault(reason.partition(": ")[2] or reason, {})[layer] = reason
    kept = []
    for reason, named in alike.items():
        names = [*named]
        said = ", ".join(names) if len(names) < 5 else \
            f"{', '.join(names[:3])} and {len(names) - 3} more"
        # The other layer is named if it is the only one.
        kept.append(f"{said} ({named[names[0]] if len({*named.values()}) == 1 else reason})")
    return f"{told}; all are kept of {'; of '.join(kept)}" if kept else told


@dataclasses.dataclass(frozen=True)
class Filters(Structure):
    """Filters of convolutions, units of dense and recurrent layers, heads of attention.

    Attributes:
      groups: the groups of units of a network; none until a search begins.
      dense: layer name -> why its filters stay, for the others that make filters.

    Example:
      >>> str(Filters()), Filters().obeys(np.array([[1, 0], [1, 0]])), Filters().obeys(np.eye(2))
      ('filters', True, False)
    """

    groups: tuple[UnitGroup, ...] = dataclasses.field(default=(), compare=False, repr=False)
    dense: Mapping[str, str] = dataclasses.field(
        default_factory=dict, compare=False, repr=False, hash=False)

    word = "filters"
    needs = "weights of a Sequential or functional model"
    coupled = True

    @classmethod
    def of(cls, groups: Sequence[UnitGroup], dense: "Mapping[str, str] | None" = None) -> "Filters":
        """Returns the structure of a network with these groups, and others that stay dense."""
        return cls(tuple(groups), dict(dense or {}))

    def obeys(self, mask: Array) -> bool:
        # Whether it is made of whole indices of each axis.
        kept = np.asarray(mask) != 0
        whole = np.ones(kept.shape, bool)
        for axis in range(kept.ndim):
            whole &= kept.any(axis=tuple(each for each in range(kept.ndim) if each != axis),
                              keepdims=True)
        return bool(np.array_equal(kept, whole))

    def shuffled_together(self, masks: Mapping[str, Array],
                          rng: np.random.Generator) -> dict[str, Array]:
        dense = {name: np.ones_like(mask) for name, mask in masks.items()}
        return spread_units(self.groups, [rng.permutation(kept) for kept in kept_units(
            self.groups, masks)], dense)
