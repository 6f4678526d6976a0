"""The console that commands print to."""

from rich.console import Console


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
    return Output()
