"""The command `lth export`: a ticket's network as files that are checked, with a table of them."""

import argparse
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

from rich.console import Console

from lth_keras import card, deployment, files, flags, layout, sources, tradeoff, work
from lth_keras.deployment import Budget, COMPACTIONS, DEFAULT, TOLERANCE
from lth_keras.errors import LotteryError
from lth_keras.plots import save
from lth_keras.workshop import Settings, Workshop

BEST = "best"
HELP = f"""formats (default: {', '.join(DEFAULT)}):
  keras, saved_model                   for Keras and TensorFlow
  float32, float16                     TF Lite
  float32_sparse                       TF Lite, pruned weights left out
  dynamic_int8                         TF Lite, weights in 8 bits, arithmetic on floats
  int8                                 TF Lite, all in 8 bits, ranges from training examples
  ..._sparse                           the same with pruned weights left out"""
_MEASURING = ("examples", "threads", "data_dir")
_BUDGETS = ("max_bytes", "max_latency_us", "min_accuracy")
_Say = Callable[[str], None]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Gives the command's parser its arguments."""
    parser.add_argument("source", metavar="TICKET_OR_WORKDIR", nargs="?",
                        help="a folder or a ticket file that `lth run` made")
    parser.add_argument("--level", help="of a workdir: a level's number, or best: the sparsest as "
                        "accurate as the dense network on validation examples (default: best)")
    parser.add_argument("--replicate", help="of a workdir: whose network (default: 0)")
    parser.add_argument("--formats", help="formats with commas between them, see below")
    parser.add_argument("--out", help="folder for the files (default: deploy)")
    parser.add_argument("--compaction", default="units", help="what is removed first: units "
                        "without connections; inputs too, by gathering those that are used; or "
                        "none (default: %(default)s)")
    parser.add_argument("--tolerance", default=str(TOLERANCE), help="points of accuracy that a "
                        "format may lose against Keras (default: %(default)s)")
    parser.add_argument("--max_bytes", help="of a workdir: choose the level and format that are "
                        "most accurate within so many bytes")
    parser.add_argument("--max_latency_us", help="... within so many microseconds an example")
    parser.add_argument("--min_accuracy", help="... with at least this accuracy, in [0, 1]")
    add_measuring_flags(parser)


def add_measuring_flags(parser: argparse._ActionsContainer) -> None:
    """Gives a parser the flags that say how files are measured."""
    parser.add_argument("--examples", help="test examples that files are compared on (default: "
                        "all)")
    parser.add_argument("--threads", help="cores that files are timed on (default: 1)")
    parser.add_argument("--data_dir", help="where tensorflow-datasets keeps its data (default: "
                        "$TFDS_DATA_DIR, or ~/tensorflow_datasets)")


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """Gives the parser of `lth report` the flags of --deployment."""
    parser.add_argument("--deployment", action="store_true", help="instead: export and measure "
                        "every level of a workdir, and draw what each costs to ship")
    group = parser.add_argument_group("of --deployment")
    add_measuring_flags(group)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Does what `lth export` does.

    Returns:
      The exit code: 1 if a format that was asked for could not be shipped, or no level and format
      keeps to the budget.

    Raises:
      LotteryError: for an argument that is not allowed, or a source that is none.
    """
    say, budget, path = _sayer(console), _budget(arguments), _source(arguments)
    workshop, formats = _workshop(arguments, say), _formats(arguments.formats)
    out = pathlib.Path(arguments.out or "deploy")
    dense = None
    if not path.is_dir():
        source = workshop.from_file(path)
    else:
        replicate = flags.whole("replicate", arguments.replicate or "0")
        chosen = _choose(path, replicate, budget, workshop, formats, arguments.level, say)
        if chosen is None:
            return 1
        level, formats = chosen
        source = sources.from_workdir(path, level, replicate)
        if 0 in sources.levels(path, replicate):
            dense = sources.from_workdir(path, 0, replicate)
    made = workshop.export(source, out, formats, dense)
    console.print(tradeoff.table(made))
    for name, reason in made.refused.items():
        say(f"{name} was not shipped: {reason}")
    say(f"files: {out}, described in {out / card.FILE} and {out / deployment.FILE}")
    if budget and budget.met(made.rows).empty:
        say(f"None has {budget}. {budget.nearest(made.rows)}")
        return 1
    return 1 if made.refused else 0


def _choose(root: pathlib.Path, replicate: int, budget: Budget, workshop: Workshop,
            formats: Sequence[str], level: "str | None",
            say: _Say) -> "tuple[int, Sequence[str]] | None":
    # The level to export, and the formats.
    if level not in (None, BEST):
        return flags.whole("level", level), formats
    if not budget:
        best = sources.best_level(root, replicate)
        say(f"best: level {best}, the sparsest as accurate as the dense network on validation "
            "examples")
        return best, formats
    rows = workshop.survey(root, replicate, formats)
    row = budget.choose(rows)
    if row is None:
        say(f"No level and format has {budget}. {budget.nearest(rows)}")
        return None
    say(f"{budget}: level {row.level} as {row['format']}, {row.bytes:,.0f} bytes, "
        f"{row.latency_1_us:,.1f} us, accuracy {row.accuracy:.2%}")
    return int(row.level), (str(row["format"]),)


def is_wanted(arguments: argparse.Namespace) -> bool:
    """Whether `lth report` is asked for --deployment.

    Raises:
      LotteryError: if only a flag of it is given, or one that does not go with it.
    """
    of_it = [name for name in _MEASURING if getattr(arguments, name) is not None]
    if of_it and not arguments.deployment:
        raise LotteryError(f"--{of_it[0]} is for --deployment. Received: no --deployment.")
    if arguments.deployment and arguments.tensorboard:
        raise LotteryError("--deployment has no TensorBoard. Received: both.")
    return bool(arguments.deployment)


def report(arguments: argparse.Namespace, console: Console) -> None:
    """Does what `lth report --deployment` does: table and picture of what each level costs.

    Raises:
      LotteryError: for more than one workdir, or one without trained weights.
    """
    if len(arguments.workdirs) != 1:
        raise LotteryError("--deployment is of one WORKDIR. Received: "
                           f"{' '.join(arguments.workdirs) or 'none'}.")
    root, say = pathlib.Path(arguments.workdirs[0]), _sayer(console)
    config = layout.read_config(root)
    rows = _workshop(arguments, say).survey(root, 0, DEFAULT)
    console.print(tradeoff.by_level(rows))
    out = pathlib.Path(arguments.out) if arguments.out else root / "plots"
    if not arguments.out:
        layout.check_inside(root, out / "deployment.png")
    files.write(out / "deployment.csv", rows.to_csv(index=False))
    title = f"{config.preset}, {config.steps:,} steps, replicate 0: what it costs to ship"
    save(tradeoff.figure(rows, title), out / "deployment.png")
    say(f"rows: {out / 'deployment.csv'}")
    say(f"picture: {out / 'deployment.png'}")


def _workshop(arguments: argparse.Namespace, say: _Say) -> Workshop:
    given = vars(arguments)
    settings = Settings(
        tolerance=flags.number("tolerance", given.get("tolerance") or str(TOLERANCE)),
        compaction=flags.choice("compaction", given.get("compaction") or COMPACTIONS[0],
                                COMPACTIONS),
        examples=None if arguments.examples is None else
        flags.whole("examples", arguments.examples, 1),
        threads=flags.whole("threads", arguments.threads or "1", 1))
    return Workshop(settings, arguments.data_dir, say)


def _sayer(console: Console) -> _Say:
    return functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)


def _source(arguments: argparse.Namespace) -> pathlib.Path:
    if arguments.source is None or not os.path.lexists(arguments.source):
        raise LotteryError("TICKET_OR_WORKDIR must be a folder or a ticket file that `lth run` "
                           f"made. Received: {arguments.source or 'none'}.")
    path = pathlib.Path(arguments.source)
    of_workdir = ["level", "replicate", *_BUDGETS]
    for name in of_workdir if not path.is_dir() else ():
        if getattr(arguments, name) is not None:
            raise LotteryError(f"--{name} is for a workdir: a ticket is of one level. "
                               f"Received: {path}.")
    return path


def _formats(text: "str | None") -> tuple[str, ...]:
    if text is None:
        return DEFAULT
    names = tuple(dict.fromkeys(text.split(",")))
    with work.quiet():
        from lth_keras import formats
    for name in names:
        formats.get(name)
    return names


def _budget(arguments: argparse.Namespace) -> Budget:
    given = {name: flags.number(name, getattr(arguments, name)) for name in _BUDGETS
             if getattr(arguments, name) is not None}
    return Budget(**given)
