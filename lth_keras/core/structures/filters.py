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


@dataclasses.dataclass(frozen=True)
class Filters(Structure):
    """Filters of convolutions, units of dense and recurrent layers, heads of attention.

    Attributes:
      groups: the groups of units of a network; none until a search begins.

    Example:
      >>> str(Filters()), Filters().obeys(np.array([[1, 0], [1, 0]])), Filters().obeys(np.eye(2))
      ('filters', True, False)
    """

    groups: tuple[UnitGroup, ...] = dataclasses.field(default=(), compare=False, repr=False)

    word = "filters"
    needs = "weights of a Sequential or functional model"
    coupled = True

    @classmethod
    def of(cls, groups: Sequence[UnitGroup]) -> "Filters":
        """Returns the structure of a network with these groups."""
        return cls(tuple(groups))

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
