"""Runs networks of other precisions (mixed_float16, mixed_bfloat16, float64) in float32.

TF Lite has kernels for float32 and for quantised numbers, so a network that was trained in mixed
precision is converted from a float32 copy.  Its weights are float32 already: mixed precision casts
them in each call.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import tf_keras as keras

from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import is_graph

_OTHERS = ("float16", "bfloat16", "float64")


def other(model: Any) -> "str | None":
    """Returns the precision, other than float32, that a model or some of its layers compute in.

    Returns:
      The name of the coarsest: "bfloat16", "float16" or "float64"; None for float32 throughout.

    Example:
      >>> other(keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])) is None
      True
      >>> other(keras.Sequential([keras.layers.Input((4,)),
      ...                         keras.layers.Dense(3, dtype="mixed_bfloat16")]))
      'bfloat16'
    """
    found = {layer.compute_dtype for layer in _layers(model)}
    return next((name for name in ("bfloat16", "float16", "float64") if name in found), None)


@contextlib.contextmanager
def in_float32(model: Any) -> Iterator[Any]:
    """Provides a model of the same weights that computes in float32, for a `with` block.

    Args:
      model: a built tf_keras model. One that computes in float32 already is provided itself. A
        Sequential or functional one is copied, and stays as it is. A subclassed one, which Keras
        cannot copy, is switched to float32, and back when the block ends.

    Raises:
      LotteryError: if a subclassed model has float64 weights, which cannot be switched.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((4,)),
      ...                           keras.layers.Dense(3, dtype="mixed_float16")])
      >>> with in_float32(model) as same:
      ...     same.output.dtype, model.output.dtype
      (tf.float32, tf.float16)
    """
    if other(model) is None:
        yield model
        return
    copied = is_graph(model)
    with _switched(model):
        if not copied:
            yield model
            return
        same = keras.models.clone_model(model)
    same.set_weights(model.get_weights())
    yield same


@contextlib.contextmanager
def _switched(model: Any) -> Iterator[None]:
    # A layer takes its precision from its policy in each call, and writes it into its config.
    layers = [layer for layer in _layers(model) if layer.compute_dtype in _OTHERS]
    if not is_graph(model) and any(layer.variable_dtype == "float64" for layer in layers):
        raise LotteryError("A subclassed model must have float32 weights to be converted to TF "
                           f"Lite. Received: {model.name}, with float64 weights. Build it again in "
                           "float32, and give the copy these weights by set_weights.")
    policies = [layer.dtype_policy for layer in layers]
    # `predict` keeps its compiled function, which has the precision of its first call.
    compiled = model.predict_function
    model.predict_function = None
    try:
        for layer in layers:
            layer._set_dtype_policy(keras.mixed_precision.Policy("float32"))
        yield
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer._set_dtype_policy(policy)
        model.predict_function = compiled


def _layers(model: Any) -> Iterator[Any]:
    # Layers within layers too, the model itself included.
    yield from model._flatten_layers()
