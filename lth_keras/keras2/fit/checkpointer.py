"""A search in `fit` that outlives its process: what is saved after an epoch, and brought back.

At the beginning of an epoch, when every callback has done with the last one, the search is
captured and written in the background; a search that was killed goes on from there.  All
that a training depends on is captured, except the data: where the order of the batches is a
function of the seed and the epoch, the search ends in the bits of one that was never killed.
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
    """Keeps one search in a workdir; Keras asks it where `fit` is to begin.

    Args:
      root: the workdir.
      model: the model, wrapped and compiled.
      settings: what the search is asked for; name -> what JSON can hold.
      last_epoch: the `epochs` of this fit.

    Raises:
      LotteryError: if something else restores this fit as well.
      WorkdirError: if the workdir cannot be used, is damaged or holds another search.
    """

    def __init__(self, root: Any, model: Any, settings: Mapping[str, Any], last_epoch: int):
        _check_alone(model)
        self._model = model
        self._last_epoch = last_epoch
        self._asked = False
        self._workdir = Workdir(root, {**settings, **model_identity.of(model)})
        try:
            self._beside = [*(generator.state for generator in generators(model)),
                            *replicas_own(model)]
            here = model_identity.captured(model, self._beside)
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
        _warn_of("draws by operations that keep their state to themselves, so that a search that "
                 "goes on draws otherwise; call tf_keras.backend.experimental."
                 "enable_tf_random_generator() before the model is made",
                 unkept(model))
        model._training_state = self
        self._fit = model.history  # Each fit has its own.

    @property
    def epoch(self) -> int | None:
        """The next epoch of the search that was found, or None if none was."""
        return None if self._found is None else self._found.epoch

    def restore(self, search: Search, inner: RoundCallbacks, rounds: int) -> Progress:
        """Puts the search that was found into the model and all that drives it.

        Args:
          search: a search of the model, without theta_k.
          inner: the round's callbacks, begun.
          rounds: how many rounds the whole search has.
        """
        assert self._found is not None
        state, start, model = self._found, self._found.start, self._model
        if not inner.fits(state.callbacks):
            raise self._foreign("its round callbacks must be those of this fit")
        Snapshot(state.weights, state.optimizer, [], state.counters).restore_all(model)
        for name, item in masked(model).items():
            item.mask.assign(state.masks[name].astype(item.mask.dtype.as_numpy_dtype))
            item.threshold.assign(state.thresholds[name])
        for variable, value in zip(self._beside, state.draws, strict=True):
            variable.assign(value)
        # A file has an order of its own; criteria draw in that of the model.
        prunable = list(masked(model))
        theta = None if start is None else Snapshot(
            {name: start.weights[name] for name in named_weights(model)}, start.optimizer,
            rewinding.fresh_slots(model), start.counters)
        # The tickets of one search share theta_k.
        search.go_on({name: state.masks[name] for name in prunable}, theta,
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
        """One line of what goes on, and whether its bits are those of a single fit.

        Args:
          ordered: whether the data comes in an order that the seed and the epoch decide.
        """
        assert self._found is not None
        state = self._found
        if self._finished:
            return "the search is finished; nothing is trained"
        bits = "" if ordered else \
            ", if the order of the data is a function of the epoch (else with other draws of it)"
        return (f"goes on at epoch {state.epoch}, in level {state.round['level']}, as a fit that "
                f"was never stopped{bits}")

    def maybe_load_initial_counters_from_ckpt(
            self, steps_per_epoch: int | None, initial_epoch: int, mode: Any) -> tuple[int, int]:
        """Keras' question as `fit` begins: at which epoch and step?

        Raises:
          LotteryError: if the fit that is to go on began at another epoch.
        """
        self._asked = True
        self._model._training_state = None  # For this fit alone.
        if self._found is None or self._model.history is not self._fit:
            return initial_epoch, 0
        state = self._found
        if initial_epoch != state.first_epoch:
            self.close()
            raise LotteryError("A search that goes on from a workdir finds its epoch by itself: "
                               f"leave initial_epoch={state.first_epoch}, as where it began. "
                               f"Received: initial_epoch={initial_epoch}.")
        history = self._model.history
        history.epoch[:] = state.history["epochs"]
        history.history.update({name: list(values)
                                for name, values in state.history["logs"].items()})
        self._found = None  # What is in the model now need not be held here too.
        return (self._last_epoch if self._finished else state.epoch), 0

    def save(self, epoch: int, progress: Progress, search: Search,
             inner: RoundCallbacks) -> None:
        """Takes the search down and writes it in the background.

        Args:
          epoch: the next epoch of `fit`.
          progress: how far the search has come.
          search: its masks, theta_k and tickets.
          inner: the round's callbacks.

        Raises:
          LotteryError: if another callback has taken over where `fit` begins.
          WorkdirError: if the last save could not be written.
        """
        if not self._asked:
            raise LotteryError(_NOT_ALONE)
        if epoch == self._saved or self._finished:
            return
        if not self._warned and inner.unkept():
            self._warned = True
            _warn_of("cannot be kept, and starts anew with a search that goes on", inner.unkept())
        self._workdir.save(self._capture(epoch, progress, search, inner))
        self._saved = epoch

    def check(self) -> None:
        """Raises the WorkdirError of a save that could not be written, if there was one."""
        self._workdir.check()

    def finish(self, rows: list[dict[str, Any]]) -> None:
        """Waits for the last save, writes the results and lets the workdir go."""
        self._workdir.finish(rows)

    def close(self) -> None:
        """Lets the workdir go, and the model."""
        if getattr(self._model, "_training_state", None) is self:
            self._model._training_state = None
        self._workdir.close()

    def _capture(self, epoch: int, progress: Progress, search: Search,
                 inner: RoundCallbacks) -> State:
        assert progress.first_epoch is not None
        history = self._model.history
        logs = {name: [_plain(name, value) for value in values]
                for name, values in history.history.items()}
        # The first state names no other file: what is there without one misses its state.
        theta = None if self._saved is None else search.theta
        return State(
            settings={}, epoch=epoch, first_epoch=progress.first_epoch,
            round=progress.round.to_dict(), rows=list(progress.rows),
            restored=[dataclasses.asdict(item) for item in progress.restored],
            history={"epochs": list(history.epoch), "logs": logs}, callbacks=inner.state(),
            **model_identity.captured(self._model, self._beside),
            start=None if theta is None else RewindPoint(
                theta.weights, theta.optimizer, theta.counters),
            tickets=() if theta is None else [*search.tickets])

    def _foreign(self, rule: str) -> WorkdirError:
        return WorkdirError(f"{self._workdir.root / STATE}: {rule}. Received: others. Use another "
                            "workdir.")


def _check_alone(model: Any) -> None:
    # One of ours is from a fit that was interrupted before it began.
    if not isinstance(getattr(model, "_training_state", None), (Checkpointer, type(None))):
        raise LotteryError(_NOT_ALONE)
    if model.distribute_strategy.extended._in_multi_worker_mode():
        raise LotteryError("workdir= serves a fit of one process. Received: a fit under "
                           f"{type(model.distribute_strategy).__name__} of several.")


def _largest(here: Mapping[str, Any]) -> int:
    # The model, its optimizer and its masks, round callbacks' copies of the model, and a head.
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
