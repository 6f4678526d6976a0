"""Saves a search in `fit` after every epoch, and resumes it in a new process.

At the beginning of an epoch, when all callbacks have finished the last one, the search is captured
and written in the background; a search that was killed is resumed from there.  Everything that a
training depends on is captured, except the data: if the order of the batches depends only on the
seed and the epoch, the search ends in the same bits as one that was never killed.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.files.state_file import RewindPoint, State
from lth_keras.files.workdir_lock import STATE
from lth_keras.search.fit.round_callbacks import RoundCallbacks
from lth_keras.search.fit.round_record import Progress, Round
from lth_keras.search.fit.search_workdir import Workdir
from lth_keras.search.network import Network, Restored, Snapshot
from lth_keras.search.search import Search


class Checkpointer:
    """Saves one search in a workdir, and tells Keras at which epoch `fit` begins.

    Args:
      root: the workdir.
      network: the model, ready for a search.
      settings: the settings of the search, as JSON values by name.
      is_last: whether the search ends with a round.
      last_epoch: the `epochs` of this fit.

    Raises:
      LotteryError: if another callback restores this fit too.
      WorkdirError: if the workdir cannot be used, is damaged or holds another search.
    """

    def __init__(self, root: Any, network: Network, settings: Mapping[str, Any],
                 is_last: Callable[[Round], bool], last_epoch: int):
        self._network = network
        self._last_epoch = last_epoch
        self._workdir = Workdir(root, {**settings, **network.identity()})
        try:
            self._beside = network.beside()
            here = self._here()
            self._found = self._workdir.read(_largest(here))
            rule = self._found and broken_rule(self._found, here)
            if rule:
                raise self._foreign(rule)
            if self.epoch is not None and self.epoch > last_epoch:
                raise self._foreign(f"its epoch must be one of this fit's {last_epoch}")
            self._saved = self.epoch
            found = self._found and Round.from_dict(self._found.round)
            self._finished = bool(found and found.over and is_last(found))
            self._warned = False
            network.hold_start(self)  # It may ask for the first epoch at once.
        except BaseException:
            self._workdir.close()
            raise
        _warn_of("draws random numbers by operations whose state cannot be saved, so a resumed "
                 "search draws others; call tf_keras.backend.experimental."
                 "enable_tf_random_generator() before the model is made",
                 [*network.unkept_draws()])

    @property
    def epoch(self) -> int | None:
        """The next epoch of the search in the workdir, or None if there is none."""
        return None if self._found is None else self._found.epoch

    def restore(self, search: Search, inner: RoundCallbacks) -> Progress:
        """Restores the search in the workdir.

        Args:
          search: a new search of the model, without theta_k.
          inner: the round callbacks, after their `on_train_begin`.

        Returns:
          How far the search has come.

        Raises:
          WorkdirError: if it had other round callbacks.
        """
        assert self._found is not None
        state, start, network = self._found, self._found.start, self._network
        if not inner.fits(state.callbacks):
            raise self._foreign("its round callbacks must be those of this fit")
        # Including the optimizer's learning rate and counters, so that schedules continue.
        network.restore_all(Snapshot(state.weights, state.optimizer, [], state.counters))
        network.assign_masks(state.masks)
        network.assign_thresholds(state.thresholds)
        for variable, value in zip(self._beside, state.draws, strict=True):
            variable.assign(value)
        # In the model's order, not that of the file: random criteria draw weight by weight.
        theta = None if start is None else network.snapshot(
            {name: start.weights[name] for name in network.weights()}, start.optimizer,
            start.counters)
        # All tickets of a search share one copy of theta_k.
        search.resume({name: state.masks[name] for name in network.prunable}, theta,
                     [] if theta is None else [dataclasses.replace(
                         ticket, weights=theta.weights,
                         masks={name: ticket.masks[name] for name in network.prunable})
                         for ticket in state.tickets])
        inner.restore(state.callbacks)
        return Progress(Round.from_dict(state.round), list(state.rows),
                        [Restored(**item) for item in state.restored], state.first_epoch)

    def says(self, ordered: bool) -> str:
        """Says in a line where the search continues, and whether its bits will be the same.

        Args:
          ordered: whether the order of the data depends only on the seed and the epoch.
        """
        assert self._found is not None
        state = self._found
        if self._finished:
            return "the search is finished; nothing is trained"
        bits = "" if ordered else \
            ", if the order of the data depends only on the epoch (otherwise on another order)"
        return (f"continues at epoch {state.epoch}, in level {state.round['level']}, as a fit that "
                f"was never stopped{bits}")

    def first_epoch(self, initial_epoch: int | None) -> int | None:
        """Returns the first epoch of `fit`, which asks for it.

        Args:
          initial_epoch: the one that the user asked for, or None if that is not known.

        Raises:
          LotteryError: if `fit` was given another initial_epoch than when the search began.
        """
        if self._found is None:
            return initial_epoch
        state = self._found
        if initial_epoch not in (state.first_epoch, None):
            self.close()
            raise LotteryError("A search that is resumed from a workdir finds its epoch by itself: "
                               f"give the same initial_epoch={state.first_epoch} as at its start. "
                               f"Received: initial_epoch={initial_epoch}.")
        return self._last_epoch if self._finished else state.epoch

    def begin(self) -> None:
        """Gives Keras' History of this fit, which has begun, the logs of the search so far."""
        if self._found is not None:
            history = self._network.model.history
            history.epoch[:] = self._found.history["epochs"]
            history.history.update({name: list(values) for name, values
                                    in self._found.history["logs"].items()})
            self._found = None  # Frees its arrays, which the model has now.

    def save(self, epoch: int, progress: Progress, search: Search,
             inner: RoundCallbacks) -> None:
        """Captures the search and writes it in the background.

        Args:
          epoch: the next epoch of `fit`.
          progress: how far the search has come.
          search: the masks, theta_k and tickets.
          inner: the round callbacks.

        Raises:
          LotteryError: if another callback has determined where `fit` begins.
          WorkdirError: if the last save could not be written.
        """
        self._network.check_start(self)
        self.begin()
        if epoch == self._saved or self._finished:
            return
        if not self._warned and inner.unkept():
            self._warned = True
            _warn_of("cannot be saved, and starts anew in a resumed search", inner.unkept())
        self._workdir.save(self._capture(epoch, progress, search, inner))
        self._saved = epoch

    def check(self) -> None:
        """Raises the WorkdirError of a save that could not be written, if there was one."""
        self._workdir.check()

    def finish(self, rows: list[dict[str, Any]]) -> None:
        """Waits until the last save is written, writes results.csv and releases the workdir."""
        self.begin()  # If the search was finished, no epoch has begun.
        self._network.release_start(self)
        self._workdir.finish(rows)

    def close(self) -> None:
        """Releases the workdir and the model."""
        self._network.release_start(self)
        self._workdir.close()

    def _capture(self, epoch: int, progress: Progress, search: Search,
                 inner: RoundCallbacks) -> State:
        assert progress.first_epoch is not None
        history = self._network.model.history
        logs = {name: [_plain(name, value) for value in values]
                for name, values in history.history.items()}
        # The first state lists no other files: it is written before any of them, so that files of a
        # search never lie in a workdir without a state.
        theta = None if self._saved is None else search.theta
        return State(
            settings={}, epoch=epoch, first_epoch=progress.first_epoch,
            round=progress.round.to_dict(), rows=list(progress.rows),
            restored=[dataclasses.asdict(item) for item in progress.restored],
            history={"epochs": list(history.epoch), "logs": logs}, callbacks=inner.state(),
            **self._here(),
            start=None if theta is None else RewindPoint(
                theta.weights, theta.optimizer, theta.counters),
            tickets=() if theta is None else [*search.tickets])

    def _here(self) -> dict[str, Any]:
        """What a `State` holds of the model, by the state's own names."""
        now = self._network.capture(rewinds=False)
        return {"weights": now.weights, "masks": self._network.masks(),
                "thresholds": self._network.thresholds(), "optimizer": now.optimizer,
                "draws": [self._network.stored(variable) for variable in self._beside],
                "counters": now.counters}

    def _foreign(self, rule: str) -> WorkdirError:
        return WorkdirError(f"{self._workdir.root / STATE}: {rule}. Received: others. Use another "
                            "workdir.")


def _largest(here: Mapping[str, Any]) -> int:
    # A bound for the files: the model, its optimizers and masks, copies of the model in round
    # callbacks such as EarlyStopping, and 64 MiB for a head with a long history.
    arrays: list[Array] = [*here["weights"].values(), *here["optimizer"]]
    return 8 * sum(array.nbytes for array in arrays) + 2**26


def _plain(name: str, value: Any) -> Any:
    value = value.numpy() if hasattr(value, "numpy") else value
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, (bool, int, float, str, list, type(None))):
        raise LotteryError("With workdir=, a log must be a number or an array, to be kept. "
                           f"Received: {name!r}, a {type(value).__name__}.")
    return value


def _warn_of(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        warnings.warn(f"{', '.join(names[:5])}{more}: {what}.", stacklevel=3)


def broken_rule(state: State, here: Mapping[str, Any]) -> str | None:
    """Returns the rule that a state breaks if it cannot be of this model; None if it can.

    Args:
      state: the state in a workdir.
      here: what a state would hold of the model now.
    """
    files: list[Any] = [state, *state.tickets, *([state.start] if state.start else [])]
    if not all(_shapes_and_types(vars(file)[name]) == _shapes_and_types(here[name])
               for file in files for name in here.keys() & vars(file)):
        return "its arrays must be those of the model and its optimizer"
    masks = state.tickets[-1].masks if state.tickets else here["masks"]
    if not all(np.array_equal(state.masks[name], mask) for name, mask in masks.items()) \
            or state.round["density"] != mask_arrays.density(masks):
        return "its masks must be those of its level"
    if state.first_epoch > state.epoch:
        return "its epoch must not be before its first"
    return None


def _shapes_and_types(part: Any) -> Any:
    # The names, shapes and types of arrays by name, arrays in order, or counters.
    if isinstance(part, Mapping):
        return {name: _shapes_and_types(item) for name, item in part.items()}
    if isinstance(part, list):
        return [*map(_shapes_and_types, part)]
    return (part.shape, part.dtype) if isinstance(part, np.ndarray) else type(part)
