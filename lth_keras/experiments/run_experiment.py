"""Runs an experiment into a workdir, for `lth run` and for lth.run."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

from rich.console import Console

from lth_keras.arguments import check_choice
from lth_keras.experiments import clusters
from lth_keras.experiments.config.branches import ranges
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import check_count, steps_of, Training, trainings
from lth_keras.experiments.experiment import Experiment, ON_DIVERGENCE
from lth_keras.experiments.progress import estimate, ProgressDisplay, WaitDisplay
from lth_keras.experiments.remaining import last_levels, refuse_diverged, unfinished
from lth_keras.experiments.results import paths
from lth_keras.experiments.results import repair as repairs
from lth_keras.experiments.results.store import Store
from lth_keras.experiments.row_hooks import RowHook, RowWatch
from lth_keras.experiments.source import SourceRun
from lth_keras.experiments.training import datasets
from lth_keras.experiments.worker import Placement
from lth_keras.files import workdir_lock


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How an experiment is run, as opposed to what it is: results do not depend on it.

    Attributes:
      placement: the data folder, devices and threads of each training.
      jobs: how many networks are trained at the same time, each in its own process; None for the
        number of cores.
      backend: where the processes run, one of `clusters.BACKENDS`.
      on_divergence: what to do if a training diverges, "stop" or "continue".
      repair: whether to train again what is damaged in the workdir.
      dry_run: whether to measure the speed and stop.
      download: whether to download a data set that is missing.
      on_row: functions that get the row of each training when it is finished.
      again: how a user can continue after an interruption, for messages.

    Example:
      >>> RunOptions(Placement(), jobs=2).backend
      'loky'
    """

    placement: Placement
    jobs: int | None = None
    backend: str = "loky"
    on_divergence: str = "stop"
    repair: bool = False
    dry_run: bool = False
    download: bool = False
    on_row: Sequence[RowHook] = ()
    again: str = "the same command"

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, (*clusters.BACKENDS,))
        check_choice("on_divergence", self.on_divergence, ON_DIVERGENCE)


def run_experiment(config: Config, root: pathlib.Path, options: RunOptions,
                   console: Console) -> bool:
    """Trains the networks of an experiment that a workdir does not have yet.

    Args:
      config: the experiment.
      root: the workdir.
      options: how to run it.
      console: the console that shows progress.

    Returns:
      Whether the workdir has results to report; False after a dry run.

    Raises:
      LotteryError: if there are too many networks, or the data set is missing.
      WorkdirError: if the workdir is damaged, in use, or of another experiment.
      DivergedError: if a training diverged and on_divergence is "stop".
      OSError: if a file cannot be written.
    """
    check_count(config)
    say = _sayer(console)
    # Two runs in one workdir would train the same networks and write the same files.
    with workdir_lock.held(root, lambda: workdir_lock.refuse_other(root, workdir_lock.RUN)):
        damages = repairs.prepare(root, config, options.repair, options.dry_run, say)
        if options.dry_run and damages:
            return False
        store = Store(root, config)
        # A run that stopped at a divergence stops there again, before it trains anything.
        if options.on_divergence == "stop":
            done = paths.found(root)
            refuse_diverged(store, (each for each in trainings(config) if each in done))
        waiting = unfinished(config, store)
        if not waiting and not options.dry_run:
            _keep_margin(config, root)
        if waiting:
            SourceRun.of(config)  # What it lacks is said before anything is compiled.
            if options.backend == "loky":  # Only this machine's data can be looked for here.
                datasets.require(config, options.placement.data_dir, options.download, say)
        most = f" at most (until {config.until})" if config.until else ""
        say(f"{config.preset}: {len(waiting):,} network{'s'[:len(waiting) != 1]} to train for "
            f"{config.steps:,} step{'s'[:config.steps != 1]} each{most}, in {root}")
        try:
            if waiting:
                _train(config, store, waiting, options, console)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C, or a signal that ends the program.
            # Trainings that were running are lost, since only finished ones are stored.
            say(f"Interrupted. Finished trainings are in {root}; {options.again} continues from "
                "there.")
            raise
    return not options.dry_run


def _sayer(console: Console) -> Callable[[str], None]:
    return functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)


def _train(config: Config, store: Store, waiting: Sequence[Training], options: RunOptions,
           console: Console) -> None:
    # Measures how long it will take, and trains, unless this is a dry run.
    say = _sayer(console)
    pool = clusters.BACKENDS[options.backend](options.jobs, waiting, config, options.placement)
    with contextlib.closing(pool):
        # The measurement compiles in every process, which the trainings need anyway.
        with WaitDisplay(console) as wait:
            speeds = pool.measure(  # Several devices must share the validation examples evenly.
                options.dry_run and options.placement.distribute == "none", wait)
        for note in dict.fromkeys(speed.note for speed in speeds if speed.note):
            say(note)
        say(estimate(speeds, waiting, config))
        if not options.dry_run:
            with ProgressDisplay(console, steps=sum(
                    steps_of(config, training) for training in waiting)) as display:
                watch = RowWatch(display, store, options.on_row)
                Experiment(config, store, watch, pool, options.on_divergence).run()
                _say_not_reached(config, store, say)


def _say_not_reached(config: Config, store: Store, say: Callable[[str], None]) -> None:
    # Replicates that ended before `config.until`.
    if config.target is None:
        return
    there = {*last_levels(config, store, paths.found(store.root))}
    above = [replicate for replicate in config.replicate_numbers if replicate not in there]
    if above:
        say(f"until={config.until} was not reached after {config.rounds} rounds by replicate"
            f"{'s'[:len(above) != 1]} {', '.join(ranges(above))}. Give the run more rounds, or a "
            "higher fraction.")


def _keep_margin(config: Config, root: pathlib.Path) -> None:
    """Judges a finished run by the margin that is asked for now; training writes its own."""
    there = paths.read_config(root)
    if there.margin != config.margin:
        Store(root, config=dataclasses.replace(there, margin=config.margin)).begin()
