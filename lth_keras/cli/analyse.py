"""The command `lth analyse`: prints an analysis of workdirs and writes CSV files and a figure."""

import argparse
import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable
from typing import Any, TYPE_CHECKING

from lth_keras.cli import flags
from lth_keras.core.mode_connectivity import POINTS
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.branches import TICKET

if TYPE_CHECKING:
    from rich.console import Console


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of analysis.

    Attributes:
      function: the function of a `WorkdirReader` and levels, or where it is, as "MODULE:FUNCTION":
        the help does without what it loads.
      text: a line for the help.
      has_flags: whether it reads flags of its own; it is then a function of workdirs, levels, flags
        and the console.

    Example:
      >>> KINDS["overlap"].text
      'weights kept in common by replicates and by levels'
    """

    function: "Callable[..., Any] | str"
    text: str
    has_flags: bool = False

    def analyse(self, *arguments: Any) -> Any:
        """Calls the function, and returns its `reports.analyses.analysis.Analysis`."""
        if callable(self.function):
            return self.function(*arguments)
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(*arguments)


_FOUND = "lth_keras.reports.analyses"
_OWN = "lth_keras.cli.network_analyses"
BARRIER, DIFFERENCES, SENSITIVITY = "barrier", "differences", "sensitivity"
UNTRAINED = "untrained"
KINDS = {
    "survivors": Kind(f"{_FOUND}.survivors:analyse",
                      "the distribution of the initial values of kept weights"),
    "movement": Kind(f"{_FOUND}.movement:analyse", "how far kept and pruned weights moved in "
                     "training, and how often away from zero"),
    "connections": Kind(f"{_FOUND}.connections:analyse", "how evenly the remaining connections "
                        "are spread over units, incoming and outgoing"),
    "overlap": Kind(f"{_FOUND}.overlaps:analyse",
                    "weights kept in common by replicates and by levels"),
    "signs": Kind(f"{_FOUND}.signs:analyse", "how many kept weights change their sign in training"),
    BARRIER: Kind(f"{_OWN}:barrier", "error along the line between two trained networks (linear "
                  "mode connectivity); for several workdirs that differ in rewind_step: which "
                  "step to rewind to", True),
    DIFFERENCES: Kind(f"{_OWN}:differences_of", "test accuracies of the networks of each level, "
                      "less those of one of them, with a verdict on each: better, worse, or no "
                      "difference; for several workdirs that differ in settings such as "
                      "retraining, of all their tickets", True),
    SENSITIVITY: Kind(f"{_OWN}:sensitivity_of", "test accuracy against the pruned share of one "
                      "layer, each layer alone, from the trained dense network", True),
    UNTRAINED: Kind(f"{_OWN}:untrained_of", "test accuracy of tickets before they are trained, of "
                    "random masks, and of the masks of other criteria", True),
}
# Flag -> the kinds that it may be given for; others may be given for all.
_ONLY = {"points": (BARRIER,), "between": (BARRIER,), "shares": (SENSITIVITY,),
         "replicates": (SENSITIVITY,), "against": (DIFFERENCES,), "at": (DIFFERENCES,),
         "criteria": (UNTRAINED,), "data_dir": (BARRIER, SENSITIVITY, UNTRAINED)}


def epilog() -> str:
    """Returns what the help says below the flags: all kinds."""
    return "kinds:\n" + "\n".join(f"  {name:<12} {kind.text}" for name, kind in KINDS.items())


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `lth analyse` to its parser."""
    flags.completed(parser.add_argument(
        "kind", metavar="KIND", nargs="?", help="the kind of analysis, see below"), KINDS)
    parser.add_argument("workdir", metavar="WORKDIR", nargs="*", help="a workdir of `lth run` or "
                        "of a LotteryTicketCallback; several workdirs of callbacks that differ in "
                        "seed; for barrier, several workdirs that differ in rewind_step; for "
                        "differences, in any setting that leaves replicates comparable")
    parser.add_argument("--levels", help="levels and ranges of levels, such as 0/3/7-9 (default: "
                                         "all)")
    parser.add_argument("--out", help="folder for the CSV files and the figure (default: "
                                      "analysis in the first WORKDIR)")
    parser.add_argument("--points", help="for barrier: how many networks to evaluate on each line "
                                         f"(default: {POINTS})")
    flags.completed(parser.add_argument(
        "--between", metavar="levels", help="for barrier: levels, for the lines between the "
        "trained tickets of each level and the level below (default: between data orders, and "
        "between a ticket and its parent)"), ("levels",))
    parser.add_argument("--shares", help="for sensitivity: shares of a layer to prune, such as "
                                         "0.25/0.5/0.75 (default: 0.1/0.2/.../0.9)")
    parser.add_argument("--replicates", help="for sensitivity: replicates and ranges of them whose "
                                             "dense networks to prune, such as 0/2-4 (default: the "
                                             "first)")
    parser.add_argument("--against", help="for differences: the network that the others are "
                        f"compared with, such as reinit or fine_tuning (default: {TICKET})")
    flags.completed(parser.add_argument(
        "--at", help="for differences: where accuracies are measured, early_stop or end (default: "
        "early_stop)"), ("early_stop", "end"))
    parser.add_argument("--criteria", help="for untrained: criteria whose masks of the trained "
                        "dense network to evaluate too, such as large_final,magnitude_increase "
                        "(default: none)")
    parser.add_argument("--data_dir", help="for barrier, sensitivity and untrained: folder of "
                        "tensorflow-datasets (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)")


def run(arguments: argparse.Namespace, console: "Console") -> None:
    """Runs `lth analyse`.

    Raises:
      LotteryError: if an argument is not allowed.
      WorkdirError: if a folder is not a workdir, or lacks the files that the analysis needs.
      OSError: if a file cannot be written.
    """
    # What a page of help does without: it would take most of its time.
    from lth_keras.experiments.results import paths
    from lth_keras.reports.analyses.fit_reader import open_workdirs
    from lth_keras.reports.analyses.output import save, show
    if arguments.kind not in KINDS:
        raise LotteryError(f"KIND must be one of {', '.join(KINDS)}. "
                           f"Received: {arguments.kind or 'none'}.")
    _check_flags(arguments)
    roots = [pathlib.Path(name) for name in arguments.workdir]
    if not roots:
        raise LotteryError("WORKDIR must be a workdir of `lth run` or of a LotteryTicketCallback. "
                           "Received: none.")
    levels = None if arguments.levels is None else \
        flags.numbers("levels", arguments.levels, "levels")
    kind = KINDS[arguments.kind]
    found = kind.analyse(roots, levels, arguments, console) if kind.has_flags else \
        kind.analyse(open_workdirs(roots), levels)
    show(found, levels is None, console)
    folder = pathlib.Path(arguments.out) if arguments.out else roots[0] / "analysis"
    if not arguments.out:  # A link in a workdir must not lead writes out of it.
        paths.check_inside(roots[0], folder)
    name = "_".join(filter(None, (arguments.kind, arguments.between)))
    save(found, folder, name, functools.partial(
        console.print, soft_wrap=True, highlight=False, markup=False))


def _check_flags(arguments: argparse.Namespace) -> None:
    for name, kinds in _ONLY.items():
        if getattr(arguments, name) is not None and arguments.kind not in kinds:
            *before, last = kinds
            among = f"{', '.join(before)} and {last}" if before else last
            raise LotteryError(f"--{name} may be given for {among} only. "
                               f"Received: {arguments.kind}.")
    if arguments.levels is not None and arguments.kind == SENSITIVITY:
        raise LotteryError(f"--levels may not be given for {SENSITIVITY}, which prunes the dense "
                           f"network. Received: {arguments.levels!r:.100}. Leave it out.")
