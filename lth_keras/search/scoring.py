"""Data for criteria that need a gradient of the loss, such as "taylor"."""

from collections.abc import Collection
from typing import Any

from lth_keras.core import criteria
from lth_keras.errors import LotteryError

NEEDS = ("gradient", "initial_gradient")  # The needs of a criterion that scoring data can meet.


def provided(scoring_data: Any) -> Collection[str]:
    """Returns the needs of a criterion that a search can meet with these scoring data.

    Example:
      >>> provided(None), provided(([[0.0, 1.0]], [1.0]))
      ((), ('gradient', 'initial_gradient'))
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
        raise LotteryError("scoring_data may be given only for criteria that need a gradient, such "
                           f"as \"taylor\". Received: scoring_data with criterion={found.name!r}. "
                           "Leave it out.")
