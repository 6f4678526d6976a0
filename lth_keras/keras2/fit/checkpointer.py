"""Saves a search in `fit` after every epoch, and resumes it in a new process.

At the beginning of an epoch, when all callbacks have finished the last one, the search is captured
and written in the background; a search that was killed is resumed from there.  Everything that a
training depends on is captured, except the data: if the order of the batches depends only on the
seed and the epoch, the search ends in the same bits as one that was never killed.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.files.state_file import RewindPoint, State
from lth_keras.files.workdir_lock import STATE
from lth_keras.keras2 import rewinding
from lth_keras.keras2.fit import model_identity
from lth_keras.keras2.fit.round_callbacks import RoundCallbacks
from lth_keras.keras2.fit.round_record import Progress, Round
from lth_keras.keras2.fit.search_workdir import Workdir
from lth_keras.keras2.masking.weight_names import masked, named_weights, replicas_own
from lth_keras.keras2.random_generators import generators, unkept
from lth_keras.keras2.rewinding import Restored, Snapshot
from lth_keras.keras2.search import Search

_NOT_ALONE = ("With workdir=, nothing else may restore a fit. Received: a BackupAndRestore beside "
              "the LotteryTicketCallback; leave it out.")


class Checkpointer:
    """Saves one search in a workdir, and tells Keras at which epoch `fit` begins.

    Args:
      root: the workdir.
      model: the model, wrapped and compiled.
      settings: the settings of the search, as JSON values by name.
      last_epoch: the `epochs` of this fit.

    Raises:
      LotteryError: if another callback restores this fit too.
      WorkdirError: if the workdir cannot be used, is damaged or holds another search.
    """

    def __init__(self, root: Any, model: Any, settings: Mapping[str, Any], last_epoch: int):
        _check_alone(model)
        self._model = model
        self._last_epoch = last_epoch
        self._asked_for_epoch = False
        self._workdir = Workdir(root, {**settings, **model_identity.of(model)})
        try:
            self._other_variables = [*(generator.state for generator in generators(model)),
                            *replicas_own(model)]
            here = model_identity.captured(model, self._other_variables)
            self._found = self._workdir.read(_largest(here))
            rule = self._found and model_identity.broken_rule(self._found, here)
            if rule:
                raise self._foreign(rule)
            if self.epoch is not None and self.epoch > last_epoch:
                raise self._foreign(f"its epoch must be one of this fit's {last_epoch}")
        except BaseException:
            self._workdir.close()
            raise
        self._saved = self.epoch
        self._finished = False
        self._warned = False
        _warn_of("draws random numbers by operations whose state cannot be saved, so a resumed "
                 "search draws others; call tf_keras.backend.experimental."
                 "enable_tf_random_generator() before the model is made",
                 unkept(model))
        # `fit` asks the object in this attribute for its first epoch; BackupAndRestore uses it too.
        model._training_state = self
        self._fit = model.history  # Identifies this fit: each fit has its own History.

    @property
    def epoch(self) -> int | None:
        """The next epoch of the search in the workdir, or None if there is none."""
        return None if self._found is None else self._found.epoch

    def restore(self, search: Search, inner: RoundCallbacks, rounds: int) -> Progress:
        """Restores the search in the workdir.

        Args:
          search: a new search of the model, without theta_k.
          inner: the round callbacks, after their `on_train_begin`.
          rounds: how many rounds the whole search has.

        Returns:
          How far the search has come.

        Raises:
          WorkdirError: if it had other round callbacks.
        """
        assert self._found is not None
        state, start, model = self._found, self._found.start, self._model
        if not inner.fits(state.callbacks):
            raise self._foreign("its round callbacks must be those of this fit")
        # Including the optimizer's learning rate and counters, so that schedules continue.
        Snapshot(state.weights, state.optimizer, [], state.counters).restore_all(model)
        for name, item in masked(model).items():
            item.mask.assign(state.masks[name].astype(item.mask.dtype.as_numpy_dtype))
            item.threshold.assign(state.thresholds[name])
        for variable, value in zip(self._other_variables, state.draws, strict=True):
            variable.assign(value)
        # In the model's order, not that of the file: random criteria draw weight by weight.
        prunable = list(masked(model))
        theta = None if start is None else Snapshot(
            {name: start.weights[name] for name in named_weights(model)}, start.optimizer,
            rewinding.fresh_slots(model), start.counters)
        # All tickets of a search share one copy of theta_k.
        search.resume({name: state.masks[name] for name in prunable}, theta,
                     [] if theta is None else [dataclasses.replace(
                         ticket, weights=theta.weights,
                         masks={name: ticket.masks[name] for name in prunable})
                         for ticket in state.tickets])
        inner.restore(state.callbacks)
        record = Round.from_dict(state.round)
        self._finished = record.over and record.level == rounds
        return Progress(record, list(state.rows), [Restored(**item) for item in state.restored],
                        state.first_epoch)

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

    def maybe_load_initial_counters_from_ckpt(
            self, steps_per_epoch: int | None, initial_epoch: int, mode: Any) -> tuple[int, int]:
        """Returns the first epoch and step of `fit`, which calls this method.

        Raises:
          LotteryError: if `fit` was given another initial_epoch than when the search began.
        """
        self._asked_for_epoch = True
        self._model._training_state = None  # The next fit of the model must not use it.
        if self._found is None or self._model.history is not self._fit:
            return initial_epoch, 0
        state = self._found
        if initial_epoch != state.first_epoch:
            self.close()
            raise LotteryError("A search that is resumed from a workdir finds its epoch by itself: "
                               f"give the same initial_epoch={state.first_epoch} as at its start. "
                               f"Received: initial_epoch={initial_epoch}.")
        history = self._model.history
        history.epoch[:] = state.history["epochs"]
        history.history.update({name: list(values)
                                for name, values in state.history["logs"].items()})
        self._found = None  # Frees its arrays, which the model has now.
        return (self._last_epoch if self._finished else state.epoch), 0

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
        if not self._asked_for_epoch:
            raise LotteryError(_NOT_ALONE)
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
        self._workdir.finish(rows)

    def close(self) -> None:
        """Releases the workdir and the model."""
        if getattr(self._model, "_training_state", None) is self:
            self._model._training_state = None
        self._workdir.close()

    def _capture(self, epoch: int, progress: Progress, search: Search,
                 inner: RoundCallbacks) -> State:
        assert progress.first_epoch is not None
        history = self._model.history
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
            **model_identity.captured(self._model, self._other_variables),
            start=None if theta is None else RewindPoint(
                theta.weights, theta.optimizer, theta.counters),
            tickets=() if theta is None else [*search.tickets])

    def _foreign(self, rule: str) -> WorkdirError:
        return WorkdirError(f"{self._workdir.root / STATE}: {rule}. Received: others. Use another "
                            "workdir.")


def _check_alone(model: Any) -> None:
    # A Checkpointer there is left over from a fit that was interrupted before it began.
    if not isinstance(getattr(model, "_training_state", None), (Checkpointer, type(None))):
        raise LotteryError(_NOT_ALONE)
    if model.distribute_strategy.extended._in_multi_worker_mode():
        raise LotteryError("workdir= needs a fit in one process. Received: a fit under "
                           f"{type(model.distribute_strategy).__name__}, in several.")


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
