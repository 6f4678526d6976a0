"""Units of several weights: filters, with everything that hangs on them.

A filter of a convolution is a column of its kernel, a number of its bias, one of the scale and
shift of the normalisation that follows, and a row of the kernel of the next layer.  A `UnitGroup`
says where the numbers of each unit lie in which weights.  A weight may be part of several groups:
a kernel's columns are of its own filters, its rows of those of the layer before.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from lth_keras.core.structures.structure import Array

Role = Literal["filter", "scale", "statistic", "other"]
Arrays = Mapping[str, Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """An axis of a weight whose indices are of units of a group.

    Attributes:
      weight: the name of the weight.
      axis: the axis, >= 0.
      units: for each index of the axis the unit it is of, or -1 if it is of none in this group.
      role: "filter" of a kernel that makes the units; "scale" of the scale of a normalisation
        (gamma); "statistic" of its moving mean and variance, which have no mask; "other" of all
        else that hangs on them: biases, shifts, the kernels that read the units.
    """

    weight: str
    axis: int
    units: npt.NDArray[np.intp]
    role: Role = "other"


@dataclasses.dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units of a network, such as the filters of a convolution, that are kept or pruned as wholes.

    Attributes:
      layers: the names of the layers that make the units; several if their outputs are added.
      size: how many units there are, >= 1.
      members: where the numbers of the units lie.

    Example: two units of a dense layer, with their biases and what the next layer reads.
      >>> group = UnitGroup(("fc1",), 2, (
      ...     Member("fc1/kernel", 1, np.array([0, 1]), "filter"),
      ...     Member("fc1/bias", 0, np.array([0, 1])), Member("fc2/kernel", 0, np.array([0, 1]))))
      >>> masks = group.spread(np.array([1, 0]), {"fc1/kernel": np.ones((1, 2), np.uint8),
      ...     "fc1/bias": np.ones(2, np.uint8), "fc2/kernel": np.ones((2, 3), np.uint8)})
      >>> [mask.tolist() for mask in masks.values()]
      [[[1, 0]], [1, 0], [[1, 1, 1], [0, 0, 0]]]
      >>> group.kept(masks)
      array([1, 0], dtype=uint8)
    """

    layers: tuple[str, ...]
    size: int
    members: tuple[Member, ...]

    @property
    def weights(self) -> set[str]:
        """The names of the weights that are masked with its units; statistics are not."""
        return {member.weight for member in self.members if member.role != "statistic"}

    @property
    def filters(self) -> list[Member]:
        """The kernels that make its units."""
        return [member for member in self.members if member.role == "filter"]

    def kept(self, masks: Arrays) -> npt.NDArray[np.uint8]:
        """Which units are kept, shape (size,): those of whose filters anything is.

        Args:
          masks: weight name -> 0/1 array.
        """
        found = np.zeros(self.size, np.uint8)
        for member in self.filters:
            other = tuple(axis for axis in range(masks[member.weight].ndim) if axis != member.axis)
            there = masks[member.weight].any(axis=other) & (member.units >= 0)
            found[member.units[there]] = 1
        return found

    def spread(self, units: Array, masks: Arrays) -> dict[str, Array]:
        """The masks without the numbers of units that are pruned.

        Args:
          units: 0/1 array of shape (size,).
          masks: weight name -> 0/1 array, for all weights of the group and perhaps others.

        Returns:
          Weight name -> uint8 array, for all of `masks`.
        """
        found = dict(masks)
        keep = np.append(np.asarray(units) != 0, True)  # The last for indices of no unit: -1.
        for member in self.members:
            if member.role == "statistic":
                continue
            mask = found[member.weight]
            shape = [1] * mask.ndim
            shape[member.axis] = -1
            found[member.weight] = np.where(keep[member.units].reshape(shape), mask, 0).astype(
                np.uint8)
        return found

    def numbers(self, member: Member, values: Array) -> list[Array]:
        """What a weight holds of each unit, as one flat array a unit.

        Args:
          member: one of the group's.
          values: an array of the weight's shape.
        """
        moved = np.moveaxis(values, member.axis, 0)
        # Sorted once: thousands of units would be looked for one by one.
        order = np.argsort(member.units, kind="stable")
        ends = np.searchsorted(member.units[order], np.arange(self.size + 1))
        return [moved[order[first:last]].ravel() for first, last in itertools.pairwise(ends)]


def kept_units(groups: Iterable[UnitGroup], masks: Arrays) -> list[npt.NDArray[np.uint8]]:
    """Which units of each group are kept, by masks; see `UnitGroup.kept`."""
    return [group.kept(masks) for group in groups]


def spread_units(groups: Sequence[UnitGroup], units: Sequence[Array],
                 masks: Arrays) -> dict[str, Array]:
    """The masks without the numbers of pruned units of all groups; see `UnitGroup.spread`."""
    found = dict(masks)
    for group, kept in zip(groups, units, strict=True):
        found = group.spread(kept, found)
    return found


def shrunk(groups: Sequence[UnitGroup], units: Sequence[Array], arrays: Arrays) -> dict[str, Array]:
    """The weights of the network without its pruned units.

    Args:
      groups: the groups of the network.
      units: of each group, a 0/1 array that says which units are kept.
      arrays: weight name -> array, for all weights of the network.

    Returns:
      Weight name -> the same or a smaller array.

    Example:
      >>> group = UnitGroup(("fc",), 2, (Member("w", 1, np.array([0, 1]), "filter"),))
      >>> small = shrunk([group], [np.array([0, 1])], {"w": np.array([[1, 2], [3, 4]])})
      >>> small["w"].tolist()
      [[2], [4]]
      >>> grown([group], [np.array([0, 1])], small, {"w": np.ones((2, 2))})["w"].tolist()
      [[0.0, 2.0], [0.0, 4.0]]
    """
    kept = _kept_indices(groups, units, arrays)
    return {name: array[kept[name]] if name in kept else array for name, array in arrays.items()}


def grown(groups: Sequence[UnitGroup], units: Sequence[Array], small: Arrays,
          whole: Arrays) -> dict[str, Array]:
    """The weights of the whole network, from those of the one without its pruned units.

    Args:
      groups: the groups of the network.
      units: of each group, which units are kept.
      small: what `shrunk` gave, trained perhaps.
      whole: weight name -> array of the whole network; pruned units keep the statistics that these
        have, and zeros otherwise.

    Returns:
      Weight name -> array of the shape in `whole`.
    """
    kept = _kept_indices(groups, units, whole)
    statistics = {member.weight for group in groups for member in group.members
                  if member.role == "statistic"}
    found = dict(small)
    for name, places in kept.items():
        start = whole[name] if name in statistics else np.zeros_like(whole[name])
        found[name] = np.array(start)
        found[name][places] = small[name]
    return found


def _kept_indices(groups: Sequence[UnitGroup], units: Sequence[Array],
                  arrays: Arrays) -> dict[str, tuple[Array, ...]]:
    # Weight name -> the indices of each axis that stay, for `array[...]`.
    flags: dict[str, list[Array]] = {}
    for group, kept in zip(groups, units, strict=True):
        keep = np.append(np.asarray(kept) != 0, True)
        for member in group.members:
            axes = flags.setdefault(member.weight, [
                np.ones(length, bool) for length in arrays[member.weight].shape])
            axes[member.axis] = axes[member.axis] & keep[member.units]
    return {name: np.ix_(*axes) for name, axes in flags.items()}
