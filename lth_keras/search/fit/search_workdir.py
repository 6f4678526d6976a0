"""The workdir of a search in `fit`: its files, and how they are written and read.

    state.safetensors               the search after its last saved epoch
    start.safetensors               theta_k, and the optimizer at step k
    level_03/ticket.safetensors     the ticket of each level
    results.csv                     a row for each level; written for users, never read
    .lock                           locked by the process that searches

Every file is whole or absent.  The state is written last and lists the marks of the other files
(`files.checksums.mark`), so a search is saved at the moment its state is: all files that a state
lists exist, with the contents that belong to it.
"""

import contextlib
import dataclasses
import functools
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
from lth_keras.files.state_file import State
from lth_keras.files.ticket import Ticket, ticket_name
from lth_keras.files.workdir_lock import refuse_changed, refuse_other, SEARCH, START, STATE

_Read = TypeVar("_Read")

RESULTS = "results.csv"
# A regular expression of the files that a search writes, by their path in the workdir.
_FILES = r"(state|start)\.safetensors|level_\d+/ticket\.safetensors|results\.csv"
_OPEN: "weakref.WeakValueDictionary[pathlib.Path, Workdir]" = weakref.WeakValueDictionary()


class Workdir:
    """The workdir of one search, locked by this process until it is closed.

    A fit that was interrupted keeps its workdir locked; a later fit in the same process takes it
    over.

    Args:
      root: the folder; created if necessary.
      settings: the settings of the search, as JSON values by name.

    Raises:
      WorkdirError: if another process uses the folder, it cannot be written, or it is the workdir
        of an `lth run`.
    """

    def __init__(self, root: "str | os.PathLike[str]", settings: Mapping[str, Any]):
        self.root = pathlib.Path(root).absolute()
        self._settings = dict(settings)
        self._marks: dict[str, str] = {}  # The marks of the files that the next state will list.
        # An executor rather than a daemon thread: at exit, Python waits until its task is finished.
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
        """Reads the search that was saved here; returns None if there is none.

        Args:
          largest: the largest size, in bytes, that a file of this search can have.

        Raises:
          WorkdirError: if a file is missing, damaged or of another search (the message names it),
            or if the search had other settings.
        """
        if not (self.root / STATE).exists():
            for path in (self.root / START, *sorted(self.root.glob("level_[0-9]*"))):
                if os.path.lexists(path):
                    raise self._damaged(STATE, f"it is missing, though {path.name} is there")
            return None
        state = self._read(STATE, largest, state_file.decode)
        # As JSON, since that is how the saved settings were stored: tuples as lists.
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
        """Writes a state, and the files that it lists, in the background.

        Waits until the state before it is written.

        Args:
          state: the search between two epochs; its arrays must not be changed afterwards.

        Raises:
          WorkdirError: if the state before it could not be written; the message names the file.
        """
        if self._closed:
            raise WorkdirError("A workdir can be used by one search at a time. Received: "
                               f"{self.root}, which a later fit has taken over.")
        self._wait()
        self._writing = self._background.submit(self._write_all, state)

    def finish(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Waits until the last state is written, writes results.csv and releases the folder.

        Raises:
          WorkdirError: if a file could not be written; the message names it.
        """
        try:
            self._wait()
            self._write(RESULTS, pd.DataFrame(list(rows)).to_csv(index=False).encode())
        finally:
            self.close()

    def check(self) -> None:
        """Raises the WorkdirError of a state that could not be written; does not wait."""
        if self._writing is not None and self._writing.done():
            self._writing.result()

    def close(self) -> None:
        """Waits until the last state is written and releases the folder; may be called again."""
        if not self._closed:
            self._closed = True
            self._background.shutdown(wait=True)
            self._lock.close()

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write_all(self, state: State) -> None:
        # theta_k and the tickets never change, so each is written once; the state comes last.
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
                               " Run the same fit again to continue from the last saved "
                               "epoch.") from error
        return checksums.mark(data)

    def _read(self, name: str, largest: int, decode: Callable[[bytes], _Read],
              files: "Mapping[str, str] | None" = None) -> _Read:
        with atomic.explained(functools.partial(self._damaged, name)):
            if files is None:
                return decode(atomic.read(self.root / name, largest, self.root))
            data = checksums.read_marked(self.root / name, files[name], self.root, largest)
            self._marks[name] = checksums.mark(data)
            return decode(data)

    def _damaged(self, name: str, why: str) -> WorkdirError:
        return WorkdirError(f"{self.root / name}: {why}. Restore the file from a copy, or begin "
                            f"the search again in another workdir; undamaged tickets in "
                            f"{self.root} can still be loaded.")
