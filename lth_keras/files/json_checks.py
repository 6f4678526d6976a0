"""Checks untrusted JSON values against a shape, and stores numbers that are not finite in JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any

from lth_keras.files import checksums

# Shapes for `is_of`.
NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, None)
ANYTHING = object


def is_of(value: Any, shape: Any) -> bool:
    """Whether a JSON value has a shape.

    Args:
      value: the value.
      shape: a type, which must be exactly the value's (`object`: any type); None; a function that
        returns whether a value fits; a tuple of shapes, of which one must fit; [shape] for a list
        of any length, or [shape, shape] for a list of two; {str: shape} for a mapping with any
        names, or {name: shape} for a mapping with exactly these names.

    Example:
      >>> is_of({"a": [1, 2]}, {str: [is_whole]}), is_of({"a": True}, {"a": (int, float)})
      (True, False)
    """
    if isinstance(shape, tuple):
        return any(is_of(value, one) for one in shape)
    if isinstance(shape, list):
        shapes = shape * len(value) if isinstance(value, list) and len(shape) == 1 else shape
        return isinstance(value, list) and len(value) == len(shapes) \
            and all(map(is_of, value, shapes))
    if isinstance(shape, dict):
        return isinstance(value, dict) and (str in shape or value.keys() == shape.keys()) and all(
            is_of(item, shape[str] if str in shape else shape[name])
            for name, item in value.items())
    if isinstance(shape, type):
        return shape is ANYTHING or type(value) is shape
    return value is None if shape is None else bool(shape(value))


def misfits(value: Any, shape: Mapping[str, Any]) -> list[str]:
    """Returns the names that are missing in a mapping, are not allowed, or have a wrong value.

    Example:
      >>> misfits({"a": 1, "b": "x", "d": 0}, {"a": int, "b": int, "c": int})
      ['b', 'c', 'd']
    """
    there = value if isinstance(value, dict) else {}
    return [name for name in {**shape, **there} if name not in shape or name not in there
            or not is_of(there[name], shape[name])]


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number from 0 to 2**53 - 1.

    Example:
      >>> is_whole(3), is_whole(3.0), is_whole(True), is_whole(-1)
      (True, False, False, False)
    """
    # Not isinstance: True is an int. Above 2**53 other readers of JSON round.
    return type(value) is int and 0 <= value < 2**53


def finite(value: Any) -> Any:
    """Replaces NaN and infinities, which JSON does not have, by {"float": "nan"} and the like.

    Example:
      >>> finite({"loss": [0.5, float("inf")]})
      {'loss': [0.5, {'float': 'inf'}]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def numbers(value: Any) -> Any:
    """Returns what `finite` was given.

    Example:
      >>> numbers(finite([0.5, float("-inf")]))
      [0.5, -inf]
    """
    if isinstance(value, dict):
        if value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
            return float(value["float"])
        return {key: numbers(item) for key, item in value.items()}
    return [numbers(item) for item in value] if isinstance(value, list) else value


def as_json(value: Any) -> Any:
    """Returns a value as it is after being written to JSON and read: tuples become lists.

    Example:
      >>> as_json({"a": (1, 2.5)})
      {'a': [1, 2.5]}
    """
    return numbers(json.loads(checksums.canonical_json(finite(value))))
