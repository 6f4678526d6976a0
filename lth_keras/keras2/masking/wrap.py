"""`lth.prune_low_magnitude` wraps a model for pruning; `lth.strip_pruning` removes the wrappers."""

import functools
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import of_arguments
from lth_keras.errors import LotteryError
from lth_keras.keras2.inspection.pruners import trained_unpruned
from lth_keras.keras2.inspection.tfmot_parts import PruneRegistry, PruningSchedule
from lth_keras.keras2.masking import saving
from lth_keras.keras2.masking.masked_layer import MaskedLayer
from lth_keras.keras2.masking.weight_names import check_keras2, TREE, Wrapper, wrappers
from lth_keras.keras2.masking.wrap_weights import (
    check_built,
    filters_of,
    filters_within,
    KEPT_DENSE,
    unwrap,
    wrap_names,
    wrap_weights,
)
from lth_keras.search import layer_selection
from lth_keras.search.fit.preflight import refuse_tfmots
from lth_keras.search.layer_selection import Selection, Selector


def prune_low_magnitude(model: Any, include: "Selector | Sequence[Selector]" = (),
                        exclude: "Selector | Sequence[Selector]" = (), *,
                        block_size: tuple[int, int] = (1, 1), block_pooling_type: str = "AVG",
                        sparsity_m_by_n: tuple[int, int] | None = None,
                        structure: "str | None" = None, pruning_policy: Any = None,
                        **layer_options: Any) -> Any:
    """Wraps the layers of a model so that their weights can be pruned exactly.

    Kernels are pruned; biases, normalisation parameters, embeddings and weights of rank below 2 are
    not, unless structure="filters".  Layers without weights to prune are left as they are.  Compile
    the model afterwards.

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
        shared weights; a Sequential model that is not built yet, of which those layers are wrapped
        that tfmot knows, and a warning names the others; a single layer, or a list of
        layers, of which those with nothing to prune are returned as they are.  A layer that
        says by get_prunable_weights what to prune, as tfmot's PrunableLayer does, is obeyed.
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
        (m, n): "block_4x1", "2:4", "filters", or one of your own; see `core.structures`.
        "filters" prunes whole filters and units with all that hangs on them (biases,
        normalisation, the weights that read them), so that `lth.compact` makes a smaller network
        of the same predictions; the whole Sequential or functional model is wrapped for it.
        Layers whose outputs are added lose the same filters.  Li et al., ICLR 2017
        (arXiv:1608.08710).
      pruning_policy: a tfmot PruningPolicy that selects the layers of a Sequential or functional
        model to wrap: `tfmot.sparsity.keras.PruneForLatencyOnXNNPack()` allows the 1x1
        convolutions that TF Lite runs sparse.
      **layer_options: of a single layer: what Keras' layers take, such as input_shape or name.

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
    _check_call(include, layer_options)
    selection = Selection(TREE, include, exclude, pruning_policy)
    pruned_in = of_arguments(block_size, block_pooling_type, sparsity_m_by_n, structure)
    layers = list(model) if isinstance(model, (list, tuple)) else [model]
    for layer in layers:
        check_keras2(layer)
    if isinstance(model, (list, tuple)) and any(isinstance(each, keras.Model) for each in layers):
        raise LotteryError("A list to wrap must be of layers; wrap models one by one. Received: "
                           f"{', '.join(layer.name for layer in layers)}.")
    if pruned_in.coupled and not isinstance(model, keras.Model):
        raise LotteryError("Filters are pruned in a whole model, whose graph says what reads them. "
                           f"Received: {', '.join(layer.name for layer in layers)}. Build the "
                           "model first, and wrap that.")
    if not isinstance(model, keras.Model):
        wrapped = [_wrap_layer(layer, selection, pruned_in, layer_options) for layer in layers]
        selection.check_used(*layers)
        return wrapped if isinstance(model, (list, tuple)) else wrapped[0]
    if layer_options:
        raise LotteryError("Keyword arguments of Keras are for a single layer. Received: "
                           f"{', '.join(layer_options)} for the model {model.name!r}.")
    if isinstance(model, keras.Sequential) and not model.built and not pruned_in.coupled:
        return _wrap_unbuilt(model, selection, pruned_in)
    check_built(model)
    selection.check_policy(model)
    chosen = selection.weights(model)
    selection.check_used(model)
    structures, dense = filters_of(model, chosen) if pruned_in.coupled \
        else (dict.fromkeys(chosen, pruned_in), None)
    wrapped = saving.saveable(wrap_weights(model, structures, selection.reasons))
    if dense is not None:
        vars(wrapped)[KEPT_DENSE] = dense
    return _to_be_compiled(wrapped, model)


def wrap_named(model: Any, names: Collection[str], filters: bool = False) -> Any:
    """Wraps exactly the weights with the given names, as a ticket names them.

    Args:
      model: a built model.
      names: the names.
      filters: whether they are those of pruned filters, and of all that hangs on them.

    Example:
      >>> import tf_keras as keras
      >>> from lth_keras.keras2.masking.weight_names import masked
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, name="a"),
      ...                           keras.layers.Dense(2, name="b")])
      >>> list(masked(wrap_named(model, ["b/kernel"])))
      ['b/kernel']
    """
    check_keras2(model)
    structures = filters_within(model, names) if filters else None
    return _to_be_compiled(saving.saveable(wrap_names(model, names, structures)), model)


def strip_pruning(model: Any) -> Any:
    """Removes the pruning wrappers of a model; its pruned weights stay zero.

    It works for all models that `prune_low_magnitude` or tfmot has wrapped.

    Args:
      model: a wrapped model. A Sequential or functional model is not changed; a subclassed model
        is stripped in place.

    Returns:
      The model without wrappers and with the same predictions, to be saved or converted: a new
      model that shares the weights, or the given subclassed model.

    Warns:
      UserWarning: if the model was trained wrapped, and nothing has pruned it.

    Raises:
      LotteryError: if `model` is not a tf_keras model or layer.

    Example:
      >>> import tf_keras as keras
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU()]))
      >>> [type(layer).__name__ for layer in strip_pruning(model).layers]
      ['Dense', 'ReLU']
    """
    check_keras2(model)
    if unpruned := trained_unpruned(model):
        warnings.warn(unpruned, stacklevel=2)
    # tfmot's wrapper masks in the forward pass: after an optimizer step its pruned weights are not
    # zero, and without the wrapper they would count.
    for wrapper in wrappers(model):
        for weight, mask, _ in wrapper.pruning_vars:
            stored = getattr(weight, "_variable", weight)
            stored.assign(tf.where(tf.cast(mask, tf.bool), stored, tf.zeros((), stored.dtype)))
    return saving.plain(unwrap(model, {id(wrapper) for wrapper in wrappers(model)}))


def _to_be_compiled(wrapped: Any, given: Any) -> Any:
    # Keras says that a model must be compiled, which a user has done: to the one that was given.
    if wrapped is not given and given._is_compiled:
        vars(wrapped)["_assert_compile_was_called"] = functools.partial(_check_compiled, wrapped)
    return wrapped


def _check_compiled(wrapped: Any) -> None:
    try:
        type(wrapped)._assert_compile_was_called(wrapped)
    except RuntimeError as error:
        raise RuntimeError(f"{error} Wrapping has made a new model: the one that was given is "
                           "compiled, this one is not. Compile it after wrapping.") from None


def _wrap_layer(layer: Any, selection: Selection, structure: Structure,
                options: Mapping[str, Any] | None = None) -> Any:
    """A layer in its wrapper; or itself, if it is wrapped or has nothing to prune."""
    if isinstance(layer, Wrapper):
        return layer
    settings = {**structure.options, **(options or {})}
    asked, refused = selection.is_included(layer), selection.is_excluded(layer)
    if refused or selection.forbidden_by_policy(layer):
        return layer
    # A layer without weights yet finds out when it is built which of them to prune.
    if not layer.built and _may_be_pruned(layer, asked):
        return MaskedLayer(layer, asked=asked, **settings)
    chosen = layer_selection.weights_of(layer, TREE, asked)[0] if layer.built else []
    return MaskedLayer(layer, [slot.path for slot in chosen], **settings) if chosen \
        else _with_options(layer, options or {})


def _with_options(layer: Any, options: Mapping[str, Any]) -> Any:
    """A layer that is not wrapped, with what Keras' layers take where the wrapper would take it."""
    if not options:
        return layer
    given = keras.layers.Layer(**options)
    if hasattr(given, "_batch_input_shape"):
        layer._batch_input_shape = given._batch_input_shape
    if "name" in options:
        layer._name = given.name
    return layer


def _may_be_pruned(layer: Any, asked: bool) -> bool:
    # Of Keras' own layers tfmot knows the kernels; others show theirs once they are built.
    if type(layer) in PruneRegistry._LAYERS_WEIGHTS_MAP:
        return asked or isinstance(layer, keras.layers.DepthwiseConv2D) or (
            not isinstance(layer, keras.layers.Embedding)
            and bool(PruneRegistry._LAYERS_WEIGHTS_MAP[type(layer)]))
    return type(layer).build is not keras.layers.Layer.build or bool(layer.weights)


def _wrap_unbuilt(model: Any, selection: Selection, structure: Structure) -> Any:
    """A Sequential model that knows no input shape yet, with those layers wrapped that tfmot knows.

    What a layer of another class makes in its first call, and whether it can be pruned, is not
    known before.  It stays dense, which is said.
    """
    selection.check_policy(model)
    selection.name_layers(model)

    def known(layer: Any) -> bool:
        return PruneRegistry.supports(layer) or hasattr(layer, "get_prunable_weights")
    layers = [_wrap_layer(layer, selection, structure) if known(layer) else layer
              for layer in model.layers]
    _tell_left([layer for layer in model.layers if not known(layer)], selection)
    selection.check_used(model)
    if not any(isinstance(layer, Wrapper) for layer in layers):
        raise LotteryError(f"Nothing in {model.name!r} can be pruned before it is built. Received: "
                           f"{', '.join(layer.name for layer in model.layers) or 'no layers'}. "
                           "Start it with keras.layers.Input(shape), or call it on a batch.")
    return type(model)(layers, name=model.name)


def _tell_left(unknown: Sequence[Any], selection: Selection) -> None:
    remedy = "Build the model first: start it with keras.layers.Input(shape), or call it on a batch"
    excluded = [layer for layer in unknown if selection.is_excluded(layer)]
    asked = [layer for layer in unknown if layer not in excluded and selection.is_included(layer)]
    if asked:
        raise LotteryError("include must name layers that can be pruned before they are built. "
                           f"Received: {_described(asked)}. {remedy}.")
    left = [layer for layer in unknown if layer not in excluded and _may_have_kernels(layer)]
    if left:
        warnings.warn("In a model that is not built, layers stay dense of which only building "
                      f"tells what they hold. Received: {_described(left)}. {remedy}; or leave "
                      "them out by exclude=.", stacklevel=4)


def _may_have_kernels(layer: Any) -> bool:
    if layer.built:
        return bool(layer_selection.weights_of(layer, TREE)[0])
    draws = type(layer).__module__.startswith("tf_keras.src.layers.preprocessing.")
    if draws or not layer.trainable or layer_selection.off_by_default(layer, TREE):
        return False
    return any(_may_be_pruned(part, False) for part in layer._flatten_layers())


def _described(layers: Sequence[Any]) -> str:
    return ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in layers)


def _check_call(include: Any, options: Mapping[str, Any]) -> None:
    """Refuses what tfmot's function of the same name takes and this one does not."""
    schedule = options.get("pruning_schedule", include)
    if "pruning_schedule" in options or isinstance(include, PruningSchedule):
        raise LotteryError(
            "How much is pruned and when is said to the callback: lth.LotteryTicketCallback(rounds="
            "10, epochs_per_round=5, fraction=0.2) in model.fit(callbacks=[...]). Received: "
            f"pruning_schedule={type(schedule).__name__}, as "
            "tfmot.sparsity.keras.prune_low_magnitude takes it.")
    refuse_tfmots(options)
