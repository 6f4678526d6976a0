"""Functions that a package calls and a package above it provides.

Imports go one way, so a lower package cannot import what it needs from a higher one: a search in
`fit` is reported by `reports`, which `keras2` does not know.  The lower package asks for the task
by its name.  `lth_keras/__init__.py`, which knows every package, registers who does it; the module
is imported when its function is first asked for.
"""

import importlib
from collections.abc import Callable
from typing import Any

from lth_keras.errors import LotteryError
from lth_keras.extras import needed_for

REPORT_OF_A_SEARCH = "report of a search"
PLOT = "picture of a search's levels"
EARLY_BIRD_FIGURE = "figure of an early bird"
DATA_ORDER = "order of a search's data, of tf.data"
DATA_ORDER_OF_KERAS = "order of a search's data, without TensorFlow"
# Package of a model -> who builds and trains it for `lth.verify`.
VERIFIED = {"tf_keras": "verification of a tf_keras model",
            "keras": "verification of a Keras 3 model"}
# Package of a model -> who calls it for `lth.profile`.
MODEL_RUN = {"tf_keras": "call of a tf_keras model", "keras": "call of a Keras 3 model"}
# Package of a model -> who scores its weights for `lth.prune_at_init`.
SCORED = {"tf_keras": "scores of a tf_keras model", "keras": "scores of a Keras 3 model"}
# Package of a model -> the optimizer that masks it: `lth.Supermask`, `lth.SparseTraining`.
SUPERMASK = {"tf_keras": "supermask of a tf_keras model",
             "keras": "supermask of a Keras 3 model"}
SPARSE_TRAINING = {"tf_keras": "sparse training of a tf_keras model",
                   "keras": "sparse training of a Keras 3 model"}
PROFILE = "profile of a model"
SMALLER = "model of a level without its pruned filters"
FILE_COSTS = "bytes and latency of a model's file"

_PROVIDERS: dict[str, tuple[str, str]] = {}  # Task -> module and the name of its function.


def register(task: str, module: str, function: str) -> None:
    """Says which function does a task.

    Args:
      task: the task's name.
      module: the full name of the module that has the function.
      function: the function's name there.

    Example:
      >>> register("square root", "math", "sqrt")
      >>> provider("square root")(9.0)
      3.0
      >>> _PROVIDERS.pop("square root")
      ('math', 'sqrt')
    """
    _PROVIDERS[task] = module, function


def provider(task: str) -> Callable[..., Any]:
    """Imports and returns the function that does a task.

    Raises:
      LotteryError: if nobody has registered for it.

    Example:
      >>> provider("tea")  # doctest: +IGNORE_EXCEPTION_DETAIL
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: A task must have a provider: ... Received: 'tea'.
    """
    if task not in _PROVIDERS:
        raise LotteryError(f"A task must have a provider: {', '.join(_PROVIDERS)}. "
                           f"Received: {task!r}.")
    module, function = _PROVIDERS[task]
    with needed_for(f"The {task}"):
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
