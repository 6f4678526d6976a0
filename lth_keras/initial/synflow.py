"""SynFlow's scores, of the sums over paths that a linear network computes in float64."""

from collections.abc import Callable

import numpy as np

from lth_keras.core.masks import Arrays
from lth_keras.errors import LotteryError

_SMALLEST, _LARGEST = 1e-290, 1e290  # Beyond, numbers of float64 lose digits or are infinite.


class NoPathError(LotteryError):
    """Raised if no path of kept weights is left from an input to an output."""


def severs_none(scores: Arrays, masks: Arrays) -> int:
    """How many of the lowest scores can be pruned together so that a path is left for certain.

    Every path that is lost counts in the score of a weight that is pruned; so a path is left while
    these scores add up to less than R.

    Args:
      scores: SynFlow's scores by weight name.
      masks: which weights are compared, those of their mask; a part of the names.

    Example:
      >>> scores = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}  # R is 3.
      >>> severs_none(scores, {name: np.ones(value.shape) for name, value in scores.items()})
      1
    """
    total = max(float(value.sum()) for value in scores.values())
    flat = np.sort(np.concatenate([scores[name][mask != 0] for name, mask in masks.items()]))
    return int(np.searchsorted(np.cumsum(flat), total * (1 - 1e-9)))


def path_scores(sizes: Arrays, gradient: Callable[[Arrays], Arrays]) -> Arrays:
    """The sum, over all paths through a weight, of the products of the path's weights.

    The scores of a layer that every path goes through add up to R, the sum over all paths.  Such
    layers are divided by powers of two, which change no digit of a score and no order among them,
    until R fits into float64.

    Args:
      sizes: weight name -> |w|, float64; 0 where it is pruned.
      gradient: from weights to the gradient of R for each.

    Returns:
      Weight name -> scores, float64, right up to one factor for all of them.

    Raises:
      NoPathError: if no path is left, or the sums do not fit into float64.

    Example:
      >>> def gradient(w):  # R = a b c, of a path that would be 1e330 strong.
      ...     a, b, c = (w[name][0] for name in "abc")
      ...     return {"a": np.array([b * c]), "b": np.array([a * c]), "c": np.array([a * b])}
      >>> found = path_scores({name: np.array([1e110]) for name in "abc"}, gradient)
      >>> bool(0 < found["a"][0] < np.inf), bool(found["a"] == found["b"] == found["c"])
      (True, True)
    """
    with np.errstate(all="ignore"):
        scores = _scores(sizes, gradient)
        if _fits(scores):
            return scores
        # Bits that every layer is made smaller by: found by halving, as R falls with each bit.
        base = {name: float(np.log2(value.sum() / value.shape[-1])) for name, value
                in sizes.items()}
        if not np.isfinite([*base.values()]).all():  # A layer without a weight.
            raise _no_path()
        low, high = -64.0, 64.0
        for _ in range(12):
            bits = (low + high) / 2
            scores = _scores({name: np.ldexp(value, -round(base[name] + bits))
                              for name, value in sizes.items()}, gradient)
            if _fits(scores) and _is_through_all(scores):
                return scores
            too_large = not all(np.isfinite(value).all() for value in scores.values()) or max(
                value.sum() for value in scores.values()) > 1
            low, high = (bits, high) if too_large else (low, bits)
    raise _no_path()


def _no_path() -> NoPathError:
    return NoPathError(
        "SynFlow needs paths of kept weights from inputs to outputs, whose products can be summed "
        "in float64. Received: a network without any, as too low a density or a layer of your own "
        "that takes a difference leaves it, or one too deep whose layers are not one after the "
        'other. Ask for a higher density, or use another method, such as "snip".')


def _scores(weights: Arrays, gradient: Callable[[Arrays], Arrays]) -> Arrays:
    found = gradient(weights)
    return {name: np.multiply(found[name], value) for name, value in weights.items()}


def _fits(scores: Arrays) -> bool:
    values = np.concatenate([np.ravel(value[value != 0]) for value in scores.values()])
    return bool(values.size and np.isfinite(values).all() and values.max() < _LARGEST
                and values.min() > _SMALLEST)


def _is_through_all(scores: Arrays) -> bool:
    # By Euler's rule: R is linear in each such layer, so its scores add up to R.
    sums = [float(value.sum()) for value in scores.values()]
    return bool(np.allclose(sums, sums[0], rtol=1e-9, atol=0))
