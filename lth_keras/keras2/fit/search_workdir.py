"""The workdir of a search in `fit`: what of it lies on disk, and how it gets there.

    state.safetensors               the search after its last saved epoch: the one commit point
    start.safetensors               theta_k, and the optimizer at step k
    level_03/ticket.safetensors     the ticket of each level
    results.csv                     a row a level; only written, never read
    .lock                           held by the process that searches

Every file is whole or absent.  The state is written last and names the others by their
SHA-256, so what it names is there, and is what it was saved with.
"""

import dataclasses
import os
import pathlib
import re
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.files import atomic, owners, workdir_lock
from lth_keras.files.json_checks import as_json
from lth_keras.files.owners import START, STATE
from lth_keras.files.ticket import Ticket
from lth_keras.keras2.fit import state_file
from lth_keras.keras2.fit.background import Background
from lth_keras.keras2.fit.state_file import RewindPoint, State

RESULTS = "results.csv"
_OURS = re.compile(r"start\.safetensors|level_\d+")
# All that a search writes, by its path in the workdir.
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
        self._digests: dict[str, str] = {}
        self._background = Background()
        self._closed = False
        earlier = _OPEN.get(self.root)
        if earlier is not None:
            earlier.close()
        self._lock = workdir_lock.hold(self.root,
                                       lambda: owners.refuse_other(self.root, owners.SEARCH))
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
            self._check_not_begun()
            return None
        state = self._decoded(STATE, state_file.decode, self._load(STATE, largest))
        owners.refuse_changed(self.root, owners.SEARCH, state.settings, as_json(self._settings))
        if not state.files:
            return Found(state, None, [])
        names = [START, *(ticket_name(level) for level in range(state.round["level"] + 1))] \
            if state.round["level"] < len(state.files) else []
        if set(names) != set(state.files):
            raise self._damaged(STATE, "it does not name the files of its search")
        data = {name: self._load(name, largest) for name in names}
        for name in names:
            if atomic.digest(data[name]) != state.files[name]:
                raise self._damaged(name, f"it is not the file that {STATE} was saved with")
        self._digests = dict(state.files)
        return Found(state, self._decoded(START, state_file.decode_start, data[START]),
                     [self._decoded(name, Ticket.from_bytes, data[name]) for name in names[1:]])

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
        self._background.start(lambda: self._write_all(state, start, list(tickets)))

    def finish(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Waits for the last state, writes the results and lets the folder go.

        Raises:
          WorkdirError: if something could not be written; it names the file.
        """
        try:
            self._background.wait()
            self._write(RESULTS, pd.DataFrame(list(rows)).to_csv(index=False).encode())
        finally:
            self.close()

    def check(self) -> None:
        """Raises the WorkdirError of a state that could not be written, if there was one."""
        self._background.check()

    def close(self) -> None:
        """Waits for what is being written and lets the folder go; twice is harmless."""
        if not self._closed:
            self._closed = True
            self._background.close()
            self._lock.release()

    def _write_all(self, state: State, start: RewindPoint | None,
                   tickets: list[Ticket]) -> None:
        if start is not None and START not in self._digests:
            self._write_once(START, state_file.encode_start(start))
        for level, ticket in enumerate(tickets):
            if ticket_name(level) not in self._digests:
                self._write_once(ticket_name(level), ticket.to_bytes())
        state = dataclasses.replace(state, settings=self._settings, files=dict(self._digests))
        self._write(STATE, state_file.encode(state))
        if state.rows:
            self._write(RESULTS, pd.DataFrame(state.rows).to_csv(index=False).encode())

    def _write_once(self, name: str, data: bytes) -> None:
        self._write(name, data)
        self._digests[name] = atomic.digest(data)

    def _write(self, name: str, data: bytes) -> None:
        try:
            atomic.refuse_links(self.root, self.root / name)
            atomic.write(self.root / name, data)
        except OSError as error:
            raise WorkdirError(f"{self.root / name}: cannot be written: {error.strerror or error}."
                               " The search goes on from what is saved when the same fit runs "
                               "again.") from error

    def _load(self, name: str, largest: int) -> bytes:
        try:
            return atomic.read(self.root / name, largest, self.root)
        except OSError as error:
            why = atomic.damage(error) or f"cannot be read: {error.strerror or error}"
            raise self._damaged(name, why) from None

    def _decoded(self, name: str, decode: Any, data: bytes) -> Any:
        try:
            return decode(data)
        except LotteryError as error:
            raise self._damaged(name, str(error)) from None

    def _damaged(self, name: str, why: str) -> WorkdirError:
        return WorkdirError(f"{self.root / name}: {why.rstrip('.')}. Bring the file back, or begin "
                            f"the search again in another workdir; the tickets in {self.root} "
                            "that are whole can still be loaded.")

    def _check_not_begun(self) -> None:
        there = sorted(path.name for path in self.root.iterdir())
        ours = [name for name in there if _OURS.fullmatch(name)]
        if ours:
            raise self._damaged(STATE, f"it is missing, though {ours[0]} is there")
