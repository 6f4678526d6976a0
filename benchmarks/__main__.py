"""The command: `python -m benchmarks [SECTION ...]`."""

import argparse
import pathlib
import tempfile

from rich.console import Console

from benchmarks import machine, process, rows, tables
from benchmarks.filters import filters
from benchmarks.growth import growth
from benchmarks.keras3 import keras3
from benchmarks.memory import memory
from benchmarks.options import Options
from benchmarks.saves import saves
from benchmarks.search import search
from benchmarks.start import start
from benchmarks.steps import fit, steps
from benchmarks.structures import structures
from benchmarks.together import together

SECTIONS = {"steps": steps, "fit": fit, "keras3": keras3, "search": search, "memory": memory,
            "start": start, "growth": growth, "saves": saves, "structures": structures,
            "together": together, "filters": filters}


def main() -> None:
    """The entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", metavar="SECTION", nargs="*",
                        help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, >= 1 (default: 3)")
    parser.add_argument("--tasks", default="lenet,conv2",
                        help="of the sections steps and fit (default: %(default)s)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true",
                     help="one round of few steps: shows that everything runs, measures nothing")
    how.add_argument("--write", action="store_true", help="keep results.csv and README.md's tables")
    asked = parser.parse_args()
    unknown = [name for name in asked.sections if name not in SECTIONS]
    if unknown or asked.repeats < 1:
        parser.error(f"SECTION must be one of {', '.join(SECTIONS)} and --repeats at least 1. "
                     f"Received: {' '.join(unknown)} --repeats {asked.repeats}.")
    if not {*asked.tasks.split(",")} <= {"lenet", "conv2"}:
        parser.error(f"--tasks must be of lenet,conv2. Received: {asked.tasks}.")
    console = Console()
    if not console.is_terminal:
        console = Console(width=130)
    here = machine.describe()
    for name, value in here.items():
        console.print(f"{name}: {value}", highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(repeats=1 if asked.quick else asked.repeats, quick=asked.quick,
                          tasks=tuple(asked.tasks.split(",")), folder=pathlib.Path(folder),
                          say=lambda line: console.print(line, style="dim", soft_wrap=True))
        for name in asked.sections or SECTIONS:
            try:
                found = SECTIONS[name](options)
            except process.ProcessError as error:
                console.print(f"{name}: left out: {error}", soft_wrap=True, highlight=False)
                continue
            console.print(*tables.rich_tables(found))
            if asked.write:
                _keep(name, found, here)


def _keep(section: str, found: list[rows.Row], here: dict[str, str]) -> None:
    # A section replaces its own rows; the others stay as they are.
    others = [row for row in rows.read(here) if row.section != section]
    order = list(SECTIONS)
    ordered = sorted([*others, *found], key=lambda row: order.index(row.section))
    rows.write(ordered, here)
    tables.write_readme(ordered, here)


if __name__ == "__main__":
    main()
