"""What filters and units give to the layers that read them, for the criterion "activation".

A layer's filters are followed by normalisation, activation and perhaps additions, before a next
layer reads them.  So it is the tensor that this layer is called on whose |a| is averaged: over
examples, over positions, and over all layers that read it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.core.structures.coupled import UnitGroup
from lth_keras.errors import LotteryError
from lth_keras.graph import model_graph
from lth_keras.graph.kinds import kind_of
from lth_keras.graph.layer_kind import LayerKind
from lth_keras.graph.model_graph import Graph
from lth_keras.graph.operations import Floats, Linear, Places, tied_channels


class UnitActivations:
    """Computes the mean |a| of what filters give to the next layers.

    Args:
      model: a built Sequential or functional model.
      names: id of a variable -> the weight's name, for every weight of the model.
      groups: the groups of filters that are pruned.

    Raises:
      LotteryError: if there are no groups, or what reads one of them is within a layer that is not
        known here.

    Example: the units of a ReLU layer give the next layer |a| = 1 and 0.
      >>> import keras
      >>> from lth_keras.graph.coupling import couple
      >>> from lth_keras.keras3.weights import named_weights
      >>> model = keras.Sequential([
      ...     keras.Input((1,)), keras.layers.Dense(2, "relu", use_bias=False, name="fc"),
      ...     keras.layers.Dense(1)])
      >>> _ = model.layers[0].kernel.assign([[1.0, -1.0]])
      >>> names = {id(variable): name for name, variable in named_weights(model).items()}
      >>> groups = couple(model, names, set(names)).groups
      >>> UnitActivations(model, names, groups).mean([np.ones((4, 1))])
      {'fc/kernel': array([1., 0.])}
    """

    def __init__(self, model: Any, names: Mapping[int, str], groups: Sequence[UnitGroup]):
        if not groups:
            raise LotteryError('The criterion "activation" is of what filters give to the next '
                               f"layers. Received: {model.name!r}, of which no filters are pruned. "
                               'Prune it with structure="filters".')
        self._kind = kind_of(model)
        graph = model_graph.read(model)
        self._labels = tied_channels(graph.widths, graph.operations)
        wanted = {member.weight for group in groups for member in group.filters}
        self._kernels = _kernels(self._kind, graph, names, wanted, self._labels)
        units = np.unique(np.concatenate(list(self._kernels.values())))
        self._read = [(name, tensor) for name, tensor in _read(graph)
                      if np.isin(self._labels[tensor], units).any()]
        wanted_tensors = {tensor for _, tensor in self._read}
        heads = list(_attention(self._kind, graph, wanted_tensors))
        self._parts = [*_parts(self._kind, model, graph, wanted_tensors.union(
            *(part.inputs or () for part in heads))), *heads]
        self._check_there()

    def mean(self, inputs: Iterable[Any]) -> dict[str, Array]:
        """Returns the mean |a| of the filters of each kernel, at the model's weights now.

        Layers run in inference mode, and nothing of the model changes.

        Args:
          inputs: batches of what the model is called on.

        Returns:
          Kernel's name -> float64 array, a number for each index of the axis of its filters.

        Raises:
          LotteryError: if there are no examples.
        """
        # In float64: a mean over all examples must not depend on how they are cut into batches.
        for part in self._parts:
            part.refresh()
        totals: dict[int, Any] = dict.fromkeys((tensor for _, tensor in self._read), 0.0)
        counts = dict.fromkeys(totals, 0)
        for batch in inputs:
            for tensor, values in self._values(batch):
                size = np.abs(values.astype(np.float64)).reshape(-1, values.shape[-1])
                totals[tensor] = totals[tensor] + size.sum(axis=0)
                counts[tensor] += len(size)
        if not all(counts.values()):
            raise LotteryError("scoring_data must hold at least one example. Received: none.")
        means = {tensor: total / counts[tensor] for tensor, total in totals.items()}
        return {name: self._of_units(means)[labels] for name, labels in self._kernels.items()}

    def _values(self, batch: Any) -> Iterator[tuple[int, Array]]:
        # The tensors that are read, in one batch.
        known: dict[int, Array] = {}
        for part in self._parts:
            given = batch if part.inputs is None else self._kind.tree.pack_sequence_as(
                part.form, [known[tensor] for tensor in part.inputs])
            found = self._kind.infer(part.model, given)
            known.update(zip(part.tensors, map(part.channels_last, found), strict=True))
        return ((tensor, known[tensor]) for tensor in {tensor for _, tensor in self._read})

    def _of_units(self, means: Mapping[int, Floats]) -> Floats:
        # The mean over a unit's channels of one tensor, then over all layers that read them.
        count = 1 + max(int(labels.max()) for labels in self._labels)
        total, readers = np.zeros(count), np.zeros(count)
        for _, tensor in self._read:
            labels = self._labels[tensor]
            channels = np.bincount(labels, minlength=count)
            found = np.bincount(labels, means[tensor], minlength=count)
            total += found / np.maximum(channels, 1)
            readers += channels > 0
        return total / np.maximum(readers, 1)

    def _check_there(self) -> None:
        there = {tensor for part in self._parts for tensor in part.tensors}
        inside = sorted({name for name, tensor in self._read if tensor not in there})
        if inside:
            raise LotteryError(
                "The criterion \"activation\" needs units that a layer gives to the next one. "
                f"Received: those within {', '.join(inside)}. Leave them dense by exclude=, or use "
                "another criterion, such as \"taylor\".")


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    # A model whose outputs are tensors of the graph, or of a model within the model.
    model: Any
    tensors: list[int]
    form: Any  # Its inputs, as it takes them.
    inputs: "list[int] | None"  # The tensors that it is called on; None: the whole model's inputs.
    refresh: Callable[[], None] = lambda: None  # Takes over the weights that the model has now.
    channels_last: Callable[[Array], Array] = lambda values: values


def _kernels(kind: LayerKind, graph: Graph, names: Mapping[int, str], wanted: set[str],
             labels: Sequence[Places]) -> dict[str, Places]:
    # Kernel's name -> the label of each index of the axis of its filters.
    found: dict[str, Places] = {}
    for node, call in zip(graph.nodes, graph.calls, strict=True):
        for operation in call:
            for held in operation.makes if isinstance(operation, Linear) else ():
                variable = kind.variable(node.layer, held.weight)
                name = names.get(id(variable))
                if name in wanted:
                    own = labels[held.tensor]
                    found.setdefault(name, own if held.channels is None else own[held.channels])
    return found


def _read(graph: Graph) -> Iterator[tuple[str, int]]:
    # Which layer reads which tensor; what a recurrent layer reads of itself is not given to a next.
    for node, call in zip(graph.nodes, graph.calls, strict=True):
        for operation in call:
            if isinstance(operation, Linear) and operation.source != operation.target:
                yield node.layer.name, operation.source


def _attention(kind: LayerKind, graph: Graph, wanted: set[int]) -> Iterator[_Part]:
    # What heads give is within their layer: the same attention, with an output that is theirs one
    # after the other, gives it.
    for node, call in zip(graph.nodes, graph.calls, strict=True):
        for operation in call:
            if isinstance(operation, Linear) and operation.source in wanted \
                    and kind.known_as(node.layer) == "MultiHeadAttention" \
                    and operation.holds[0].weight == "_output_dense.kernel":
                heads, size = kind.variable(node.layer, "_output_dense.kernel").shape[:2]
                inputs = [kind.keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=f"given_{n}")
                          for n, tensor in enumerate(node.inputs)]
                config = node.layer.get_config()
                # Nothing may be drawn at random for it.
                config |= {"name": "heads", "output_shape": heads * size, "dropout": 0.0,
                           "kernel_initializer": "zeros", "bias_initializer": "zeros",
                           **({"seed": 0} if "seed" in config else {})}
                probe = type(node.layer).from_config(config)
                causal = {key: value for key, value in node.kwargs.items()
                          if key == "use_causal_mask"}
                model = kind.keras.Model(inputs, probe(*inputs, **causal), name="unit_activations")
                yield _Part(
                    model, [operation.source], inputs,
                    [graph.places[id(tensor)] for tensor in node.inputs],
                    functools.partial(_take_over, kind, node.layer, probe),
                    functools.partial(_heads_last, heads))


def _take_over(kind: LayerKind, layer: Any, probe: Any) -> None:
    for part in ("query", "key", "value", "gate"):
        for weight in ("kernel", "bias"):
            variable = kind.variable(layer, f"_{part}_dense.{weight}")
            if variable is not None:
                kind.variable(probe, f"_{part}_dense.{weight}").assign(kind.array(variable))
    kernel = kind.variable(probe, "_output_dense.kernel")
    kernel.assign(np.eye(kernel.shape[-1]).reshape(tuple(kernel.shape)))


def _heads_last(heads: int, values: Array) -> Array:
    return np.moveaxis(values.reshape(*values.shape[:-1], heads, -1), -2, -1)


def _parts(kind: LayerKind, model: Any, graph: Graph, wanted: set[int]) -> Iterator[_Part]:
    # A tensor of a model within the model can only be computed from that model's inputs: these are
    # computed first.
    waiting: list[tuple[Any, list[int] | None]] = [(model, None)]
    done: set[int] = set()
    while waiting:
        whole, inputs = waiting.pop(0)
        tensors: dict[int, Any] = {}
        for node in kind.nodes(whole):
            inner = node.layer
            if not node.is_input and kind.is_graph(inner):
                form = kind.tree.flatten(kind.structure(inner)[0])
                if all(id(tensor) in graph.places for tensor in form):  # Read as part of the graph.
                    tensors.update((graph.places[id(tensor)], tensor) for tensor in node.inputs)
                    waiting.append((inner, [graph.places[id(tensor)] for tensor in form]))
            tensors.update((graph.places[id(tensor)], tensor)
                           for tensor in (*node.inputs, *node.outputs)
                           if graph.places[id(tensor)] in wanted)
        needed = {place: tensor for place, tensor in tensors.items() if place not in done}
        done.update(needed)
        if needed:
            form = kind.structure(whole)[0]
            # With a name, or Keras would number the models that come after it otherwise.
            made = kind.keras.Model(form, list(needed.values()), name="unit_activations")
            yield _Part(made, list(needed), form, inputs)
