"""What the methods of `lth.Supermask` compute in a training step.

    edge_popup   the k largest |s| are kept;         ds = g w sign(s)
    biprop       the same, weights are alpha sign(w); ds = g w sign(s)
    bernoulli    kept with the probability sigmoid(s); ds = g w c sigmoid'(s)

with g the gradient for the effective weight, w the weight and s its score, alpha the mean |w| of
those that are kept, c = n / kept if `rescale` or 1.  All elements get a gradient, kept or not.

The |s| of edge_popup moves by -g w in each step, times the learning rate: it is the score of
movement pruning (Sanh et al., NeurIPS 2020, arXiv:2005.07683), of weights that stay as they are.
"""

import math
from typing import Any

from lth_keras.sparse_training import draws
from lth_keras.sparse_training.array_ops import ArrayOps
from lth_keras.sparse_training.largest import any_nan, largest, size_bits

METHODS = ("edge_popup", "bernoulli", "biprop")


def by_size(ops: ArrayOps, scores: Any, number: Any, near: Any) -> tuple[Any, Any, Any]:
    """The mask that keeps the so many scores of the largest size; of equal ones the last.

    Returns:
      The mask; where to look first in the next step; and whether a score is NaN.
    """
    keys = size_bits(ops, scores)
    kept, least = largest(ops, keys, number, near)
    return kept, least, any_nan(ops, keys)


def drawn(ops: ArrayOps, scores: Any, key: Any, step: Any, place: int) -> tuple[Any, Any]:
    """A mask that keeps each element with the probability sigmoid(score).

    Returns:
      The mask, and whether a score is NaN.
    """
    chances = ops.sigmoid(scores)
    kept = draws.uniform(ops, tuple(scores.shape), key, step, place) < chances
    return kept, any_nan(ops, size_bits(ops, scores))


def effective(ops: ArrayOps, method: str, weight: Any, mask: Any, rescale: bool) -> Any:
    """What the model computes with: the weight where it is kept, and exactly zero elsewhere.

    Args:
      ops: the library of the arrays.
      method: one of METHODS.
      weight: the weight that is not trained.
      mask: the condition that an element is kept.
      rescale: whether what is kept is multiplied by n / kept.

    Example:
      >>> import numpy as np
      >>> from lth_keras.sparse_training.array_ops import NUMPY
      >>> weight, mask = np.array([1, -3, 8], np.float32), np.array([True, True, False])
      >>> [effective(NUMPY, *settings).tolist() for settings in (
      ...     ("edge_popup", weight, mask, False), ("biprop", weight, mask, False),
      ...     ("bernoulli", weight, mask, True))]
      [[1.0, -3.0, 0.0], [2.0, -2.0, 0.0], [1.5, -4.5, 0.0]]
    """
    if method == "biprop":
        total = ops.sum(abs(ops.where(mask, weight, 0.0)))
        weight = ops.sign(weight) * (total / _kept(ops, mask))
    elif rescale:
        weight = weight * scale(ops, mask)
    return ops.where(mask, weight, 0.0)


def scale(ops: ArrayOps, mask: Any) -> Any:
    """How many elements there are for each that is kept."""
    return float(math.prod(mask.shape)) / _kept(ops, mask)


def score_gradient(ops: ArrayOps, method: str, gradient: Any, weight: Any, scores: Any,
                   *, mask: Any, rescale: bool) -> Any:
    """The gradient for the scores, as if the step from scores to the mask had the slope 1.

    Args:
      ops: the library of the arrays.
      method: one of METHODS.
      gradient: the one for the effective weight.
      weight: the weight that is not trained.
      scores: the scores.
      mask: the mask of the step that the gradient is of.
      rescale: as for `effective`.
    """
    if method != "bernoulli":
        return gradient * weight * ops.sign(scores)
    chances = ops.sigmoid(scores)
    found = gradient * weight * (chances * (1.0 - chances))
    return found * scale(ops, mask) if rescale else found


def _kept(ops: ArrayOps, mask: Any) -> Any:
    found = ops.sum(ops.whole(mask))
    return ops.real(ops.where(found > 0, found, 1))  # Of none, so that no zero is divided by.
