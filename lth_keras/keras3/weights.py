"""The weights of Keras 3 models by name, and which of them can be pruned."""

import re
import warnings
from collections.abc import Collection, Sequence
from typing import Any

import keras
import numpy as np

from lth_keras.core.fractions import LayerNames, Prunable
from lth_keras.core.structures.filters import Filters
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError
from lth_keras.graph.coupling import couple, Coupling
from lth_keras.search.layer_selection import NOT_KERNELS, Selection, units
from lth_keras.search.layer_tree import axes_of, LayerTree, TRACKED_BY_TENSORFLOW


def is_graph(layer: Any) -> bool:
    """Whether a layer is a Sequential or functional model."""
    return isinstance(layer, (keras.Sequential, keras.src.models.functional.Functional))


TREE = LayerTree(
    "keras", keras.layers.Layer, keras.Model, keras.metrics.Metric, keras.layers.Wrapper,
    keras.Variable, is_graph, re.compile(
        rf"{TRACKED_BY_TENSORFLOW}|_layers|_(non_)?trainable_variables|_seed_generators|_metrics"
        r"|_losses|_functional"
        # Of torch, where each layer is a torch.nn.Module too.
        r"|_modules|_parameters|_buffers|_?torch_params"
        r"|_inbound_nodes|_outbound_nodes|_operations.*|_losses_override|_tracker"),
    keras.src.utils.naming.to_snake_case,
    # What tf_keras calls otherwise.
    renamed={(f"DepthwiseConv{rank}D", "kernel"): "depthwise_kernel" for rank in (1, 2)})


def check_keras3(model: Any) -> None:
    """Checks that an object is a model of Keras 3.

    Raises:
      LotteryError: if it is not.
    """
    if not isinstance(model, keras.Model):
        raise LotteryError("A model of Keras 3 is needed. Received: "
                           f"{type(model).__module__}.{type(model).__qualname__}. Put the layer "
                           "into a model: keras.Sequential([keras.Input(shape), layer]).")


def named_weights(model: Any) -> dict[str, Any]:
    """Every weight of a built model by name; states of recurrent layers are not weights.

    Example:
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="fc")])
      >>> list(named_weights(model))
      ['fc/kernel', 'fc/bias']
    """
    states = {id(variable) for layer in model._flatten_layers()
              if isinstance(layer, keras.layers.RNN)
              for variable in keras.tree.flatten(layer.states)}
    return {name: variable for name, variable in TREE.named_weights(model).items()
            if id(variable) not in states}


def prunable_weights(model: Any, include: Any = (), exclude: Any = ()) -> dict[str, Prunable]:
    """The weights of a built model that are pruned, by name, in the order of its layers.

    Args:
      model: a built model.
      include: names, types or functions of layers to prune although they are left out by default.
      exclude: names, types or functions of layers to keep dense.

    Raises:
      LotteryError: if there are none, or an entry matches no layer.

    Example:
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="fc")])
      >>> prunable_weights(model)["fc/kernel"].layer_type
      'Dense'
    """
    selection = Selection(TREE, include, exclude)
    chosen = selection.weights(model)
    selection.check_used(model)
    if not chosen:
        raise LotteryError("A search needs a layer with weights that can be pruned. Received: "
                           f"{model.name!r} without any. {'; '.join(selection.reasons)}.")
    _warn_of_lost(model)
    return described(model, [name for name, variable in named_weights(model).items()
                             if id(variable) in chosen])


def _warn_of_lost(model: Any) -> None:
    # They would stay dense, and nobody would see why a network is less sparse than asked for.
    placed = {id(slot.variable) for slot in TREE.slots(model)}
    lost = [name for name, variable in named_weights(model).items()
            if id(variable) not in placed and variable.trainable and len(variable.shape) > 1
            and variable.name not in NOT_KERNELS]
    if lost:
        warnings.warn("Weights that no attribute of a layer leads to stay dense. Received: "
                      f"{', '.join(lost)}. Hold each layer and weight in an attribute, or in a "
                      "list or dict of one.", stacklevel=3)


def in_structure(model: Any, include: Any, exclude: Any, structure: Structure,
                 has_masks: Collection[str] = ()
                 ) -> tuple[dict[str, Prunable], dict[str, Structure]]:
    """The weights of a built model that get masks, and the structure that each is pruned in.

    Where filters are pruned, these are the kernels that make them and all that hangs on them.

    Args:
      model: a built model.
      include: as for `prunable_weights`.
      exclude: as for `prunable_weights`.
      structure: what was asked for.
      has_masks: the names of the weights that have masks already, if their filters are meant.

    Raises:
      LotteryError: if there are none, or nothing can be pruned in the structure.
    """
    found = _coupling(model, has_masks).within(has_masks) if has_masks else None
    if found is None or not found.groups:
        kernels = prunable_weights(model, include, exclude)
        if not structure.coupled:
            return kernels, dict.fromkeys(kernels, structure)
        found = _coupling(model, kernels)
    chosen = described(model, found.weights)
    return chosen, dict.fromkeys(chosen, Filters.of(found.groups, found.dense))


def with_units(model: Any, counts: Sequence[int]) -> Any:
    """A model that keeps only the first units of each group of filters.

    Args:
      model: a built Sequential or functional model.
      counts: how many units each group keeps, in the order of the groups.
    """
    found = _coupling(model, prunable_weights(model))
    return found.smaller(model, [np.arange(group.size) < count for group, count in zip(
        found.groups, counts, strict=True)])[0]


def _coupling(model: Any, kernels: Collection[str]) -> Coupling:
    variables = named_weights(model)
    return couple(model, {id(variable): name for name, variable in variables.items()},
                  {id(variables[name]) for name in kernels})


def described(model: Any, names: Collection[str]) -> dict[str, Prunable]:
    """What layer each of some weights is of, by the weight's name, in the order of the model."""
    outputs = {id(layer) for layer in _output_layers(model)}
    known = TREE.layer_names(model)
    axes = {id(slot.variable): axes_of(slot) for slot in TREE.slots(model)}
    owners = {id(slot.variable): layer for layer, _ in units(model, TREE)
              for slot in TREE.slots(layer)}
    found = {}
    for name, variable in named_weights(model).items():
        if name in names:
            layer = owners.get(id(variable), model)
            called = known.get(id(layer), LayerNames(layer.name, layer.name))
            found[name] = Prunable.of(name, called, type(layer).__name__, id(layer) in outputs,
                                      axes.get(id(variable), ""))
    return found


def _output_layers(model: Any) -> list[Any]:
    # From each output back through layers without kernels, such as activations, to the first with
    # a kernel: that is the output layer, for which the papers prune a smaller fraction.
    if not is_graph(model) or not model.built:
        return []
    if isinstance(model, keras.Sequential):
        for layer in reversed(model.layers):
            if is_graph(layer):
                return _output_layers(layer)
            if any(len(weight.shape) > 1 for weight in layer.weights):
                return [layer]
        return []
    inputs: dict[int, list[Any]] = {}
    for nodes in model._nodes_by_depth.values():  # A shared layer has nodes elsewhere too.
        for node in nodes:
            inputs.setdefault(id(node.operation), []).extend(node.input_tensors)
    found: dict[int, Any] = {}
    seen: set[int] = set()
    waiting = list(keras.tree.flatten(model.outputs))
    while waiting:
        layer = waiting.pop()._keras_history.operation
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if is_graph(layer):
            found.update((id(inside), inside) for inside in _output_layers(layer))
        elif any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ())):
            found[id(layer)] = layer
        else:
            waiting += inputs.get(id(layer), [])
    return list(found.values())
