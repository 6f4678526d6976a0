"""Data for criteria that need a gradient of the loss, such as "taylor", or "activation"."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core import criteria
from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError

TOGETHER = 256  # Examples in a batch, if arrays are given.
# Loss scales for float16, tried until all gradients are finite: without a scale small gradients
# become 0, and with too large a scale large ones become infinite.
HALF_PRECISION_SCALES = (2.0**12, 2.0**6, 1.0)
_SUMMED = ("sum", "none", None)  # Of a loss without reduction, the gradient is that of the sum.
# The needs of a criterion that scoring data can meet.
NEEDS = ("gradient", "initial_gradient", "activation")


def provided(scoring_data: Any) -> Collection[str]:
    """Returns the needs of a criterion that a search can meet with these scoring data.

    Example:
      >>> provided(None), provided(([[0.0, 1.0]], [1.0]))
      ((), ('gradient', 'initial_gradient', 'activation'))
    """
    return () if scoring_data is None else NEEDS


def check_used(criterion: criteria.CriterionLike, scoring_data: Any) -> None:
    """Checks that scoring data are given only if the criterion needs them.

    Raises:
      LotteryError: if they are given and not needed.

    Example:
      >>> check_used("taylor", ([[0.0, 1.0]], [1.0]))
    """
    found = criteria.get(criterion)
    if scoring_data is not None and not {*NEEDS} & {*found.needs}:
        raise LotteryError("scoring_data may be given only for criteria that need a gradient or "
                           "activations, such as \"taylor\" and \"activation\". Received: "
                           f"scoring_data with criterion={found.name!r}. Leave it out.")


def check_finite(repeats_forever: bool) -> None:
    """Raises LotteryError if a data set of scoring data never ends."""
    if repeats_forever:
        raise LotteryError("scoring_data must be finite, since all of it is used in every "
                           "round. Received: a data set that repeats forever. Limit it with "
                           "dataset.take(batches).")


def weight_of(examples: int, losses: Iterable[Any]) -> int:
    """What a batch counts in a mean over batches: its examples, but 1 if the loss sums them.

    Args:
      examples: how many there are in the batch.
      losses: the loss of each output: a loss object, a word, a function or None.

    Raises:
      LotteryError: if some losses are sums and others means, so that no weight is right for both.

    Example:
      >>> import keras
      >>> weight_of(7, ["mse"]), weight_of(7, [keras.losses.MeanSquaredError(reduction="sum")])
      (7, 1)
    """
    sums = {getattr(loss, "reduction", "mean") in _SUMMED for loss in losses if loss is not None}
    if len(sums) > 1:
        raise LotteryError("The losses of all outputs must be means over a batch, or all sums, to "
                           "be averaged over batches. Received: both. Compile those with "
                           "reduction=\"sum\" without it.")
    return 1 if examples and sums == {True} else examples


def mean_gradient(names: Collection[str], batches: Iterable[tuple[int, Callable[[float], Arrays]]],
                  scales: Sequence[float] = (1.0,)) -> dict[str, Array]:
    """The mean of the gradients of a loss over batches of examples.

    Args:
      names: the names of the weights.
      batches: for each batch its weight, its number of examples where the loss is their mean (see
        `weight_of`), and a function from a loss scale to weight
        name -> gradient of the batch's scaled loss; without the weights that the loss does not
        depend on.
      scales: loss scales to try in turn, until all gradients of a batch are finite.

    Returns:
      Weight name -> array of the weight's shape, float64.

    Raises:
      LotteryError: if the loss does not depend on a weight, or there are no examples.

    Example:
      >>> one, three = ({"w": np.array([value])} for value in (1.0, 3.0))
      >>> mean_gradient(["w"], [(3, lambda scale: one), (1, lambda scale: three)])
      {'w': array([1.5])}
    """
    totals: dict[str, Any] = dict.fromkeys(names, 0.0)
    weights = 0
    for weight, gradient in batches:
        weights += weight
        for name, value in _unscaled(names, gradient, scales).items():
            totals[name] = totals[name] + weight * value
    if not weights:
        raise LotteryError("scoring_data must hold at least one example. Received: none.")
    return {name: total / weights for name, total in totals.items()}


def _unscaled(names: Collection[str], gradient: Callable[[float], Arrays],
              scales: Sequence[float]) -> Mapping[str, Array]:
    # The largest scale first: most batches need no second attempt.
    for scale in scales:
        found = {name: np.asarray(value, np.float64) / scale
                 for name, value in gradient(scale).items()}
        if all(np.isfinite(value).all() for value in found.values()):
            break
    missed = [name for name in names if name not in found]
    if missed:
        raise LotteryError("A criterion that needs a gradient needs a compiled loss that "
                           "depends on every prunable weight. Received: a loss that does not "
                           f"depend on {', '.join(missed)}. Compile the model with "
                           "loss=....")
    return found
