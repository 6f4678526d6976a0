"""`lth.run`: runs an experiment from Python, as the command `lth run` does."""

import dataclasses
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from lth_keras import notebook
from lth_keras.api.plot import plot
from lth_keras.deployment import trained_networks
from lth_keras.deployment.manifest import DEFAULT, Deployment
from lth_keras.deployment.run_export import RunExporter, Settings
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import own
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.results import paths, runs, store
from lth_keras.experiments.results.verdicts import LevelVerdict
from lth_keras.experiments.row_hooks import RowHook
from lth_keras.experiments.run_experiment import run_experiment, RunOptions
from lth_keras.experiments.source import resolved
from lth_keras.experiments.worker import Placement
from lth_keras.extras import needed_for
from lth_keras.files.ticket import Ticket
from lth_keras.reports import report
from lth_keras.reports.analyses.analysis import WorkdirReader
from lth_keras.reports.tensorboard import LiveEvents, write_all

BEST = "best"
# What a notebook shows of each level's means.
_SHOWN = {"branch": "{}", "level": "{}", "density": "{:.1%}", "early_stop_step": "{:,.0f}",
          "test_accuracy_early_stop": "{:.2%}", "test_accuracy_final": "{:.2%}"}


@needed_for("lth.run")
def run(preset: "str | os.PathLike[str] | Config", *, scale: float | None = None,
        workdir: "str | os.PathLike[str] | None" = None, jobs: int | None = None,
        threads: int | None = None, together: int | None = None, backend: str = "loky",
        distribute: str = "none",
        data_dir: str | None = None, download: bool = False,
        resident_mib: int = Placement.resident_mib,
        on_divergence: str = "stop", repair: bool = False, verbose: int = 1,
        on_row: "RowHook | None" = None,
        tensorboard: "str | os.PathLike[str] | None" = None,
        **settings: Any) -> "FinishedRun":
    """Runs an experiment: trains, prunes and rewinds networks, and trains controls.

    Trainings run in worker processes; a script needs no `if __name__ == "__main__"`.  Trainings
    that are finished in the workdir are not repeated, so the same call resumes an interrupted run.
    The same settings give the same results, bit for bit.

    Args:
      preset: the name of a preset (`lth presets` lists them), a file NAME.npz of your own data,
        with the arrays x_train, y_train, x_test and y_test, or a `Config`.
      scale: a factor for all steps of the preset and its schedule, in (0, 1].
      workdir: folder for the results. Defaults to a temporary folder, which is deleted with the
        object that is returned.
      jobs: how many networks to train at the same time, each in its own process, >= 1. Defaults to
        the number of cores.
      threads: CPU threads of each process, >= 1, or 0 for all cores. Defaults to 1.
      together: how many networks each process trains at the same time, as one program, >= 1: with
        engine="keras" on JAX. By default one on a CPU; on a GPU or TPU one for each replicate, or
        as many as fit into its memory.
      backend: "loky" for processes on this machine, "ray" or "dask" for a cluster.
      distribute: the devices that train one network: "none" (the first device), "mirrored" (all
        GPUs) or "tpu".
      data_dir: folder of tensorflow-datasets, or a file that `lth data prepare` wrote.
      download: whether to let tensorflow-datasets download the data set, if it is missing.
      resident_mib: training data larger than this many MiB are streamed to the device.
      on_divergence: what to do if a loss or weights become NaN or infinite: "stop", or "continue"
        with the trainings that do not depend on it.
      repair: whether to train again what is damaged in the workdir; otherwise damage is an error.
      verbose: 0 prints nothing, 1 shows progress in a terminal or notebook.
      on_row: a function that is called with each training's row of `results`, a dict, as soon as
        the training is finished; an error in it is a warning, and the run goes on.
      tensorboard: folder for what TensorBoard shows, written while the run goes on.
      **settings: any other setting of the preset, such as steps, rounds, replicates, seed,
        branches=("ticket", "reinit:3"), fraction, rewind_step, strategy; network, also a function
        of your own as "my_module:build", which takes nothing, or input_shape and classes, and
        returns a model of logits; margin, how much worse
        than the dense network still counts as good, as in {"accuracy": 0.002, "steps": 0.19} for
        0.2 points and 19% of its steps, which is the default.

    Returns:
      A `FinishedRun`: tables, tickets and verdicts, `report()` and `export()`.

    Raises:
      LotteryError: if a setting is not allowed.
      WorkdirError: if the workdir is damaged, in use, or of another experiment.
      DivergedError: if a training diverged and on_divergence is "stop"; finished trainings are
        kept in the workdir.

    Example:
      >>> found = run("digits", steps=20, rounds=1, replicates=1, jobs=1, verbose=0)
      >>> found.results[["branch", "level"]].values.tolist()
      [['ticket', 0], ['reinit', 1], ['ticket', 1]]
      >>> round(found.tickets[0, 1].density, 2)
      0.8

    Reference: Frankle & Carbin, ICLR 2019, section 1.
    """
    config = own.settings_of(os.fspath(preset)) if isinstance(preset, (str, os.PathLike)) \
        else preset
    if not isinstance(config, Config):
        raise LotteryError("preset must be the name of a preset, a file NAME.npz or a Config. "
                           f"Received: {preset!r:.100}.")
    config = resolved((config if scale is None else config.scaled(scale)).replace(**settings))
    alone = distribute != "none"  # One training uses all devices, so there is one process.
    for name, value, least in (("jobs", jobs, 1), ("threads", threads, 0),
                               ("together", together, 1), ("resident_mib", resident_mib, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise LotteryError(f"{name} must be a whole number >= {least}. Received: {value!r}.")
    placement = Placement(data_dir, distribute, threads if threads is not None else 0 if alone
                          else 1, resident_mib, together)
    root = pathlib.Path(tempfile.mkdtemp(prefix="lth_run_") if workdir is None else workdir)
    found = FinishedRun(config, root, data_dir)
    if workdir is None:  # Also deletes the folder of a run that ends with an error.
        weakref.finalize(found, shutil.rmtree, root, ignore_errors=True)
    hooks = [] if on_row is None else [on_row]
    if tensorboard is not None:
        hooks.append(LiveEvents(root, config, pathlib.Path(tensorboard)))
    options = RunOptions(placement, jobs if jobs is not None else 1 if alone else None, backend,
                         on_divergence, repair, download=download, on_row=hooks,
                         again="the same call with this workdir")
    run_experiment(config, root, options, Console(quiet=not verbose))
    if tensorboard is not None:
        write_all([runs.read(root)], pathlib.Path(tensorboard))
    return found


class FinishedRun:
    """The results of an experiment, as `lth.run` returns them.

    Attributes:
      config: the experiment's settings.
      workdir: the folder with the results, which `lth report` and `lth analyse` can read too.
      tickets: (replicate, level) -> Ticket, read from the workdir when asked for.  The last ticket
        of each replicate was made by pruning the last level, and has not been trained.

    Example:
      >>> found = run("digits", steps=20, rounds=1, replicates=1, jobs=1, verbose=0)
      >>> found.results.level.tolist(), sorted(found.tickets)
      ([0, 1, 1], [(0, 0), (0, 1), (0, 2)])
    """

    def __init__(self, config: Config, workdir: pathlib.Path, data_dir: str | None = None):
        self.config = config
        self.workdir = workdir
        self.tickets: Mapping[tuple[int, int], Ticket] = _Tickets(workdir)
        self._data_dir = data_dir

    @property
    def results(self) -> pd.DataFrame:
        """The table of results.csv, with one row for each training."""
        return store.results(self.workdir, self.config.fingerprint)

    @property
    def verdicts(self) -> list[LevelVerdict]:
        """The verdict of each level: winning, not winning or inconclusive, with the reason."""
        return list(runs.read(self.workdir).verdict.levels)

    @property
    def verdict(self) -> str:
        """The verdict of the run in one sentence, with its margins."""
        return runs.read(self.workdir).verdict.sentence

    def report(self, out: "str | os.PathLike[str] | None" = None) -> pathlib.Path:
        """Writes the report: an HTML page, and its figures beside it.

        Args:
          out: folder for the files. Defaults to plots in the workdir.

        Returns:
          The path of the page, which needs no other file.
        """
        return report.write([runs.read(self.workdir)], None if out is None else pathlib.Path(out))

    def plot(self, ax: Any = None, y: "str | None" = None) -> Any:
        """Draws a measure of each level against the weights remaining; see `lth.plot`.

        Args:
          ax: axes of matplotlib to draw into. Defaults to those of a new figure.
          y: what to draw, a column of `results`. Defaults to the test accuracy at early stop.

        Returns:
          The axes.
        """
        return plot(self, y, ax)

    def export(self, out: "str | os.PathLike[str]" = "deploy", *, level: "int | str" = BEST,
               replicate: int | None = None, formats: Sequence[str] = DEFAULT,
               **settings: Any) -> Deployment:
        """Exports the trained network of a level's ticket, and checks the files.

        Args:
          out: folder for the files.
          level: the number of a level, or "best" for the sparsest level that is as accurate as the
            dense network on validation examples.
          replicate: the replicate to export. Defaults to the first.
          formats: the names of the formats.
          **settings: tolerance, compaction, examples, threads; see
            `deployment.run_export.Settings`.

        Returns:
          The files and their measurements.

        Raises:
          LotteryError: if a level, format or setting does not exist.
        """
        # Settings(**settings) would raise a TypeError, which names no allowed setting.
        names = [field.name for field in dataclasses.fields(Settings)]
        for name in settings:
            if name not in names:
                raise LotteryError(f"A setting of export must be one of {', '.join(names)}. "
                                   f"Received: {name!r}.")
        chosen = paths.first_replicate(self.workdir) if replicate is None else replicate
        number = trained_networks.best_level(self.workdir, chosen) if level == BEST else level
        if type(number) is not int:
            raise LotteryError(f"level must be a whole number >= 0 or {BEST!r}. "
                               f"Received: {level!r}.")
        source, dense = (trained_networks.from_workdir(self.workdir, which, chosen)
                         for which in (number, 0))
        exporter = RunExporter(Settings(**settings), self._data_dir)
        return exporter.export(source, pathlib.Path(out), formats, dense=dense)

    def __repr__(self) -> str:
        return f"FinishedRun({self.config.preset!r}, workdir={str(self.workdir)!r})"

    def _repr_html_(self) -> str:
        # The means over replicates, as the report's tables have them.
        found = runs.read(self.workdir)
        means = found.summary.xs("mean", axis=1, level=1).reset_index().to_dict("records")
        return notebook.page(repr(self), tuple(_SHOWN), (
            [form.format(row[column]) for column, form in _SHOWN.items()] for row in means),
            found.verdict.sentence)


class _Tickets(Mapping[tuple[int, int], Ticket]):
    # (replicate, level) -> Ticket. Nothing is cached: each read is checked against the records, and
    # a run may have hundreds of tickets.

    def __init__(self, root: pathlib.Path):
        self._root = root

    def __getitem__(self, key: tuple[int, int]) -> Ticket:
        if key not in list(self):
            raise KeyError(key)
        return WorkdirReader(self._root).ticket(*key)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((replicate, level)
                for replicate, levels in WorkdirReader(self._root).levels(
                    untrained=True).items()
                for level in levels)

    def __len__(self) -> int:
        return sum(1 for _ in self)
