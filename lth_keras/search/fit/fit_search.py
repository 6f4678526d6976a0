"""Runs a search within one `fit`: how rounds begin and end in the hooks that Keras calls.

A round ends with the batch or epoch that completes it, but the network is pruned and rewound only
when the next round begins.  In between, validation and all other callbacks must still see the
trained network of the round, for instance to save it.
"""

import contextlib
import dataclasses
import functools
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from lth_keras.errors import DivergedError, LotteryError, WorkdirError
from lth_keras.search.fit import notices, preflight
from lth_keras.search.fit.checkpointer import Checkpointer
from lth_keras.search.fit.data_order import DataOrder
from lth_keras.search.fit.early_bird import EarlyBird
from lth_keras.search.fit.hooks import after_others
from lth_keras.search.fit.preflight import SearchSettings
from lth_keras.search.fit.round_callbacks import RoundCallbacks
from lth_keras.search.fit.round_record import Progress, Round
from lth_keras.search.network import network_of
from lth_keras.search.search import Search


class FitSearch:
    """Runs a search in `fit`, from its first batch to its last.

    One search may go on over several fits of the same model, such as fit(epochs=1) in a loop: see
    `is_continued_by`.

    Args:
      settings: the arguments of the callback.
      model: the model of the fit, wrapped, built and compiled.
      params: the parameters of the fit that Keras gives to callbacks.
      order: the callback's data order, which the user's data may follow.

    Attributes:
      progress: the current round and the rows of the finished rounds.
      search: the masks, theta_k and tickets.

    Raises:
      LotteryError: if settings cannot work together; nothing has been changed then.
    """

    def __init__(self, settings: SearchSettings, model: Any, params: Mapping[str, Any],
                 order: DataOrder):
        self._network = network_of(model, **settings.prunes)
        self._network.check_fit(settings.schedule)
        preflight.check_steps(self._network, settings.schedule, settings.rewind_step,
                              params.get("steps"))
        self._settings, self._model, self._params, self._order = settings, model, params, order
        self._schedule = settings.schedule
        self._checkpointer = None if settings.workdir is None else \
            Checkpointer(settings.workdir, self._network, settings.identity,
                         functools.partial(Round.is_last, rounds=self._schedule.rounds,
                                           target=settings.target), params["epochs"])
        self._batches = 0  # Batches of this epoch so far.
        self._reported: list[int] = []  # Batches of this epoch that ended, as other threads say.
        self._thread = threading.get_ident()  # That of the fit.
        self._next_epoch: int | None = None  # None until an epoch has ended.
        self._first_of_fit = True  # Whether the next epoch is the first of its fit.
        self._shift = 0  # From Keras' number of an epoch in its fit to that in the search.
        self._ended = False
        self._warned_of_rate = False
        try:
            self._begin()
        except BaseException:
            self.close()  # Otherwise the workdir would stay locked, and no fit could be started.
            raise

    def _begin(self) -> None:
        settings, model = self._settings, self._model
        found = self._checkpointer and self._checkpointer.epoch
        self.search = Search(
            model, fraction=self._schedule.fraction, scope=settings.scope,
            criterion=settings.criterion, seed=settings.seed, check=settings.check,
            facts=settings.provenance,
            take_theta=settings.rewind_step == 0 and found is None, rounds=self._schedule.rounds,
            scoring_data=settings.scoring_data, multiple_of=settings.multiple_of,
            **settings.prunes)
        if self.search.note:
            self._say(self.search.note)
        self._network.begin_fit(self._schedule)
        self.progress = Progress(self._round())
        self._inner = RoundCallbacks(self._network.callback_list(settings.round_callbacks, {
            **self._params,
            "epochs": self._schedule.epochs_per_round or self._params["epochs"]}))
        for callback in settings.round_callbacks:
            if isinstance(callback, EarlyBird):
                callback.watch(self.search, self._is_last)
        self._inner.on_train_begin()
        if self._checkpointer is not None and found is not None:
            self.progress = self._checkpointer.restore(self.search, self._inner)
            if settings.rewind_step == 0 and not self.search.has_theta:
                self.search.take_theta()
            self._say(f"{settings.workdir}: {self._checkpointer.says(self._order.used)}")
        if found is None:
            notices.warn_if_trained(self.search)
        self._order.begin(found or 0)

    def _round(self) -> Round:
        # Of the level that begins, with what is left of the network's costs if the search ends by
        # them: measured once, since no latency is measured twice alike.
        target = self._settings.target
        return Round(self.search.level, self.search.density,
                     left=target.left(self._model) if target else {},
                     costs=self._costs())

    def _costs(self) -> dict[str, float]:
        try:
            return self.search.costs()
        except LotteryError:  # Examples whose shape is open until they come.
            return {}

    @property
    def round(self) -> Round:
        """The record of the round in training."""
        return self.progress.round

    @property
    def _finished(self) -> bool:
        return self.round.over and self._is_last()

    def _is_last(self) -> bool:
        return self.round.is_last(self._schedule.rounds, self._settings.target)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each trained level; between two fits also one for the level in training."""
        open_row = [self.round.row()] if self._ended and not self._closed else []
        return [*self.progress.rows, *open_row]

    @property
    def _closed(self) -> bool:
        return len(self.progress.rows) > self.round.level

    def is_continued_by(self, model: Any, params: Mapping[str, Any]) -> bool:
        """Goes on in another fit, if this search has ended in none and it can.

        A fit that was interrupted by an error or by the user is not gone on with: nobody knows
        what its last step did.  With a workdir, the fit itself says where a search is to go on.

        Args:
          model: the model of the new fit.
          params: the parameters of the new fit.

        Raises:
          LotteryError: if it can, but the model was given weights of another level since.
        """
        if not self._ended or self._finished or self._checkpointer is not None \
                or model is not self._model or self.round.diverged:
            return False
        self.search.check_trained()
        preflight.check_steps(self._network, self._schedule, self._settings.rewind_step,
                              params.get("steps"))
        self._params, self._first_of_fit = params, True
        self._order.begin(self._next_epoch or 0)
        return True

    def begin_epoch(self, epoch: int) -> None:
        """Handles the beginning of an epoch: saves the search, and begins a round if one is due."""
        # Keras sets the model's epochs and steps only after on_train_begin.
        if self._first_of_fit:
            self._begin_fit(epoch)
        epoch += self._shift
        self.search.training.compiled_as_before()
        self._batches, self._reported, self._thread = 0, [], threading.get_ident()
        self._order.begin(epoch)
        # Saved here and not in on_epoch_end, where callbacks after this one have yet to act.
        self._save(epoch)
        if self.round.over:
            self._next_round()
        with self._rate_of_round():
            self._inner.on_epoch_begin(self.round.epochs)

    def _begin_fit(self, epoch: int) -> None:
        # Keras counts the epochs of a further fit from 0 again, or from its initial_epoch.
        self._first_of_fit = False
        if self.progress.first_epoch is not None and self._next_epoch is None:
            return  # Its workdir gave the search back: Keras begins with the epoch that comes next.
        done = self._next_epoch or 0
        if self.progress.first_epoch is None:
            self.progress.first_epoch = done = epoch
            self._network.check_not_restored()
        self._shift = done - epoch
        preflight.check_epochs(self._schedule, self._params["epochs"] - epoch,
                               self._params.get("steps"), done - self.progress.first_epoch,
                               whole=self._checkpointer is not None)
        self._ended = False  # Only now: a fit that is refused leaves the search as it was.

    def begin_batch(self, batch: int) -> None:
        """Handles the beginning of a batch, or of the steps of one execution."""
        self._count(batch)
        # A round that is counted in steps may end within an epoch.
        if self.round.over:
            self._next_round()
            self._model.reset_metrics()
            self._inner.on_epoch_begin(0)
        self.search.check_begun()
        if batch == 0 or not self.round.steps:
            with self._rate_of_round():
                self._inner.on_train_batch_begin(batch)
            self._check_rate()
        elif self._inner.callbacks:
            self._inner.on_train_batch_begin(batch)

    def end_batch(self, batch: int, logs: Any) -> None:
        """Handles the end of a batch, or of the steps of one execution."""
        # With steps_per_execution, `batch` is the last of several that ran.
        if threading.get_ident() != self._thread:
            # Keras 3 reports from other threads, in any order, if all callbacks take that.
            self._reported.append(batch + 1)
            return
        self.round.loss = (logs or {}).get("loss")
        self._count(batch + 1)
        if self._inner.callbacks:  # Keras' models take long to set an attribute, every batch.
            with self._round_ends_on_request():
                self._inner.on_train_batch_end(batch, logs)
        self._end_round_if(self._schedule.round_over(steps=self.round.steps))

    def _count(self, batches: int) -> None:
        """Does what is due after a step, once this epoch has had so many batches."""
        # Keras 3 counts the last execution of an epoch as a whole one, though it ends early.
        batches = min(batches, self._params.get("steps") or batches)
        if batches <= self._batches:
            return
        self.round.steps += batches - self._batches
        self._batches = batches
        self.search.enforce()
        if not self.search.has_theta and self.round.steps >= self._settings.rewind_step:
            with self._divergence_recorded():
                self.search.take_theta()
        if self._checkpointer is not None:
            self._checkpointer.check()

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """Handles the end of an epoch, after its validation; adds level and density to its logs."""
        self._count(max(self._reported, default=0))
        logs.update(level=self.round.level, density=self.round.density)
        notices.keep_from_bar(self._model)
        self.round.end_epoch(logs)
        with self._round_ends_on_request(), self._rate_of_round():
            self._inner.on_epoch_end(self.round.epochs - 1, logs)
        if self.round.loss_not_finite and self.search.not_finite():
            # Weights that are NaN stay so.  The error is raised in `end`, when the other callbacks
            # have seen the epoch: a CSVLogger then has its row.
            self._model.stop_training = True
        self._end_round_if(self._schedule.round_over(self.round.steps, self.round.epochs))
        self._next_epoch = epoch + self._shift + 1
        # Keras makes the next epoch's iterator before it calls on_epoch_begin.
        self._order.begin(self._next_epoch)

    def end(self) -> None:
        """Handles the end of the fit.

        Raises:
          DivergedError: if the last round ended with a loss or weights that are not finite.
          LotteryError: if the model has not the masks of the last level, or the weights.
        """
        # An unfinished search stays as it was saved before its last epoch: with use_ema, Keras has
        # replaced the weights by their averages by now, and the epoch may have been cut short.
        if self._next_epoch is not None and self._finished and not self.round.loss_not_finite:
            self.search.check_trained()
            self._save(self._next_epoch)
        self._ended = True
        if self._finished or self._checkpointer is not None:
            self._close_round()
        else:  # Another fit may go on with this round.
            with self._divergence_recorded():
                self.search.check_finite(self.round.last_loss)
        if self._checkpointer is not None:
            self._checkpointer.finish(self.progress.rows)
        if self._finished:
            notices.warn_missed(self._settings.target, self.round)
            if self._next_epoch is not None:  # Not if all of it was done by an earlier process.
                self._say(f"{notices.ended_line(self.rows[-1])}; the search is finished")
        else:
            notices.warn_unfinished(self.round, self._schedule.rounds,
                                    self._checkpointer is not None)
        after_others(self._model, "on_train_end", self._check_left)

    def _check_left(self, logs: Any = None) -> None:
        # Other callbacks may put weights of an earlier level back as a fit ends, for good.
        try:
            self.search.check_trained()
        except LotteryError as error:
            if self._finished:
                raise
            # What is left of an unfinished search is its tickets; a fit that goes on is refused.
            warnings.warn(str(error), stacklevel=2)

    def test(self, hook: str, *arguments: Any) -> None:
        """Passes one of Keras' hooks for validation on to the round's callbacks."""
        if threading.get_ident() != self._thread:
            return  # None of them has this hook, or Keras would call it from its own thread.
        getattr(self._inner, hook)(*arguments)

    def close(self) -> None:
        """Unlocks the workdir of an interrupted fit; may be called more than once."""
        if self._checkpointer is not None:
            self._checkpointer.close()

    @contextlib.contextmanager
    def _round_ends_on_request(self) -> Iterator[None]:
        # model.stop_training, set by a round callback, ends its round and not the search.
        stopped, self._model.stop_training = self._model.stop_training, False
        yield
        asked, self._model.stop_training = self._model.stop_training, stopped
        self._end_round_if(asked)

    @contextlib.contextmanager
    def _rate_of_round(self) -> Iterator[None]:
        # A round callback may set the learning rate, as it may in a training of its own.
        if not self._inner.callbacks:
            yield
            return
        before = self._network.learning_rate()
        yield
        if self._network.learning_rate() != before:
            self.round.rates = None

    def _check_rate(self) -> None:
        rate = self._network.learning_rate()
        expected = self.round.rate_expected(rate, self._settings.rewind_step)
        if expected not in (None, rate) and not self._warned_of_rate:
            self._warned_of_rate = True
            notices.warn_of_rate(self.round, rate, expected)

    def _end_round_if(self, over: bool) -> None:
        if over and not self.round.over:
            self.round.end()
        if self._finished:
            self._model.stop_training = True

    def _close_round(self) -> None:
        self._inner.on_train_end()
        with self._divergence_recorded():
            self.search.check_finite(self.round.last_loss)
        self.progress.rows.append(self.round.row())

    @contextlib.contextmanager
    def _divergence_recorded(self) -> Iterator[None]:
        # The rows of the levels so far are written before the error ends the fit.
        try:
            yield
        except DivergedError:
            self.round.diverged = True
            self.progress.rows.append(self.round.row())
            if self._checkpointer is not None:
                try:
                    self._checkpointer.finish(self.progress.rows)
                except WorkdirError as error:
                    warnings.warn(str(error), stacklevel=2)
            raise

    def _next_round(self) -> None:
        # With use_ema the round's result are the averaged weights: prune by them.
        self._network.finalize()
        self._close_round()
        restored = self.search.prune_and_rewind(self.round.metrics())
        notices.note_rewound(self.search)
        self.progress.restored.append(restored)
        self.progress.round = dataclasses.replace(self._round(), rates=self.round.rates)
        under_bar = "\n" if self._batches and self._params.get("verbose") else ""  # Keras' bar.
        self._say(under_bar + notices.round_line(
            self.rows[-1], self.round, self._schedule.rounds, restored, self._settings.verbose))
        self._inner.on_train_begin()

    def _save(self, epoch: int) -> None:
        if self._checkpointer is not None:
            self._checkpointer.save(epoch, self.progress, self.search, self._inner)

    def _say(self, line: str) -> None:
        if self._settings.verbose:
            print(line)
