"""Trains a level of a search without its pruned filters: the model gets cheaper as it is pruned.

A network whose filters are pruned computes what the network without them computes, and so does its
training, up to rounding: pruned weights get no gradient.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.coupled import grown, kept_units, shrunk, UnitGroup
from lth_keras.core.structures.filters import groups_of
from lth_keras.deployment.compaction import carried_optimizer
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.errors import LotteryError
from lth_keras.graph.coupling import couple
from lth_keras.search.network import Network


class _Places:
    """Where what is left of a weight lay, as `carried_optimizer` asks for it."""

    def __init__(self, groups: Sequence[UnitGroup], units: Sequence[Array], whole: Arrays):
        self._groups, self._units, self._whole = groups, units, whole

    def of(self, arrays: Arrays) -> dict[str, Array]:
        """What is left of some arrays that are of the shapes of weights."""
        left = shrunk(self._groups, self._units, {**self._whole, **arrays})
        return {name: left[name] for name in arrays}


@contextlib.contextmanager
def smaller(network: Network, masks: Mapping[str, Array]) -> Iterator[Any]:
    """Provides a model without the pruned filters, to be trained in place of a search's.

    Args:
      network: the model of a search that prunes filters.
      masks: its masks.

    Yields:
      A model with the weights, the optimizer's state and the settings of compile that the model
      has; the model itself while nothing is pruned.  When the `with` block ends, the model gets its
      weights back, trained; if an error ends it, the model stays as it was.

    Raises:
      LotteryError: if no filters are pruned, or the model is not compiled.
    """
    model, groups = network.model, groups_of(network.structures)
    if not groups:
        raise LotteryError('A smaller model is that of a search with structure="filters": other '
                           f"zeros make no model smaller. Received: {model.name!r}, whose single "
                           "weights or blocks are pruned.")
    units = kept_units(groups, masks)
    if all(np.all(kept) for kept in units):
        yield model
        return
    kind, whole = kind_of(model), network.weights()
    places = _Places(groups, units, whole)
    small = _without(kind, model, groups, units)
    own = kind.named_weights(small)
    for name, value in places.of(whole).items():
        kind.assign(own[name], value)
    settings = dict(model._compile_config.config)
    optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
    small.compile(**{**settings, "optimizer": optimizer})
    carried_optimizer.carry(model, small, places)
    yield small
    trained = {name: kind.array(own[name]) for name in whole}
    network.assign(grown(groups, units, trained, whole), dict(masks))


def _without(kind: Any, model: Any, groups: Sequence[UnitGroup], units: Sequence[Array]) -> Any:
    # A model of fewer units, whose weights are new: the first of each group stand for those kept.
    plain = kind.bare(kind.copy(model)) if kind.is_wrapped(model) else model
    names = {id(variable): name for name, variable in kind.named_weights(plain).items()}
    makers = {member.weight for group in groups for member in group.filters}
    found = couple(plain, names, {which for which, name in names.items() if name in makers})
    sizes = {group.layers: int(np.count_nonzero(kept))
             for group, kept in zip(groups, units, strict=True)}
    return found.smaller(plain, [np.arange(group.size) < sizes[group.layers]
                                 for group in found.groups])
