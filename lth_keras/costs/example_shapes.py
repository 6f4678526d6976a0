"""The shapes that a model is called with to be profiled: one example, of lengths that are known."""

from collections.abc import Mapping, Sequence
from typing import Any

from lth_keras.errors import LotteryError

Shape = tuple["int | None", ...]


def flat(given: Any) -> list[Shape]:
    """A shape, or shapes in lists and dicts, as a list; those of a dict in the order of its keys.

    Raises:
      LotteryError: if it is anything else.

    Example:
      >>> flat((28, 28)), flat({"b": (3,), "a": (2, 2)})
      ([(28, 28)], [(2, 2), (3,)])
    """
    if isinstance(given, Mapping):
        return [shape for key in sorted(given) for shape in flat(given[key])]
    if isinstance(given, (list, tuple)):
        if all(isinstance(length, int) and not isinstance(length, bool) for length in given):
            return [tuple(given)]
        return [shape for part in given for shape in flat(part)]
    raise LotteryError("input_shape must be the shape of one example, such as (28, 28, 1), or a "
                       f"list or dict of shapes. Received: {given!r:.100}.")


def names_of(taken: Any, inputs: Sequence[str] = ()) -> "list[str] | None":
    """What shapes in a dict may be named by: a name for each shape that a model takes.

    Args:
      taken: what the model takes: one value, or more in a list or dict.
      inputs: the names of a functional model's inputs, in the order of their shapes.

    Returns:
      The names; [] if there are none; None if dicts are nested, as those of shapes must be then.

    Example:
      >>> names_of({"b": 1, "a": 2}), names_of([1, 2], ["x", "y"]), names_of([1, 2])
      (['a', 'b'], ['x', 'y'], [])
    """
    if not isinstance(taken, Mapping):
        return list(inputs)
    nested = any(isinstance(part, (Mapping, list, tuple)) for part in taken.values())
    return None if nested else sorted(taken)


def _in_order(given: Any, names: "Sequence[str] | None") -> list[Shape]:
    if not isinstance(given, Mapping) or names is None:
        return flat(given)
    if {*given} != {*names}:
        raise LotteryError("input_shape names each input of the model. Received: "
                           f"{', '.join(map(str, given))} for "
                           f"{', '.join(names) or 'inputs without names'}. Give those names, or a "
                           "list of shapes.")
    return [shape for name in names for shape in flat(given[name])]


def of_one_example(shapes: Sequence[Shape], given: Any = None,
                   names: "Sequence[str] | None" = None) -> list[tuple[int, ...]]:
    """The shapes of a model's inputs for a batch of one, or of the size that the model is fixed to.

    Args:
      shapes: what the model takes, batch first; None for any length.
      given: the shape of one example, which fills what is open; see `flat`.
      names: the name of each shape; see `names_of`.

    Raises:
      LotteryError: if a length is open still, or what is given does not fit.

    Example:
      >>> of_one_example([(None, 32, 32, 3)]), of_one_example([(8, None)], (5,))
      ([(1, 32, 32, 3)], [(8, 5)])
    """
    asked = [shape[1:] for shape in shapes] if given is None else _in_order(given, names)
    fits = len(asked) == len(shapes) and all(
        len(one) == len(shape) - 1 and all(length in (None, other) for length, other
                                           in zip(shape[1:], one, strict=True))
        for one, shape in zip(asked, shapes, strict=True))
    wanted = ", ".join(str(tuple(shape)) for shape in shapes)
    if not fits:
        raise LotteryError("input_shape must be that of one example of each input, without the "
                           f"batch. Received: {given!r:.100} for a model that takes {wanted}.")
    if any(length is None for shape in asked for length in shape):
        raise LotteryError("The costs of a model follow from the shape of an example. Received: a "
                           f"model that takes {wanted}. Give the shape without the batch, such as "
                           "lth.profile(model, input_shape=(224, 224, 3)).")
    return [(shape[0] or 1, *map(int, one))  # type: ignore[arg-type]
            for shape, one in zip(shapes, asked, strict=True)]
