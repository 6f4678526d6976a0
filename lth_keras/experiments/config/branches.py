"""Branches: the ticket and its controls, how often each is trained, and at which levels.

They are written as on the command line: a name, ":" and the number of repeats, "@" and levels.

    ticket                     the ticket, at every level
    ticket@12/15               the ticket at levels 12 and 15 only.  Other levels are left out only
                               with strategy=continued, which makes no level from the ticket below
    reinit                     a control, once at every level from 1 on
    reinit:3@3/5/7/9-12        a control, three times at each of levels 3, 5, 7, 9, 10, 11 and 12
    reinit@last                a control at the last level only, whichever that is
    ticket:2@4                 the ticket twice at level 4, the second time with another data order
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from lth_keras.arguments import meant
from lth_keras.controls.known import CONTROLS
from lth_keras.errors import LotteryError

TICKET = "ticket"
LAST = -1  # In place of a level: the last level of the run.
# Limits far above any real search. A level from a file decides how many levels are read.
MOST_LEVEL = 9999
_MOST_REPEATS = 10_000
_SPEC = re.compile(r"([^:@]+)(?::([0-9]{1,6}))?(?:@(.+))?")


@dataclasses.dataclass(frozen=True)
class Branch:
    """One branch of an experiment.

    Attributes:
      name: "ticket", or the name of a control.
      repeats: how many networks are trained at a level, >= 1.
      levels: the levels at which they are trained; None for all, (LAST,) for the run's last.

    Example:
      >>> str(Branch("reinit", repeats=3, levels=(5, 7, 8)))
      'reinit:3@5/7-8'
    """

    name: str
    repeats: int = 1
    levels: tuple[int, ...] | None = None

    def at(self, level: int) -> int:
        """Returns how many networks this branch trains at a level.

        Controls have none at level 0, where they would be the dense network itself.  A ticket
        that the next level is made from is trained even if its level is not listed here
        (`trainings.at_level`).

        Example:
          >>> branch = parse("reinit:3@2/4")
          >>> [branch.at(level) for level in range(5)]
          [0, 0, 3, 0, 3]
          >>> [parse("ticket:2@1").at(level) for level in range(3)]
          [0, 2, 0]
        """
        asked = self.repeats if self.levels is None or level in self.levels else 0
        return asked if level or self.name == TICKET else 0

    def until(self, rounds: int) -> "Branch":
        """Returns the branch with "last" replaced by the last level of a run with `rounds` rounds.

        Example:
          >>> str(parse("reinit@last").until(3))
          'reinit@3'
        """
        return self if self.levels != (LAST,) else \
            dataclasses.replace(self, levels=(rounds,) if rounds or self.name == TICKET else ())

    def __str__(self) -> str:
        repeats = f":{self.repeats}" if self.repeats > 1 else ""
        return f"{self.name}{repeats}{_levels_text(self.levels)}"


def parse(text: str) -> Branch:
    """Parses a branch as the command line writes it.

    Raises:
      LotteryError: if the text is not a branch, or names an unknown control.

    Example:
      >>> parse("reinit:3@3/5/9-11")
      Branch(name='reinit', repeats=3, levels=(3, 5, 9, 10, 11))
      >>> str(parse("reinit:3@3/5/9-11"))
      'reinit:3@3/5/9-11'
    """
    # An unknown name gets a list of names, a known one with a wrong ending the notation.
    match = _SPEC.fullmatch(text.strip())
    name = match[1].strip() if match else re.split("[:@]", text)[0].strip()
    if not match and name in (TICKET, *CONTROLS):
        raise LotteryError("branches must be NAME, NAME:REPEATS or NAME:REPEATS@LEVELS, such as "
                           f"{name}:3@5/7-9. Received: {text:.100}.")
    if name not in (TICKET, *CONTROLS):
        raise LotteryError(f"branches must name {', '.join((TICKET, *CONTROLS))}, such as reinit, "
                           f"reinit:3 or reinit:3@5/7-9. Received: {text or 'none'!s:.100}."
                           f"{meant(name, (TICKET, *CONTROLS))}")
    assert match is not None
    repeats = int(match[2] or 1)
    if not 1 <= repeats <= _MOST_REPEATS:
        raise LotteryError(f"branches must have 1 to {_MOST_REPEATS:,} repeats at a level. "
                           f"Received: {text:.100}.")
    levels = None if match[3] is None else _levels(match[3], text)
    return Branch(name, repeats, levels)


def check(texts: Sequence[str]) -> tuple[str, ...]:
    """Checks branches and returns them in one canonical form: the ticket first, then controls.

    Two settings that mean the same must have the same fingerprint, and so the same workdir.

    Raises:
      LotteryError: if they are not a tuple or list of branches, are empty, or name one twice.

    Example:
      >>> check(["reinit:3@5/6/7"])
      ('ticket', 'reinit:3@5-7')
    """
    if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) for text in texts):
        raise LotteryError(f"branches must be a tuple of names. Received: {texts!r}.")
    found = [parse(text) for text in texts]
    if not found:
        raise LotteryError(f"branches must name {', '.join((TICKET, *CONTROLS))}. Received: none.")
    by_name: dict[str, Branch] = {}
    for branch in found:
        if by_name.setdefault(branch.name, branch) != branch:
            raise LotteryError("branches must name each branch once. Received: "
                               f"{by_name[branch.name]} and {branch}.")
    # Every control is made from the ticket's masks, so the ticket is always trained.
    by_name.setdefault(TICKET, Branch(TICKET))
    return tuple(str(by_name[name]) for name in (TICKET, *CONTROLS) if name in by_name)


def _levels(text: str, whole: str) -> tuple[int, ...]:
    # "3/5/7-9" -> 3, 5, 7, 8, 9. A comma separates branches on the command line, so "/" is used.
    if text.strip() == "last":
        return (LAST,)
    levels: set[int] = set()
    for part in text.split("/"):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise LotteryError(f"branches must have levels from 0 to {MOST_LEVEL} or ranges of "
                               f"levels, such as 3/5/7-9. Received: {whole:.100}.")
        levels.update(range(first, last + 1))
    return tuple(sorted(levels))


def _levels_text(levels: tuple[int, ...] | None) -> str:
    if levels is None:
        return ""
    if levels == (LAST,):
        return "@last"
    return "@" + "/".join(ranges(levels))


def ranges(levels: Iterable[int]) -> list[str]:
    """Writes rising levels as text, with consecutive levels as one range.

    Example:
      >>> ranges([3, 5, 7, 8, 9])
      ['3', '5', '7-9']
    """
    runs: list[list[int]] = []
    for level in levels:
        if runs and level == runs[-1][-1] + 1:
            runs[-1].append(level)
        else:
            runs.append([level])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
