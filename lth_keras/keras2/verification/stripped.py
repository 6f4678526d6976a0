"""Finds what is left of the package in a stripped model and in its file."""

import pathlib
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.core.verification import cut, Finding
from lth_keras.keras2.masking.weight_names import variables_among


def left_behind(model: Any) -> Iterator[Finding]:
    """Yields findings for objects of this package and tfmot's wrappers in a stripped model."""
    for layer in model._flatten_layers():
        if _is_ours(layer) or hasattr(layer, "pruning_vars"):
            yield Finding("stripping", layer.name, f"a {type(layer).__name__} is left in the model")
        ours = [name for name, value in vars(layer).items() if _is_ours(value)]
        ours += ["_callable_losses" for loss in layer._callable_losses if _leads_to_ours(loss)][:1]
        if ours:
            yield Finding("stripping", layer.name, f"its {cut(ours)} is still the package's")
    for weight in variables_among(model.weights):
        if _is_ours(weight.constraint):
            yield Finding("stripping", weight.name, "its constraint is still the package's, so "
                          "that pruned weights stay zero in a later training",
                          held_by="a constraint")


def from_its_file(model: Any) -> Any:
    """Saves a model as a .keras file and loads it.

    Returns:
      The loaded model, and whether the file names this package or a pruning wrapper.
    """
    # Users' layers, which a file can only be loaded with if they are known by name.
    known = {type(layer).__name__: type(layer) for layer in model._flatten_layers()
             if not type(layer).__module__.startswith("tf_keras")}
    with tempfile.TemporaryDirectory() as folder, keras.saving.custom_object_scope(known):
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        with zipfile.ZipFile(path) as file:
            config = file.read("config.json")
        return keras.models.load_model(path, compile=False), \
            b"lth_keras" in config or b"prune_low_magnitude" in config


def predictions(model: Any, batch: Any) -> list[Any]:
    """Returns a model's predictions for a batch, as arrays.

    Raises:
      Exception: whatever the model's call raises, for instance if it has none.
    """
    x = keras.utils.unpack_x_y_sample_weight(batch)[0]
    model.reset_states()  # Otherwise a stateful layer would begin where the last call ended.
    return [tf.cast(out, tf.float64).numpy() if tf.as_dtype(out.dtype).is_floating else out.numpy()
            for out in tf.nest.flatten(model(x, training=False), expand_composites=True)]


def _is_ours(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "lth_keras"


def _leads_to_ours(loss: Any) -> bool:
    # Keras holds regularization losses as nested functools.partial objects.
    parts = [loss, *getattr(loss, "args", ()), getattr(loss, "func", None)]
    return any(_is_ours(part) or getattr(part, "__module__", "").startswith("lth_keras")
               or (part is not loss and hasattr(part, "args") and _leads_to_ours(part))
               for part in parts if part is not None)
