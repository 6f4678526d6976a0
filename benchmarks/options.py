"""What the command was asked for, and the folder that the sections share."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

from benchmarks import process


@dataclasses.dataclass(frozen=True)
class Options:
    """How often and how long to measure.

    Attributes:
      repeats: rounds over all contenders of a table.
      tasks: those of the sections `steps` and `fit`.
      quick: whether to take as few steps as show that everything runs.
      folder: for what is needed only until the command ends.
      say: prints a line of progress.
    """

    repeats: int
    tasks: tuple[str, ...]
    quick: bool
    folder: pathlib.Path
    say: Callable[[str], None]

    def examples(self, task: str) -> tuple[str, str]:
        """The file of a task's examples, and what they are."""
        return _examples(task, self.folder)


@functools.cache
def _examples(task: str, folder: pathlib.Path) -> tuple[str, str]:
    file = str(folder / f"{task}.npz")
    return file, process.last_line(process.run(process.module("benchmarks.task", task, file))
                                   .output)
