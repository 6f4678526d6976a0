"""A search within one `fit`: how its rounds begin, end and follow each other.

A round ends with the batch or epoch that completes it, but the network is pruned and
rewound only when the next one begins.  In between, at the end of the batch and of the
epoch, validation and every other callback see the trained network of the round.
"""

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lth_keras.core import criteria
from lth_keras.core.pruning import Scope
from lth_keras.errors import DivergedError, WorkdirError
from lth_keras.keras2 import rewinding
from lth_keras.keras2.fit import preflight
from lth_keras.keras2.fit.checkpointer import Checkpointer
from lth_keras.keras2.fit.data_order import DataOrder
from lth_keras.keras2.fit.round_callbacks import RoundCallbacks
from lth_keras.keras2.fit.round_record import Progress, Round
from lth_keras.keras2.masking.masked_layer import MaskedLayer
from lth_keras.keras2.masking.schedule import LotteryTicketSchedule
from lth_keras.keras2.masking.weight_names import wrappers
from lth_keras.keras2.search import Search


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """What a search in `fit` was asked for; see LotteryTicketCallback."""

    schedule: LotteryTicketSchedule
    rewind_step: int
    scope: Scope
    criterion: criteria.CriterionLike
    seed: int
    check: bool
    verbose: int
    facts: Mapping[str, Any]
    round_callbacks: Sequence[Any]
    workdir: "str | os.PathLike[str] | None"
    scoring_data: Any

    @property
    def provenance(self) -> dict[str, Any]:
        """The facts for the tickets."""
        return {"schedule": self.schedule.get_config()["config"],
                "rewind_step": self.rewind_step, **self.facts}

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this search and no other: JSON values."""
        return {**self.provenance, "scope": self.scope, "seed": self.seed,
                "criterion": criteria.name_of(self.criterion),
                "round_callbacks": [type(item).__name__ for item in self.round_callbacks]}


class FitSearch:
    """A search in one `fit`, from its first batch to its last.

    Args:
      asked: what the search was asked for.
      model: the model of the fit, wrapped, built and compiled.
      params: what Keras tells callbacks of the fit.
      order: the order of the data, if the user takes it from us.

    Attributes:
      progress: how far it has come.
      search: its masks, theta_k and tickets.

    Raises:
      LotteryError: for settings that cannot work together, before anything is changed.
    """

    def __init__(self, asked: SearchSettings, model: Any, params: Mapping[str, Any],
                 order: DataOrder):
        preflight.check_model(model, asked.schedule)
        preflight.check_steps(model, asked.schedule, asked.rewind_step, params.get("steps"))
        self._asked, self._model, self._params, self._order = asked, model, params, order
        self._schedule = asked.schedule
        self._checkpointer = None if asked.workdir is None else \
            Checkpointer(asked.workdir, model, asked.identity, params["epochs"])
        self._batches = 0  # Of this epoch.
        self._next_epoch: int | None = None  # Once one has ended.
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        asked, model = self._asked, self._model
        found = self._checkpointer and self._checkpointer.epoch
        self.search = Search(
            model, fraction=self._schedule.fraction, scope=asked.scope, criterion=asked.criterion,
            seed=asked.seed, check=asked.check, facts=asked.provenance,
            take_theta=asked.rewind_step == 0 and found is None, rounds=self._schedule.rounds,
            scoring_data=asked.scoring_data)
        for wrapper in wrappers(model):
            if not isinstance(wrapper, MaskedLayer):
                # Past its schedule's last step, tfmot's wrapper leaves the pruning to us.
                wrapper.pruning_step.assign(self._schedule.last_step)
        self.progress = Progress(Round(0, self.search.density))
        self._inner = RoundCallbacks(asked.round_callbacks, model, {
            **self._params,
            "epochs": self._schedule.epochs_per_round or self._params["epochs"]})
        self._inner.on_train_begin()
        if self._checkpointer is not None and found is not None:
            self.progress = self._checkpointer.restore(self.search, self._inner,
                                                       self._schedule.rounds)
            if asked.rewind_step == 0 and not self.search.has_theta:
                self.search.take_theta()
            self._say(f"{asked.workdir}: {self._checkpointer.says(self._order.used)}")
        self._order.begin(found or 0)

    @property
    def round(self) -> Round:
        """The record of the round in training."""
        return self.progress.round

    @property
    def _finished(self) -> bool:
        return self.round.over and self.round.level == self._schedule.rounds

    def begin_epoch(self, epoch: int) -> None:
        """At the beginning of an epoch."""
        if self.progress.first_epoch is None:
            self.progress.first_epoch = epoch
            preflight.check_not_restored(self._model)
            preflight.check_epochs(self._schedule, self._params["epochs"] - epoch,
                              self._params.get("steps"))
        self._batches = 0
        self._order.begin(epoch)
        # Only now have all callbacks done with the last epoch.
        self._save(epoch)
        if self.round.over:
            self._next_round()
        self._inner.on_epoch_begin(self.round.epochs)

    def begin_batch(self, batch: int) -> None:
        """At the beginning of a batch, or of several that run together."""
        if self.round.over:
            self._next_round()
            self._model.reset_metrics()
            self._inner.on_epoch_begin(0)
        self._inner.on_train_batch_begin(batch)

    def end_batch(self, batch: int, logs: Any) -> None:
        """At the end of a batch, or of the last of several that ran together."""
        self.round.steps += batch + 1 - self._batches
        self._batches = batch + 1
        self.round.loss = (logs or {}).get("loss")
        self.search.enforce()
        if not self.search.has_theta and self.round.steps >= self._asked.rewind_step:
            with self._divergence_recorded():
                self.search.take_theta()
        with self._round_ends_on_request():
            self._inner.on_train_batch_end(batch, logs)
        self._end_round_if(self._schedule.round_over(steps=self.round.steps))
        if self._checkpointer is not None:
            self._checkpointer.check()

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """At the end of an epoch, validation included; adds to its logs."""
        logs.update(level=self.round.level, density=self.round.density)
        self.round.end_epoch(logs)
        with self._round_ends_on_request():
            self._inner.on_epoch_end(self.round.epochs - 1, logs)
        if self.round.loss_not_finite and self.search.not_finite():
            # No step mends it.  The error comes when the other callbacks have finished.
            self._model.stop_training = True
        self._end_round_if(self._schedule.round_over(self.round.steps, self.round.epochs))
        self._next_epoch = epoch + 1
        # Keras makes the next iterator before the next hook.
        self._order.begin(self._next_epoch)

    def end(self) -> None:
        """At the end of the fit."""
        # Otherwise what was saved before the last epoch stands: Keras has put averages in now,
        # and an epoch may have been cut short.
        if self._next_epoch is not None and self._finished and not self.round.loss_not_finite:
            self._save(self._next_epoch)
        self._close_round()
        if self._checkpointer is not None:
            self._checkpointer.finish(self.progress.rows)
        if not self._finished:
            warnings.warn(f"fit ended before the search did: at level {self.round.level} of "
                          f"{self._schedule.rounds}, after {self.round.steps} steps of its round. "
                          "A callback that is to end a round alone belongs in round_callbacks.",
                          stacklevel=3)

    def test(self, hook: str, *arguments: Any) -> None:
        """One of Keras' hooks for validation, for the round's callbacks."""
        getattr(self._inner, hook)(*arguments)

    def close(self) -> None:
        """Lets the workdir go, if the fit was interrupted; twice is harmless."""
        if self._checkpointer is not None:
            self._checkpointer.close()

    @contextlib.contextmanager
    def _round_ends_on_request(self) -> Iterator[None]:
        # A round callback that stops "the training" stops its round, not the search.
        stopped, self._model.stop_training = self._model.stop_training, False
        yield
        asked, self._model.stop_training = self._model.stop_training, stopped
        self._end_round_if(asked)

    def _end_round_if(self, over: bool) -> None:
        if over and not self.round.over:
            self.round.end()
        if self._finished:
            self._model.stop_training = True

    def _close_round(self) -> None:
        self._inner.on_train_end()
        with self._divergence_recorded():
            self.search.check_finite(self.round.loss)
        self.progress.rows.append(self.round.row())

    @contextlib.contextmanager
    def _divergence_recorded(self) -> Iterator[None]:
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
        rewinding.finalize(self._model)
        self._close_round()
        restored = self.search.prune_and_rewind(self.round.metrics())
        self.progress.restored.append(restored)
        self.progress.round = Round(self.search.level, self.search.density)
        under_bar = "\n" if self._batches and self._params.get("verbose") else ""
        self._say(f"{under_bar}level {self.round.level}, density {self.round.density:.2%}: "
                  f"{restored}")
        self._inner.on_train_begin()

    def _save(self, epoch: int) -> None:
        if self._checkpointer is not None:
            self._checkpointer.save(epoch, self.progress, self.search, self._inner)

    def _say(self, line: str) -> None:
        if self._asked.verbose:
            print(line)
