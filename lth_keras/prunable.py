"""What is pruned by default: kernels, of trainable layers.

A weight is prunable if it has rank 2 or more, is trained, and is no bias,
normalisation parameter, embedding or activation slope.  `include` adds layers that are
left out by default (embeddings, frozen layers); `exclude` takes layers out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tf_keras as keras

from lth_keras.errors import LotteryError
from lth_keras.weights import Slot, slots

Selector = str | type | Callable[[Any], bool]

# Attribute names of weights that are not kernels, whatever their rank: a bias of
# MultiHeadAttention has rank 2, and so has that of a GRU.
_NOT_KERNELS = ("bias", "gamma", "beta", "alpha", "moving_")
_OFF_BY_DEFAULT = {
    "Embedding": "an embedding, off by default: name it in include",
    "PReLU": "an activation's slope",
    "BatchNormalization": "a normalisation parameter",
    "LayerNormalization": "a normalisation parameter",
    "GroupNormalization": "a normalisation parameter",
    "UnitNormalization": "a normalisation parameter",
    "Normalization": "a statistic of the data",
}


def weights_of(layer: Any, asked: bool = False) -> tuple[list[Slot], list[str]]:
    """The prunable weights of a layer, and why the others are not.

    Args:
      layer: a built layer.
      asked: whether the layer is named in `include`.

    Returns:
      The slots of its prunable weights, and a line for each other weight.
    """
    chosen: list[Slot] = []
    reasons: list[str] = []
    if isinstance(layer, keras.layers.SpectralNormalization):
        return [], ["a SpectralNormalization, which writes into its layer's kernel itself"]
    trained = {id(weight) for weight in layer.trainable_weights}
    for slot in slots(layer):
        reason = _reason(slot, id(slot.variable) in trained, asked)
        if reason:
            reasons.append(f"{slot.path} is {reason}")
        else:
            chosen.append(slot)
    return chosen, reasons


def _reason(slot: Slot, trained: bool, asked: bool) -> str | None:
    if slot.variable.shape.rank is None or slot.variable.shape.rank < 2:
        return f"of rank {slot.variable.shape.rank}"
    if any(part in slot.attribute for part in _NOT_KERNELS):
        return "no kernel"
    if asked:
        return None
    for base in type(slot.owner).__mro__:
        if base.__name__ in _OFF_BY_DEFAULT and base.__module__.startswith("tf_keras"):
            return _OFF_BY_DEFAULT[base.__name__]
    if not trained:
        return "not trained: name its layer in include to prune it all the same"
    return None


def matches(layer: Any, selectors: Sequence[Selector]) -> list[Selector]:
    """Those selectors that mean this layer: its name, its type, a function of it."""
    def means(selector: Selector) -> bool:
        if isinstance(selector, str):
            return selector in (layer.name, type(layer).__name__)
        if isinstance(selector, type):
            return isinstance(layer, selector)
        return bool(selector(layer))
    return [selector for selector in selectors if means(selector)]


def check_selectors(value: Any, name: str) -> Sequence[Selector]:
    """`include` or `exclude` as a sequence."""
    if value is None or isinstance(value, (int, float)):
        raise LotteryError(f"{name} takes layer names, layer types and functions of a layer. "
                           f"Received: {value!r}.")
    selectors = [value] if isinstance(value, (str, type)) or callable(value) else list(value)
    for selector in selectors:
        if not (isinstance(selector, str) or callable(selector)):
            raise LotteryError(f"{name} takes layer names, layer types and functions of a layer. "
                               f"Received: {selector!r}.")
        if isinstance(selector, type) and not issubclass(selector, keras.layers.Layer):
            raise LotteryError(f"{name} takes types of tf_keras layers. "
                               f"Received: {selector.__module__}.{selector.__qualname__}.")
    return selectors
