"""How much: the share of the remaining weights that a round prunes.

A fraction is one number for all weights, or a mapping whose keys are, from the most
to the least specific: a layer's name, "output" (the layers that make the model's
outputs), a layer's type, "default".
"""

import dataclasses
import fractions
from collections.abc import Iterable, Mapping

from lth_keras.errors import LotteryError

Fraction = float | Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Prunable:
    """What is known of a prunable weight without its values.

    Attributes:
      name: the weight's name, "dense/kernel".
      layer: the name of its layer, "dense".
      layer_type: the type of its layer, "Dense".
      output: whether its layer makes one of the model's outputs.
    """

    name: str
    layer: str
    layer_type: str
    output: bool = False


def check(fraction: Fraction) -> Fraction:
    """The fraction as it will be kept: a float, or a plain dict of floats.

    Raises:
      LotteryError: if a number is outside [0, 1), or the mapping is empty.

    Example:
      >>> check({"default": 0.2, "output": 0.1})
      {'default': 0.2, 'output': 0.1}
    """
    if isinstance(fraction, Mapping):
        if not fraction:
            raise LotteryError('fraction needs at least one entry, such as {"default": 0.2}. '
                               "Received: an empty mapping.")
        return {str(key): _number(value, f"fraction[{key!r}]") for key, value in fraction.items()}
    return _number(fraction, "fraction")


def _number(value: object, name: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not 0.0 <= number < 1.0:
        raise LotteryError(f"{name} must be a number in [0, 1): the share of the remaining "
                           f"weights that a round prunes. Received: {value!r}.")
    return number


def resolve(fraction: Fraction, weights: Iterable[Prunable]) -> dict[str, float]:
    """The fraction of each weight.

    Args:
      fraction: a number in [0, 1), or a mapping as this module's head describes.
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
    unused = sorted(set(fraction) - used)
    if unused:
        layers = sorted({weight.layer for weight in weights})
        types = sorted({weight.layer_type for weight in weights})
        hint = (" Which layers make the outputs is known of Sequential and functional models; of a "
                "subclassed one, name the layer.") if "output" in unused else ""
        raise LotteryError(f"fraction names no prunable layer by {unused}. Received: "
                           f"{dict(fraction)}. Layers: {layers}; types: {types}.{hint}")
    return resolved


def count(fraction: float, remaining: int) -> int:
    """How many of the remaining weights a round prunes: round(fraction x remaining).

    Exact: the fraction is taken as the decimal it prints as (0.07 is 7/100), and a
    half goes to the even number.

    Args:
      fraction: a number in [0, 1).
      remaining: weights still kept, >= 0.

    Returns:
      A whole number in [0, remaining].

    Example:
      >>> count(0.2, 10), count(0.1, 5), count(0.1, 15), count(0.07, 150)
      (2, 0, 2, 10)
    """
    return round(fractions.Fraction(repr(float(fraction))) * remaining)
