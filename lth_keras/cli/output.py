"""The console that commands print to."""

import os

from rich.console import Console

_IN_A_FILE = 400  # Columns: more than any table has.


class Output(Console):
    """rich's console, which leaves it to `main` what a closed pipe means.

    Example:
      >>> Output(quiet=True).print("nobody sees this")
    """

    def on_broken_pipe(self) -> None:
        """Raises the error again, which rich would turn into exit code 1."""
        raise  # noqa: PLE0704  rich calls this while it handles a BrokenPipeError.


def console() -> Output:
    """Returns the console of a command.

    Example:
      >>> console().quiet
      False
    """
    found = Output()
    # rich takes a pipe or a file for a terminal of 80 columns, and would cut tables to it.
    if not found.is_terminal and not found.is_jupyter and "COLUMNS" not in os.environ:
        found.width = _IN_A_FILE
    return found
