"""Fractions: the share of the remaining weights that a round prunes.

A fraction is one of

- one number for all weights;
- a mapping whose keys are layer names, shell patterns of them such as "stage1_*", "output" (the
  layers that make the model's outputs), layer types and "default"; the first of these that a layer
  has an entry for counts; a name must mean one layer (`layers_called`);
- where filters are pruned, a list of numbers, one for each stage: consecutive groups of filters,
  in the order of the model, that are equally many, as in 16, 32 and 64 filters of a ResNet (Liu et
  al., ICLR 2019, arXiv:1810.05270, section 6, give fractions like this).
"""

import dataclasses
import fnmatch
import fractions
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lth_keras.core.structures.coupled import UnitGroup
from lth_keras.errors import LotteryError

_WILD = "*?["  # What makes a key a pattern.
_WORDS = ("output", "default")  # Keys that are no names, whatever a layer is called.
Fraction = float | Mapping[str, float] | Sequence[float]


@dataclasses.dataclass(frozen=True)
class LayerNames:
    """What a layer of a model is called.

    Attributes:
      name: its name in the model that holds it, the same whenever that is built: "dense_1".
      path: its place in the whole model, as the tickets name it: "encoder/dense_1".
      by_keras: what it is called by Keras, which numbers layers over a whole process: "dense_7",
        and the path of such names, "encoder/dense_7".
    """

    name: str
    path: str
    by_keras: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Prunable:
    """The name and layer of a prunable weight.

    Attributes:
      name: the weight's name, such as "dense/kernel".
      layer: the name of its layer, such as "dense".
      layer_type: the type of its layer, such as "Dense".
      output: whether its layer makes one of the model's outputs.
      path, by_keras: what else its layer is called; see `LayerNames`. By default its name alone.
      axes: what its last two axes are if not its inputs and its outputs; otherwise "".

    Example:
      >>> Prunable("dense/kernel", layer="dense", layer_type="Dense").output
      False
    """

    name: str
    layer: str
    layer_type: str
    output: bool = False
    path: str = ""
    # Other in each process, so that the same weight of a model built anew is equal.
    by_keras: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    axes: str = ""

    @classmethod
    def of(cls, name: str, called: LayerNames, layer_type: str, output: bool,
           axes: str) -> "Prunable":
        """The weight with a name, of a layer that is called so."""
        return cls(name, called.name, layer_type, output, called.path, called.by_keras, axes)

    @property
    def called(self) -> LayerNames:
        """What its layer is called."""
        return LayerNames(self.layer, self.path or self.layer, self.by_keras)


def layers_called(keys: Collection[str], layers: Iterable[LayerNames],
                  argument: str) -> dict[str, list[LayerNames]]:
    """Finds the layer that each of some names means.

    A name is a layer's name in the model that holds it, or its path, or its path after a "/", which
    is never anything else.  What only Keras calls a layer means that layer too.

    Args:
      keys: the names; one that means no layer may be something else.
      layers: the layers of a model.
      argument: how a message begins that names the argument, such as "exclude=".

    Returns:
      Name -> the layer, in a list; an empty one if there is none.

    Raises:
      LotteryError: if a name is that of several layers, or of one in tickets and another in Keras.

    Example:
      >>> layers = [LayerNames("proj", "encoder/proj"), LayerNames("proj", "proj")]
      >>> [layer.path for layer in layers_called(["encoder/proj"], layers, "exclude=")[
      ...     "encoder/proj"]]
      ['encoder/proj']
    """
    known = list(dict.fromkeys(layers))
    by_path = [layer for layer in known
               if f"/{layer.path}" in keys or ("/" in layer.path and layer.path in keys)]
    found = {}
    for key in keys:
        # What is named by its path is not meant by a name too: that is another's.
        free = [layer for layer in known if "/" in key or layer not in by_path]
        named = [layer for layer in free if key in (layer.name, layer.path, f"/{layer.path}")]
        others = [layer for layer in free if key in layer.by_keras and layer not in named]
        if named and others:
            raise LotteryError(
                f"A name must mean one layer. Received: {argument}{key!r}. In tickets, which "
                "number layers within their model, it is the layer that Keras calls "
                f"{(*named[0].by_keras, key)[0]!r}; and Keras calls another layer so, which is "
                f"{others[0].path!r} in tickets. Write the ticket's name of the one that you mean "
                f"after a slash, '/{named[0].path}' or '/{others[0].path}', or give layers names "
                "of your own that do not end in a number.")
        found[key] = named or others
        if len(found[key]) > 1:
            paths = [f"/{layer.path}" for layer in found[key]]
            raise LotteryError(
                f"A name must mean one layer. Received: {argument}{key!r}, the name of "
                f"{len(paths)} layers. Write the paths of those that you mean: "
                f"{', '.join(map(repr, paths[:8]))}{', ...' if len(paths) > 8 else ''}. Several "
                "are meant by a pattern in fraction, by a function in include and exclude.")
    return found


def check(fraction: Any) -> Any:
    """Checks a fraction, and returns it as a float, a plain dict or a tuple of floats.

    Raises:
      LotteryError: if a number is outside [0, 1), or the mapping is empty.

    Example:
      >>> check({"default": 0.2, "output": 0.1})
      {'default': 0.2, 'output': 0.1}
      >>> check([0.6, 0.3, 0.1])
      (0.6, 0.3, 0.1)
    """
    if isinstance(fraction, Mapping):
        if not fraction:
            raise LotteryError('fraction must have at least one entry, such as {"default": 0.2}. '
                               "Received: an empty mapping.")
        return {str(key): _number(value, f"fraction[{key!r}]") for key, value in fraction.items()}
    if isinstance(fraction, (list, tuple)) and fraction:
        return tuple(_number(value, f"fraction[{place}]") for place, value in enumerate(fraction))
    return _number(fraction, "fraction")


def plain(fraction: Fraction) -> "float | dict[str, float] | list[float]":
    """Returns a checked fraction as JSON has it.

    Example:
      >>> plain((0.6, 0.3)), plain({"default": 0.2})
      ([0.6, 0.3], {'default': 0.2})
    """
    if isinstance(fraction, Mapping):
        return dict(fraction)
    return list(fraction) if isinstance(fraction, Sequence) else fraction


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


def resolve(fraction: Fraction, weights: Iterable[Prunable],
            dense: Iterable[Prunable] = ()) -> dict[str, float]:
    """Returns the fraction of each weight.

    Args:
      fraction: a number in [0, 1), or a mapping as described above; for a list see `by_stage`.
      weights: the prunable weights.
      dense: weights that are not pruned, whatever is asked: entries of 0 may be theirs, and
        "output".

    Returns:
      Weight name -> fraction.

    Raises:
      LotteryError: if a weight matches no entry or two patterns, an entry matches no weight or is
        the name of several layers, or a list is given.

    Example:
      >>> weights = [Prunable("a/kernel", "a", "Dense"), Prunable("b/kernel", "b", "Dense", True)]
      >>> resolve({"Dense": 0.2, "output": 0.1}, weights)
      {'a/kernel': 0.2, 'b/kernel': 0.1}
      >>> resolve({"[a-c]": 0.3}, weights)
      {'a/kernel': 0.3, 'b/kernel': 0.3}
    """
    weights, dense, shares = list(weights), list(dense), check(fraction)
    if isinstance(shares, tuple):
        raise LotteryError("fraction as a list has a number for each stage of filters, so it needs "
                           f"structure=\"filters\". Received: {list(shares)}. For other "
                           "structures give one number, or a mapping by layer.")
    if not isinstance(shares, Mapping):
        return {weight.name: shares for weight in weights}
    resolved, used = {}, {"default"}
    names = _Names(shares, [*weights, *dense])
    for weight in weights:
        found = names.entries(weight)
        _check_one_pattern(shares, weight, found)
        if not found:
            raise LotteryError(
                "fraction must cover every prunable weight, by layer name or a pattern of it, "
                f"type, \"output\" or \"default\". Received: {dict(shares)}, which leaves out "
                f"{weight.name!r} (a {weight.layer_type}).")
        resolved[weight.name] = shares[found[0]]
        used.update(found)
    used |= {key for weight in dense for key in names.entries(weight)
             if key == "output" or not shares[key]}
    # An entry that no layer has is a typing error, which would otherwise prune too much or little.
    unused = sorted(set(shares) - used)
    if unused:
        layers = sorted({weight.called.path for weight in weights})
        types = sorted({weight.layer_type for weight in weights})
        hint = (" \"output\" works for Sequential and functional models only; for a subclassed "
                "one, name the layer.") if "output" in unused else ""
        raise LotteryError("Every entry of fraction must match a prunable layer. Received: "
                           f"{dict(shares)}, where no layer is matched by {unused}. "
                           f"Layers: {layers}; types: {types}.{hint}")
    return resolved


class _Names:
    """The keys of a fraction as names of layers."""

    def __init__(self, fraction: Mapping[str, float], weights: Sequence[Prunable]):
        self._fraction = fraction
        self._called = layers_called([key for key in fraction if key not in _WORDS],
                                     [weight.called for weight in weights], "fraction: ")

    def entries(self, weight: Prunable) -> list[str]:
        """The keys that a weight matches, the one that counts first."""
        names = [key for key, layers in self._called.items() if weight.called in layers]
        patterns = [key for key in self._fraction if {*key} & {*_WILD} and key not in names
                    and fnmatch.fnmatchcase(weight.called.path if "/" in key else weight.layer,
                                            key)]
        names.sort(key=lambda key: "/" not in key)  # Paths first.
        keys = [*names, *(word for word in _WORDS if word == weight.layer), *patterns,
                *(["output"] if weight.output else []), weight.layer_type, "default"]
        return [key for key in dict.fromkeys(keys) if key in self._fraction]


def _check_one_pattern(fraction: Mapping[str, float], weight: Prunable, found: list[str]) -> None:
    patterns = [key for key in found if {*key} & {*_WILD}]
    if len(patterns) > 1 and patterns[0] == found[0]:
        raise LotteryError("A layer may match one pattern of fraction only. Received: "
                           f"{', '.join(map(repr, patterns))}, which all match {weight.layer!r}. "
                           "Name the layer itself, or make the patterns narrower.")


def by_stage(fraction: Sequence[float], groups: Sequence[UnitGroup]) -> dict[str, float]:
    """Returns the fraction of each kernel that makes filters, by stages.

    Args:
      fraction: a number in [0, 1) for each stage.
      groups: the groups of filters, in the order of the model.

    Returns:
      Weight name -> fraction.

    Raises:
      LotteryError: if there are more or fewer stages; the message lists them.

    Example:
      >>> import numpy as np
      >>> from lth_keras.core.structures.coupled import Member
      >>> groups = [UnitGroup((name,), size, (Member(name, 1, np.arange(size), "filter"),))
      ...           for name, size in (("a", 16), ("b", 16), ("c", 32))]
      >>> by_stage([0.6, 0.3], groups)
      {'a': 0.6, 'b': 0.6, 'c': 0.3}
    """
    stages = [(size, list(alike)) for size, alike
              in itertools.groupby(groups, lambda group: group.size)]
    if len(fraction) != len(stages):
        said = "; ".join(f"{size} filters: {_span(alike)}" for size, alike in stages)
        raise LotteryError(
            "fraction as a list must have a number for each stage: consecutive groups of filters "
            f"that are equally many. Received: {len(fraction)} numbers, {list(fraction)}, for "
            f"{len(stages) or 'no'} stages ({said or 'no filters are pruned'}). Give as many "
            "numbers, or a mapping by layer.")
    return {member.weight: share for share, (_, alike) in zip(fraction, stages, strict=True)
            for group in alike for member in group.filters}


def _span(groups: Sequence[UnitGroup]) -> str:
    layers = [layer for group in groups for layer in group.layers]
    return layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"


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
