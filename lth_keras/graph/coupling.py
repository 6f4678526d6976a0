"""The groups of filters and units of a model that can be pruned, with all that hangs on them.

Channels that are tied, by an addition or a normalisation, form a unit.  A unit can be pruned if
what reads it is known, down to the weights: then what is masked computes exactly what the smaller
network does.  Units that the same layers make form a group.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.core.structures.coupled import Member, Role, UnitGroup
from lth_keras.errors import LotteryError
from lth_keras.graph import model_graph, rebuild
from lth_keras.graph.kinds import kind_of
from lth_keras.graph.layer_kind import LayerKind
from lth_keras.graph.model_graph import Graph
from lth_keras.graph.operations import (
    Channelwise,
    Held,
    Linear,
    Opaque,
    Operation,
    Places,
    tied_channels,
)
from lth_keras.graph.readers import MIXES

_OUTPUT, _INPUT = "it makes an output of the model", "it is an input of the model"


@dataclasses.dataclass(frozen=True, eq=False)
class Coupling:
    """The groups of a model, and what stays dense.

    Attributes:
      groups: the groups that can be pruned.
      dense: layer name -> why its filters are not pruned, for the others that make channels.
    """

    groups: tuple[UnitGroup, ...]
    dense: Mapping[str, str]
    _graph: Graph
    _labels: list[Places]  # Of each tensor, the unit of each channel.
    _units: tuple[list[int], ...]  # Of each group, its units in order.

    @property
    def weights(self) -> set[str]:
        """The names of all weights in which a group has numbers."""
        return {name for group in self.groups for name in group.weights}

    def within(self, names: Collection[str]) -> "Coupling":
        """Returns what has only those groups all of whose weights are named, as those with masks.

        Args:
          names: names of weights.
        """
        chosen = [place for place, group in enumerate(self.groups) if group.weights <= {*names}]
        left = {layer: "it has no mask" for place, group in enumerate(self.groups)
                if place not in chosen for layer in group.layers}
        return dataclasses.replace(
            self, groups=tuple(self.groups[place] for place in chosen),
            dense={**left, **self.dense}, _units=tuple(self._units[place] for place in chosen))

    def smaller(self, model: Any, units: Sequence[Array]) -> tuple[Any, dict[int, Any]]:
        """Builds the model without its pruned units.

        Args:
          model: the model that was coupled.
          units: of each group, a 0/1 array that says which units are kept.

        Returns:
          A new model with the same names of layers, and the weights that the model has now, less
          those of pruned units.  It computes what the model computes if they are masked.  And id of
          a variable of the model -> what has become of it.
        """
        gone = [label for labels, kept in zip(self._units, units, strict=True)
                for label, keep in zip(labels, kept, strict=True) if not keep]
        kept = [~np.isin(labels, gone) for labels in self._labels]
        done: dict[int, rebuild.Part] = {}
        for node, operations in zip(self._graph.nodes, self._graph.calls, strict=True):
            if id(node.layer) not in done:
                done[id(node.layer)] = rebuild.part(node.layer, operations, kept)
        small = rebuild.rebuilt(model, self._graph, [
            done[id(node.layer)] for node in self._graph.nodes])
        # A layer that is made again has the same weights in the same order.
        return small, {id(old): new for node in self._graph.nodes for old, new in zip(
            getattr(node.layer, "weights", ()), getattr(done[id(node.layer)].layer, "weights", ()),
            strict=True)}


def couple(model: Any, names: Mapping[int, str], prunable: Collection[int]) -> Coupling:
    """Finds the groups of filters and units of a model that can be pruned.

    Args:
      model: a built Sequential or functional model.
      names: id of a variable -> the weight's name, for every weight of the model.
      prunable: ids of the variables of kernels that may lose filters; a group that another kernel
        makes too stays dense.

    Raises:
      LotteryError: if the model is subclassed, or there is no group; the message has the reason for
        each layer.

    Example: the ten outputs are not pruned, nor the four inputs.
      >>> import keras
      >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"),
      ...                           keras.layers.Dense(10, name="b")])
      >>> from lth_keras.keras3.weights import named_weights
      >>> names = {id(variable): name for name, variable in named_weights(model).items()}
      >>> group, = couple(model, names, {id(layer.kernel) for layer in model.layers}).groups
      >>> group.layers, group.size, sorted(group.weights)
      (('a',), 3, ['a/bias', 'a/kernel', 'b/kernel'])
    """
    kind = kind_of(model)
    if not kind.is_graph(model):
        raise LotteryError(
            "Filters are pruned in Sequential and functional models, whose graph says what reads "
            f"them. Received: {model.name!r}, a {type(model).__name__}, whose graph is its code. "
            "Build it of keras.Input and layers, or prune it in another structure.")
    return _Coupler(kind, model_graph.read(model), names, prunable).coupling(model.name)


class _Coupler:
    def __init__(self, kind: LayerKind, graph: Graph, names: Mapping[int, str],
                 prunable: Collection[int]):
        self._kind, self._graph = kind, graph
        self._names, self._prunable = names, prunable
        self._labels = tied_channels(graph.widths, graph.operations)
        # Each operation with its layer.
        self._operations: list[tuple[Any, Operation]] = [
            (node.layer, operation) for node, call in zip(graph.nodes, graph.calls, strict=True)
            for operation in call]

    def coupling(self, name: str) -> Coupling:
        kept = self._kept()
        makers = self._makers()
        # Units that the same layers make, by the places of these operations.
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        dense: dict[str, str] = {}
        for label, places in sorted(makers.items()):
            layers = [self._operations[place][0] for place in places]
            reason = kept.get(label) or self._not_prunable(places)
            if reason:
                for layer in layers:
                    dense.setdefault(layer.name, reason)
            else:
                groups[tuple(places)].append(label)
        dense |= {name: reason for name, reason in self._unknown() if name not in dense}
        members = self._members()
        found = tuple(self._group(places, labels, members) for places, labels in groups.items())
        if not found:
            reasons = "".join(f"\n  {layer}: {reason}" for layer, reason in dense.items())
            raise LotteryError("A model needs filters or units that can be pruned with all that "
                               f"hangs on them. Received: {name!r}, where nothing is:{reasons}")
        pruned = {layer for group in found for layer in group.layers}
        return Coupling(found, {layer: reason for layer, reason in dense.items()
                                if layer not in pruned},
                        self._graph, self._labels, tuple(groups.values()))

    def _kept(self) -> dict[int, str]:
        # Units that stay, with the reason.
        kept: dict[int, str] = {}

        def keep(tensors: Sequence[int], reason: str) -> None:
            for tensor in tensors:
                for label in np.unique(self._labels[tensor]).tolist():
                    kept.setdefault(label, reason)
        keep(self._graph.outputs, _OUTPUT)
        for layer, operation in self._operations:
            if isinstance(operation, Opaque):
                reason = f"{layer.name}: {self._graph.left.get(layer.name, _INPUT)}"
                # A softmax is no reason of its own, if it makes the output.
                if operation.sources and layer.name not in self._graph.left:
                    reason = _OUTPUT
                keep((*operation.sources, *operation.targets), reason)
            elif isinstance(operation, Linear) and operation.activation is None:
                keep([operation.target], f"{layer.name}: {MIXES}")
        return kept

    def _unknown(self) -> Iterator[tuple[str, str]]:
        # Layers with filters of which it is not known what makes and reads them.
        for node in self._graph.nodes:
            name = node.layer.name
            if name in self._graph.left and any(
                    id(weight) in self._prunable for weight in getattr(node.layer, "weights", ())):
                yield name, self._graph.left[name]

    def _makers(self) -> dict[int, list[int]]:
        # Unit -> the places of the operations that make it.
        makers: dict[int, list[int]] = defaultdict(list)
        for place, (_, operation) in enumerate(self._operations):
            if isinstance(operation, Linear):
                for label in np.unique(self._labels[operation.target]).tolist():
                    makers[label].append(place)
        return makers

    def _not_prunable(self, places: Sequence[int]) -> str:
        # Why a group of layers stays: those of them that may not be pruned.
        found: dict[str, None] = {}
        for place in places:
            layer, operation = self._operations[place]
            assert isinstance(operation, Linear)
            for held in operation.makes:
                variable = self._kind.variable(layer, held.weight)
                if variable is not None and id(variable) not in self._prunable \
                        and _role(operation, held, len(variable.shape)) == "filter":
                    found[layer.name] = None
        makers = {self._operations[place][0].name for place in places}
        if not found:
            return ""
        said = "it is" if makers == {*found} and len(found) == 1 else \
            f"{' and '.join(found)} {'is' if len(found) == 1 else 'are'}"
        return f"{said} excluded, or not pruned by default"

    def _members(self) -> dict[int, list[tuple[str, int, Places, Role]]]:
        # Unit -> the weights that have numbers of it: name, axis, unit of each index, role.
        found: dict[int, list[tuple[str, int, Places, Role]]] = defaultdict(list)
        seen = set()
        for layer, operation in self._operations:
            for held in operation.holds if isinstance(operation, (Linear, Channelwise)) else ():
                variable = self._kind.variable(layer, held.weight)
                name = self._names.get(id(variable))
                if name is None:
                    continue
                units = self._labels[held.tensor]
                units = units if held.channels is None else units[held.channels]
                role = _role(operation, held, len(variable.shape))
                if (name, held.axis, role) not in seen:
                    seen.add((name, held.axis, role))
                    for label in np.unique(units).tolist():
                        found[label].append((name, held.axis, units, role))
        return found

    def _group(self, places: Sequence[int], labels: list[int],
               members: Mapping[int, list[tuple[str, int, Places, Role]]]) -> UnitGroup:
        number = {label: unit for unit, label in enumerate(labels)}
        held: dict[tuple[str, int, Role], Places] = {}
        for label in labels:
            for name, axis, units, role in members[label]:
                held.setdefault((name, axis, role), units)
        layers = dict.fromkeys(self._operations[place][0].name for place in places)
        return UnitGroup(tuple(layers), len(labels), tuple(
            Member(name, axis, np.array([number.get(label, -1) for label in units.tolist()]), role)
            for (name, axis, role), units in held.items()))


def _role(operation: Operation, held: Held, rank: int) -> Role:
    if isinstance(operation, Linear) and held.tensor == operation.target and rank > 1 \
            and "bias" not in held.weight and "recurrent" not in held.weight:
        return "filter"
    if held.weight.startswith("moving_"):
        return "statistic"
    return "scale" if held.weight == "gamma" else "other"
