"""How many weights each layer keeps: exact counts that add up to the whole network's.

A distribution shares the weights that are kept among the layers:

    global    not at all: the scores of all layers are compared
    uniform   by their sizes, so that all layers have the same density
    erk       by the sums of their kernels' sides, so that small layers stay denser
              (Erdos-Renyi-Kernel; Mocanu et al. 2018, arXiv:1707.04780; Evci et al. 2020,
              arXiv:1911.11134, appendix A)
    balanced  equally, so that all layers keep the same number of weights

A layer whose share is more than it has stays dense, and the excess is shared among the others by
the same rule, so the network's density is the one asked for.
"""

import fractions
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lth_keras.core.fractions import count

Shape = tuple[int, ...]
Kept = Sequence[tuple[list[str], int]]  # Names of weights, and how many of all of theirs are kept.
_SHARES: dict[str, Callable[[Shape], int]] = {
    "uniform": math.prod, "erk": sum, "balanced": lambda shape: 1}
DISTRIBUTIONS = ("global", *_SHARES)
SCHEDULES = ("exponential", "linear")


def kept_counts(shapes: Mapping[str, Shape], number: int, distribution: str) -> dict[str, int]:
    """Shares a number of weights among layers.

    Args:
      shapes: weight name -> shape.
      number: how many weights the layers keep together, at most as many as there are.
      distribution: "uniform", "erk" or "balanced".

    Returns:
      Weight name -> how many it keeps. They add up to `number`: each gets the whole part of its
      share, and those with the largest remainders one more, of equal ones the first.

    Example:
      >>> shapes = {"a": (784, 300), "b": (300, 100), "c": (100, 10)}
      >>> kept_counts(shapes, 13310, "uniform")
      {'a': 11760, 'b': 1500, 'c': 50}
      >>> kept_counts(shapes, 13310, "erk")  # 13310 x (1084, 400, 110) / 1594.
      {'a': 9051, 'b': 3340, 'c': 919}
      >>> kept_counts(shapes, 13310, "balanced")
      {'a': 6155, 'b': 6155, 'c': 1000}
    """
    share = {name: _SHARES[distribution](shape) for name, shape in shapes.items()}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        free = [name for name in shapes if name not in dense]
        left = number - sum(sizes[name] for name in dense)
        each = fractions.Fraction(left, sum(share[name] for name in free)) if free else 0
        over = {name for name in free if each * share[name] > sizes[name]}
        if not over:
            break
        dense |= over
    exact = {name: each * share[name] for name in free}
    found = {name: sizes[name] if name in dense else int(exact[name]) for name in shapes}
    order = sorted(free, key=lambda name: int(exact[name]) - exact[name])  # Stable.
    for name in order[:number - sum(found.values())]:
        found[name] += 1
    return found


def steps(size: int, kept: int, iterations: int, schedule: str = "exponential") -> Sequence[int]:
    """How many weights are kept after each iteration.

    Args:
      size: how many there are.
      kept: how many are kept after the last iteration.
      iterations: the number of iterations, >= 1.
      schedule: "exponential" keeps size x (kept / size)^(i / iterations) after iteration i, so
        that each prunes the same share of what is left; "linear" prunes the same number in each.

    Example:
      >>> steps(1000, 1, 3), steps(1000, 1, 3, "linear")
      ([100, 10, 1], [667, 334, 1])
    """
    def left(iteration: int) -> int:
        if schedule == "linear":
            return size - count(iteration / iterations, size - kept)
        return int(np.rint(size * (kept / size) ** (iteration / iterations)))
    return [*map(left, range(1, iterations)), kept]


def shared(shapes: Mapping[str, Shape], kept: Kept, distribution: str) -> Kept:
    """Shares what layers keep together among them by a distribution.

    Args:
      shapes: weight name -> shape.
      kept: names of weights, and how many of all of theirs are kept. Those that keep all weights
        stay dense.
      distribution: "uniform", "erk" or "balanced".

    Example:
      >>> shapes = {"a": (10, 90), "b": (10, 10), "c": (2, 5)}
      >>> shared(shapes, [(["a"], 90), (["b"], 10), (["c"], 10)], "balanced")
      [(['a'], 50), (['b'], 50), (['c'], 10)]
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    pruned = [(names, number) for names, number in kept
              if number < sum(sizes[name] for name in names)]
    among = {name for names, _ in pruned for name in names}
    each = kept_counts({name: shapes[name] for name in shapes if name in among},
                       sum(number for _, number in pruned), distribution)
    return [([name], each.get(name, size)) for name, size in sizes.items()]


def groups(shapes: Mapping[str, Shape], number: int, distribution: str) -> Kept:
    """The weights whose scores are compared, and how many of them are kept.

    Args:
      shapes: weight name -> shape.
      number: how many weights are kept.
      distribution: one of DISTRIBUTIONS.

    Example:
      >>> shapes = {"a": (10, 90), "b": (10, 10)}
      >>> groups(shapes, 10, "global"), groups(shapes, 10, "uniform")
      ([(['a', 'b'], 10)], [(['a'], 9), (['b'], 1)])
    """
    together: Kept = [([*shapes], number)]
    return together if distribution == "global" else shared(shapes, together, distribution)
