"""The workdirs of searches in `fit`, as the analyses read them: their tickets, and no more."""

import pathlib
from collections.abc import Iterable, Sequence

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import fits
from lth_keras.files.state_file import ticket_name
from lth_keras.files.ticket import Ticket
from lth_keras.reports.analyses.analysis import WorkdirReader


class FitReader(WorkdirReader):
    """One search in `fit`, or several that are replicates of each other.

    Args:
      roots: their workdirs, at least one; the first is replicate 0.

    Raises:
      WorkdirError: if one is damaged or has no ticket yet, or if their settings differ in more
        than the seed.
    """

    def __init__(self, roots: Sequence[pathlib.Path]):
        self.root = roots[0]
        self._roots = list(roots)
        self._fits = [fits.read(root) for root in roots]
        self._levels = [[level for level in range(len(fit.files))
                         if ticket_name(level) in fit.files] for fit in self._fits]
        for root, fit, levels in zip(roots, self._fits, self._levels, strict=True):
            if not levels:
                raise WorkdirError("An analysis needs a ticket, which is there once fit has come "
                                   f"to rewind_step. Received: {root}, where none is.")
            differ = [name for name in {*fit.identity, *self._fits[0].identity}
                      if fit.identity.get(name) != self._fits[0].identity.get(name)]
            if differ:
                raise WorkdirError("Fits that are analysed together must differ in their seed "
                                   f"alone. Received: {roots[0]} and {root}, which differ in "
                                   f"{', '.join(sorted(differ))}.")

    @property
    def title(self) -> str:
        """What it is a search of."""
        return ", ".join(filter(None, ("fit", self._fits[0].length)))

    @property
    def replicates(self) -> list[int]:
        """The numbers of the fits, in the order in which they were given."""
        return list(range(len(self._fits)))

    def check_trained(self, what: str) -> None:
        """Raises a WorkdirError: a fit keeps tickets, and no trained weights but the last."""
        raise WorkdirError(f"{what} needs the trained weights of every level and the data set, "
                           f"which a fit's workdir does not keep. Received: {self.root}. A run of "
                           "`lth run` keeps them.")

    def levels(self, among: "Iterable[int] | None" = None) -> dict[int, list[int]]:
        """The levels that have a ticket, by replicate; see `WorkdirReader.levels`."""
        wanted = None if among is None else sorted(set(among))
        found = {number: levels if wanted is None else [level for level in wanted
                                                        if level in levels]
                 for number, levels in enumerate(self._levels)}
        if not any(found.values()):
            raise WorkdirError("An analysis needs a level that has a ticket. Received: levels "
                               f"{', '.join(map(str, wanted or ()))} of {self.root}, where none "
                               "has.")
        return found

    def ticket(self, replicate: int, level: int) -> Ticket:
        """The ticket of a level of a fit."""
        return fits.read_ticket(self._roots[replicate], self._fits[replicate], level)

    def has_trained(self, training: Training) -> bool:
        """False: trained weights are not kept."""
        return False


def open_workdirs(roots: Sequence[pathlib.Path]) -> WorkdirReader:
    """The reader of one workdir of `lth run`, or of one or several of searches in `fit`.

    Raises:
      LotteryError: if several are given that are not all of fits.
      WorkdirError: if a workdir cannot be read.
    """
    if all(map(fits.is_fit, roots)):
        return FitReader(roots)
    if len(roots) > 1:
        raise LotteryError("WORKDIR can be several for barrier, or if all are workdirs of fits. "
                           f"Received: {' '.join(map(str, roots))}.")
    return WorkdirReader(roots[0])
