"""Wraps the layers of a model that use the weights to prune, each in a `MaskedLayer`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.structures.filters import Filters
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError
from lth_keras.graph.coupling import couple, Coupling
from lth_keras.keras2.masking.masked_layer import MaskedLayer, MaskedLoss
from lth_keras.keras2.masking.replace_layers import replace_layers
from lth_keras.keras2.masking.subclass_checks import check_outputs, check_subclassed, outputs
from lth_keras.keras2.masking.weight_names import (
    is_built,
    is_graph,
    named_weights,
    slots,
    TREE,
    Wrapper,
    wrappers,
)
from lth_keras.search import layer_selection

# The attribute of a wrapped model that holds why some of its filters stay; Keras saves it not.
KEPT_DENSE = "_lth_keras_kept_dense"


def wrap_names(model: Any, names: Collection[str],
               structures: "Mapping[str, Structure] | None" = None) -> Any:
    """Wraps exactly the weights with the given names.

    Args:
      model: a built model.
      names: names of weights, as `weight_names.named_weights` gives them.
      structures: weight name -> structure to prune it in. Defaults to none.

    Returns:
      The wrapped model.
    """
    check_built(model)
    structures = structures or {}
    chosen = {id(weight): structures.get(name, NONE)
              for name, weight in named_weights(model).items() if name in names}
    return wrap_weights(model, chosen, ["none of the weights named is in a layer"])


def wrap_weights(model: Any, chosen: Mapping[int, Structure], reasons: list[str]) -> Any:
    """Wraps the layers of a model that use the chosen weights.

    Args:
      model: a built model.  It is changed in place if it is subclassed.
      chosen: the id of each weight to prune -> its structure.
      reasons: for each layer that is not pruned, a line with the reason, for the error message.

    Returns:
      The wrapped model; its masks keep every weight.

    Raises:
      LotteryError: if no layer has any of the weights, or the model uses weights that cannot be
        masked.
    """
    # A weight that a hand-wrapped layer prunes is pruned in every other layer that shares it.
    masked = {id(weight) for wrapper in wrappers(model) for weight, *_ in wrapper.pruning_vars}
    chosen = {**dict.fromkeys(masked, NONE), **chosen}
    wrapped: dict[int, Any] = {}
    for layer, _ in layer_selection.units(model, TREE):
        used = [slot for slot in slots(layer) if id(slot.variable) in chosen]
        if id(layer) not in wrapped and used and not _has_wrappers(layer):
            wrapped[id(layer)] = _masked_layer(layer, used, masked, chosen)
            masked.update(id(slot.variable) for slot in used)
    if not masked:
        raise LotteryError("Nothing in the model is prunable. Received:\n  "
                           + "\n  ".join(reasons) + "\nOnly trained kernels of rank 2 "
                           "or more are pruned by default; include= adds layers.")
    check_subclassed(model, masked)
    in_place = isinstance(model, keras.Model) and not is_graph(model)
    before = outputs(model) if in_place and _repeats(model) else None
    try:
        new = replace_layers(model, lambda layer: wrapped.get(id(layer), layer), MaskedLoss)
        check_outputs(new, before)
    except BaseException:
        unwrap(model, {id(wrapper) for wrapper in wrapped.values()})
        raise
    return new


def filters_of(model: Any, kernels: Collection[int]
               ) -> "tuple[dict[int, Structure], Mapping[str, str]]":
    """The weights to mask if filters are pruned, and the structure of each by the weight's id.

    Kernels that make filters have the structure "filters", what only hangs on filters has "none":
    so the wrappers of a model tell whose filters it prunes.

    Args:
      model: a built Sequential or functional model.
      kernels: the ids of the kernels that may lose filters.

    Returns:
      Weight's id -> structure; and layer name -> why its filters stay.

    Raises:
      LotteryError: if no filters of the model can be pruned.
    """
    variables = named_weights(model)
    found = _coupling(model, kernels)
    makers = {member.weight for group in found.groups for member in group.filters}
    return {id(variables[name]): Filters() if name in makers else NONE
            for name in found.weights}, found.dense


def filters_within(model: Any, names: Collection[str]) -> dict[str, Structure]:
    """The structure of each weight of a model whose filters were pruned, by the weight's name.

    Args:
      model: a built Sequential or functional model.
      names: the names of the weights that have masks.

    Raises:
      LotteryError: if they are not those of filters.
    """
    variables = named_weights(model)
    found = _coupling(model, {id(variables[name]) for name in names}).within(names)
    makers = {member.weight for group in found.groups for member in group.filters}
    return {name: Filters() if name in makers else NONE for name in names}


def with_units(model: Any, counts: Sequence[int]) -> Any:
    """A model without masks that keeps only the first units of each group of filters.

    Args:
      model: a built Sequential or functional model.
      counts: how many units each group keeps, in the order of the groups.
    """
    selection = layer_selection.Selection(TREE, (), ())
    found = _coupling(model, selection.weights(model))
    return found.smaller(model, [np.arange(group.size) < count for group, count in zip(
        found.groups, counts, strict=True)])[0]


def _coupling(model: Any, kernels: Collection[int]) -> Coupling:
    return couple(model, {id(variable): name for name, variable in named_weights(model).items()},
                  kernels)


def unwrap(model: Any, which: Collection[int]) -> Any:
    """Removes wrappers from a model.

    Args:
      model: a model; a subclassed one is changed in place.
      which: the ids of the wrappers to remove.

    Returns:
      The model itself if it is subclassed, otherwise a new model.
    """
    def bare(layer: Any) -> Any:
        if id(layer) not in which:
            return layer
        if isinstance(layer, MaskedLayer):
            layer.detach()
        inside = layer.layer
        # A Sequential model reads the shape of its input from this attribute of its first layer.
        if not hasattr(inside, "_batch_input_shape") and hasattr(layer, "_batch_input_shape"):
            inside._batch_input_shape = layer._batch_input_shape
        return inside

    def own(loss: Any, _: Any) -> Any:
        return loss.loss if isinstance(loss, MaskedLoss) else loss
    return replace_layers(model, bare, own)


def _repeats(model: Any) -> bool:
    # Only a model that computes the same twice can be compared before and after; one that draws
    # random numbers in inference does not.
    one, other = outputs(model), outputs(model)
    return one is not None and other is not None and all(
        map(np.array_equal, one, other)) and len(one) == len(other)


def _masked_layer(layer: Any, used: list[Any], masked: set[int],
                  chosen: Mapping[int, Structure]) -> MaskedLayer:
    # A weight that an earlier layer shares has its mask there: one mask for both.
    tied = [slot.path for slot in used if id(slot.variable) in masked]
    own = [slot for slot in used if slot.path not in tied]
    asked = [chosen[id(slot.variable)] for slot in own] or [NONE]
    # Of a layer whose filters are pruned, or which only follows another's: see `filters_of`.
    structure = next((each for each in asked if each.coupled), asked[0])
    wrapper = MaskedLayer(layer, [slot.path for slot in own], tied=tied, **structure.options)
    # Built at once, because the layers that share a weight look for the mask that the first one
    # made.  In the name scope of the layer's weights, so that the mask is named after it.
    scope = used[0].variable.name.rpartition("/")[0]
    name = f"masked_layer_{wrapper.name}"
    with tf.name_scope(f"{scope}/{name}" if scope else name):
        wrapper.build(layer._build_input_shape)
    return wrapper


def _has_wrappers(layer: Any) -> bool:
    # Whether the layer or one inside it is wrapped already, by hand or by tfmot.
    return any(isinstance(part, Wrapper) for part in layer._flatten_layers())


def check_built(model: Any) -> None:
    """Raises LotteryError if a model has not created all its weights yet.

    Raises:
      LotteryError: if so; the message names the layer and says how to build it.
    """
    if not is_graph(model) and not is_built(model):
        raise LotteryError("A subclassed model must be built before it is wrapped. Received: "
                           f"{type(model).__name__} without weights yet. Call it on a batch, "
                           "model(x), or call model.build(input_shape).")
    for layer, path in layer_selection.units(model, TREE):
        # A layer whose class makes no weights need not be built, such as a ReLU never called.
        plain = type(layer).build is keras.layers.Layer.build and not is_graph(model)
        if not (layer.built or plain or isinstance(layer, keras.layers.InputLayer)):
            raise LotteryError(f"The model must be built before it is wrapped. Received: layer "
                               f"{path!r} without weights yet. Start the model with "
                               "keras.layers.Input(shape), or call it on a batch, model(x).")
