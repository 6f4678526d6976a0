"""The command `lth analyse`: prints an analysis of workdirs and writes CSV files and a figure."""

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.progress import track

from lth_keras.core.mode_connectivity import POINTS
from lth_keras.errors import LotteryError
from lth_keras.experiments import worker
from lth_keras.experiments.config import branches
from lth_keras.experiments.results import paths
from lth_keras.reports.analyses import connections, instability, movement, overlaps, survivors
from lth_keras.reports.analyses.analysis import Analysis, WorkdirReader
from lth_keras.reports.analyses.fit_reader import open_workdirs
from lth_keras.reports.analyses.output import save, show


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of analysis.

    Attributes:
      analyse: the function of a workdir and levels; None if networks must be evaluated.
      text: a line for the help.

    Example:
      >>> KINDS["overlap"].text
      'weights kept in common by replicates and by levels'
    """

    analyse: "Callable[[WorkdirReader, list[int] | None], Analysis] | None"
    text: str


BARRIER = "barrier"
KINDS = {
    "survivors": Kind(survivors.analyse, "the distribution of the initial values of kept weights"),
    "movement": Kind(movement.analyse, "how far kept and pruned weights moved in training, and "
                                       "how often away from zero"),
    "connections": Kind(connections.analyse, "how evenly the remaining connections are spread "
                                             "over units, incoming and outgoing"),
    "overlap": Kind(overlaps.analyse, "weights kept in common by replicates and by levels"),
    BARRIER: Kind(None, "error along the line between two trained networks (linear mode "
                        "connectivity); for several workdirs that differ in rewind_step: which "
                        "step to rewind to"),
}
HELP = "kinds:\n" + "\n".join(f"  {name:<12} {kind.text}" for name, kind in KINDS.items())
_ONLY_BARRIER = ("points", "data_dir")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `lth analyse` to its parser."""
    parser.add_argument("kind", metavar="KIND", nargs="?", help="the kind of analysis, see below")
    parser.add_argument("workdir", metavar="WORKDIR", nargs="*", help="a workdir of `lth run` or "
                        "of a LotteryTicketCallback; several workdirs of callbacks that differ in "
                        "seed; for barrier, several workdirs that differ in rewind_step")
    parser.add_argument("--levels", help="levels and ranges of levels, such as 0/3/7-9 (default: "
                                         "all)")
    parser.add_argument("--out", help="folder for the CSV files and the figure (default: "
                                      "analysis in the first WORKDIR)")
    parser.add_argument("--points", help="for barrier: how many networks to evaluate on each line "
                                         f"(default: {POINTS})")
    parser.add_argument("--data_dir", help="for barrier: folder of tensorflow-datasets "
                        "(default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Runs `lth analyse`.

    Raises:
      LotteryError: if an argument is not allowed.
      WorkdirError: if a folder is not a workdir, or lacks the files that the analysis needs.
      OSError: if a file cannot be written.
    """
    if arguments.kind not in KINDS:
        raise LotteryError(f"KIND must be one of {', '.join(KINDS)}. "
                           f"Received: {arguments.kind or 'none'}.")
    unused = [f"--{name}" for name in _ONLY_BARRIER if getattr(arguments, name) is not None]
    if unused and arguments.kind != BARRIER:
        raise LotteryError(f"{unused[0]} may be given for {BARRIER} only. "
                           f"Received: {arguments.kind}.")
    roots = [pathlib.Path(name) for name in arguments.workdir]
    if not roots:
        raise LotteryError("WORKDIR must be a workdir of `lth run` or of a LotteryTicketCallback. "
                           "Received: none.")
    levels = _levels(arguments.levels)
    analyse = KINDS[arguments.kind].analyse
    if analyse is None:
        found = _barrier(roots, levels, arguments, console)
    else:
        found = analyse(open_workdirs(roots), levels)
    show(found, levels is None, console)
    folder = pathlib.Path(arguments.out) if arguments.out else roots[0] / "analysis"
    if not arguments.out:  # A link in a workdir must not lead writes out of it.
        paths.check_inside(roots[0], folder)
    save(found, folder, arguments.kind, functools.partial(
        console.print, soft_wrap=True, highlight=False, markup=False))


def _levels(text: "str | None") -> "list[int] | None":
    if text is None:
        return None
    # In the notation of branches, so that their parser can read it.
    try:
        if text.strip() == "last":
            raise LotteryError("A branch's word, not a level's.")
        return list(branches.parse(f"{branches.TICKET}@{text.replace(',', '/')}").levels or ())
    except LotteryError:
        raise LotteryError("--levels must be levels and ranges of levels, such as 0/3/7-9. "
                           f"Received: {text!r:.100}.") from None


def _barrier(roots: list[pathlib.Path], levels: "list[int] | None",
             arguments: argparse.Namespace, console: Console) -> Analysis:
    text = arguments.points
    if text is not None and not (text.isdecimal() and int(text) >= 2):
        raise LotteryError(f"--points must be a whole number >= 2. Received: {text!r}.")
    # One reader for each workdir: they are compared, and not joined as replicates.
    runs = [open_workdirs([root]) for root in roots]
    network: list[Any] = []  # Compiled at the first call: pairs may be missing, which says so fast.

    def error(weights: Any) -> float:
        if not network:
            network.append(worker.evaluator(runs[0].config, worker.Placement(
                arguments.data_dir, threads=0)))
        result: float = network[0].error(weights)
        return result

    def progress(pairs: list[instability.Pair]) -> Iterable[instability.Pair]:
        return track(pairs, "barriers", console=console, transient=True,
                     disable=not console.is_terminal)
    return instability.analyse(runs, error, levels, int(text or POINTS), progress)
