"""Reads the workdirs of searches in `fit` for the analyses; they hold tickets only."""

import pathlib
from collections.abc import Iterable, Sequence

import pandas as pd

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import fits
from lth_keras.files.ticket import Ticket, ticket_name
from lth_keras.reports.analyses.analysis import WorkdirReader


class FitReader(WorkdirReader):
    """One search in `fit`, or several that are replicates of each other.

    Args:
      roots: the workdirs, at least one; the first is replicate 0, and so on.

    Raises:
      WorkdirError: if a workdir is damaged or has no ticket yet, or if their settings differ in
        anything but the seed.
    """

    def __init__(self, roots: Sequence[pathlib.Path]):
        # super().__init__ is not called: a fit has no configuration, and no store.
        self.root = roots[0]
        self._roots = list(roots)
        self._fits = [fits.read(root) for root in roots]
        self._levels = [[level for level in range(len(fit.files))
                         if ticket_name(level) in fit.files] for fit in self._fits]
        for root, fit, levels in zip(roots, self._fits, self._levels, strict=True):
            if not levels:
                raise WorkdirError("An analysis needs a ticket, which a fit writes when it reaches "
                                   f"rewind_step. Received: {root}, without a ticket.")
            # Replicates differ in their seed only; anything else makes another experiment.
            differ = [name for name in {*fit.identity, *self._fits[0].identity}
                      if fit.identity.get(name) != self._fits[0].identity.get(name)]
            if differ:
                raise WorkdirError("Fits that are analysed together must differ only in their "
                                   f"seed. Received: {roots[0]} and {root}, which differ in "
                                   f"{', '.join(sorted(differ))}.")

    @property
    def title(self) -> str:
        """The title of the search: "fit" and its length."""
        return ", ".join(filter(None, ("fit", self._fits[0].length)))

    @property
    def results(self) -> pd.DataFrame:
        """Raises a WorkdirError: of each level, a fit trains one network only."""
        raise WorkdirError("Differences are those between the networks that `lth run` trains at "
                           f"each level; a fit trains one. Received: {self.root}.")

    @property
    def replicates(self) -> list[int]:
        """The numbers of the fits, in the order in which they were given."""
        return list(range(len(self._fits)))

    def check_trained(self, what: str) -> None:
        """Raises a WorkdirError: of trained weights, a fit keeps only those of the last level."""
        raise WorkdirError(f"{what} needs the trained weights of every level and the data set, "
                           f"which a fit's workdir does not keep. Received: {self.root}. Use a "
                           "workdir of `lth run` instead.")

    def levels(self, among: "Iterable[int] | None" = None,
               untrained: bool = False) -> dict[int, list[int]]:
        """Returns the levels that have a ticket, by replicate; see `WorkdirReader.levels`."""
        wanted = None if among is None else sorted(set(among))
        found = {number: levels if wanted is None else [level for level in wanted
                                                        if level in levels]
                 for number, levels in enumerate(self._levels)}
        if not any(found.values()):
            raise WorkdirError("An analysis needs a level with a ticket. Received: levels "
                               f"{', '.join(map(str, wanted or ()))} of {self.root}, without a "
                               "ticket.")
        return found

    def ticket(self, replicate: int, level: int) -> Ticket:
        """Returns the ticket of a level of a fit."""
        return fits.read_ticket(self._roots[replicate], self._fits[replicate], level)

    def has_trained(self, training: Training) -> bool:
        """Returns False: a fit's workdir keeps no trained weights."""
        return False


def open_workdirs(roots: Sequence[pathlib.Path]) -> WorkdirReader:
    """Opens one workdir of `lth run`, or one or several workdirs of searches in `fit`.

    Raises:
      LotteryError: if several workdirs are given and one of them is not of a fit.
      WorkdirError: if a workdir cannot be read.
    """
    # Workdirs of `lth run` hold several replicates themselves; a fit's holds one.
    if all(map(fits.is_fit, roots)):
        return FitReader(roots)
    if len(roots) > 1:
        raise LotteryError("There must be only one WORKDIR, unless the kind is barrier or "
                           "differences, or all are "
                           f"workdirs of fits. Received: {' '.join(map(str, roots))}.")
    return WorkdirReader(roots[0])
