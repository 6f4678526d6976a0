"""The workdir of a search in `fit`: what of it lies on disk, and how it gets there.

    state.safetensors               the search after its last saved epoch: the one commit point
    start.safetensors               theta_k, and the optimizer at step k
    level_03/ticket.safetensors     the ticket of each level
    results.csv                     a row a level; only written, never read
    .lock                           held by the process that searches

Every file is whole or absent.  The state is written last and has the mark of each of the others
(`files.checksums.mark`), so what it names is there, and is what it was saved with.
"""

import contextlib
import dataclasses
import os
import pathlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pandas as pd

from lth_keras.errors import WorkdirError
from lth_keras.files import atomic, checksums, state_file, workdir_lock
from lth_keras.files.json_checks import as_json
from lth_keras.files.state_file import State, ticket_name
from lth_keras.files.ticket import Ticket
from lth_keras.files.workdir_lock import refuse_changed, refuse_other, SEARCH, START, STATE

_Read = TypeVar("_Read")

RESULTS = "results.csv"
# A regular expression for all that a search writes, by its path in the workdir.
_FILES = r"(state|start)\.safetensors|level_\d+/ticket\.safetensors|results\.csv"
_OPEN: "weakref.WeakValueDictionary[pathlib.Path, Workdir]" = weakref.WeakValueDictionary()


class Workdir:
    """The folder of one search, held by this process until it is closed.

    A fit that was interrupted keeps its folder; a later one in the same process takes it over.

    Args:
      root: the folder; made if need be.
      settings: what the search is asked for; name -> what JSON can hold.

    Raises:
      WorkdirError: if another process uses it, it cannot be written, or it is of another kind.
    """

    def __init__(self, root: "str | os.PathLike[str]", settings: Mapping[str, Any]):
        self.root = pathlib.Path(root).absolute()
        self._settings = dict(settings)
        self._marks: dict[str, str] = {}  # Of the files that the next state names.
        # A program that ends waits for what is being written.
        self._background = ThreadPoolExecutor(1, thread_name_prefix="lth_keras")
        self._writing: Future[None] | None = None
        self._closed = False
        earlier = _OPEN.get(self.root)
        if earlier is not None:
            earlier.close()
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(
            workdir_lock.held(self.root, lambda: refuse_other(self.root, SEARCH)))
        _OPEN[self.root] = self
        try:
            atomic.remove_unfinished(self.root, self.root.rglob(".*"), _FILES)
        except BaseException:
            self.close()
            raise

    def read(self, largest: int) -> State | None:
        """The search that lies here, if one does.

        Args:
          largest: the most bytes that one file of this search can have.

        Raises:
          WorkdirError: if a file is missing, damaged or foreign; it names the file.  Also if
            the search is one of other settings.
        """
        if not (self.root / STATE).exists():
            for path in (self.root / START, *sorted(self.root.glob("level_[0-9]*"))):
                if os.path.lexists(path):
                    raise self._damaged(STATE, f"it is missing, though {path.name} is there")
            return None
        state = self._read(STATE, largest, state_file.decode)
        refuse_changed(self.root, SEARCH, state.settings, as_json(self._settings))
        if not state.files:
            return state
        tickets = [ticket_name(level) for level in range(len(state.files) - 1)]
        if {START, *tickets} != state.files.keys() or len(tickets) != state.round["level"] + 1:
            raise self._damaged(STATE, "it does not name the files of its search")
        start = self._read(START, largest, state_file.decode_start, state.files)
        return dataclasses.replace(state, start=start, tickets=[
            self._read(name, largest, Ticket.from_bytes, state.files) for name in tickets])

    def save(self, state: State) -> None:
        """Writes a state in the background, when the last is written, and what it builds on.

        Args:
          state: the search between two epochs; its arrays must not change any more.

        Raises:
          WorkdirError: if the last state could not be written; it names the file.
        """
        if self._closed:
            raise WorkdirError("A workdir serves one search at a time. Received: "
                               f"{self.root}, which a later fit has taken over.")
        self._wait()
        self._writing = self._background.submit(self._write_all, state)

    def finish(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Waits for the last state, writes the results and lets the folder go.

        Raises:
          WorkdirError: if something could not be written; it names the file.
        """
        try:
            self._wait()
            self._write(RESULTS, pd.DataFrame(list(rows)).to_csv(index=False).encode())
        finally:
            self.close()

    def check(self) -> None:
        """Raises the WorkdirError of a state that could not be written; does not wait for one."""
        if self._writing is not None and self._writing.done():
            self._writing.result()

    def close(self) -> None:
        """Waits for what is being written and lets the folder go; twice is harmless."""
        if not self._closed:
            self._closed = True
            self._background.shutdown(wait=True)
            self._lock.close()

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write_all(self, state: State) -> None:
        if state.start is not None and START not in self._marks:
            self._marks[START] = self._write(START, state_file.encode_start(state.start))
        for level, ticket in enumerate(state.tickets):
            name = ticket_name(level)
            if name not in self._marks:
                self._marks[name] = self._write(name, ticket.to_bytes())
        state = dataclasses.replace(state, settings=self._settings, files=dict(self._marks))
        self._write(STATE, state_file.encode(state))
        if state.rows:
            self._write(RESULTS, pd.DataFrame(state.rows).to_csv(index=False).encode())

    def _write(self, name: str, data: bytes) -> str:
        try:
            atomic.refuse_links(self.root, self.root / name)
            atomic.write(self.root / name, data)
        except OSError as error:
            raise WorkdirError(f"{self.root / name}: cannot be written: {error.strerror or error}."
                               " The search goes on from what is saved when the same fit runs "
                               "again.") from error
        return checksums.mark(data)

    def _read(self, name: str, largest: int, decode: Callable[[bytes], _Read],
              files: "Mapping[str, str] | None" = None) -> _Read:
        try:
            if files is None:
                return decode(atomic.read(self.root / name, largest, self.root))
            data = checksums.read_marked(self.root / name, files[name], self.root, largest)
            self._marks[name] = checksums.mark(data)
            return decode(data)
        except ValueError as error:
            raise self._damaged(name, str(error)) from None
        except OSError as error:
            why = atomic.damage(error) or f"cannot be read: {error.strerror or error}"
            raise self._damaged(name, why) from None

    def _damaged(self, name: str, why: str) -> WorkdirError:
        return WorkdirError(f"{self.root / name}: {why.rstrip('.')}. Bring the file back, or begin "
                            f"the search again in another workdir; the tickets in {self.root} "
                            "that are whole can still be loaded.")
