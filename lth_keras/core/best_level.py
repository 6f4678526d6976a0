"""What levels of a search are compared by, and which of them to take.

One rule for `lottery.best`, `lth export --level best` and the reports of a search in `fit`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

# Whole words: neither "acceleration" nor the loss of an output called "accuracy" is one.
_ACCURACY = re.compile(r"(.*[^a-z0-9])?acc(uracy)?([^a-z0-9]?\d+)?", re.IGNORECASE | re.DOTALL)
# What Keras calls the accuracies of a model with one output; those of several bear their names.
_OF_ONE_OUTPUT = tuple(f"val_{name}" for name in (
    "accuracy", "acc", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy",
    "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy"))


def is_accuracy(metric: str) -> bool:
    """Whether a metric of Keras is an accuracy, by its name: its last word is "accuracy" or "acc".

    Example:
      >>> [is_accuracy(name) for name in ("val_top5_acc", "accuracy_1", "val_acceleration_loss")]
      [True, True, False]
    """
    return _ACCURACY.fullmatch(metric) is not None


def judged_by(measured: Mapping[str, Any]) -> str:
    """Returns the name of the metric by which levels are compared: an accuracy, or the loss.

    Args:
      measured: name -> value, or an array of values, of all metrics of a level or of several.

    Returns:
      The accuracy in [0, 1] on validation data, of several that a single output has the one that
      Keras calls so; "val_loss" if there is none, or if the model has several outputs, of which an
      accuracy judges one alone.  "" if `fit` has no validation data.

    Example:
      >>> judged_by({"loss": 0.3, "val_loss": 0.4, "val_accuracy": 0.9})
      'val_accuracy'
      >>> judged_by({"val_loss": 0.4, "val_easy_accuracy": 0.9, "val_hard_accuracy": 0.6})
      'val_loss'
    """
    found = accuracies(measured)
    losses = [name.removesuffix("loss") for name in measured
              if name.startswith("val_") and name.endswith("_loss") and name != "val_loss"]
    # Keras logs each output's loss too, and puts the output's name before its metrics.
    of_outputs = len(losses) > 1 and any(name.startswith(tuple(losses)) for name in found)
    if found and not of_outputs:
        whole = found if len(found) == 1 else [name for name in _OF_ONE_OUTPUT if name in found]
        if whole:
            return whole[0]
    return "val_loss" if "val_loss" in measured else ""


def accuracies(measured: Mapping[str, Any]) -> list[str]:
    """Returns the accuracies on validation data among metrics, by name: they lie in [0, 1].

    Example:
      >>> accuracies({"val_acc": [0.5, 0.75], "val_accuracy": 93.0, "accuracy": 0.5})
      ['val_acc']
    """
    return [name for name, value in measured.items()
            if name.startswith("val_") and is_accuracy(name) and _is_share(value)]


def _is_share(value: Any) -> bool:
    values = np.asarray(value, float)
    return values.size > 0 and bool(((values >= 0) & (values <= 1)).all())


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
