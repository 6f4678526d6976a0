"""`lth.LotteryTicketCallback`: a whole search for winning tickets in one `model.fit`."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lth_keras import notebook, providers
from lth_keras.arguments import check_whole, given
from lth_keras.core import criteria
from lth_keras.core.best_level import judged_by, sparsest_as_good
from lth_keras.core.fractions import Fraction
from lth_keras.core.pruning import Scope
from lth_keras.errors import LotteryError
from lth_keras.files.engines import engine_of
from lth_keras.files.json_checks import as_json
from lth_keras.files.ticket import Ticket
from lth_keras.search.fit import notices, preflight
from lth_keras.search.fit.data_order import DataOrder
from lth_keras.search.fit.fit_search import FitSearch
from lth_keras.search.fit.hooks import Hooks
from lth_keras.search.fit.round_record import gains, shown
from lth_keras.search.network import network_of, Restored
from lth_keras.search.rounds import Rounds
from lth_keras.search.target import Target


@dataclasses.dataclass(frozen=True)
class _Found:
    """What a search has found so far, as plain data."""

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    tickets: list[Ticket] = dataclasses.field(default_factory=list)
    restored: list[Restored] = dataclasses.field(default_factory=list)
    settings: Any = None
    history: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class LotteryTicketCallback(Hooks):
    """Trains, prunes and rewinds a model level by level, within one `model.fit`.

    Level 0 trains the dense network.  After each of `rounds` rounds the weights with the lowest
    scores are pruned, and the model is rewound to theta_k, its state at step `rewind_step`.  The
    last level, `rounds`, is trained and not pruned.  If the model is already pruned, level 0
    starts at its density.

    If the model was wrapped with `block_size`, `sparsity_m_by_n` or `structure`, it is pruned in
    that structure.  `fraction` is then a fraction of blocks or filters, or 0 for the layers to keep
    dense (`core.structures`).  `keras2.rewinding` lists what rewinding restores; `restored` holds
    what it restored.  List this callback before CSVLogger and TensorBoard, so that they log level
    and density, and after what sets weights as an epoch begins, such as SwapEMAWeights.

    Args:
      schedule: a LotteryTicketSchedule. Alternatively, give its parts:
      rounds, epochs_per_round, steps_per_round, fraction: see LotteryTicketSchedule.
      rewind_step: k of theta_k, an optimizer step of level 0, >= 0.  Later rounds start from
        theta_k and train for a whole round.
      scope: "layer" compares scores within each weight, "global" among all weights with the same
        fraction.
      criterion: "magnitude", "random", "taylor" or a function (initial, final, rng) -> scores;
        see `core.criteria`.  Where filters are pruned also "l1", "l2", "batch_norm_scale",
        "activation" and one of your own; see `core.unit_criteria`.
      multiple_of: where filters are pruned, a layer that loses some keeps a multiple of this
        number, at most as many as `fraction` leaves and at least one multiple.  With 8, the time
        of most runtimes falls with the filters: their kernels work on so many channels together,
        so that 11 of 16 filters take as long as 16.
      round_callbacks: Keras callbacks to which every round looks like a training of its own:
        EarlyStopping ends the round, LearningRateScheduler counts from the round's start.
      seed: the seed of criteria that draw random numbers, and of `order`.
      check: whether to verify after every batch that pruned weights are zero and their optimizer
        slots fresh, and at every rewinding that masks are nested and survivors equal theta_k.
        Costs a copy of the weights and slots in each batch.
      verbose: 0 prints nothing; 1 prints a line for each round, with its level, what is left of
        the weights and how the level before it ended, and, where filters are pruned, one that says
        which layers keep all of theirs and why; 2 adds to each line what rewinding has restored.
      provenance: facts to store in the tickets, such as {"dataset": "mnist"}; JSON values.
      workdir: a folder to which the search is saved after every epoch, in the background.  If the
        fit is killed, running the same script again resumes it.  The result is the same bit for
        bit if the order of the data depends only on seed and epoch; see docs/resuming.md.
      scoring_data: data for criteria that need a gradient or activations: (x, y), (x, y,
        sample_weight) or a finite tf.data.Dataset of such batches, such as a part of the training
        data; for a Keras 3 model also a keras.utils.PyDataset or a torch DataLoader.
      include, exclude: for a Keras 3 model, names, types or functions of layers to prune although
        they are left out by default, and to keep dense.  A model of tf_keras is told so when it
        is wrapped.
      structure: for a Keras 3 model, the word of a structure, such as "2:4"; see
        `core.structures`.  "filters" prunes whole filters and units with all that hangs on
        them, so that `lth.compact` makes a smaller network of the same predictions; `fraction` is
        then the share of the remaining filters, and may be a list by stage; see `core.fractions`.
      until: shares of the dense network's costs, such as {"macs": 0.5} or {"parameters": 0.2}: the
        first level at which no more is left is the last one, and `fit` ends with it.  `rounds` is
        then the most that there are.  "macs", "parameters" and "weights" are `lth.profile`'s;
        "bytes" and "latency", of models whose filters are pruned, those of a TF Lite file that
        is made at each level and run here, with ai-edge-litert.

    Attributes:
      results: a pandas DataFrame with one row for each level: level, density, steps, epochs,
        seconds, early_stop_step (the step of minimum validation loss, at the end of an epoch),
        val_loss_min, validated_step (of the last validation), diverged, the last epoch's metrics
        (none if no epoch ended), of filters macs_left, parameters, macs.  Steps are the round's.
      best: the ticket of the sparsest level that is as accurate as the dense network.
      ticket: the sparsest ticket found so far; `tickets` has those of all levels.
      restored: what each rewinding restored.
      epochs: the number of epochs to pass to `fit`, if rounds are counted in epochs.
      order: makes data sets for `fit` whose order depends only on seed and epoch:
        `lottery.order.batches(x, y, batch_size=64)`; see
        `search.fit.data_order`.

    After the fit, `report()` writes a page with tables, figures and the verdict.

    Raises:
      LotteryError: before any training, if settings cannot work together, or one is tfmot's.
      WorkdirError: if the workdir is in use, damaged, cannot be written, or has other settings;
        the message names the file.
      DivergedError: in `fit`, if a round ends with a loss or weights that are not finite.  Its row
        of `results` has `diverged`; `tickets` keeps the tickets of the levels so far.

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

    def __init__(self, schedule: Rounds | None = None, *,
                 rounds: int | None = None, epochs_per_round: int | None = None,
                 steps_per_round: int | None = None, fraction: Fraction | None = None,
                 rewind_step: int = 0, scope: Scope = "layer",
                 criterion: criteria.CriterionLike = "magnitude",
                 round_callbacks: Sequence[Any] = (), seed: int = 0, check: bool = False,
                 verbose: int = 1, provenance: Mapping[str, Any] | None = None,
                 workdir: "str | os.PathLike[str] | None" = None, scoring_data: Any = None,
                 include: Any = None, exclude: Any = None, structure: str | None = None,
                 until: "Mapping[str, float] | None" = None, multiple_of: int = 1, **others: Any):
        preflight.refuse_tfmots(others, rounds)
        if others:
            raise TypeError(f"LotteryTicketCallback has no argument {next(iter(others))!r}")
        # Checked here as far as possible without a model; the rest when `fit` begins.
        self.schedule = preflight.schedule_of(schedule, {
            "rounds": rounds, "epochs_per_round": epochs_per_round,
            "steps_per_round": steps_per_round, "fraction": fraction})
        preflight.check_options(rewind_step, scope, criterion, scoring_data)
        if any(isinstance(callback, LotteryTicketCallback) for callback in round_callbacks):
            raise LotteryError("round_callbacks see a round as a training of its own, which holds "
                               "no search. Received: a LotteryTicketCallback among them.")
        self.rewind_step = rewind_step
        self.workdir = workdir
        self.order = DataOrder(seed)
        self._settings = preflight.SearchSettings(
            self.schedule, rewind_step, scope, criterion, seed, check, verbose,
            dict(provenance or {}), tuple(round_callbacks), workdir, scoring_data,
            given(include=include, exclude=exclude, structure=structure), Target.of(until),
            check_whole("multiple_of", multiple_of, 1))
        self._fit_search: FitSearch | None = None
        self._kept = _Found()
        self._histories: list[Any] = []  # Each fit has its own.

    @property
    def epochs(self) -> int:
        """The epochs of the whole search: (rounds + 1) x epochs_per_round."""
        if self.schedule.epochs_per_round is None:
            raise LotteryError("If rounds are counted in steps, the number of epochs depends on "
                               f"the data. Received: {self.schedule!r}. Use "
                               "lottery.epochs_for(steps_per_epoch).")
        return self.epochs_for(1)

    def epochs_for(self, steps_per_epoch: int) -> int:
        """Returns the number of epochs of the whole search.

        Args:
          steps_per_epoch: the number of batches in an epoch, >= 1.

        Example:
          >>> LotteryTicketCallback(rounds=2, steps_per_round=100).epochs_for(50)
          6
        """
        # With the steps known, the number of epochs always is.
        needed = preflight.epochs_needed(self.schedule, steps_per_epoch)
        assert needed is not None
        return needed

    @property
    def results(self) -> pd.DataFrame:
        """A row for each level that has been trained."""
        return pd.DataFrame(self._found.rows)

    @property
    def tickets(self) -> list[Ticket]:
        """The tickets of levels 0, 1, ... that have been found so far."""
        return self._found.tickets

    @property
    def ticket(self) -> Ticket:
        """The ticket of the highest level reached: theta_k and its mask."""
        if not self.tickets:
            raise LotteryError("A search has a ticket once its training has reached rewind_step. "
                               "Received: a callback whose fit has not reached it.")
        return self.tickets[-1]

    @property
    def best(self) -> Ticket:
        """The ticket to take: of the sparsest level that is as accurate as the dense network.

        A level counts if, at the last epoch of its round that was validated, its accuracy is at
        least that of level 0; without a metric of accuracy, and in a model with several outputs,
        if `val_loss` is at most that of level 0.  repr(lottery) says which it is.  If none counts,
        it is the ticket of level 0.  `lth export --level best` chooses by the same rule.

            lottery.best.save("winner.ticket")
            lottery.results.loc[lottery.best.level]      # Its row.

        Raises:
          LotteryError: if `fit` was given no validation data, or level 0 is not trained yet.
        """
        level = sparsest_as_good(gains(self._found.rows))
        return self.tickets[level] if self.tickets else self.ticket

    @property
    def restored(self) -> list[Restored]:
        """What each rewinding restored."""
        return self._found.restored

    def report(self, out: "str | os.PathLike[str] | None" = None, *,
               margin: "str | Mapping[str, float] | None" = None) -> pathlib.Path:
        """Writes the report of the search: a page with tables, figures and the verdict.

        It is the page that `lth report WORKDIR` writes, but needs no workdir, and may be written
        after an interrupted fit.  A fit trains no re-initialised control, so the page compares
        the levels with the dense network only, and does not say which of them win.

        Args:
          out: folder for the page, its figures and results.csv. Defaults to plots in the workdir,
            or to report if there is no workdir.
          margin: how much worse than the dense network still counts as good, as `lth report` takes
            it: {"accuracy": 0.002, "steps": 0.19}, a share each.

        Returns:
          The path of the page, which needs no other file.

        Raises:
          LotteryError: if no level is trained yet, or the margin is none.
          OSError: if a file cannot be written.

        Example:
          lottery.report("report")  # After `fit`: report/report.html
        """
        path: pathlib.Path = providers.provider(providers.REPORT_OF_A_SEARCH)(
            self.as_data(), self.workdir, out, margin)
        return path

    def plot(self, ax: Any = None, y: "str | None" = None) -> Any:
        """Draws a measure of each level against the weights remaining; see `lth.plot`.

        Args:
          ax: axes of matplotlib to draw into. Defaults to those of a new figure.
          y: what to draw, a column of `results`. Defaults to the accuracy on validation data at
            the end of each round, or to the loss if no accuracy was measured.

        Returns:
          The axes.

        Raises:
          LotteryError: if no level is trained yet, or there is no such column.

        Example:
          axes = lottery.plot(y="early_stop_step")
        """
        return providers.provider(providers.PLOT)(self, y, ax)

    def as_data(self) -> dict[str, Any]:
        """Returns what the search has found as plain data: settings, rows, history and versions.

        Raises:
          LotteryError: if no level is trained yet.
        """
        found = self._described()
        if not found.rows:
            raise LotteryError("A report or a picture needs at least one trained level. Received: "
                               "a callback before its fit.")
        versions = dict(sorted(self.tickets[0].provenance["versions"].items())) \
            if self.tickets else {}
        return {"settings": found.settings, "rows": found.rows, "history": found.history,
                "versions": versions}

    @property
    def async_safe(self) -> bool:
        """Whether Keras 3 may call the hooks for the end of a batch late, from other threads.

        Waiting for a batch before the next one is prepared takes longer.
        """
        return self._settings.takes_late_batches

    # Keras' hooks, in the order in which a training calls them.

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Takes the parameters of a fit, and refuses a second search in it."""
        preflight.check_alone(self.model, params)
        super().set_params(params)

    def set_model(self, model: Any) -> None:
        """Takes the model of a fit, and notes that something prunes it."""
        super().set_model(model)
        if model is not None:  # Before the first hook of any callback of this fit.
            engine_of(model).announce_search(model)

    def on_train_begin(self, logs: Any = None) -> None:
        history = [self.model.history] if getattr(self.model, "history", None) else []
        if self._fit_search is not None:
            if self._fit_search.is_continued_by(self.model, self.params):
                self._histories += history
                return
            self._fit_search.close()  # An earlier fit may have been interrupted.
        self._fit_search, self._kept = None, _Found()
        self._histories = history
        self._fit_search = FitSearch(self._settings, self.model, self.params, self.order)

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
    def _found(self) -> "_Found":
        if self._fit_search is None:
            return self._kept
        return _Found(self._fit_search.rows, self._fit_search.search.tickets,
                      self._fit_search.progress.restored)

    def _described(self) -> "_Found":
        """What was found, with the settings and the logs of all epochs."""
        if self._fit_search is None:
            return self._kept
        logs: dict[str, list[Any]] = {}
        for history in self._histories:
            for name, values in history.history.items():
                logs.setdefault(name, []).extend(values)
        note = self._fit_search.search.note
        settings = as_json({**self._settings.identity, **network_of(self.model).identity(),
                            **({"filters": note.removeprefix("filters: ")} if note else {})})
        return dataclasses.replace(self._found, settings=settings, history=logs)

    def __repr__(self) -> str:
        return f"<LotteryTicketCallback: {self._state()}>"

    def _repr_html_(self) -> str:
        columns, rows = shown(self._found.rows)
        return notebook.page(f"LotteryTicketCallback: {self._state()}", columns, rows)

    def _state(self) -> str:
        rows = self._found.rows
        best = self.best.level if rows and self.tickets and judged_by(rows[0]) else None
        return notices.state(self.schedule, rows, best)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle keeps: the settings and what was found, not the model."""
        return {**vars(self), "model": None, "_kept": self._described(), "_fit_search": None,
                "_histories": [], "_settings": self._settings.without_model()}

    @property
    def _running(self) -> FitSearch:
        assert self._fit_search is not None
        return self._fit_search

    def _test(self, hook: str, *arguments: Any) -> None:
        if self._fit_search is not None:  # `evaluate` calls these hooks too, also before any fit.
            self._fit_search.test(hook, *arguments)
