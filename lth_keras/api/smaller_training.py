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
from lth_keras.deployment.compaction.compact import (
    added_losses,
    beside_the_graph,
    own_training,
)
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.errors import LotteryError
from lth_keras.graph.coupling import couple
from lth_keras.search.network import Network


class _Places:
    """Where what is left of a weight lay, as `carried_optimizer` asks for it."""

    def __init__(self, groups: Sequence[UnitGroup], units: Sequence[Array], whole: Arrays,
                 names: Mapping[str, str]):
        self._groups, self._units, self._whole, self._names = groups, units, whole, names

    def of(self, arrays: Arrays) -> dict[str, Array]:
        """What is left of some arrays that are of the shapes of weights, by the new names."""
        left = shrunk(self._groups, self._units, {**self._whole, **arrays})
        return {self._names[name]: left[name] for name in arrays if name in self._names}


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
      LotteryError: if no filters are pruned, the model is not compiled, or it is trained in a way
        that the smaller one has not.
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
    _refuse_own(model)
    small, own = _without(kind, model, groups, units)
    for name, value in shrunk(groups, units, whole).items():
        kind.assign(own[name], value)
    called = {id(variable): name for name, variable in kind.named_weights(small).items()}
    places = _Places(groups, units, whole, {
        name: called[id(variable)] for name, variable in own.items() if id(variable) in called})
    settings = dict(model._compile_config.config)
    optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
    _exempt(model.optimizer, optimizer, kind.named_weights(model), own)
    small.compile(**{**settings, "optimizer": optimizer})
    carried_optimizer.carry(model, small, places)
    try:
        yield small
    except BaseException:
        # Layers of which nothing is pruned may be the model's own, and have been trained.
        if any(not np.array_equal(now, whole[name]) for name, now in network.weights().items()):
            network.assign(whole, dict(masks))
        raise
    trained = {name: kind.array(own[name]) for name in whole}
    network.assign(grown(groups, units, trained, whole), dict(masks))


def _refuse_own(model: Any) -> None:
    added = [*beside_the_graph(model), *(
        name for name, layer in added_losses(model).items() if layer is not model)]
    if added:
        raise LotteryError("A smaller model is trained by its loss and its layers' own. Received: "
                           f"{model.name!r}, to which add_loss or add_metric has given more: "
                           f"{', '.join(added)}. Train the model itself, under its masks.")
    own = own_training(model)
    if own:
        raise LotteryError("A smaller model is trained as Keras does. Received: "
                           f"{model.name!r}, whose class {type(model).__name__} has a way of its "
                           f"own: {', '.join(own)}. Train the model itself, under its masks.")


def _exempt(optimizer: Any, new: Any, weights: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    # Which weights do not decay is not in an optimizer's config.
    while getattr(optimizer, "inner_optimizer", None) is not None:
        optimizer, new = optimizer.inner_optimizer, new.inner_optimizer
    decays = getattr(optimizer, "_use_weight_decay", None)  # Legacy optimizers have none.
    still = [own[name] for name, variable in weights.items()
             if decays is not None and name in own and not decays(variable)]
    if still:
        new.exclude_from_weight_decay(var_list=still)


def _without(kind: Any, model: Any, groups: Sequence[UnitGroup],
             units: Sequence[Array]) -> tuple[Any, dict[str, Any]]:
    # A model of fewer units, the first of each group in the place of those kept; and its variables
    # by the names of the model's.
    plain = kind.bare(kind.copy(model)) if kind.is_wrapped(model) else model
    variables = kind.named_weights(plain)
    names = {id(variable): name for name, variable in variables.items()}
    makers = {member.weight for group in groups for member in group.filters}
    found = couple(plain, names, {which for which, name in names.items() if name in makers})
    sizes = {_which(group): int(np.count_nonzero(kept))
             for group, kept in zip(groups, units, strict=True)}
    small, pairs = found.smaller(plain, [np.arange(group.size) < sizes[_which(group)]
                                         for group in found.groups])
    return small, {name: pairs.get(id(variable), variable) for name, variable in variables.items()}


def _which(group: UnitGroup) -> Any:
    # The heads of an attention and its outputs are two groups of one layer.
    return frozenset((member.weight, member.axis) for member in group.members)
