"""The command `lth data`: writes a data set to one file, for machines that cannot load it."""

import argparse
import pathlib
from typing import TYPE_CHECKING

from lth_keras import quiet
from lth_keras.arguments import check_choice
from lth_keras.cli import flags
from lth_keras.errors import LotteryError
from lth_keras.experiments.training import datasets, prepared_data

if TYPE_CHECKING:
    from rich.console import Console

HELP = """\
`lth data prepare mnist --out mnist.npz` reads the data set from tensorflow-datasets and writes its
arrays to one file.  `lth run PRESET --engine keras --data_dir mnist.npz` then needs neither
tensorflow-datasets nor TensorFlow."""

_TASKS = ("prepare",)


def epilog() -> str:
    """Returns what the help says below the flags."""
    return HELP


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `lth data` to its parser."""
    flags.completed(parser.add_argument(
        "task", metavar="TASK", nargs="?", help="prepare: write a data set to a file"), _TASKS)
    flags.completed(parser.add_argument(
        "dataset", metavar="DATASET", nargs="?",
        help="the name of a data set, such as mnist or cifar10"), datasets.DATASETS)
    parser.add_argument("--out", help="the file to write, FILE.npz")
    parser.add_argument("--download", action="store_true", help="let tensorflow-datasets download "
                        "the data set, if it is missing")
    parser.add_argument("--data_dir", help="folder of tensorflow-datasets (default: "
                        "$TFDS_DATA_DIR, or ~/tensorflow_datasets)")


def run(arguments: argparse.Namespace, console: "Console") -> None:
    """Runs `lth data`.

    Raises:
      LotteryError: if an argument is not allowed, or the data set cannot be read.
      OSError: if the file cannot be written.
    """
    check_choice("TASK", arguments.task, _TASKS)
    check_choice("DATASET", arguments.dataset, tuple(datasets.DATASETS))
    if arguments.out is None:
        raise LotteryError("--out must be the file to write, FILE.npz. Received: none.")
    out = pathlib.Path(arguments.out)
    prepared_data.check_name(out)  # Before the data are loaded.
    if arguments.download:
        datasets.download(arguments.dataset, arguments.data_dir, console.print)
    with quiet.loading():
        found = datasets.load(arguments.dataset, arguments.data_dir)
    prepared_data.write(out, arguments.dataset, {
        "x_train": found.x_train, "y_train": found.y_train,
        "x_test": found.x_test, "y_test": found.y_test})
    console.print(f"{arguments.dataset}: {len(found.y_train):,} training and "
                  f"{len(found.y_test):,} test examples in {out}, "
                  f"{out.stat().st_size / 2**20:.1f} MiB", soft_wrap=True, highlight=False)
