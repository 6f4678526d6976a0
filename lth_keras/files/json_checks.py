"""JSON that is read as untrusted: values of a stated shape, and numbers that are not finite."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from lth_keras.files import atomic


def is_of(value: Any, shape: Any) -> bool:
    """Whether a value has a shape.

    Args:
      value: what JSON can hold.
      shape: a test of the value; [shape] for a list, {str: shape} for a mapping of any names, or
        a mapping of the names that there must be.

    Example:
      >>> is_of({"a": [1, 2]}, {str: [is_whole]}), is_of({"a": 1}, {"b": is_whole})
      (True, False)
    """
    if isinstance(shape, list):
        return isinstance(value, list) and all(is_of(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        if str in shape:
            return all(is_of(item, shape[str]) for item in value.values())
        return value.keys() == shape.keys() and all(is_of(value[key], shape[key]) for key in shape)
    test: Callable[[Any], bool] = shape
    return test(value)


def finite(value: Any) -> Any:
    """A value with {"float": "nan"} for what JSON has not: NaN and the infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def numbers(value: Any) -> Any:
    """What `finite` was given."""
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
            return float(value["float"])
        return {key: numbers(item) for key, item in value.items()}
    return [numbers(item) for item in value] if isinstance(value, list) else value


def as_json(value: Any) -> Any:
    """A value as it is read back: tuples as lists, keys as text.

    Example:
      >>> as_json({"a": (1, 2.5)})
      {'a': [1, 2.5]}
    """
    return numbers(json.loads(atomic.canonical_json(finite(value))))


def is_whole(value: Any) -> bool:
    """A whole number >= 0."""
    return type(value) is int and 0 <= value < 2**53


def is_number(value: Any) -> bool:
    """A number."""
    return type(value) in (int, float)


def is_number_or_none(value: Any) -> bool:
    """A number, or nothing."""
    return value is None or is_number(value)


def is_json(value: Any) -> bool:
    """Anything."""
    return True
