"""What a model's call reads from a wrapped layer: pruned weights come masked, at any depth.

A subclassed model may read `self.dense.kernel` in its call, or call a method of a layer.  Its
wrapper lends the masked weights for that long, so that code written for the layer stays right.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import tf_keras as keras

_Lend = Callable[[], contextlib.AbstractContextManager[None]]


def seen(layer: Any, name: str, lend: _Lend) -> Any:
    """Reads an attribute of a layer for a model's call, with masked weights.

    Args:
      layer: a layer that is wrapped, or one within it.
      name: of its attribute.
      lend: makes a context in which the layer, and all within it, hold masked weights.

    Returns:
      The attribute: a weight comes masked, a method runs in that context, and a layer is given
      as a `Within`, of which the same holds.

    Raises:
      AttributeError: if the layer has no such attribute.
    """
    value = getattr(layer, name)
    if inspect.ismethod(value) and value.__self__ is layer:
        return _lending(value, lend)
    with lend():
        return _seen_within(getattr(layer, name), lend)


class Within:
    """Stands for a layer within a wrapped one, such as the cell of an LSTM, in a model's call."""

    def __init__(self, layer: Any, lend: _Lend):
        vars(self).update(_layer=layer, _lend=lend)

    def __getattr__(self, name: str) -> Any:
        return seen(self._layer, name, self._lend)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._layer, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._lend():
            return self._layer(*args, **kwargs)


def _lending(method: Callable[..., Any], lend: _Lend) -> Callable[..., Any]:
    @functools.wraps(method)
    def lent(*args: Any, **kwargs: Any) -> Any:
        with lend():
            return method(*args, **kwargs)
    return lent


def _seen_within(value: Any, lend: _Lend) -> Any:
    """Replaces layers, in containers too, since a layer keeps its sublayers in lists as well."""
    if isinstance(value, keras.layers.Layer):
        return Within(value, lend)
    if not isinstance(value, (dict, list, tuple)):
        return value
    items = list(value.values() if isinstance(value, dict) else value)
    found = [_seen_within(item, lend) for item in items]
    if all(one is other for one, other in zip(items, found, strict=True)):
        return value
    if isinstance(value, dict):
        return dict(zip(value, found, strict=True))
    # A named tuple's own method: its type is that of Keras, which tracks what it holds.
    return value._make(found) if hasattr(value, "_make") else found
