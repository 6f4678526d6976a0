"""`lth.convert`: a tf_keras model as the equal Keras 3 model, with its weights and masks.

It needs both Kerases, which neither engine may import of the other; so it stands here, above both.
The graph of the model is called again on Keras 3's layers, node by node, and weights go from layer
to layer by the names that tickets give them.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from lth_keras.api.call_modes import check_mode
from lth_keras.api.layer_configs import class_of, translated
from lth_keras.core import masks as mask_arrays
from lth_keras.core.verification import cut
from lth_keras.deployment.compaction.compact import added_losses
from lth_keras.errors import LotteryError
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking import weight_names
from lth_keras.keras2.masking.wrap import strip_pruning
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.weights import named_weights, prunable_weights, TREE


def convert(model: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes the Keras 3 model that computes what a tf_keras model does.

    It has the model's weights, bit for bit, and trains on sparse: with the masks of a wrapped
    model, or those of the zeros of a stripped one, which a warning names.  A kernel that is zero
    all over, or in fewer than one in 1,000 of its weights, as an initializer leaves it, trains
    dense.  The model is not compiled.  A ticket of the one fits the other.

    Keras 3 does not keep training=False of a call in a graph when it trains: a warning names the
    layers for which that matters, such as a BatchNormalization that is not frozen.

    Args:
      model: a built tf_keras model, Sequential or functional, with nested models and shared layers
        if you like; wrapped by lth.prune_low_magnitude or tfmot, stripped, or never pruned.  It is
        not changed.
      custom_objects: for classes and functions of your own: name -> what stands for it in Keras 3.

    Returns:
      A model of Keras 3, on the backend that Keras has.

    Raises:
      LotteryError: if a layer, option, call, weight or loss has no counterpart in Keras 3, or the
        two models predict differently for random inputs; it names what is at fault. A warning says
        if the model takes no random inputs, so that its predictions were not compared.

    Example:
      >>> import lth_keras as lth
      >>> wrapped = lth.prune_low_magnitude(tf_keras.Sequential([
      ...     tf_keras.layers.Input((4,)), tf_keras.layers.Dense(3, name="fc")]))
      >>> model = convert(wrapped)
      >>> isinstance(model, keras.Sequential), [layer.name for layer in model.layers]
      (True, ['fc'])
    """
    weight_names.check_keras2(model)
    if not weight_names.is_graph(model) or not weight_names.is_built(model) or not model.inputs:
        raise LotteryError(
            "A model to convert must be Sequential or functional, and built. Received: "
            f"{model.name!r} of {type(model).__qualname__}. Build a model of your own class with "
            "Keras 3, and give it the weights and masks by a ticket: ticket.apply(model).")
    wrapped = bool(weight_names.wrappers(model))
    masks = rewinding.read_masks(model) if wrapped else {}
    plain = strip_pruning(model) if wrapped else model
    _check_losses(plain)
    converter = _Converter(custom_objects or {})
    with keras.saving.custom_object_scope(dict(custom_objects or {})):
        try:
            converted = converter.model(plain)
        except LotteryError:
            raise
        except Exception as error:
            raise LotteryError("A model to convert must be of layers that Keras 3 can call. "
                               f"Received: {plain.name!r}: {error}") from error
    pairs = converter.copy_weights()
    _check_predictions(plain, converted)
    ours = {id(variable): name for name, variable in named_weights(converted).items()}
    variables = weight_names.named_weights(plain)
    _keep_sparse(converted, {ours[id(pairs[id(variables[name])])]: mask
                             for name, mask in masks.items()}, wrapped,
                 any(item.structure.coupled for item in weight_names.masked(model).values())
                 if wrapped else False)
    return converted


class _Converter:
    """Makes Keras 3 layers of tf_keras layers, each once."""

    def __init__(self, custom_objects: Mapping[str, Any]):
        self._custom = custom_objects
        self._made: dict[int, tuple[Any, Any]] = {}  # By the tf_keras layer's id: both layers.

    def model(self, model: Any) -> Any:
        """A Sequential or functional model of Keras 3."""
        if isinstance(model, tf_keras.Sequential):
            kind = self._class(model, tf_keras.Sequential, keras.Sequential)
            start = [_input(model.inputs[0])] if model.inputs else []
            return kind([*start, *map(self.layer, model.layers)], name=model.name)
        kind = self._class(model, tf_keras.Model, keras.Model)
        tensors = {id(tensor): _input(tensor) for tensor in model.inputs}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    self._call(node, tensors)

        def found(structure: Any) -> Any:
            return tf.nest.map_structure(lambda tensor: tensors[id(tensor)], structure)
        made = kind(found(model._nested_inputs), found(model._nested_outputs), name=model.name)
        made.trainable = model.trainable
        return made

    def layer(self, layer: Any) -> Any:
        """A layer of Keras 3, to be built by its first call."""
        if id(layer) not in self._made:
            self._made[id(layer)] = layer, self.model(layer) if weight_names.is_graph(layer) \
                else self._layer(layer)
        return self._made[id(layer)][1]

    def _layer(self, layer: Any) -> Any:
        kind = class_of(layer.name, layer, self._custom)
        config = layer.get_config()
        inner = getattr(layer, "layer", None)
        if inner is not None and weight_names.is_graph(inner):
            del config["layer"]  # Its description is of another form than Keras 3's.
            return kind(self.layer(inner), **translated(layer.name, kind, config, self._custom))
        try:
            return kind.from_config(translated(layer.name, kind, config, self._custom))
        except LotteryError:
            raise
        except Exception as error:
            raise LotteryError("A layer to convert must be one that Keras 3 can make. Received: "
                               f"{layer.name!r} of class {type(layer).__name__}: {error}") \
                from error

    def _class(self, model: Any, plain: type, kind: Any) -> Any:
        name = type(model).__name__
        if name in self._custom:
            return self._custom[name]
        if type(model) not in (plain, tf_keras.src.engine.functional.Functional):
            raise LotteryError("A model of a class of your own needs its class for Keras 3. "
                               f"Received: {model.name!r} of {type(model).__qualname__}. Give "
                               f"custom_objects={{{name!r}: the class}}.")
        return kind

    def _call(self, node: Any, tensors: dict[int, Any]) -> None:
        def given(structure: Any) -> Any:
            return tf.nest.map_structure(lambda value: tensors.get(id(value), value), structure)
        check_mode(node)
        outputs = self.layer(node.layer)(*given(node.call_args), **_set(given(node.call_kwargs)))
        for theirs, ours in zip(tf.nest.flatten(node.outputs), keras.tree.flatten(outputs),
                                strict=True):
            tensors[id(theirs)] = ours

    def copy_weights(self) -> dict[int, Any]:
        """Assigns all weights; returns Keras 3's variables by the ids of those of tf_keras."""
        pairs: dict[int, Any] = {}
        for layer, made in self._made.values():
            if weight_names.is_graph(layer):
                continue  # Its layers are among the others.
            theirs = {slot.path: slot.variable for slot in weight_names.slots(layer)}
            trained = set(map(id, made.trainable_variables))
            ours = {slot.path: slot.variable for slot in TREE.slots(made)
                    if slot.path in theirs or id(slot.variable) in trained}
            shapes = [{path: tuple(variable.shape) for path, variable in found.items()}
                      for found in (theirs, ours)]
            if shapes[0] != shapes[1]:
                raise LotteryError(
                    "A converted layer must have the same weights. Received: "
                    f"{layer.name!r} of class {type(layer).__name__}, in tf_keras with "
                    f"{shapes[0]}, in Keras 3 with {shapes[1]}.")
            for path, variable in theirs.items():
                ours[path].assign(rewinding.stored(variable))
                pairs[id(variable)] = ours[path]
            if isinstance(made, keras.layers.Normalization):
                made.finalize_state()  # It computes from constants that are made of its weights.
            if made.trainable != layer.trainable:
                made.trainable = layer.trainable
        return pairs


def _input(tensor: Any) -> Any:
    return keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype.name,
                       name=tensor._keras_history.layer.name)


def _set(options: Mapping[str, Any]) -> dict[str, Any]:
    # tf_keras notes arguments that were left at None too, which a layer of Keras 3 may not know.
    return {name: value for name, value in options.items() if value is not None}


def _keep_sparse(model: Any, masks: dict[str, Any], wrapped: bool, filters: bool) -> None:
    if not wrapped:
        masks = _of_zeros(model)
    if masks:
        found = ModelMasks(model, masks, "filters" if filters else None)
        found.assign(masks)
        found.zero_pruned()


def _of_zeros(model: Any) -> dict[str, Any]:
    # Nobody has said what is pruned; so whoever has not pruned the model is told what is held.
    weights = named_weights(model)
    masks = {name: mask_arrays.of_zeros(keras.ops.convert_to_numpy(weights[name].value))
             for name in _prunable(model)}
    empty = [name for name, mask in masks.items() if not mask.any()]
    masks |= {name: np.ones_like(masks[name]) for name in empty}  # As an initializer leaves it.
    held = [f"{name} ({mask.size - np.count_nonzero(mask):,} of {mask.size:,})"
            for name, mask in masks.items() if not mask.all()]
    if held:
        warnings.warn(
            f"The zeros of a model without masks stay zero in training: {', '.join(held)}. If they "
            "were not pruned, take keras.models.clone_model(converted) and set its weights.",
            stacklevel=4)
    if empty:
        warnings.warn(f"All of {', '.join(empty)} is zero, and trains dense. If it was pruned, "
                      "hold it by lth.keep_sparse(model).", stacklevel=4)
    return masks if held else {}


def _prunable(model: Any) -> list[str]:
    try:
        return list(prunable_weights(model))
    except LotteryError:  # There are none.
        return []


def _check_losses(model: Any) -> None:
    """Checks that no layer has losses that Keras 3 could not be given.

    Raises:
      LotteryError: if Keras' own layers or models have functions that add_loss was given.
    """
    added = added_losses(model)
    own = [name for name, layer in added.items()
           if not type(layer).__module__.startswith("tf_keras.")]
    lost = [name for name in added if name not in own]
    if lost:
        raise LotteryError(
            "A model to convert must have all its losses in its layers, since add_loss of Keras 3 "
            f"takes no functions. Received: functions that add_loss was given, of {cut(lost)}. "
            "Give the layer a regularizer, or add the loss in a training step of yours.")
    if own:
        warnings.warn("A layer of your own adds its losses in its call, in Keras 3. Received: "
                      f"functions that add_loss was given, of {cut(own)}, which are not carried "
                      "over. Call self.add_loss in the call of its Keras 3 class.", stacklevel=3)


def _check_predictions(theirs: Any, ours: Any) -> None:
    """Checks that both models compute the same for random inputs.

    Raises:
      LotteryError: if not.
    """
    # Of Keras' functions of one name, some compute something else.
    for most in (2, 1):  # Whole numbers below it: of 1, where an embedding has one row alone.
        inputs = _drawn(theirs, most)
        wanted = _outputs(theirs, tf.nest.pack_sequence_as(theirs._nested_inputs, inputs), tf.nest)
        if wanted is not None:
            break
    else:
        warnings.warn("A converted model is to predict the same. Received: "
                      f"{theirs.name!r}, which raises an error for random inputs, so that nothing "
                      "was compared. Compare both models for inputs of yours.", stacklevel=3)
        return
    structure = keras.tree.pack_sequence_as(ours._inputs_struct, inputs) \
        if hasattr(ours, "_inputs_struct") else inputs[0]
    found = _outputs(ours, structure, keras.tree)
    half = any("float16" in str(layer.compute_dtype) for layer in theirs._flatten_layers())
    for one, other in zip(wanted, found or [None] * len(wanted), strict=True):
        scale = np.max(np.abs(one), initial=1e-6)
        if other is None or not np.allclose(one / scale, other / scale, rtol=0,
                                            atol=5e-2 if half else 1e-4, equal_nan=True):
            raise LotteryError(
                "A converted model must predict the same. Received: "
                f"{theirs.name!r}, of which Keras 3 computes something else. A layer or function "
                "of its name differs between the two: convert parts of the model to find it.")


def _drawn(model: Any, most: int) -> list[Any]:
    # Random inputs, uniform: numbers below 1, and whole numbers below `most`.
    draw = np.random.default_rng(0)
    inputs = []
    for tensor in model.inputs:
        shape = [2 if tensor.shape[0] is None else tensor.shape[0],
                 *(size or 8 for size in tensor.shape[1:])]
        whole = tensor.dtype.is_integer
        inputs.append((draw.integers(0, most, shape) if whole else draw.random(shape)).astype(
            tensor.dtype.as_numpy_dtype))
    return inputs


def _outputs(model: Any, inputs: Any, tree: Any) -> "list[Any] | None":
    values: Callable[[Any], Any] = tree.flatten
    try:
        outputs = values(model(inputs, training=False))
    except Exception:
        return None
    return [np.asarray(keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value)
                       else value.numpy(), np.float64) for value in outputs]
