"""Writes docs/deployment.md from the deployments in docs/deployments.

    python docs/deployment.py                                 the page
    python docs/deployment.py add NAME FOLDER --command TEXT  keeps an export's figures first

FOLDER is what `lth export` wrote.  `lth report WORKDIR --deployment --out docs` writes the picture
and the rows of all levels.
"""

import argparse
import pathlib
from collections.abc import Iterator

import pandas as pd

from lth_keras import card, deployment
from lth_keras.deployment import Deployment, SHIPPED

HERE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "deployments")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "deployment.md")
    commands = parser.add_subparsers(dest="command_name")
    adds = commands.add_parser("add", help="keep an export's deployment.json")
    adds.add_argument("name")
    adds.add_argument("folder", type=pathlib.Path)
    adds.add_argument("--command", required=True, help="what was typed to get it")
    options = parser.parse_args()
    if options.command_name == "add":
        add(options.results, options.name, options.folder, options.command)
    options.output.write_text(page(options.results))


def add(results: pathlib.Path, name: str, folder: pathlib.Path, command: str) -> None:
    """Keeps what an export measured, and how it was asked for."""
    made = deployment.read(folder)
    Deployment(results / name, made.rows, {**made.facts, "command": command}).save()


def read(results: pathlib.Path) -> dict[str, Deployment]:
    """The deployments that are kept, by name."""
    return {path.parent.name: deployment.read(path.parent)
            for path in sorted(results.glob(f"*/{deployment.FILE}"))}


def page(results: pathlib.Path) -> str:
    """What exports measured, as Markdown."""
    lines = [
        "# What tickets cost to ship", "",
        "Written by `python docs/deployment.py` from what `lth export` measured, in "
        "[docs/deployments](deployments).  Every file was loaded in its own runtime, and compared "
        "with Keras on the test set; a file that does not load, computes NaN or loses more "
        "accuracy than --tolerance is refused.", ""]
    for made in read(results).values():
        lines += _section(made)
    return "\n".join(lines)


def _section(made: Deployment) -> Iterator[str]:
    facts, reference = made.facts, made.facts["reference"]
    yield f"## {facts['name']}: {facts['density']:.1%} of the weights"
    yield ""
    yield f"    {facts['command']}"
    yield ""
    yield (f"Accuracy in Keras {reference['accuracy']:.2%} on {reference['examples']:,} test "
           f"examples.  {facts['machine']}; "
           f"{', '.join(f'{name} {version}' for name, version in facts['versions'].items())}.")
    yield ""
    yield from card.table(made)
    yield ""
    if facts["dense"]:
        yield f"{_against(pd.Series(facts['dense']), made.rows)}"
        yield ""
    refused = list(card.refusals(made))
    if refused:
        yield from ("Refused:", "", *refused, "")
    if facts["compaction"]:
        yield from ("Compaction:", "", *(f"    {line}" for line in
                                         facts["compaction"].splitlines()), "")


def _against(dense: pd.Series, rows: pd.DataFrame) -> str:
    shipped = rows[rows.status == SHIPPED]
    said = []
    for column, what in (("bytes", "bytes"), ("gzip_bytes", "bytes gzipped"),
                         ("latency_1_us", "latency")):
        best = shipped.iloc[int(shipped[column].argmin())]
        said.append(f"{what} 1/{dense[column] / best[column]:.1f} ({best['format']})")
    return f"Best against the dense network as float32: {', '.join(said)}; most accuracy lost " \
           f"{shipped.accuracy_lost.max():.2f} points."


if __name__ == "__main__":
    main()
