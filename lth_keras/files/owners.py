"""Whose a workdir is: that of one run or of one search, and of no other.

A workdir is a folder in which what outlives a process is kept: the results of an `lth run`,
which `experiments.results.store.Store` keeps in it, or a search in `fit`, by
`keras2.fit.search_workdir.Workdir`.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from lth_keras.errors import WorkdirError

CONFIG = "config.json"
STATE, START = "state.safetensors", "start.safetensors"


@dataclasses.dataclass(frozen=True)
class Owner:
    """What a workdir can be of.

    Attributes:
      who: what errors call it.
      holds: what its workdir holds one of.
      files: those that its workdir is known by.
      argument: how a user names another workdir.
      absent: what a setting is that is not written down.
    """

    who: str
    holds: str
    files: tuple[str, ...]
    argument: str
    absent: Any


RUN = Owner("an `lth run`", "experiment", (CONFIG,), "--workdir", "default")
SEARCH = Owner("a LotteryTicketCallback", "search", (STATE, START), "workdir", None)


def refuse_other(root: pathlib.Path, mine: Owner) -> None:
    """Nothing, if a folder is the owner's or nobody's; it need not be there.

    Raises:
      WorkdirError: if it is another's, whose files would be written over.
    """
    for owner in (SEARCH, RUN):
        for name in owner.files:
            if os.path.lexists(root / name):
                if owner == mine:
                    return
                raise WorkdirError(f"A workdir holds one {mine.holds}. Received: {root}, the "
                                   f"folder of {owner.who}, whose {name} it holds. Use another "
                                   f"{mine.argument}.")


def refuse_changed(root: pathlib.Path, mine: Owner, there: Mapping[str, Any],
                   asked: Mapping[str, Any]) -> None:
    """Nothing, if a workdir's settings are those that are asked for.

    Args:
      root: the workdir.
      mine: whose it is.
      there: the settings in it; name -> value.
      asked: those asked for.

    Raises:
      WorkdirError: if not; it says what differs.
    """
    pairs = {name: (there.get(name, mine.absent), asked.get(name, mine.absent))
             for name in sorted({*there, *asked})}
    differ = [f"{name}={one!s:.80} there, {other!s:.80} asked"
              for name, (one, other) in pairs.items() if one != other]
    if differ:
        raise WorkdirError(f"A workdir holds one {mine.holds}. Received: {root}, with "
                           f"{'; '.join(differ)}. Use another {mine.argument}.")
