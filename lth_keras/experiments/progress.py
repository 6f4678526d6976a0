"""Shows the progress of a run, and estimates how long it will take."""

import importlib.util
import types
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import chain, steps_of, Training
from lth_keras.experiments.experiment import Watch
from lth_keras.experiments.results.outcome import Speed

_BAR = 40  # Columns of the bar, down to a quarter of it in a narrow terminal.
_NAME = 56  # Columns that a training's name takes.
_TIMES = 31  # Columns of what stands after the bar: percentage, time taken, time left.
_SHORTEST = 8


class WaitDisplay:
    """Says what is waited for before the first training, and for how long already.

    Args:
      console: the console to write to: in a terminal a line that goes away, elsewhere a line each.

    Example:
      >>> with WaitDisplay(Console(quiet=True)) as wait:
      ...     wait("Compiling")
    """

    def __init__(self, console: Console):
        self._console = console
        self._redraws = not console.quiet and _can_redraw(console)
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=console, transient=True, disable=not self._redraws)
        self._task = self._progress.add_task("", total=None)

    def __call__(self, what: str) -> None:
        """Says what is waited for now."""
        self._progress.reset(self._task, description=what)
        if not self._redraws:
            self._console.print(f"{what}.", soft_wrap=True, highlight=False)

    def __enter__(self) -> "WaitDisplay":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self._progress.stop()


class ProgressDisplay(Watch):
    """Shows a progress bar in a terminal or notebook; elsewhere prints a line for each training.

    Args:
      console: the console to write to.
      steps: the number of optimizer steps that the run has still to train.
    """

    def __init__(self, console: Console, steps: int):
        self._console = console
        self._has_bar = not console.quiet and _can_redraw(console)
        self._bar = min(max(console.width - _TIMES - _NAME, _BAR // 4), _BAR)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(self._bar),
            TextColumn("{task.percentage:.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, transient=True, disable=not self._has_bar)
        self._task = self._progress.add_task("starting", total=steps)
        self._running: dict[Training, str] = {}

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, training: Training, density: float) -> None:
        """Shows the name of a training that starts."""
        self._running[training] = f"{training} (P_m {density:.1%})"
        self._describe()

    def steps(self, done: int) -> None:
        """Moves the bar to the number of steps that the whole run has trained."""
        self._progress.update(self._task, completed=done)

    def end(self, training: Training, result: Mapping[str, Any]) -> None:
        """Prints how a training ended, if there is no bar or the training diverged."""
        self._running.pop(training)
        self._describe()
        step = result.get("diverged_at_step")
        how = f"diverged at step {step:,}" if step else \
            f"early stop at step {result['early_stop_step']:,}, test accuracy " \
            f"{result['test_accuracy_early_stop']:.2%}"
        if step or not self._has_bar:
            self._console.print(f"{training}: {how}, {result['seconds']:.1f} s", soft_wrap=True,
                                highlight=False)

    def _describe(self) -> None:
        # One line for any number of trainings: the first, and how many run besides it.
        first, *others = [*self._running.values(), "waiting"]
        more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
        # The bar and the time left are worth more than the end of a name.
        room = max(_SHORTEST, self._console.width - self._bar - _TIMES)
        if room < _SHORTEST + len(more):
            more = ""
        if len(first) > room - len(more):
            first = f"{first[:room - len(more) - 3]}..."
        self._progress.update(self._task, description=f"{first}{more}")


def _can_redraw(console: Console) -> bool:
    # A notebook is not a terminal: rich draws a bar there in a widget, and only with ipywidgets.
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal


def estimate(speeds: Sequence[Speed], waiting: Sequence[Training], config: Config) -> str:
    """Returns a sentence that says how long a run will take.

    Args:
      speeds: the speed of each process, measured while all of them were busy.
      waiting: the trainings to come.
      config: the settings.

    Example:
      >>> import dataclasses
      >>> config = Config(preset="p", network="n", dataset="d", steps=1000, validation_every=100)
      >>> speed = Speed(compilation=2.0, step=1e-3, validation=0.1, evaluation=0.0, timed=64)
      >>> print(estimate([speed], [Training(0, 0)], config))
      2.00 ms a step in one process, 1.00 of it for validation (compiled in 2.0 s, measured over \
64 steps): about 2 s in all
      >>> print(estimate([dataclasses.replace(speed, together=5)], [Training(0, 0)], config))
      2.00 ms a step of 5 networks in one process, 1.00 of it for validation (compiled in 2.0 s, \
measured over 64 steps): about 2 s in all
    """
    # The slowest process decides when the run ends.
    speed = max(speeds, key=lambda measured: measured.step)
    validation = speed.validation / config.validation_every
    chains: dict[int, float] = {}
    everything = 0.0
    for training in waiting:
        seconds = steps_of(config, training) * (speed.step + validation) + speed.evaluation
        everything += seconds
        if training == chain(config, training.replicate, training.level):
            # The tickets of a replicate can only be trained one after another.
            chains[training.replicate] = chains.get(training.replicate, 0.0) + seconds
    # A run takes as long as all work shared among the processes, or as its longest chain.
    total = max(everything / len(speeds) / speed.together, *chains.values(), 0.0)
    networks = f" of {speed.together:,} networks" if speed.together > 1 else ""
    processes = "in one process" if len(speeds) == 1 else f"in each of {len(speeds):,} processes"
    return (f"{1e3 * (speed.step + validation):.2f} ms a step{networks} {processes}, "
            f"{1e3 * validation:.2f} of it for validation (compiled in {speed.compilation:.1f} s, "
            f"measured over {speed.timed:,} step{'s'[:speed.timed != 1]}): about {duration(total)} "
            "in all")


def duration(seconds: float) -> str:
    """Returns seconds as text, in the two largest units.

    Example:
      >>> duration(8.2), duration(125), duration(7300), duration(1_800_000)
      ('8 s', '2 min 5 s', '2 h 1 min', '20 days 20 h')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        days, hours = divmod(hours, 24)
        return f"{days:,} days {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
