"""The progress display: what is being trained, how far, and the time left."""

import types
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lth_keras.store import Training


class ProgressDisplay:
    """Follows a run: a bar on a terminal, a line a training elsewhere.

    Args:
      console: where to write.
      steps: optimizer steps of the whole run that are still to do.
    """

    def __init__(self, console: Console, steps: int):
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("compiling", total=steps)

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, training: Training, density: float) -> None:
        """A training starts."""
        self._progress.update(self._task, description=f"{training} (P_m {density:.1%})")

    def steps(self, count: int) -> None:
        """So many more steps are done."""
        self._progress.advance(self._task, count)

    def end(self, training: Training, result: dict[str, Any]) -> None:
        """A training is finished."""
        if not self._console.is_terminal:
            self._console.print(
                f"{training}: early stop at step {result['early_stop_step']:,}, test accuracy "
                f"{result['test_accuracy_early_stop']:.2%}, {result['seconds']:.1f} s",
                soft_wrap=True, highlight=False)
