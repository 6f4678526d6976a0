"""The workdir of a search in `fit`: what of it lies on disk, and how it gets there.

    state.safetensors               the search after its last saved epoch: the one commit point
    start.safetensors               theta_k, and the optimizer at step k
    level_03/ticket.safetensors     the ticket of each level
    results.csv                     a row a level; only written, never read
    .lock                           held by the process that searches

Every file is whole or absent.  The state is written last and has the mark of each of the others
(`files.checksums.mark`), so what it names is there, and is what it was saved with.
"""

import dataclasses
import os
import pathlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.files import atomic, checksums, workdir_lock
from lth_keras.files.json_checks import as_json
from lth_keras.files.ticket import Ticket
from lth_keras.files.workdir_lock import refuse_changed, refuse_other, SEARCH, START, STATE
from lth_keras.keras2.fit import state_file
from lth_keras.keras2.fit.state_file import RewindPoint, State

_Read = TypeVar("_Read")

RESULTS = "results.csv"
# A regular expression for all that a search writes, by its path in the workdir.
_FILES = r"(state|start)\.safetensors|level_\d+/ticket\.safetensors|results\.csv"
_OPEN: "weakref.WeakValueDictionary[pathlib.Path, Workdir]" = weakref.WeakValueDictionary()


def ticket_name(level: int) -> str:
    """Where the ticket of a level lies."""
    return f"level_{level:02d}/ticket.safetensors"


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a workdir holds of a search.

    Attributes:
      state: the search between two epochs.
      start: the model and the optimizer at step k, once that is reached.
      tickets: those of level 0, 1, ... up to the state's.
    """

    state: State
    start: RewindPoint | None
    tickets: list[Ticket]


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
        self._lock = workdir_lock.hold(self.root, lambda: refuse_other(self.root, SEARCH))
        _OPEN[self.root] = self
        try:
            atomic.remove_unfinished(self.root, self.root.rglob(".*"), _FILES)
        except BaseException:
            self.close()
            raise

    def read(self, largest: int) -> Found | None:
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
            return Found(state, None, [])
        names = [START, *(ticket_name(level) for level in range(len(state.files) - 1))]
        if set(names) != set(state.files) or len(names) != state.round["level"] + 2:
            raise self._damaged(STATE, "it does not name the files of its search")

        def decoded(name: str, decode: Callable[[bytes], _Read]) -> _Read:
            return self._read(name, largest, decode, state.files[name])
        return Found(state, decoded(START, state_file.decode_start),
                     [decoded(name, Ticket.from_bytes) for name in names[1:]])

    def save(self, state: State, start: RewindPoint | None, tickets: Sequence[Ticket]) -> None:
        """Writes a state in the background, when the last is written, and what it builds on.

        Args:
          state: the search between two epochs; its arrays must not change any more.
          start: the model and the optimizer at step k, or None before it.
          tickets: those of level 0, 1, ... up to the state's; none before step k.

        Raises:
          WorkdirError: if the last state could not be written; it names the file.
        """
        if self._closed:
            raise WorkdirError("A workdir serves one search at a time. Received: "
                               f"{self.root}, which a later fit has taken over.")
        self._wait()
        self._writing = self._background.submit(self._write_all, state, start, list(tickets))

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
            self._lock.release()

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def _write_all(self, state: State, start: RewindPoint | None,
                   tickets: list[Ticket]) -> None:
        if start is not None and START not in self._marks:
            self._marks[START] = self._write(START, state_file.encode_start(start))
        for level, ticket in enumerate(tickets):
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
              expected: "str | None" = None) -> _Read:
        try:
            data = atomic.read(self.root / name, largest, self.root)
            mark = checksums.mark(data)
            # A state of format 1 has the SHA-256 alone, with which a mark ends.
            if expected is not None and expected not in (mark, mark.split()[-1]):
                raise LotteryError(f"it is not the file that {STATE} was saved with")
            read = decode(data)
        except LotteryError as error:
            raise self._damaged(name, str(error)) from None
        except OSError as error:
            why = atomic.damage(error) or f"cannot be read: {error.strerror or error}"
            raise self._damaged(name, why) from None
        if expected is not None:
            self._marks[name] = mark
        return read

    def _damaged(self, name: str, why: str) -> WorkdirError:
        return WorkdirError(f"{self.root / name}: {why.rstrip('.')}. Bring the file back, or begin "
                            f"the search again in another workdir; the tickets in {self.root} "
                            "that are whole can still be loaded.")
