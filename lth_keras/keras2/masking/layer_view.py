"""Reads attributes of a wrapped layer in a model's call, with pruned weights masked at any depth.

A subclassed model may read `self.dense.kernel` in its call, or call a method of a layer.  The
wrapper then puts masked weights into the layer meanwhile, so that code written for the layer stays
correct.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import tf_keras as keras

_MaskWeights = Callable[[], contextlib.AbstractContextManager[None]]


def read_masked(layer: Any, name: str, mask_weights: _MaskWeights) -> Any:
    """Reads an attribute of a layer for a model's call, with masked weights.

    Args:
      layer: a wrapped layer, or a layer inside it.
      name: the name of the attribute.
      mask_weights: returns a context in which the layer, and all layers inside it, hold masked
        weights.

    Returns:
      The attribute: a weight is masked, a method will run in that context, and a layer is returned
      as a `MaskedView`, whose attributes are read in the same way.

    Raises:
      AttributeError: if the layer has no such attribute.
    """
    value = getattr(layer, name)
    # A method is not called yet, so the context must be entered when it is.
    if inspect.ismethod(value) and value.__self__ is layer:
        return _masking(value, mask_weights)
    with mask_weights():
        return _masked_views(getattr(layer, name), mask_weights)


class MaskedView:
    """Takes the place of a layer inside a wrapped layer, such as the cell of an LSTM."""

    def __init__(self, layer: Any, mask_weights: _MaskWeights):
        vars(self).update(_layer=layer, _mask_weights=mask_weights)

    def __getattr__(self, name: str) -> Any:
        return read_masked(self._layer, name, self._mask_weights)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._layer, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._mask_weights():
            return self._layer(*args, **kwargs)


def _masking(method: Callable[..., Any], mask_weights: _MaskWeights) -> Callable[..., Any]:
    @functools.wraps(method)
    def call_masked(*args: Any, **kwargs: Any) -> Any:
        with mask_weights():
            return method(*args, **kwargs)
    return call_masked


def _masked_views(value: Any, mask_weights: _MaskWeights) -> Any:
    """Replaces layers by views, also in containers, since layers keep sublayers in lists."""
    if isinstance(value, keras.layers.Layer):
        return MaskedView(value, mask_weights)
    if not isinstance(value, (dict, list, tuple)):
        return value
    items = list(value.values() if isinstance(value, dict) else value)
    found = [_masked_views(item, mask_weights) for item in items]
    if all(one is other for one, other in zip(items, found, strict=True)):
        return value
    if isinstance(value, dict):
        return dict(zip(value, found, strict=True))
    # _make works for Keras' tracking wrapper of named tuples too, whose class cannot be called.
    return value._make(found) if hasattr(value, "_make") else found
