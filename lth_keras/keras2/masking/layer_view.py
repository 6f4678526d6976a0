"""What a model's call sees of a wrapped layer: pruned weights come masked, at any depth."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import tf_keras as keras

_Lend = Callable[[], contextlib.AbstractContextManager[None]]


def seen(layer: Any, name: str, lend: _Lend) -> Any:
    """An attribute of a layer, as a model's call is to see it.

    Args:
      layer: a layer that is wrapped, or one within it.
      name: of its attribute.
      lend: what lends all of them their masked weights, for the time of a `with`.

    Returns:
      A weight is masked, a method runs with masked weights, and so does what is read from or
      called on a layer within this one.
    """
    value = getattr(layer, name)
    if inspect.ismethod(value) and value.__self__ is layer:
        return _lending(value, lend)
    with lend():
        return _seen_within(getattr(layer, name), lend)


class Within:
    """A layer within a wrapped one, such as the cell of an LSTM, seen by a model's call."""

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
    return type(value)._make(found) if hasattr(value, "_make") else found
