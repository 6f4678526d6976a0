"""`lth.prune_low_magnitude` wraps a model for pruning; `lth.strip_pruning` removes the wrappers."""

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

    Kernels are pruned; biases, normalisation parameters, embeddings and weights of rank below 2
    are not.  Layers without weights to prune are left as they are.  Compile the model afterwards.

    Sequential and functional models: a new model of the same class is returned, which shares its
    layers, and so its weights, with the given one, as with tfmot.

    Subclassed models are wrapped in place and returned: the layers in their attributes, lists,
    tuples and dicts, and in models within them, are replaced by wrapped ones.  Expressions such as
    `self.dense.units` still work in their code, and `self.embed.embeddings` in `call` is the masked
    weight.  A model whose `call` creates layers is refused.

    Saving: a model of your own class becomes an instance of a subclass with the same name, which
    Keras saves and loads with its wrappers: `keras.models.load_model("model.keras")`, with your
    class registered with Keras or in custom_objects.  As for every Keras model, Keras must be able
    to make the class: from arguments of plain types, or by get_config and from_config.  An .h5 file
    of the whole model, and to_json, do not store enough of such a class.  `strip_pruning` restores
    the class.

    Args:
      model: a built tf_keras model of any kind, which may have nested models, shared layers and
        shared weights, or a single layer.
      include: names, types or functions of layers to prune although they are left out by default,
        such as embeddings and frozen layers.  A function takes a layer and returns a bool.
      exclude: names, types or functions of layers to keep dense.
      block_size: inputs and outputs of the blocks that are pruned as a whole; a round's fraction
        is then a fraction of blocks.  Weights must be matrices, of dense layers or 1x1
        convolutions.
      block_pooling_type: "AVG" or "MAX": how a block's score is computed from its weights' scores.
      sparsity_m_by_n: (m, n) to prune m of every n consecutive inputs of an output, such as
        (2, 4), in one round, or in a number of rounds that divides m.  Weights must be of rank 2
        or 4.
      structure: any structure by its word, in place of tfmot's arguments for blocks and
        (m, n): "block_4x1", "2:4", or one of your own; see `core.structures`.
      pruning_policy: a tfmot PruningPolicy that selects the layers of a Sequential or functional
        model to wrap: `tfmot.sparsity.keras.PruneForLatencyOnXNNPack()` allows the 1x1
        convolutions that TF Lite runs sparse.

    Returns:
      The wrapped model or layer, with all masks at one.

    Raises:
      LotteryError: if nothing is prunable (the message gives the reason for each layer), if the
        model is not built or uses weights that cannot be reached, if an entry of `include` or
        `exclude` matches no layer, if a weight cannot be pruned in the structure, or if the policy
        does not support the model.

    Example:
      >>> import tf_keras as keras
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU()]))
      >>> [type(layer).__name__ for layer in model.layers]
      ['MaskedLayer', 'ReLU']

    Reference: Frankle & Carbin, ICLR 2019, section 2; Zhu & Gupta 2017 for tfmot's wrapper.
    """
    # All arguments are checked before a model is touched: a subclassed one is changed in place.
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
    """Wraps exactly the weights with the given names, as a ticket names them.

    Example:
      >>> import tf_keras as keras
      >>> from lth_keras.keras2.masking.weight_names import masked
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, name="a"),
      ...                           keras.layers.Dense(2, name="b")])
      >>> list(masked(wrap_named(model, ["b/kernel"])))
      ['b/kernel']
    """
    _check_kind(model)
    return saving.saveable(wrap_names(model, names))


def strip_pruning(model: Any) -> Any:
    """Removes the pruning wrappers of a model; its pruned weights stay zero.

    It works for all models that `prune_low_magnitude` or tfmot has wrapped.

    Args:
      model: a wrapped model. A Sequential or functional model is not changed; a subclassed model
        is stripped in place.

    Returns:
      The model without wrappers and with the same predictions, to be saved or converted: a new
      model that shares the weights, or the given subclassed model.

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
    # tfmot's wrapper masks in the forward pass: after an optimizer step its pruned weights are not
    # zero, and without the wrapper they would count.
    for wrapper in wrappers(model):
        for weight, mask, _ in wrapper.pruning_vars:
            stored = getattr(weight, "_variable", weight)
            stored.assign(tf.where(tf.cast(mask, tf.bool), stored, tf.zeros((), stored.dtype)))

    def bare(layer: Any) -> Any:
        if not isinstance(layer, Wrapper):
            return layer
        inside = layer.layer
        # A Sequential model finds the shape of its input in this attribute of its first layer.
        if not hasattr(inside, "_batch_input_shape") and hasattr(layer, "_batch_input_shape"):
            inside._batch_input_shape = layer._batch_input_shape
        return inside
    return saving.plain(replace_layers(model, bare))


def _wrap_layer(layer: Any, selection: Selection, structure: Structure) -> Any:
    if isinstance(layer, Wrapper):
        return layer
    asked, refused = selection.asked(layer), selection.refused(layer)
    reason = "excluded" if refused else selection.denied(layer)
    # A layer without weights yet finds out when it is built which of them to prune.
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
        raise LotteryError("The model must be a tf_keras (Keras 2) model or layer. Received: "
                           f"{kind}. Use import tf_keras as keras.")
