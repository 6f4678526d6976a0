"""Work in the background: one thing at a time, and what fails there is raised here."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """A thread that does what it is given, while the program goes on.

    A program that ends waits for what was begun.

    Example:
      >>> background, done = Background(), []
      >>> background.start(lambda: done.append(1))
      >>> background.wait()
      >>> done
      [1]
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lth_keras")
        self._last: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begins something, once the last thing is finished; raises what that raised."""
        self.wait()
        self._last = self._thread.submit(work)

    def check(self) -> None:
        """Raises what the last thing raised, if it is finished; does not wait."""
        if self._last is not None and self._last.done():
            self._last.result()

    def wait(self) -> None:
        """Waits for the last thing, and raises what it raised."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """Waits for the last thing, whatever became of it, and ends the thread."""
        self._thread.shutdown(wait=True)
