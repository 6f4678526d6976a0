"""The callback: a whole search for winning tickets inside one `model.fit`."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import tf_keras as keras

from lth_keras.core import criteria
from lth_keras.core.fractions import Fraction
from lth_keras.core.pruning import Scope
from lth_keras.errors import LotteryError
from lth_keras.files.json_checks import as_json
from lth_keras.files.ticket import Ticket
from lth_keras.keras2.fit import model_identity, preflight
from lth_keras.keras2.fit.data_order import DataOrder
from lth_keras.keras2.fit.fit_search import FitSearch, SearchSettings
from lth_keras.keras2.masking.schedule import LotteryTicketSchedule
from lth_keras.keras2.rewinding import Restored


class LotteryTicketCallback(keras.callbacks.Callback):
    """Trains, prunes, rewinds and repeats, within one `model.fit`.

    Level 0 trains the network as it is; after each of `rounds` rounds the lowest scores
    are pruned and everything else goes back to theta_k; level `rounds` is trained last.
    On a model that is pruned already, level 0 has the density that it has.
    A model that was wrapped with `block_size`, `sparsity_m_by_n` or `structure` is pruned in that
    structure: `fraction` is then one of blocks, or says by 0 what stays dense (`core.structures`).
    What a rewinding restores is listed in `keras2.rewinding` and kept in `restored`.
    List the callback before CSVLogger and TensorBoard, so that they log level and density.

    Args:
      schedule: a LotteryTicketSchedule; or give its parts instead:
      rounds, epochs_per_round, steps_per_round, fraction: see LotteryTicketSchedule.
      rewind_step: k of theta_k, in optimizer steps of level 0, >= 0.  Later rounds start
        with the state of step k and train for a whole round from there.
      scope: "layer" compares scores within each weight, "global" over all weights that share
        a fraction.
      criterion: "magnitude", "random", "taylor" or a function (initial, final, rng) -> scores;
        see `core.criteria`.
      round_callbacks: Keras callbacks that see every round as a training of its own:
        EarlyStopping ends the round, LearningRateScheduler counts from its start.
      seed: for criteria that draw.
      check: whether to verify, at every batch, that pruned weights are zero, and at every
        rewinding that masks are nested and survivors equal theta_k.  Costs a copy of the
        weights a batch.
      verbose: 0 for silence, 1 for a line a round.
      provenance: facts for the tickets, such as {"dataset": "mnist"}; JSON values.
      workdir: a folder in which the search is kept after every epoch, in the background.  A fit
        that was killed goes on from there when the same script runs again, and ends in the same
        bits where the data's order is a function of seed and epoch; see docs/resuming.md.
      scoring_data: for criteria that need a gradient: (x, y), (x, y, sample_weight) or a finite
        tf.data.Dataset of such batches, such as a part of the training data.

    Attributes:
      results: a pandas DataFrame, a row a level: level, density, steps, epochs, seconds,
        early_stop_step (step of minimum validation loss, at the end of an epoch),
        val_loss_min, diverged, and the last epoch's metrics.  Steps count from the round's
        start, epochs are those that ended in it; a round without an epoch's end has no metrics.
      ticket: the sparsest ticket found so far; `tickets` has those of all levels.
      restored: what each rewinding restored.
      epochs: what to pass to `fit`, where rounds are counted in epochs.
      order: makes data sets whose order is a function of seed and epoch, for `fit`:
        `lottery.order.batches(x, y, batch_size=64)`; see `keras2.fit.data_order`.

    After the fit, `report()` writes a page with tables, pictures and the verdict.

    Raises:
      LotteryError: before any training, for settings that cannot work together.
      WorkdirError: for a workdir in use, of other settings, damaged, or that cannot be written;
        it names the file.
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
                 criterion: criteria.CriterionLike = "magnitude",
                 round_callbacks: Sequence[Any] = (), seed: int = 0, check: bool = False,
                 verbose: int = 1, provenance: Mapping[str, Any] | None = None,
                 workdir: "str | os.PathLike[str] | None" = None, scoring_data: Any = None):
        super().__init__()
        self.schedule = preflight.schedule_of(schedule, {
            "rounds": rounds, "epochs_per_round": epochs_per_round,
            "steps_per_round": steps_per_round, "fraction": fraction})
        preflight.check_options(rewind_step, scope, criterion, scoring_data)
        self.rewind_step = rewind_step
        self.workdir = workdir
        self.order = DataOrder(seed)
        self._asked = SearchSettings(self.schedule, rewind_step, scope, criterion, seed, check,
                                     verbose,
                            dict(provenance or {}), tuple(round_callbacks), workdir, scoring_data)
        self._fit_search: FitSearch | None = None
        self._history: Any = None
        self._supports_tf_logs = True  # Batch logs are not read, so need not be copied.

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
        needed = preflight.epochs_needed(self.schedule, steps_per_epoch)
        assert needed is not None
        return needed

    @property
    def results(self) -> pd.DataFrame:
        """A row a level that has been trained."""
        return pd.DataFrame(self._fit_search.progress.rows if self._fit_search else [])

    @property
    def tickets(self) -> list[Ticket]:
        """The tickets of level 0, 1, ... as far as the search has come."""
        return self._fit_search.search.tickets if self._fit_search else []

    @property
    def ticket(self) -> Ticket:
        """The ticket of the highest level reached: theta_k and its mask."""
        if not self.tickets:
            raise LotteryError("There is a ticket once training has reached rewind_step. "
                               "Received: a callback whose fit has not come so far.")
        return self.tickets[-1]

    @property
    def restored(self) -> list[Restored]:
        """What each rewinding restored."""
        return self._fit_search.progress.restored if self._fit_search else []

    def report(self, out: "str | os.PathLike[str] | None" = None) -> pathlib.Path:
        """Writes the report of the search: a page with tables, pictures and the verdict.

        It is the page that `lth report WORKDIR` writes, also of a search without a workdir, and of
        one that was interrupted.  A fit trains no re-initialised control, so the page compares
        the levels with the dense network and says that it cannot tell which of them win.

        Args:
          out: folder for the page, its pictures and results.csv; by default plots in the workdir,
            or report if there is none.

        Returns:
          Where the page is; it needs no other file.

        Raises:
          LotteryError: if no level is trained yet.
          OSError: if a file cannot be written.

        Example:
          lottery.report("report")  # After `fit`: report/report.html
        """
        if self._fit_search is None:
            raise LotteryError("A report needs a level that is trained. Received: a callback "
                               "before its fit.")
        import lth_keras  # Which knows where the reports are; this package is below them.
        versions = dict(sorted(self.tickets[0].provenance["versions"].items())) \
            if self.tickets else {}
        path: pathlib.Path = lth_keras.report_search({
            "settings": as_json({**self._asked.identity, **model_identity.of(self.model)}),
            "rows": self._fit_search.progress.rows,
            "history": getattr(self._history, "history", {}),
            "versions": versions}, self.workdir, out)
        return path

    # Keras' hooks, in the order of a training.

    def on_train_begin(self, logs: Any = None) -> None:
        if self._fit_search is not None:  # A fit that may have been interrupted.
            self._fit_search.close()
        self._fit_search = None
        self._history = getattr(self.model, "history", None)  # Each fit has its own.
        self._fit_search = FitSearch(self._asked, self.model, self.params, self.order)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._running.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._running.begin_batch(batch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._running.end_batch(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._running.end_epoch(epoch, {} if logs is None else logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._running.end()

    def on_test_begin(self, logs: Any = None) -> None:
        self._test("on_test_begin", logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._test("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._test("on_test_batch_end", batch, logs)

    def on_test_end(self, logs: Any = None) -> None:
        self._test("on_test_end", logs)

    @property
    def _running(self) -> FitSearch:
        assert self._fit_search is not None
        return self._fit_search

    def _test(self, hook: str, *arguments: Any) -> None:
        if self._fit_search is not None:  # It may be `evaluate`, before any fit.
            self._fit_search.test(hook, *arguments)
