"""The callback: a whole search for winning tickets inside one `model.fit`.

A round ends with the batch or epoch that completes it, but the network is pruned and
rewound only when the next one begins.  In between, at the end of the batch and of the
epoch, validation and every other callback see the trained network of the round.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import tf_keras as keras

from lth_keras import criteria, plan, rewind
from lth_keras.errors import DivergedError, LotteryError
from lth_keras.fractions import Fraction
from lth_keras.prune import Scope
from lth_keras.rewind import Restored
from lth_keras.rounds import Round
from lth_keras.schedule import LotteryTicketSchedule
from lth_keras.search import Search
from lth_keras.ticket import Ticket
from lth_keras.weights import wrappers
from lth_keras.wrapper import MaskedLayer


class LotteryTicketCallback(keras.callbacks.Callback):
    """Trains, prunes, rewinds and repeats, within one `model.fit`.

    Level 0 trains the network as it is; after each of `rounds` rounds the lowest scores
    are pruned and everything else goes back to theta_k; level `rounds` is trained last.
    On a model that is pruned already, level 0 has the density that it has.
    What a rewinding restores is listed in `lth_keras.rewind` and kept in `restored`.
    List the callback before CSVLogger and TensorBoard, so that they log level and density.

    Args:
      schedule: a LotteryTicketSchedule; or give its parts instead:
      rounds, epochs_per_round, steps_per_round, fraction: see LotteryTicketSchedule.
      rewind_step: k of theta_k, in optimizer steps of level 0, >= 0.  Later rounds start
        with the state of step k and train for a whole round from there.
      scope: "layer" compares scores within each weight, "global" over all weights that share
        a fraction.
      criterion: "magnitude", "random" or a function (initial, final, rng) -> scores.
      round_callbacks: Keras callbacks that see every round as a training of its own:
        EarlyStopping ends the round, LearningRateScheduler counts from its start.
      seed: for criteria that draw.
      check: whether to verify, at every batch, that pruned weights are zero, and at every
        rewinding that masks are nested and survivors equal theta_k.  Costs a copy of the
        weights a batch.
      verbose: 0 for silence, 1 for a line a round.
      provenance: facts for the tickets, such as {"dataset": "mnist"}; JSON values.

    Attributes:
      results: a pandas DataFrame, a row a level: level, density, steps, epochs, seconds,
        early_stop_step (step of minimum validation loss, at the end of an epoch),
        val_loss_min, diverged, and the last epoch's metrics.  Steps count from the round's
        start, epochs are those that ended in it; a round without an epoch's end has no metrics.
      ticket: the sparsest ticket found so far; `tickets` has those of all levels.
      restored: what each rewinding restored.
      epochs: what to pass to `fit`, where rounds are counted in epochs.

    Raises:
      LotteryError: before any training, for settings that cannot work together.
      DivergedError: in `fit`, when a round ends with a loss or weights that are not finite.
        Its row of `results` has `diverged`, and `tickets` are those of the levels so far.

    Example:
      >>> import numpy as np
      >>> import tf_keras as keras
      >>> from lth_keras import prune_low_magnitude
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(10), keras.layers.Dense(1)]))
      >>> model.compile("adam", "mse")
      >>> lottery = LotteryTicketCallback(rounds=2, epochs_per_round=1, verbose=0)
      >>> history = model.fit(np.ones((8, 4)), np.ones(8), epochs=lottery.epochs,
      ...                     callbacks=[lottery], verbose=0)
      >>> lottery.results.density.round(2).tolist()
      [1.0, 0.8, 0.64]

    Reference: Frankle & Carbin, ICLR 2019, section 1; arXiv:1903.01611 for rewind_step > 0.
    """

    def __init__(self, schedule: LotteryTicketSchedule | None = None, *,
                 rounds: int | None = None, epochs_per_round: int | None = None,
                 steps_per_round: int | None = None, fraction: Fraction | None = None,
                 rewind_step: int = 0, scope: Scope = "layer",
                 criterion: "str | criteria.Criterion" = "magnitude",
                 round_callbacks: Sequence[Any] = (), seed: int = 0, check: bool = False,
                 verbose: int = 1, provenance: Mapping[str, Any] | None = None):
        super().__init__()
        self.schedule = plan.schedule_of(schedule, {
            "rounds": rounds, "epochs_per_round": epochs_per_round,
            "steps_per_round": steps_per_round, "fraction": fraction})
        plan.check_options(rewind_step, scope, criterion)
        self.rewind_step = rewind_step
        self.round_callbacks = list(round_callbacks)
        self.verbose = verbose
        self._options: dict[str, Any] = {"scope": scope, "criterion": criterion, "seed": seed,
                                         "check": check}
        self._facts = dict(provenance or {})
        self._supports_tf_logs = True  # Batch logs are not read, so need not be copied.
        self._forget()

    def _forget(self) -> None:
        self.restored: list[Restored] = []
        self._rows: list[dict[str, Any]] = []
        self._search: Search | None = None
        self._inner = keras.callbacks.CallbackList()
        self._round = Round(0, 1.0)
        self._first_epoch: int | None = None
        self._batches = 0  # Of this epoch.

    @property
    def epochs(self) -> int:
        """The epochs of the whole search: (rounds + 1) x epochs_per_round."""
        if self.schedule.epochs_per_round is None:
            raise LotteryError("Where rounds are counted in steps, the epochs depend on the data: "
                               "use lottery.epochs_for(steps_per_epoch). Received: "
                               f"{self.schedule!r}.")
        return self.epochs_for(1)

    def epochs_for(self, steps_per_epoch: int) -> int:
        """The epochs of the whole search on data of this many batches."""
        needed = plan.epochs_needed(self.schedule, steps_per_epoch)
        assert needed is not None
        return needed

    @property
    def results(self) -> pd.DataFrame:
        """A row a level that has been trained."""
        return pd.DataFrame(self._rows)

    @property
    def tickets(self) -> list[Ticket]:
        """The tickets of level 0, 1, ... as far as the search has come."""
        return self._search.tickets if self._search else []

    @property
    def ticket(self) -> Ticket:
        """The ticket of the highest level reached: theta_k and its mask."""
        if not self.tickets:
            raise LotteryError("There is a ticket once training has reached rewind_step. "
                               "Received: a callback whose fit has not come so far.")
        return self.tickets[-1]

    # Keras' hooks, in the order of a training.

    def on_train_begin(self, logs: Any = None) -> None:
        self._forget()
        plan.check_model(self.model, self.schedule)
        plan.check_steps(self.model, self.schedule, self.rewind_step, self.params.get("steps"))
        facts = {"schedule": self.schedule.get_config()["config"],
                 "rewind_step": self.rewind_step, **self._facts}
        self._search = Search(self.model, fraction=self.schedule.fraction, facts=facts,
                              take_theta=self.rewind_step == 0, **self._options)
        for wrapper in wrappers(self.model):
            if not isinstance(wrapper, MaskedLayer):
                # Past its schedule's last step, tfmot's wrapper leaves the pruning to us.
                wrapper.pruning_step.assign(self.schedule.last_step)
        self._round = Round(0, self._search.density)
        self._inner = keras.callbacks.CallbackList(
            self.round_callbacks, model=self.model, add_history=False, add_progbar=False,
            **{**self.params, "epochs": self.schedule.epochs_per_round or self.params["epochs"]})
        self._inner.on_train_begin()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._first_epoch is None:
            self._first_epoch = epoch
            plan.check_not_restored(self.model)
            plan.check_epochs(self.schedule, self.params["epochs"] - epoch,
                              self.params.get("steps"))
        self._batches = 0
        if self._round.over:
            self._next_round()
        self._inner.on_epoch_begin(self._round.epochs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._round.over:
            self._next_round()
            self.model.reset_metrics()
            self._inner.on_epoch_begin(0)
        self._inner.on_train_batch_begin(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert self._search is not None
        self._round.steps += batch + 1 - self._batches
        self._batches = batch + 1
        self._round.loss = (logs or {}).get("loss")
        self._search.enforce()
        if not self._search.has_theta and self._round.steps >= self.rewind_step:
            with self._divergence_recorded():
                self._search.take_theta()
        with self._round_ends_on_request():
            self._inner.on_train_batch_end(batch, logs)
        self._end_round_if(self.schedule.round_over(steps=self._round.steps))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert self._search is not None
        logs = {} if logs is None else logs
        logs.update(level=self._round.level, density=self._round.density)
        self._round.end_epoch(logs)
        with self._round_ends_on_request():
            self._inner.on_epoch_end(self._round.epochs - 1, logs)
        if self._round.lost and self._search.not_finite():
            # No step mends it.  The error comes when the other callbacks have finished.
            self.model.stop_training = True
        self._end_round_if(self.schedule.round_over(self._round.steps, self._round.epochs))

    def on_train_end(self, logs: Any = None) -> None:
        self._close_round()
        if self._round.level < self.schedule.rounds or not self._round.over:
            warnings.warn(f"fit ended before the search did: at level {self._round.level} of "
                          f"{self.schedule.rounds}, after {self._round.steps} steps of its round. "
                          "A callback that is to end a round alone belongs in round_callbacks.",
                          stacklevel=2)

    def on_test_begin(self, logs: Any = None) -> None:
        self._inner.on_test_begin(logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._inner.on_test_batch_begin(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._inner.on_test_batch_end(batch, logs)

    def on_test_end(self, logs: Any = None) -> None:
        self._inner.on_test_end(logs)

    # Rounds.

    @contextlib.contextmanager
    def _round_ends_on_request(self) -> Iterator[None]:
        # A round callback that stops "the training" stops its round, not the search.
        stopped, self.model.stop_training = self.model.stop_training, False
        yield
        asked, self.model.stop_training = self.model.stop_training, stopped
        self._end_round_if(asked)

    def _end_round_if(self, over: bool) -> None:
        self._round.over = self._round.over or over
        if self._round.over and self._round.level == self.schedule.rounds:
            self.model.stop_training = True

    def _close_round(self) -> None:
        assert self._search is not None
        self._inner.on_train_end()
        with self._divergence_recorded():
            self._search.check_finite(self._round.loss)
        self._rows.append(self._round.row())

    @contextlib.contextmanager
    def _divergence_recorded(self) -> Iterator[None]:
        try:
            yield
        except DivergedError:
            self._round.diverged = True
            self._rows.append(self._round.row())
            raise

    def _next_round(self) -> None:
        assert self._search is not None
        rewind.finalize(self.model)
        self._close_round()
        restored = self._search.prune_and_rewind(self._round.metrics())
        self.restored.append(restored)
        self._round = Round(self._search.level, self._search.density)
        if self.verbose:
            under_bar = "\n" if self._batches and self.params.get("verbose") else ""
            print(f"{under_bar}level {self._round.level}, density {self._round.density:.2%}: "
                  f"{restored}")
        self._inner.on_train_begin()
