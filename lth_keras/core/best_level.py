"""The level to take of a search: one rule for `lottery.best` and `lth export --level best`."""

import re
from collections.abc import Mapping

# Whole words: neither "acceleration" nor the loss of an output called "accuracy" is one.
_ACCURACY = re.compile(r"(.*[^a-z0-9])?acc(uracy)?([^a-z0-9]?\d+)?", re.IGNORECASE | re.DOTALL)


def is_accuracy(metric: str) -> bool:
    """Whether a metric of Keras is an accuracy, by its name: its last word is "accuracy" or "acc".

    Example:
      >>> [is_accuracy(name) for name in ("val_top5_acc", "accuracy_1", "val_acceleration_loss")]
      [True, True, False]
    """
    return _ACCURACY.fullmatch(metric) is not None


def sparsest_as_good(gains: Mapping[int, float]) -> int:
    """Returns the sparsest level that loses nothing against the dense network.

    No tolerance is allowed for: on few validation examples a level that is as good may be passed
    over for a lucky level 0, but none is taken that was measured to be worse.

    Args:
      gains: level -> by how much it is better than level 0 on validation data; NaN if it was not
        measured or diverged.

    Example:
      >>> sparsest_as_good({0: 0.0, 1: 0.004, 2: 0.0, 3: -0.002, 4: float("nan")})
      2
      >>> sparsest_as_good({0: 0.0, 1: -0.002})
      0
    """
    return max((level for level, gain in gains.items() if gain >= 0), default=0)
