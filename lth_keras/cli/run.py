"""The command `lth run`: trains an experiment from a preset and reports its results."""

import argparse
import dataclasses
import pathlib
from typing import TYPE_CHECKING, TypeVar

from lth_keras.cli import flags
from lth_keras.cli.presets import run_help, set_words, VALUES
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import own, presets
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.worker import DEVICES, Placement

if TYPE_CHECKING:
    from rich.console import Console

_Default = TypeVar("_Default", bound=int | None)

# The settings that have a flag of their own; --set takes all settings.
_FLAGS = ("network", "rounds", "steps", "replicates", "first_replicate", "seed", "branches",
          "margin", "engine")


def epilog() -> str:
    """Returns what the help says below the flags."""
    return run_help()


def add_flags(run: argparse.ArgumentParser) -> None:
    """Adds the flags of `lth run` to its parser."""
    preset = run.add_argument("preset", metavar="PRESET", nargs="?",
                              help="the name of a preset, see below, or a file NAME.npz of your "
                              "own data, with the arrays x_train, y_train, x_test and y_test")
    flags.completed(preset, presets.PRESETS)
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(Config)}
    for name in _FLAGS:
        flag = run.add_argument(f"--{name}", help=f"{helps[name]} (default: the preset's)")
        flags.completed(flag, VALUES.get(name, ()))
    run.add_argument("--scale", help="multiply all steps of the preset and its learning-rate "
                                     "schedule by a number in (0, 1], for a shorter run "
                                     "(default: 1)")
    run.add_argument("--workdir", help="folder for the results (default: "
                                       "runs/PRESET-FINGERPRINT)")
    run.add_argument("--data_dir", help="folder of tensorflow-datasets, or a file that `lth "
                                        "data prepare` wrote (default: $TFDS_DATA_DIR, or "
                                        "~/tensorflow_datasets)")
    run.add_argument("--download", action="store_true", help="let tensorflow-datasets download "
                     "the data set, if it is missing")
    flags.completed(run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change any setting listed below; may be given several times"), set_words())
    _add_placement(run)
    flags.completed(run.add_argument(
        "--on_divergence", default="stop", help="what to do when the loss or weights of a training "
        "become NaN or infinite: stop (exit code 1), or continue with the trainings that do not "
        "depend on it (default: %(default)s)"), ("stop", "continue"))
    run.add_argument("--tensorboard", metavar="DIR", help="write what TensorBoard shows to this "
                     "folder, each training when it is finished")
    run.add_argument("--on_row", action="append", default=[], metavar="MODULE:FUNCTION",
                     help="call a function of yours with each finished training's row of "
                     "results.csv, a dict; may be given several times")
    run.add_argument("--repair", action="store_true", help="train again what is damaged in the "
                     "workdir, and only that; without it, damage is an error")
    run.add_argument("--dry_run", action="store_true",
                     help="measure the speed, print how long the run would take, and stop")


def _add_placement(run: argparse.ArgumentParser) -> None:
    # Where networks are trained, and how many at once.
    run.add_argument("--jobs", help="how many networks to train at the same time, each in its own "
                                    "process (default: the number of cores or cluster workers; 1 "
                                    "with --distribute, and with --engine keras on JAX if there is "
                                    "a GPU or TPU)")
    run.add_argument("--together", help="how many networks each process trains at the same time, "
                     "as one program: with --engine keras on JAX (default: on a GPU or TPU the "
                     "number of replicates, or as many as fit into its memory; 1 elsewhere)")
    run.add_argument("--threads", help="CPU threads of each process; 0 for all cores (default: 1; "
                                       "all cores with --distribute)")
    flags.completed(run.add_argument(
        "--backend", default="loky", help="where the processes run: loky for this machine; ray or "
        "dask for the cluster that RAY_ADDRESS or DASK_SCHEDULER_ADDRESS names (default: "
        "%(default)s)"), ("loky", "ray", "dask"))
    flags.completed(run.add_argument(
        "--distribute", default="none", help="the devices that train one network: none (the first "
        "device), mirrored (all GPUs) or tpu (default: %(default)s)"), DEVICES)
    run.add_argument("--resident_mib", help="stream training data larger than this many MiB to "
                                            "the device instead of keeping it there (default: "
                                            f"{Placement.resident_mib})")


def run(arguments: argparse.Namespace, console: "Console") -> None:
    """Runs `lth run`: trains what is missing in the workdir, then reports it.

    Raises:
      LotteryError: if an argument is not allowed.
      WorkdirError: if the workdir is damaged, in use, or of another experiment.
      DivergedError: if a training diverged, unless `--on_divergence continue` is given.
      OSError: if a file cannot be written.
    """
    # What a page of help does without: it would take most of its time.
    from lth_keras.experiments import clusters, row_hooks
    from lth_keras.experiments.experiment import ON_DIVERGENCE
    from lth_keras.experiments.run_experiment import run_experiment, RunOptions
    from lth_keras.experiments.source import resolved
    config = resolved(_config(arguments))
    distribute = flags.choice("distribute", arguments.distribute, DEVICES)
    alone = distribute != "none"  # One training uses all devices, so there is one process.
    jobs = _whole(arguments, "jobs", 1, default=1 if alone else None)
    placement = Placement(arguments.data_dir, distribute,
                          _whole(arguments, "threads", 0, default=0 if alone else 1),
                          _whole(arguments, "resident_mib", 0, default=Placement.resident_mib),
                          _whole(arguments, "together", 1, default=None))
    options = RunOptions(placement, jobs, flags.choice("backend", arguments.backend,
                                                       (*clusters.BACKENDS,)),
                         flags.choice("on_divergence", arguments.on_divergence, ON_DIVERGENCE),
                         arguments.repair, arguments.dry_run, arguments.download,
                         [row_hooks.named(text) for text in arguments.on_row])
    # The fingerprint in the default name lets different settings have different workdirs, and the
    # same command find its own.
    root = pathlib.Path(arguments.workdir or
                        pathlib.Path("runs") / f"{config.preset}-{config.fingerprint}")
    folder = pathlib.Path(arguments.tensorboard) if arguments.tensorboard else None
    if folder:
        from lth_keras.reports.tensorboard import LiveEvents
        options = dataclasses.replace(options, on_row=[
            LiveEvents(root, config, folder), *options.on_row])
    if run_experiment(config, root, options, console):
        from lth_keras.reports import report  # matplotlib is not needed before.
        report.show(root, console, tensorboard=folder)


def _config(arguments: argparse.Namespace) -> Config:
    # A flag and --set of the same setting: --set comes last, and so counts.
    if arguments.preset is None:
        raise LotteryError(f"PRESET must be one of {', '.join(presets.PRESETS)}. Received: none. "
                           "`lth presets` describes them; `lth run digits` needs no data.")
    config = own.settings_of(arguments.preset)
    # --scale before --steps and --set: it shortens the preset, not what the user typed.
    if arguments.scale is not None:
        config = config.scaled(flags.number("scale", arguments.scale))
    changes = [(name, getattr(arguments, name)) for name in _FLAGS
               if getattr(arguments, name) is not None]
    for pair in arguments.set:
        key, sign, value = pair.partition("=")
        if not sign:
            raise LotteryError(f"--set takes KEY=VALUE. Received: {pair!r}.")
        changes.append((key, value))
    return config.replace(**dict(changes))


def _whole(arguments: argparse.Namespace, name: str, least: int,
           default: _Default) -> int | _Default:
    text = getattr(arguments, name)
    return default if text is None else flags.whole(name, text, least)
