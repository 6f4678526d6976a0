"""The rows of a profile: what each layer of a model costs, from one call of the model."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from lth_keras.core.masks import Array, Arrays, of_zeros
from lth_keras.costs import layer_costs
from lth_keras.costs.attention_costs import Cost
from lth_keras.costs.layer_calls import CLOSED, kinds, LayerCall, Recorder, WHOLE
from lth_keras.errors import LotteryError
from lth_keras.search.layer_tree import LayerTree

COLUMNS = ("layer", "type", "parameters", "parameters_kept", "density", "macs", "macs_kept",
           "activation_bytes")


class ModelRun(Protocol):
    """A model that is to be called once; each engine has one.

    Attributes:
      model: the model.
      tree: the layers and weights of its Keras.
      batch: how many examples it is called on.
    """

    model: Any
    tree: LayerTree
    batch: int

    def named_weights(self) -> Mapping[str, Any]:
        """Every weight of its network by name."""

    def masks(self) -> Arrays:
        """Its masks by the names of weights; {} of a model that is not pruned by a search."""

    def array(self, variable: Any) -> Array:
        """The value of a variable."""

    def plain(self, operand: Any) -> Any:
        """The variable that stands behind what a layer multiplies with, or the operand itself."""

    def operations(self) -> Iterable[Any]:
        """The operations in its graph that may multiply and are no layers."""

    def functions(self) -> Iterable[tuple[Any, str]]:
        """The functions that multiply tensors, each a module and a name in it."""

    def run(self, begin: Callable[[], None], zeros: bool) -> None:
        """Calls the model once.

        Args:
          begin: called before each attempt.
          zeros: whether to compute on zeros, in place of tensors without values.
        """


class ModelRows:
    """The rows of a model's layers, in the order of their first calls.

    Args:
      run: the model.

    Attributes:
      notes: what was counted by assumption, a sentence each.
      uses: weight name -> how often each of its numbers is multiplied with for one example; without
        weights that are not.

    Raises:
      LotteryError: if the model cannot be called.
    """

    def __init__(self, run: ModelRun):
        self.notes: list[str] = []
        self.uses: dict[str, float] = {}
        self._run = run
        self._layers = dict(_walk(run.tree, run.model))  # By id: path and layer.
        weights, masks = run.named_weights(), run.masks()
        self._masks = {id(weights[name]): mask for name, mask in masks.items() if name in weights}
        self._own = self._by_row(weights.values())  # The weights of each row.
        self._kept: dict[int, Array] = {}
        self._multiplied: set[int] = set()  # The ids of weights that some call multiplies with.
        self._macs: dict[int, list[float]] = {}
        self._bytes: dict[int, int] = {}
        self._rows: dict[int, Any] = {}
        self._names = {id(variable): name for name, variable in weights.items()}
        self._count([(call, layer_costs.of_call(call, run.tree)) for call in self._calls()])

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows, each with the values of COLUMNS."""
        for key, layer in self._rows.items():
            own = self._own.get(key, [])
            size, kept = self._prunable(own)
            total = sum(map(_size, own))
            macs = [round(count) // self._run.batch for count in self._macs.get(key, [0, 0])]
            yield (self._path(layer), type(layer).__name__, total, total - size + kept,
                   kept / size if size else math.nan, *macs,
                   self._bytes.get(key, 0) // self._run.batch)

    @property
    def density(self) -> float:
        """The share of all prunable weights that are kept; 1 if there are none."""
        size, kept = self._prunable([weight for own in self._own.values() for weight in own])
        return kept / size if size else 1.0

    def _by_row(self, weights: Iterable[Any]) -> dict[int, list[Any]]:
        # A weight is in the row of its layer, or of the one around it that is counted as a whole.
        tree, model = self._run.tree, id(self._run.model)
        rows: dict[int, int] = {}
        for key, (_, layer) in self._layers.items():
            if (CLOSED | WHOLE) & {*kinds(layer)}:
                rows.update((id(slot.variable), key) for slot in tree.slots(layer))
        for key, (_, layer) in self._layers.items():
            for slot in tree.slots(layer):
                if slot.owner is layer:
                    rows.setdefault(id(slot.variable), key)
        found: dict[int, list[Any]] = {}
        for weight in weights:
            found.setdefault(rows.get(id(weight), model), []).append(weight)
        return found

    def _calls(self) -> list[LayerCall]:
        run, error = self._run, ""
        watched = [*(layer for _, layer in self._layers.values()), *run.operations()]
        for zeros in (False, True):  # Some code needs values, or leaves lengths open without them.
            recorder = Recorder(run.plain)
            try:
                with recorder.watching(watched, run.functions()):
                    run.run(recorder.clear, zeros)
            except Exception as raised:  # The model's own code may raise anything.
                error = f"{type(raised).__name__}: {raised!s:.200}"
                continue
            if all(call.known for call in recorder.calls):
                return recorder.calls
            error = "lengths of its activations are not known"
        raise LotteryError("A model must be one that can be called on an example. Received: "
                           f"{run.model.name!r}, whose call failed ({error}). Give the shape of an "
                           "example, input_shape=, or call the model on a batch first.")

    def _count(self, costs: list[tuple[LayerCall, Cost]]) -> None:
        # Which weights are multiplied with is known only after all calls.
        self._multiplied |= {id(each.variable) for _, cost in costs for each in cost.kernels}
        for call, cost in costs:
            key = id(call.row)
            if not (call.leaf or cost.kernels or cost.products or key in self._own):
                continue  # It only calls others, which have rows.
            self._rows.setdefault(key, call.row)
            if call.layer is call.row and (call.leaf or WHOLE & {*kinds(call.layer)}):
                self._bytes[key] = self._bytes.get(key, 0) + call.output_bytes * call.times
            macs = self._macs.setdefault(key, [0.0, 0.0])
            for each in cost.kernels:
                name = self._names.get(id(each.variable))
                if name is not None:
                    self.uses[name] = self.uses.get(name, 0.0) \
                        + call.times * each.uses / self._run.batch
                macs[0] += call.times * each.uses * _size(each.variable)
                macs[1] += call.times * each.uses * np.count_nonzero(self._kept_of(each.variable))
            macs[0] += call.times * cost.products
            macs[1] += call.times * (cost.kept_products(self._kept_of) if cost.kept_products
                                     else cost.products)
            self._note(*(f"{self._path(call.layer)}: {note}" for note in cost.notes))
        for key in self._own.keys() - self._rows.keys():
            layer = self._rows[key] = self._layers[key][1]
            if any(len(weight.shape) > 1 for weight in self._own[key]):
                self._note(f"{self._path(layer)}: is not called, so that it multiplies nothing")

    def _note(self, *sentences: str) -> None:
        self.notes += [each for each in dict.fromkeys(sentences) if each not in self.notes]

    def _prunable(self, weights: Iterable[Any]) -> tuple[int, int]:
        # Weights that have a mask, or without a search those that are multiplied with; those kept.
        found = [weight for weight in weights if id(weight) in (self._masks or self._multiplied)]
        return sum(map(_size, found)), sum(
            int(np.count_nonzero(self._kept_of(each))) for each in found)

    def _kept_of(self, weight: Any) -> Array:
        key = id(weight)
        if key in self._kept:
            return self._kept[key]
        kept: Array = np.ones(tuple(weight.shape), bool)
        if key in self._masks:
            kept = self._masks[key] != 0
        elif not self._masks and key in self._multiplied:
            kept = of_zeros(self._run.array(weight)) != 0
        self._kept[key] = kept
        return kept

    def _path(self, layer: Any) -> str:
        path = self._layers[id(layer)][0] if id(layer) in self._layers else str(layer.name)
        return path or str(self._run.model.name)


def _walk(tree: LayerTree, model: Any) -> Iterator[tuple[int, tuple[str, Any]]]:
    # The model and every layer whose calls count, by id, with its path as in the names of weights.
    waiting, seen = [("", model)], set()
    while waiting:
        path, layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield id(layer), (path, layer)
        if not CLOSED & {*kinds(layer)}:
            prefix = f"{path}/" if path else ""
            waiting += [(prefix + name, tree.unwrapped(part))
                        for name, part in reversed(tree.parts(layer))]


def _size(weight: Any) -> int:
    # Statistics of any number, as a Discretization gathers, are no parameters.
    return math.prod(size or 0 for size in weight.shape)
