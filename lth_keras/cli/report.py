"""The command `lth report`: tables, verdicts, pictures and a page of workdirs."""

import argparse
import pathlib

from rich.console import Console

from lth_keras.cli.export import add_measuring_flags, exporter_for, sayer
from lth_keras.deployment.manifest import DEFAULT
from lth_keras.errors import LotteryError
from lth_keras.experiments.results import fits, paths
from lth_keras.files import atomic
from lth_keras.reports import deployment_tables
from lth_keras.reports.plots.drawing import save
from lth_keras.reports.report import DEFAULT_OUT, show

_MEASURING = ("examples", "threads", "data_dir")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Gives the command's parser its arguments."""
    parser.add_argument("workdirs", metavar="WORKDIR", nargs="*",
                        help="folders that `lth run` made, or workdirs of fits; those that "
                        "are replicates of one run are joined")
    parser.add_argument("--out", help="folder for the pictures and report.html (default: plots in "
                                      f"the workdir; of several workdirs: {DEFAULT_OUT})")
    parser.add_argument("--tensorboard", metavar="DIR", help="write the results and learning "
                        "curves for TensorBoard too, in this folder")
    parser.add_argument("--deployment", action="store_true", help="instead: export and measure "
                        "every level of a workdir, and draw what each costs to ship")
    add_measuring_flags(parser.add_argument_group("of --deployment"))


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Reports workdirs, or with --deployment what each level of one costs to ship.

    Raises:
      LotteryError: if no workdir is named, or flags do not go together.
      WorkdirError: for a folder that is no workdir, or in which nothing is finished.
      OSError: if a file cannot be written.
    """
    given = [name for name in _MEASURING if getattr(arguments, name) is not None]
    if given and not arguments.deployment:
        raise LotteryError(f"--{given[0]} is for --deployment. Received: no --deployment.")
    if arguments.deployment:
        _report_deployment(arguments, console)
        return
    if not arguments.workdirs:
        raise LotteryError("WORKDIR must be a folder that `lth run` made, or the workdir of a fit. "
                           "Received: none.")
    for name in (arguments.out, arguments.tensorboard):
        if name is not None and pathlib.Path(name).exists() and not pathlib.Path(name).is_dir():
            raise LotteryError("--out and --tensorboard must be folders, or names for new ones. "
                               f"Received: {name}, a file.")
    roots = list(dict.fromkeys(pathlib.Path(name) for name in arguments.workdirs))
    show(roots, console, *(None if name is None else pathlib.Path(name)
                           for name in (arguments.out, arguments.tensorboard)))


def _report_deployment(arguments: argparse.Namespace, console: Console) -> None:
    if arguments.tensorboard:
        raise LotteryError("--deployment has no TensorBoard. Received: both.")
    if len(arguments.workdirs) != 1:
        raise LotteryError("--deployment is of one WORKDIR. Received: "
                           f"{' '.join(arguments.workdirs) or 'none'}.")
    root, say = pathlib.Path(arguments.workdirs[0]), sayer(console)
    if fits.is_fit(root):
        raise LotteryError("--deployment is of a run of `lth run`, which keeps the trained "
                           f"networks of all levels. Received: {root}, the workdir of a fit. Use "
                           "lth.export on the trained model.")
    paths.require(root)
    config = paths.read_config(root)
    replicate = paths.first_replicate(root)
    rows = exporter_for(arguments, say).survey(root, replicate, DEFAULT)
    console.print(deployment_tables.by_level(rows))
    out = pathlib.Path(arguments.out) if arguments.out else root / "plots"
    if not arguments.out:
        paths.check_inside(root, out / "deployment.png")
    atomic.write(out / "deployment.csv", rows.to_csv(index=False))
    title = f"{config.preset}, {config.steps:,} steps, replicate {replicate}: what it costs to ship"
    save(deployment_tables.figure(rows, title), out / "deployment.png")
    say(f"rows: {out / 'deployment.csv'}")
    say(f"picture: {out / 'deployment.png'}")
