"""Functions that get the row of each training as soon as it is finished, such as loggers."""

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lth_keras.arguments import one_line
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.experiment import Watch
from lth_keras.experiments.results.store import Store

RowHook = Callable[[dict[str, Any]], object]


class RowWatch(Watch):
    """Passes a run's progress on, and gives each finished training's row to functions.

    A function that fails must not end a run of hours: its error is a warning, and the run goes on.

    Args:
      watch: what else receives the progress.
      store: the run's workdir, which has the rows.
      hooks: the functions; each gets a dict of its own.
    """

    def __init__(self, watch: Watch, store: Store, hooks: Sequence[RowHook]):
        self._watch, self._store, self._hooks = watch, store, hooks

    def begin(self, training: Training, density: float) -> None:
        self._watch.begin(training, density)

    def steps(self, done: int) -> None:
        self._watch.steps(done)

    def end(self, training: Training, result: Mapping[str, Any]) -> None:
        self._watch.end(training, result)
        row = self._store.record(training).row if self._hooks else {}
        for hook in self._hooks:
            try:
                hook(dict(row))
            except Exception as error:
                name = getattr(hook, "__qualname__", type(hook).__name__)
                warnings.warn(f"{name} failed on the row of {training} ({type(error).__name__}: "
                              f"{one_line(error)}). The run goes on, and its results have the row.",
                              stacklevel=2)


def named(text: str) -> RowHook:
    """Imports a function by its name, from the folder that the command is run in too.

    Args:
      text: its module and name, as "my_module:function".

    Raises:
      LotteryError: if there is no such module or function.

    Example:
      >>> named("builtins:print") is print
      True
    """
    module, _, name = text.partition(":")
    if not module or not name:
        raise LotteryError(f"on_row must be given as MODULE:FUNCTION. Received: {text!r}.")
    if "" not in sys.path:  # An installed command does not look there by itself.
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LotteryError("on_row must name a function of a module that can be imported. "
                           f"Received: {text!r} ({one_line(error)}).") from None
    if not callable(found):
        raise LotteryError(f"on_row must name a function. Received: {text!r}, which is "
                           f"{found!r:.60}.")
    hook: RowHook = found
    return hook
