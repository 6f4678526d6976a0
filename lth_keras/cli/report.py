"""The command `lth report`: prints results and verdicts, draws figures, writes report.html."""

import argparse
import pathlib
from typing import TYPE_CHECKING

from lth_keras.cli.export import add_measuring_flags, exporter_for, sayer
from lth_keras.deployment.manifest import DEFAULT
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import margins
from lth_keras.files import atomic

if TYPE_CHECKING:
    from rich.console import Console

_OUT = "report"  # The folder for the page of several workdirs.
_MEASURING = ("examples", "threads", "data_dir")


def epilog() -> None:
    """There is nothing to say below the flags."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `lth report` to its parser."""
    parser.add_argument("workdirs", metavar="WORKDIR", nargs="*",
                        help="workdirs of `lth run` or of a LotteryTicketCallback; replicates of "
                        "one run in several workdirs are reported together")
    parser.add_argument("--out", help="folder for the figures and report.html (default: plots in "
                                      f"the workdir; for several workdirs: {_OUT})")
    parser.add_argument("--margin", help="how much worse than the dense network still counts as "
                        f"good: {margins.RULE} (default: the run's setting)")
    parser.add_argument("--tensorboard", metavar="DIR", help="also write results and learning "
                        "curves for TensorBoard to this folder")
    parser.add_argument("--deployment", action="store_true", help="instead of the report, export "
                        "and measure every level of a workdir, and draw accuracy, size and "
                        "latency against density")
    add_measuring_flags(parser.add_argument_group("with --deployment"))


def run(arguments: argparse.Namespace, console: "Console") -> None:
    """Runs `lth report`.

    Raises:
      LotteryError: if no workdir is named, or flags exclude each other.
      WorkdirError: if a folder is not a workdir, or no training in it is finished.
      OSError: if a file cannot be written.
    """
    given = [name for name in _MEASURING if getattr(arguments, name) is not None]
    if given and not arguments.deployment:
        raise LotteryError(f"--{given[0]} may be given with --deployment only. "
                           "Received: no --deployment.")
    if arguments.deployment:
        _report_deployment(arguments, console)
        return
    if not arguments.workdirs:
        raise LotteryError("WORKDIR must be a workdir of `lth run` or of a LotteryTicketCallback. "
                           "Received: none.")
    for name in (arguments.out, arguments.tensorboard):
        if name is not None and pathlib.Path(name).exists() and not pathlib.Path(name).is_dir():
            raise LotteryError("--out and --tensorboard must be existing or new folders. "
                               f"Received: {name}, a file.")
    # A workdir named twice would count as two replicates.
    roots = list(dict.fromkeys(pathlib.Path(name) for name in arguments.workdirs))
    asked = None if arguments.margin is None else margins.parse(arguments.margin)
    out, tensorboard = (None if name is None else pathlib.Path(name)
                        for name in (arguments.out, arguments.tensorboard))
    from lth_keras.reports.report import show
    show(roots, console, out, tensorboard, asked)


def _report_deployment(arguments: argparse.Namespace, console: "Console") -> None:
    from lth_keras.experiments.results import fits, paths
    from lth_keras.reports import deployment_tables
    from lth_keras.reports.plots.drawing import save
    if arguments.tensorboard:
        raise LotteryError("--deployment writes nothing for TensorBoard. Received: --deployment "
                           "and --tensorboard.")
    if arguments.margin:
        raise LotteryError("--deployment gives no verdict, so --margin is for the report alone. "
                           "Received: --deployment and --margin.")
    if len(arguments.workdirs) != 1:
        raise LotteryError("--deployment must be given with exactly one WORKDIR. Received: "
                           f"{' '.join(arguments.workdirs) or 'none'}.")
    root, say = pathlib.Path(arguments.workdirs[0]), sayer(console)
    if fits.is_fit(root):
        raise LotteryError("--deployment needs a workdir of `lth run`, which keeps the trained "
                           f"networks of all levels. Received: {root}, the workdir of a "
                           "LotteryTicketCallback. Call lth.export with the trained model instead.")
    paths.require(root)
    config = paths.read_config(root)
    replicate = paths.first_replicate(root)
    # Exported files stay in WORKDIR/deployment, so that a second report measures nothing again.
    rows = exporter_for(arguments, say).survey(root, replicate, DEFAULT)
    console.print(deployment_tables.by_level(rows))
    out = pathlib.Path(arguments.out) if arguments.out else root / "plots"
    if not arguments.out:
        paths.check_inside(root, out / "deployment.png")
    atomic.write(out / "deployment.csv", rows.to_csv(index=False))
    title = f"{config.preset}, {config.steps:,} steps, replicate {replicate}: exported files"
    save(deployment_tables.figure(rows, title), out / "deployment.png")
    say(f"table: {out / 'deployment.csv'}")
    say(f"figure: {out / 'deployment.png'}")
