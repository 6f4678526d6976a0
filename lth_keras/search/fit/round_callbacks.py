"""The Keras callbacks of a round, whose own state can be saved and restored.

Keras callbacks have no method to save their state.  What a callback counts between epochs, such as
EarlyStopping's patience, are attributes with plain values or arrays.  Those that changed since the
search began are saved: a callback may count rounds, or keep what it saw in earlier ones.
Attributes of other types that the round has changed cannot be saved: `unkept` names them.
"""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Text is left out: it might be a path, which is another one when the search is resumed.
_PLAIN = (type(None), bool, int, float)
# Attributes that Keras sets on every callback.
# Keras 3 sets `monitor_op` when a callback first compares, from its `mode`.
_GIVEN = ("model", "_model", "params", "validation_data", "monitor_op")
# ModelCheckpoint -> the value that it must beat in its first round.
_TO_BEAT: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()


class RoundCallbacks:
    """Callbacks to which every round looks like a training of its own.

    Every hook of Keras is passed on to them.

    Args:
      callbacks: Keras' own list of the callbacks; see `Network.callback_list`.

    Example:
      >>> import tf_keras as keras
      >>> stopping = keras.callbacks.EarlyStopping("loss", patience=3)
      >>> callbacks = RoundCallbacks(keras.callbacks.CallbackList([stopping], model=keras.Model()))
      >>> callbacks.on_train_begin()
      >>> stopping.wait = 2
      >>> callbacks.state()
      [{'wait': 2}]
    """

    def __init__(self, callbacks: Any):
        self._list = callbacks
        # As the first round of this process found them, and the one in training.
        self._first: list[dict[str, Any]] = []
        self._begun: list[dict[str, Any]] = []

    def __getattr__(self, hook: str) -> Any:
        return getattr(self._list, hook)

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins a round."""
        for callback in self.callbacks:
            # Other callbacks of Keras begin anew by themselves.
            if any(kind.__name__ == "ModelCheckpoint" for kind in type(callback).__mro__):
                callback.best = _TO_BEAT.setdefault(callback, callback.best)
        self._list.on_train_begin(logs)
        self._begun = [_attributes(callback) for callback in self.callbacks]
        self._first = self._first or self._begun

    def state(self) -> list[dict[str, Any]]:
        """Returns copies of the attributes that the search has changed, for each callback."""
        return [{name: value for name, value in changed.items() if _is_kept(name, value, first)}
                for first, changed in zip(self._first, self._changed(self._first), strict=True)]

    def unkept(self) -> list[str]:
        """Returns the names of attributes that the round has changed and that cannot be saved."""
        return [f"{type(callback).__name__}.{name}" for callback, changed, first
                in zip(self.callbacks, self._changed(self._begun), self._first, strict=True)
                for name, value in changed.items() if not _is_kept(name, value, first)]

    def fits(self, state: Sequence[Mapping[str, Any]]) -> bool:
        """Returns whether a saved state fits these callbacks; call it after on_train_begin.

        The state comes from a file: only attributes that exist are set, and only to values of the
        same kind, so that a file can replace no method.
        """
        return len(state) == len(self._begun) and all(
            name in begun and _can_be_kept(value) and _alike(value, begun[name])
            for begun, attributes in zip(self._begun, state, strict=True)
            for name, value in attributes.items())

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Sets the callbacks' attributes to a saved state; call it after on_train_begin."""
        for callback, attributes in zip(self.callbacks, state, strict=True):
            for name, value in attributes.items():
                setattr(callback, name, _own(value))

    def _changed(self, since: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in _attributes(callback).items()
                 if name not in before or not _same(value, before[name])}
                for callback, before in zip(self.callbacks, since, strict=True)]


def _attributes(callback: Any) -> dict[str, Any]:
    return {name: _copied(value) for name, value in vars(callback).items()
            if name not in _GIVEN}


def _copied(value: Any) -> Any:
    # Lists and arrays are changed in place by callbacks: without copies nothing would differ.
    if isinstance(value, (np.ndarray, np.generic)):
        return np.array(value)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _own(value: Any) -> Any:
    # Converts a value that was read from a file back to what the callback had: 0-dimensional
    # arrays to NumPy scalars, read-only arrays to writable copies.
    if isinstance(value, list):
        return [_own(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.copy() if value.ndim else value[()]
    return value


def _is_kept(name: str, value: Any, first: Mapping[str, Any]) -> bool:
    return _can_be_kept(value) and name in first and _alike(value, first[name])


def _can_be_kept(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(value.dtype.kind in "biuf")
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return all(isinstance(item, np.ndarray) and _can_be_kept(item) for item in value)
    return _is_plain(value)


def _alike(one: Any, other: Any) -> bool:
    # Whether one value may replace the other. None may replace anything, as in EarlyStopping's
    # best_weights; a method may never be replaced.
    return None in (_kind(one), _kind(other)) or _kind(one) == _kind(other) != "other"


def _kind(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        return "number"
    return type(value).__name__ if isinstance(value, (list, dict)) else "other"


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def _same(one: Any, other: Any) -> bool:
    # Arrays bit for bit, and nothing by a user's own __eq__, which may do anything.
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and one.tobytes() == other.tobytes()
    return one is other or (type(one) is type(other) and _can_be_kept(one) and bool(one == other))
