"""The held-out examples and targets that a user gives, checked against a model.

Every runtime must see exactly the numbers that Keras sees, each at the input that it is for.  So
arrays are matched with inputs and outputs by name, or by position in a list where the model itself
takes or returns a list.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lth_keras.arguments import one_line
from lth_keras.core.masks import Array
from lth_keras.deployment.comparison.signature import Signature
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.model_kind import flatten
from lth_keras.errors import LotteryError

# Training examples from which int8 measures the ranges of activations. TensorFlow's guide advises
# 100 to 500; more take time and change little.
REPRESENTATIVE = 200


def check_pair(data: Any) -> tuple[Any, Any]:
    """Checks that data is a pair of examples and targets, and returns them.

    Example:
      >>> check_pair(([1.0], None))
      ([1.0], None)
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        size = f" of {len(data)}" if isinstance(data, (tuple, list)) else ""
        raise LotteryError("data must be a pair (x, y) of examples and targets; y may be None. "
                           f"Received: a {type(data).__name__}{size}.")
    return data[0], data[1]


def build(model: Any, given: Any) -> None:
    """Calls a model on the first example if no call has shown yet what it takes and returns.

    Args:
      model: any model; a functional one is left alone.
      given: the examples, in the structure that the model takes.

    Raises:
      LotteryError: if the model raises an error; the message quotes it.
    """
    kind = kind_of(model)
    if kind.is_called(model):
        return
    try:
        kind.call(model, _first(given))
    except Exception as error:  # A user's code may raise anything.
        raise LotteryError(
            "A model that is not built yet must take the examples in data, on whose first one it "
            f"is called. Received: {model.name!r}, which raised {type(error).__name__}: "
            f"{one_line(error)}.") from None


def _first(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: _first(part) for name, part in given.items()}
    if _is_list(given):
        return [_first(part) for part in given]
    return np.asarray(given)[:1]


def _is_list(given: Any) -> bool:
    # A list of arrays is several inputs; a list of numbers is one.
    return isinstance(given, (list, tuple)) and bool(given) and all(
        part is None or isinstance(part, dict) or bool(getattr(part, "shape", ()))
        for part in given)


def inputs(given: Any, signature: Signature, what: str = "data") -> list[Array]:
    """Returns the examples for each input of a model, in the input's own type.

    Args:
      given: an array, or arrays in the structure that the model takes, or a dict by input name.
      signature: the model's signature.
      what: the argument that a message names.

    Raises:
      LotteryError: if an input has no examples or those of another shape, or numbers of examples
        differ.

    Example:
      >>> from lth_keras.deployment.models.model_kind import Spec
      >>> spec = Spec((None, 2), "float32")
      >>> two = Signature({"a": spec, "b": spec}, ["a", "b"], "sum")
      >>> [array.tolist() for array in inputs({"b": np.ones((1, 2)), "a": np.zeros((1, 2))}, two)]
      [[[0.0, 0.0]], [[1.0, 1.0]]]
    """
    found = _by_name(given, signature.takes, f"{what} must hold examples for each input")
    arrays = []
    for name, spec in signature.inputs.items():
        examples, expected = np.asarray(found[name]), spec.shape[1:]
        if examples.ndim != len(expected) + 1 or not len(examples) or any(
                want is not None and want != got
                for want, got in zip(expected, examples.shape[1:], strict=True)):
            whose = "the network's input" if len(found) == 1 else f"input {name!r}: its"
            raise LotteryError(f"{what} must hold at least one example of {whose} shape, "
                               f"{expected}. Received: shape {examples.shape}.")
        arrays.append(examples.astype(spec.numpy_type))
    counts = {name: len(array) for name, array in zip(signature.inputs, arrays, strict=True)}
    if len(set(counts.values())) > 1:
        raise LotteryError(f"{what} must hold the same number of examples for every input. "
                           f"Received: {_counted(counts)}.")
    return arrays


def targets(given: Any, signature: Signature, count: int) -> "list[Array | None]":
    """Returns the targets of each output of a model; None for an output that has none.

    Args:
      given: None; an array; or arrays in the structure that the model returns, or a dict by output
        name. None stands for an output without targets; in a dict it may be left out.
      signature: the model's signature.
      count: the number of examples.

    Raises:
      LotteryError: if the structure is another, or an output has not one target for each example.

    Example:
      >>> two = Signature({}, "x", {"mean": "mean", "width": "width"})
      >>> targets({"width": [0.5]}, two, count=1)
      [None, array([0.5])]
    """
    names = signature.outputs
    if given is None:
        return [None] * len(names)
    if isinstance(given, dict) and set(given) < set(names):
        given = dict.fromkeys(names) | given
    found = _by_name(given, signature.returns, "data must hold targets for each output")
    arrays = [None if found[name] is None else np.asarray(found[name]) for name in names]
    for name, array in zip(names, arrays, strict=True):
        if array is not None and array.shape[:1] != (count,):
            whose = "" if len(names) == 1 else f" of output {name!r}"
            raise LotteryError(f"data must hold one target for each of its {count} examples. "
                               f"Received: targets{whose} of shape {array.shape}.")
    return arrays


def _by_name(given: Any, form: Any, rule: str) -> dict[str, Any]:
    names = flatten(form)
    if isinstance(given, dict) and set(given) == set(names):
        return given
    if len(names) == 1 and not isinstance(given, dict):
        return {names[0]: given[0] if _is_list(given) and len(given) == 1 else given}
    try:
        return dict(_pairs(form, given))
    except ValueError:
        wanted = ", ".join(names)
        raise LotteryError(
            f"{rule}, {wanted}, in a dict by these names{_or_list(form)}. "
            f"Received: {_described(given)}.") from None


def _pairs(form: Any, given: Any) -> Iterator[tuple[str, Any]]:
    # Raises a ValueError if the structure is another. A list for a dict would be a guess.
    if isinstance(form, dict):
        if not isinstance(given, dict) or set(form) != set(given):
            raise ValueError
        for key, part in form.items():
            yield from _pairs(part, given[key])
    elif isinstance(form, list):
        if not isinstance(given, (list, tuple)) or len(form) != len(given):
            raise ValueError
        for part, value in zip(form, given, strict=True):
            yield from _pairs(part, value)
    elif isinstance(given, dict):
        raise ValueError
    else:
        yield form, given


def _or_list(form: Any) -> str:
    flat = isinstance(form, list) and all(isinstance(name, str) for name in form)
    return " or a list in this order" if flat else ""


def _described(given: Any) -> str:
    if isinstance(given, dict):
        return f"a dict of {', '.join(map(str, given)) or 'nothing'}"
    if isinstance(given, (list, tuple)):
        return f"a {type(given).__name__} of {len(given)}"
    shape = getattr(given, "shape", None)
    return f"one array of shape {tuple(shape)}" if shape is not None else type(given).__name__


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} of {name}" for name, count in counts.items())
