"""The analyses of `lth analyse` with flags of their own.

Barriers, sensitivity and untrained tickets evaluate networks: they need the run's network and data
set, which the packages of reports never load.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from lth_keras.arguments import check_choice
from lth_keras.cli import flags
from lth_keras.core.mode_connectivity import POINTS
from lth_keras.errors import LotteryError
from lth_keras.experiments import worker
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import Config
from lth_keras.reports.analyses import differences
from lth_keras.reports.analyses.analysis import Analysis
from lth_keras.reports.analyses.fit_reader import open_workdirs
from lth_keras.reports.analyses.networks import instability, sensitivity, untrained
from lth_keras.reports.analyses.networks.network import Network

Item = TypeVar("Item")
BETWEEN = ("levels",)


def barrier(roots: Sequence[pathlib.Path], levels: "list[int] | None",
            arguments: argparse.Namespace, console: Console) -> Analysis:
    """Measures the barriers between the trained networks of one or several workdirs.

    Args:
      roots: the workdirs.
      levels: the levels, or None for all.
      arguments: the flags, of which --between, --points and --data_dir are read.
      console: the console of the progress bar.
    """
    if arguments.between is not None:
        check_choice("--between", arguments.between, BETWEEN)
        if len(roots) > 1:
            raise LotteryError(f"--between {arguments.between} needs one WORKDIR. Received: "
                               f"{' '.join(map(str, roots))}.")
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
    points, progress = int(text or POINTS), _progress("barriers", console)
    if arguments.between:
        return instability.between_levels(runs[0], error, levels, points, progress)
    return instability.analyse(runs, error, levels, points, progress)


def sensitivity_of(roots: Sequence[pathlib.Path], levels: "list[int] | None",
                   arguments: argparse.Namespace, console: Console) -> Analysis:
    """Measures how accuracy falls with the pruned share of each layer alone.

    Args:
      roots: the workdir.
      levels: not used; it is the dense network's that is pruned.
      arguments: the flags, of which --shares, --replicates and --data_dir are read.
      console: the console of the progress bar.
    """
    shares = sensitivity.SHARES if arguments.shares is None else _shares(arguments.shares)
    replicates = None if arguments.replicates is None else \
        flags.numbers("replicates", arguments.replicates, "replicates")
    run = open_workdirs(roots)
    return sensitivity.analyse(run, lambda: _network(run.config, arguments.data_dir), replicates,
                               shares, _progress("layers", console))


def differences_of(roots: Sequence[pathlib.Path], levels: "list[int] | None",
                   arguments: argparse.Namespace, console: Console) -> Analysis:
    """Compares the accuracies of the networks of each level.

    Args:
      roots: the workdirs.
      levels: the levels, or None for all.
      arguments: the flags, of which --against and --at are read.
      console: not used.
    """
    at = arguments.at or next(iter(differences.PLACES))
    check_choice("--at", at, differences.PLACES)
    return differences.analyse([open_workdirs([root]) for root in roots], levels,
                               arguments.against or TICKET, at)


def untrained_of(roots: Sequence[pathlib.Path], levels: "list[int] | None",
                 arguments: argparse.Namespace, console: Console) -> Analysis:
    """Measures the accuracy of tickets before training.

    Args:
      roots: the workdir.
      levels: the levels, or None for all.
      arguments: the flags, of which --criteria and --data_dir are read.
      console: the console of the progress bar.
    """
    run = open_workdirs(roots)
    names = tuple(name.strip() for name in (arguments.criteria or "").split(",") if name.strip())
    return untrained.analyse(run, lambda: _network(run.config, arguments.data_dir), levels, names,
                             _progress("replicates", console))


def _shares(text: str) -> list[float]:
    found = [flags.number("shares", part) for part in text.replace(",", "/").split("/")]
    if not all(0 < share < 1 for share in found):  # NaN too.
        raise LotteryError("--shares must be shares of a layer in (0, 1), such as 0.25/0.5/0.75. "
                           f"Received: {text!r:.100}.")
    return found


def _network(config: Config, data_dir: "str | None") -> Network:
    # One network at a time: the memory of others would be of no use.
    placement = worker.Placement(data_dir, threads=0, together=1)
    evaluator = worker.evaluator(config, placement)
    runner = worker.load_runner(config, placement)
    return Network(runner.rule, runner.trainer.prunable, evaluator.evaluate,
                   runner.trainer.uses(), runner.provided)


def _progress(what: str, console: Console) -> Callable[[list[Item]], Iterable[Item]]:
    return functools.partial(track, description=what, console=console, transient=True,
                             disable=not console.is_terminal)
