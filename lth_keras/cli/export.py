"""The command `lth export`: exports a ticket's trained network and prints a table of the files."""

import argparse
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from lth_keras import quiet
from lth_keras.arguments import meant
from lth_keras.cli import flags
from lth_keras.deployment import manifest
from lth_keras.deployment.manifest import Budget, COMPACTIONS, DEFAULT, Deployment, TOLERANCE
from lth_keras.errors import LotteryError

if TYPE_CHECKING:
    from rich.console import Console

    from lth_keras.deployment.run_export import RunExporter

BEST = "best"
HELP = f"""formats (default: {', '.join(DEFAULT)}):
  keras, saved_model                   for Keras and TensorFlow
  float32, float16                     TF Lite, weights in this precision
  float32_sparse                       TF Lite, pruned weights left out of the file
  dynamic_int8                         TF Lite, 8-bit weights, float inputs and outputs
  dynamic_int8_shared                  dynamic_int8 with 31 values a unit: compresses better
  int8                                 TF Lite, everything in 8 bits, ranges measured on training
                                       examples
made on request:
  onnx                                 ONNX in float32, checked in onnxruntime: pip install
                                       'lth_keras[onnx]'
  float16_sparse                       float16 with pruned weights left out
  dynamic_int8_sparse, int8_sparse     the same in 8 bits; TF Lite's default interpreter does not
                                       load them: they lie in litert_without_default_delegates/"""
_BUDGETS = ("max_bytes", "max_latency_us", "min_accuracy")
_Say = Callable[[str], None]


def epilog() -> str:
    """Returns what the help says below the flags."""
    return HELP


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `lth export` to its parser."""
    parser.add_argument("source", metavar="TICKET_OR_WORKDIR", nargs="?",
                        help="a workdir or a ticket file that `lth run` made")
    flags.completed(parser.add_argument(
        "--level", help="for a workdir: the number of a level, or best, the sparsest level that is "
        "as accurate as the dense network on validation examples (default: best)"), (BEST,))
    parser.add_argument("--replicate", help="for a workdir: the number of the replicate to export "
                        "(default: the first)")
    flags.completed(parser.add_argument(
        "--formats", help="formats separated by commas, see below"), DEFAULT)
    parser.add_argument("--out", help="folder for the files (default: deploy)")
    flags.completed(parser.add_argument(
        "--compaction", default="units", help="what to remove before converting: units without "
        "connections (units), unused inputs as well (inputs), or nothing (none) (default: "
        "%(default)s)"), COMPACTIONS)
    parser.add_argument("--tolerance", help="percentage points of accuracy that a file may lose "
                        f"against Keras (default: {TOLERANCE}, or one example if there are fewer "
                        "than 1,000)")
    parser.add_argument("--max_bytes", help="choose the most accurate file of at most this size "
                        "in bytes; for a workdir without --level, among all levels")
    parser.add_argument("--max_latency_us", help="choose the most accurate file that needs at "
                        "most this many microseconds for one example")
    parser.add_argument("--min_accuracy", help="choose the smallest file with at least this "
                        "accuracy, in [0, 1]")
    add_measuring_flags(parser)


def add_measuring_flags(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that say how files are measured."""
    parser.add_argument("--examples", help="number of test examples to compare files on (default: "
                        "all)")
    parser.add_argument("--threads", help="CPU threads to measure latency with (default: 1)")
    parser.add_argument("--data_dir", help="folder of tensorflow-datasets (default: "
                        "$TFDS_DATA_DIR, or ~/tensorflow_datasets)")


def run(arguments: argparse.Namespace, console: "Console") -> int:
    """Runs `lth export`.

    Returns:
      The exit code: 1 if a requested format could not be shipped, or no file is within the
      budget.

    Raises:
      LotteryError: if an argument is not allowed, or the source is not a workdir or ticket.
    """
    # What a page of help does without, here and below: it would take most of its time.
    from lth_keras.deployment import trained_networks
    say = sayer(console)
    asked, exporter = _asked(arguments), exporter_for(arguments, say)
    dense, formats = None, asked.formats
    out = manifest.check_folder(arguments.out or "deploy")
    if not asked.path.is_dir():
        source = exporter.from_file(asked.path)
    else:
        if to_come := trained_networks.to_come(asked.path):
            say(to_come)
        chosen = _choose(arguments, asked, exporter, say)
        if chosen is None:
            return 1
        level, formats = chosen
        source = trained_networks.from_workdir(asked.path, level, asked.replicate)
        if 0 in trained_networks.levels(asked.path, asked.replicate):
            dense = trained_networks.from_workdir(asked.path, 0, asked.replicate)
    # The dense network is measured too, so that sizes and latencies have something to compare to.
    made = exporter.export(source, out, formats, dense)
    _show(made, out, console, say)
    if not asked.budget:
        return 1 if made.refused else 0
    row = asked.budget.choose(made.rows)
    if row is None:
        say(f"No file has {asked.budget}. {asked.budget.nearest(made.rows)}")
        return 1
    say(f"{asked.budget}: {row.file} in {row.runtime}, {row.bytes:,.0f} bytes, "
        f"{row.latency_1_us:,.1f} us, accuracy {row.accuracy:.2%}")
    # With a budget, a refused format is a failure only if the user asked for it by name.
    return 1 if arguments.formats and made.refused else 0


def _show(made: Deployment, out: pathlib.Path, console: "Console", say: _Say) -> None:
    from lth_keras.deployment import model_card
    from lth_keras.reports import deployment_tables
    from lth_keras.reports.analyses import widths
    widths.show(lambda without: deployment_tables.table(made, wide=not without),
                ("memory, NaN, quartiles and batches of 32",), console)
    if model_card.only_measure(made) is None:
        console.print(deployment_tables.by_output(made))
    for line in model_card.refusals(made):
        say(f"refused: {line.removeprefix('- ')}")
    if made.facts.get("dense_refused"):
        say(f"The dense network could not be measured: {made.facts['dense_refused']}")
    say(f"files: {out}; see {out / model_card.FILE} and {out / manifest.FILE}")


def _choose(arguments: argparse.Namespace, asked: "_Asked", exporter: "RunExporter",
            say: _Say) -> "tuple[int, tuple[str, ...]] | None":
    # Returns the level and formats to export of a workdir. A budget without --level exports all
    # levels first, since only measurements can tell which level and format is within it.
    from lth_keras.deployment import trained_networks
    root, budget = asked.path, asked.budget
    if arguments.level not in (None, BEST):
        return _level(arguments.level), asked.formats
    if not budget or arguments.level == BEST:
        best = trained_networks.best_level(root, asked.replicate)
        say(f"best: level {best}, the sparsest level that is as accurate as the dense network on "
            "validation examples")
        return best, asked.formats
    rows = exporter.survey(root, asked.replicate, asked.formats)
    row = budget.choose(rows)
    if row is None:
        say(f"No file of any level has {budget}. {budget.nearest(rows)}")
        return None
    return int(row.level), (str(row["format"]),)


def _level(text: str) -> int:
    if not text.isdecimal():
        raise LotteryError("--level must be the number of a level, such as 3, or best, the "
                           "sparsest that is as accurate as the dense network. "
                           f"Received: {text!r:.100}.{meant(text, (BEST,))}")
    return int(text)


def exporter_for(arguments: argparse.Namespace, say: _Say) -> "RunExporter":
    """Makes the exporter from a command's flags; `lth report --deployment` has fewer of them."""
    from lth_keras.deployment.run_export import RunExporter, Settings
    given = vars(arguments)
    settings = Settings(
        tolerance=None if given.get("tolerance") is None else
        flags.number("tolerance", given["tolerance"]),
        compaction=flags.choice("compaction", given.get("compaction") or COMPACTIONS[0],
                                COMPACTIONS),
        examples=None if arguments.examples is None else
        flags.whole("examples", arguments.examples, 1),
        threads=flags.whole("threads", arguments.threads or "1", 1))
    return RunExporter(settings, arguments.data_dir, say)


def sayer(console: "Console") -> _Say:
    """Returns a function that prints a line as it is: paths must not be wrapped or coloured."""
    return functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)


@dataclasses.dataclass(frozen=True)
class _Asked:
    path: pathlib.Path
    replicate: int
    budget: Budget
    formats: tuple[str, ...]


def _asked(arguments: argparse.Namespace) -> _Asked:
    from lth_keras.experiments.results import paths
    path = _source(arguments)
    replicate = paths.first_replicate(path) if arguments.replicate is None else \
        flags.whole("replicate", arguments.replicate)
    return _Asked(path, replicate, _budget(arguments), _formats(arguments.formats))


def _source(arguments: argparse.Namespace) -> pathlib.Path:
    # Flags that make no sense for a ticket are refused rather than ignored.
    if arguments.source is None or not os.path.lexists(arguments.source):
        raise LotteryError("TICKET_OR_WORKDIR must be a workdir or a ticket file that `lth run` "
                           f"made. Received: {arguments.source or 'none'}.")
    path = pathlib.Path(arguments.source)
    for name in ("level", "replicate") if not path.is_dir() else ():
        if getattr(arguments, name) is not None:
            raise LotteryError(f"--{name} may be given for a workdir only: a ticket file holds "
                               f"one level of one replicate. Received: {path}.")
    return path


def _formats(text: "str | None") -> tuple[str, ...]:
    if text is None:
        return DEFAULT
    # Checked before anything is trained or converted, though it costs loading TensorFlow.
    names = tuple(dict.fromkeys(text.split(",")))
    with quiet.loading():
        from lth_keras.deployment.conversion import formats
    for name in names:
        formats.get(name)
    return names


def _budget(arguments: argparse.Namespace) -> Budget:
    # Flags are read as text, so that their errors have this package's form, not argparse's.
    size, latency, accuracy = (getattr(arguments, name) for name in _BUDGETS)
    return Budget(None if size is None else flags.whole("max_bytes", size),
                  None if latency is None else flags.number("max_latency_us", latency),
                  None if accuracy is None else flags.number("min_accuracy", accuracy))
