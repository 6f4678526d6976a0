"""Assigns weights of a Keras 3 model by name, with the constants that a layer makes of them."""

from collections.abc import Mapping
from typing import Any

import keras

from lth_keras.core.masks import Array, Arrays
from lth_keras.keras3.weights import named_weights


def assign_weights(model: Any, values: Arrays, variables: Mapping[str, Any] | None = None) -> None:
    """Assigns values to weights of a built model.

    A Normalization layer computes from constants that it makes of its weights.  They are made anew,
    and the functions of the model that were compiled with others are compiled again.

    Args:
      model: the model.
      values: weight name -> array.
      variables: `named_weights(model)`, if they are known.

    Example:
      >>> layer = keras.layers.Normalization(name="norm")
      >>> model = keras.Sequential([keras.Input((1,)), layer])
      >>> assign_weights(model, {"norm/adapt_mean": [3.0]})
      >>> keras.ops.convert_to_numpy(model(keras.ops.array([[5.0]]))).tolist()
      [[2.0]]
    """
    variables = named_weights(model) if variables is None else variables
    for name, value in values.items():
        variables[name].assign(value)
    changed = [layer for layer in model._flatten_layers()
               if isinstance(layer, keras.layers.Normalization) and _changed(layer)]
    if changed:
        _compile_again(model)


def _changed(layer: Any) -> bool:
    before = _constants(layer)
    layer.finalize_state()
    return before is None or before != _constants(layer)


def _constants(layer: Any) -> "list[bytes] | None":
    try:
        arrays: list[Array] = [keras.ops.convert_to_numpy(constant)
                               for constant in (layer.mean, layer.variance)]
    except Exception:  # Not made yet, or in a graph that built the layer.
        return None
    return [array.tobytes() for array in arrays]


def _compile_again(model: Any) -> None:
    for part in model._flatten_layers():  # The model itself, too.
        for kind in ("train", "test", "predict"):
            if getattr(part, f"{kind}_function", None) is not None:
                getattr(part, f"make_{kind}_function")(force=True)
