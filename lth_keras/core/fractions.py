"""Fractions: the share of the remaining weights that a round prunes.

A fraction is one number for all weights, or a mapping whose keys are layer names, "output" (the
layers that make the model's outputs), layer types and "default"; the first of these that a layer
has an entry for counts.
"""

import dataclasses
import fractions
from collections.abc import Iterable, Mapping

from lth_keras.errors import LotteryError

Fraction = float | Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Prunable:
    """The name and layer of a prunable weight.

    Attributes:
      name: the weight's name, such as "dense/kernel".
      layer: the name of its layer, such as "dense".
      layer_type: the type of its layer, such as "Dense".
      output: whether its layer makes one of the model's outputs.

    Example:
      >>> Prunable("dense/kernel", layer="dense", layer_type="Dense").output
      False
    """

    name: str
    layer: str
    layer_type: str
    output: bool = False


def check(fraction: Fraction) -> Fraction:
    """Checks a fraction, and returns it as a float or a plain dict of floats.

    Raises:
      LotteryError: if a number is outside [0, 1), or the mapping is empty.

    Example:
      >>> check({"default": 0.2, "output": 0.1})
      {'default': 0.2, 'output': 0.1}
    """
    if isinstance(fraction, Mapping):
        if not fraction:
            raise LotteryError('fraction must have at least one entry, such as {"default": 0.2}. '
                               "Received: an empty mapping.")
        return {str(key): _number(value, f"fraction[{key!r}]") for key, value in fraction.items()}
    return _number(fraction, "fraction")


def _number(value: object, name: str) -> float:
    # Also NumPy's numbers are accepted; True would otherwise be 1.0, and prune everything.
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not 0.0 <= number < 1.0:
        raise LotteryError(f"{name} must be a number in [0, 1): the share of the remaining "
                           f"weights that a round prunes. Received: {value!r}.")
    return number


def resolve(fraction: Fraction, weights: Iterable[Prunable]) -> dict[str, float]:
    """Returns the fraction of each weight.

    Args:
      fraction: a number in [0, 1), or a mapping as described above.
      weights: the prunable weights.

    Returns:
      Weight name -> fraction.

    Raises:
      LotteryError: if a weight matches no entry, or an entry matches no weight.

    Example:
      >>> weights = [Prunable("a/kernel", "a", "Dense"), Prunable("b/kernel", "b", "Dense", True)]
      >>> resolve({"Dense": 0.2, "output": 0.1}, weights)
      {'a/kernel': 0.2, 'b/kernel': 0.1}
    """
    weights = list(weights)
    fraction = check(fraction)
    if not isinstance(fraction, Mapping):
        return {weight.name: fraction for weight in weights}
    resolved, used = {}, {"default"}
    for weight in weights:
        keys = [weight.layer, *(["output"] if weight.output else []), weight.layer_type, "default"]
        found = [key for key in keys if key in fraction]
        if not found:
            raise LotteryError(
                "fraction must cover every prunable weight, by layer name, type, \"output\" or "
                f"\"default\". Received: {dict(fraction)}, which leaves out {weight.name!r} "
                f"(a {weight.layer_type}).")
        resolved[weight.name] = fraction[found[0]]
        used.update(found)
    # An entry that no layer has is a typing error, which would otherwise prune too much or little.
    unused = sorted(set(fraction) - used)
    if unused:
        layers = sorted({weight.layer for weight in weights})
        types = sorted({weight.layer_type for weight in weights})
        hint = (" \"output\" works for Sequential and functional models only; for a subclassed "
                "one, name the layer.") if "output" in unused else ""
        raise LotteryError("Every entry of fraction must match a prunable layer. Received: "
                           f"{dict(fraction)}, where no layer is matched by {unused}. "
                           f"Layers: {layers}; types: {types}.{hint}")
    return resolved


def count(fraction: float, remaining: int) -> int:
    """Returns how many of the remaining weights a round prunes: round(fraction x remaining).

    The result is exact: the fraction is taken as the decimal that it prints as (0.07 is 7/100), and
    halves are rounded to the even number.

    Args:
      fraction: a number in [0, 1).
      remaining: weights still kept, >= 0.

    Returns:
      A whole number in [0, remaining].

    Example:
      >>> count(0.2, 10), count(0.1, 5), count(0.1, 15), count(0.07, 150)
      (2, 0, 2, 10)
    """
    # In floating point, 0.07 * 150 is 10.500000000000002, which would be rounded to 11.
    return round(fractions.Fraction(repr(float(fraction))) * remaining)
