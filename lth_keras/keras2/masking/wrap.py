"""Wrapping a model: which layers get the pruning wrapper; and taking the wrappers off."""

from collections.abc import Collection, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import of_arguments
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking import layer_selection, saving
from lth_keras.keras2.masking.layer_selection import Selection, Selector
from lth_keras.keras2.masking.masked_layer import MaskedLayer
from lth_keras.keras2.masking.replace_layers import replace_layers
from lth_keras.keras2.masking.weight_names import Wrapper, wrappers
from lth_keras.keras2.masking.wrap_weights import check_built, wrap_names, wrap_weights


def prune_low_magnitude(model: Any, include: "Selector | Sequence[Selector]" = (),
                        exclude: "Selector | Sequence[Selector]" = (), *,
                        block_size: tuple[int, int] = (1, 1), block_pooling_type: str = "AVG",
                        sparsity_m_by_n: tuple[int, int] | None = None,
                        structure: "str | None" = None, pruning_policy: Any = None) -> Any:
    """Wraps the layers of a model so that their weights can be pruned exactly.

    Kernels are pruned; biases, normalisation parameters, embeddings and weights of rank
    below 2 are not.  A layer with nothing to prune is left as it is.

    Of a Sequential or functional model, as with tfmot, a new one is made, of the same class,
    which shares its layers, and so its weights, with the one given.  A subclassed model is
    wrapped in place: its layers, in attributes, lists, tuples and dicts, models within it
    included, give way to wrapped ones, and it is returned.  `self.dense.units` and the like
    go on working in its code, and `self.embed.embeddings` in its call is the masked weight.
    A model whose call makes layers is refused.

    A model of a class of your own is then of a subclass of it with the same name, which Keras
    saves and loads wrapped, as it does the others: `keras.models.load_model("model.keras")`,
    with your class registered with Keras or in custom_objects.  The class must say how it is
    made, as Keras asks of every model: by arguments of plain types, or by get_config and
    from_config.  An .h5 file of the whole model, and to_json, keep too little of such a class.
    `strip_pruning` gives the class back.  Compile the model anew.

    Args:
      model: a built tf_keras model of any kind, nested models, shared layers and layers with
        common weights included, or a single layer.
      include: names, types or functions of layers to prune that are left out by default:
        embeddings and frozen layers.  A function takes a layer and returns a bool.
      exclude: the same, for layers to leave dense.
      block_size: inputs and outputs of the blocks that are pruned as a whole; a round's
        fraction is then one of blocks.  Weights must be matrices, of dense layers or 1x1
        convolutions.
      block_pooling_type: "AVG" or "MAX" of its weights' scores is that of a block.
      sparsity_m_by_n: (m, n) for m pruned of every n consecutive inputs of an output, such as
        (2, 4); in one round, or in as many as divide m.  Weights must be of rank 2 or 4.
      structure: any structure by its word, in place of tfmot's arguments for blocks and
        (m, n): "block_4x1", "2:4", or one of your own; see `core.structures`.
      pruning_policy: a tfmot PruningPolicy, which says of a Sequential or functional model
        which layers are wrapped: `tfmot.sparsity.keras.PruneForLatencyOnXNNPack()` allows the
        1x1 convolutions that TF Lite runs sparse.

    Returns:
      The wrapped model or layer, all masks at one.

    Raises:
      LotteryError: if nothing is prunable (the message says why, layer by layer), if the
        model is not built or uses weights that cannot be reached, if an entry of
        `include` or `exclude` means no layer, if a weight cannot be pruned in the structure, or
        if the policy does not support the model.

    Example:
      >>> import tf_keras as keras
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU()]))
      >>> [type(layer).__name__ for layer in model.layers]
      ['MaskedLayer', 'ReLU']

    Reference: Frankle & Carbin, ICLR 2019, section 2; Zhu & Gupta 2017 for tfmot's wrapper.
    """
    selection = Selection(include, exclude, pruning_policy)
    pruned_in = of_arguments(block_size, block_pooling_type, sparsity_m_by_n, structure)
    _check_kind(model)
    if not isinstance(model, keras.Model):
        wrapped = _wrap_layer(model, selection, pruned_in)
        selection.check_used(model)
        return wrapped
    check_built(model)
    selection.check_policy(model)
    chosen = selection.weights(model)
    selection.check_used(model)
    return saving.saveable(wrap_weights(model, dict.fromkeys(chosen, pruned_in),
                                        selection.reasons))


def wrap_named(model: Any, names: Collection[str]) -> Any:
    """Wraps just the weights of these names, as `keras2.masking.weight_names` names them."""
    _check_kind(model)
    return saving.saveable(wrap_names(model, names))


def strip_pruning(model: Any) -> Any:
    """Takes the pruning wrappers off a model; its pruned weights stay zero.

    For every model that `prune_low_magnitude` wraps, and for those that tfmot wrapped.

    Args:
      model: a wrapped model, ours or tfmot's; not changed if it is Sequential or functional,
        stripped in place if it is subclassed.

    Returns:
      The model without wrappers, with the same predictions, to be saved or converted: a new
      one that shares its weights, or the subclassed one that was given.

    Raises:
      LotteryError: if `model` is not a tf_keras model or layer.

    Example:
      >>> import tf_keras as keras
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU()]))
      >>> [type(layer).__name__ for layer in strip_pruning(model).layers]
      ['Dense', 'ReLU']
    """
    _check_kind(model)
    for wrapper in wrappers(model):
        for weight, mask, _ in wrapper.pruning_vars:
            stored = getattr(weight, "_variable", weight)
            stored.assign(tf.where(tf.cast(mask, tf.bool), stored, tf.zeros((), stored.dtype)))

    def bare(layer: Any) -> Any:
        if not isinstance(layer, Wrapper):
            return layer
        inside = layer.layer
        if not hasattr(inside, "_batch_input_shape") and hasattr(layer, "_batch_input_shape"):
            inside._batch_input_shape = layer._batch_input_shape
        return inside
    return saving.plain(replace_layers(model, bare))


def _wrap_layer(layer: Any, selection: Selection, structure: Structure) -> Any:
    if isinstance(layer, Wrapper):
        return layer
    asked, refused = selection.asked(layer), selection.refused(layer)
    reason = "excluded" if refused else selection.denied(layer)
    if not layer.built and not reason:
        return MaskedLayer(layer, asked=asked, **structure.options)
    chosen, reasons = ([], [reason]) if reason else layer_selection.weights_of(layer, asked)
    if not chosen:
        raise LotteryError(f"Layer {layer.name!r} has no weight to prune: "
                           f"{'; '.join(reasons) or 'it has no weights'}.")
    return MaskedLayer(layer, [slot.path for slot in chosen], **structure.options)


def _check_kind(model: Any) -> None:
    if not isinstance(model, keras.layers.Layer):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise LotteryError("A tf_keras (Keras 2) model or layer is needed: import tf_keras as "
                           f"keras. Received: {kind}.")
