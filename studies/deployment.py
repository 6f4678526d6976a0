"""Writes docs/deployment.md from the deployments in studies/deployments.

    python studies/deployment.py                      the page
    ... add NAME FOLDER --command TEXT                keeps an export's figures first
    ... levels FOLDER --command TEXT                  keeps the figures of a run's levels first
    ... networks                                      exports every preset's network first

FOLDER is what `lth export` wrote, or, of all levels, what `lth report WORKDIR --deployment --out
FOLDER` did.
"""

import argparse
import json
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
import pandas as pd

from lth_keras.deployment import manifest, measuring, model_card
from lth_keras.deployment.conversion import formats
from lth_keras.deployment.manifest import Deployment, SHIPPED
from lth_keras.experiments.training import networks
from lth_keras.files import atomic, provenance
from lth_keras.reports import deployment_tables

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "deployment.md"
KEPT = 0.05  # Of each kernel, of the networks that are exported as they were drawn.
EXAMPLES = 40
NETWORKS = "networks"  # The folder of theirs.
LEVELS = "levels"  # The name of the files of all levels.
PICTURE = "deployment_levels.png"  # Of all levels, beside the page.


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "deployments")
    parser.add_argument("--output", type=pathlib.Path, default=PAGE)
    commands = parser.add_subparsers(dest="command_name")
    adds = commands.add_parser("add", help="keep an export's deployment.json")
    adds.add_argument("name")
    levels = commands.add_parser("levels", help="keep the rows and the picture of all levels")
    for kept in (adds, levels):
        kept.add_argument("folder", type=pathlib.Path)
        kept.add_argument("--command", required=True, help="what was typed to get it")
    alls = commands.add_parser("networks", help="export every preset's network in every format")
    alls.add_argument("names", nargs="*", help="by default all")
    options = parser.parse_args()
    for name in options.names or networks.NETWORKS if options.command_name == "networks" else ():
        export(options.results, name)
    if options.command_name == "add":
        add(options.results, options.name, options.folder, options.command)
    if options.command_name == "levels":
        add_levels(options.results, options.folder, options.command,
                   options.output.with_name(PICTURE))
    options.output.write_text(page(options.results))


def add(results: pathlib.Path, name: str, folder: pathlib.Path, command: str) -> None:
    """Keeps what an export measured, and how it was asked for."""
    made = manifest.read(folder)
    Deployment(results / name, made.rows, {**made.facts, "command": command}).save()


def add_levels(results: pathlib.Path, folder: pathlib.Path, command: str,
               picture: pathlib.Path) -> None:
    """Keeps what every level of a run costs, how it was asked for, and the picture of it."""
    about = {"command": command, "machine": provenance.machine(), "versions": measuring.versions()}
    atomic.write(results / f"{LEVELS}.json", json.dumps(about, indent=2, sort_keys=True) + "\n")
    atomic.write(results / f"{LEVELS}.csv", (folder / "deployment.csv").read_bytes())
    atomic.write(picture, (folder / "deployment.png").read_bytes())


def export(results: pathlib.Path, name: str) -> None:
    """Exports a network in every format, not trained: do the files compute what Keras does?"""
    import tf_keras as keras

    from lth_keras.deployment.export import export
    keras.utils.set_random_seed(0)
    shape = (28, 28) if name.startswith("lenet") else (32, 32, 3)
    model = networks.get(name)(shape, 10, keras=keras)
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            values = variable.numpy()
            values *= np.abs(values) >= np.quantile(np.abs(values), 1 - KEPT)
            # He et al.'s scale, that what a deep network computes does not fade.
            inputs = values.size / values.shape[-1]
            variable.assign(values * np.sqrt(2 / (inputs * np.mean(values**2))))
    examples = np.random.default_rng(0).random((EXAMPLES, *shape), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        made = export(model, folder, data=(examples, None), representative=examples,
                      formats=list(formats.FORMATS), facts={"name": name, "density": KEPT},
                      repeats=1,  # Times are not shown.
                      on_format=lambda format_: print(f"{name}: {format_}", flush=True))
        Deployment(results / NETWORKS / name, made.rows, made.facts).save()


def read(results: pathlib.Path) -> dict[str, Deployment]:
    """The deployments that are kept, by name."""
    return {path.parent.name: manifest.read(path.parent)
            for path in sorted(results.glob(f"*/{manifest.FILE}"))}


def page(results: pathlib.Path) -> str:
    """What exports measured, as Markdown."""
    lines = [
        "# What tickets cost to ship", "",
        "Written by `python studies/deployment.py` from what `lth export` measured, in "
        "[studies/deployments](../studies/deployments).  Every file was loaded in its own runtime, "
        "and compared with Keras on the test set; a file that does not load, computes NaN or loses "
        "more accuracy than --tolerance is refused.", ""]
    for made in read(results).values():
        lines += _section(made)
    lines += _levels(results)
    lines += _networks(list(read(results / NETWORKS).values()))
    return "\n".join(lines)


def _section(made: Deployment) -> Iterator[str]:
    facts, reference = made.facts, made.facts["reference"]
    yield f"## {facts['name']}: {facts['density']:.1%} of the weights"
    yield ""
    yield from _typed(facts["command"])
    yield ""
    yield (f"Accuracy in Keras {reference['accuracy']:.2%} on {reference['examples']:,} test "
           f"examples.  {facts['machine']}; "
           f"{_versions(facts['versions'])}.")
    yield ""
    yield from model_card.table(made)
    yield ""
    if facts["dense"]:
        yield f"{_against(pd.Series(facts['dense']), made.rows)}"
        yield ""
    refused = list(model_card.refusals(made))
    if refused:
        yield from ("Refused:", "", *refused, "")
    if facts["compaction"]:
        yield from ("Compaction:", "", *(f"    {line}" for line in
                                         facts["compaction"].splitlines()), "")


def _typed(command: str) -> Iterator[str]:
    return (f"    {line}" for line in command.splitlines())


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _against(dense: pd.Series, rows: pd.DataFrame) -> str:
    shipped = rows[rows.status == SHIPPED]
    said = []
    for column, what in (("bytes", "bytes"), ("gzip_bytes", "bytes gzipped"),
                         ("latency_1_us", "latency")):
        best = shipped.iloc[int(shipped[column].argmin())]
        said.append(f"{what} 1/{dense[column] / best[column]:.1f} ({best['format']})")
    return f"Best against the dense network as float32: {', '.join(said)}; most accuracy lost " \
           f"{shipped.accuracy_lost.max():.2f} points."


def _levels(results: pathlib.Path) -> Iterator[str]:
    if not (results / f"{LEVELS}.csv").exists():
        return
    about = json.loads((results / f"{LEVELS}.json").read_text())
    yield "## Every level of a run"
    yield ""
    yield from _typed(about["command"])
    yield ""
    yield f"![Accuracy, bytes and latency against density]({PICTURE})"
    yield ""
    yield f"| level | P_m % | {' | '.join(deployment_tables.BEST)} |"
    yield f"|---:|---:|{'---:|' * len(deployment_tables.BEST)}"
    for level, density, cells in deployment_tables.best(pd.read_csv(results / f"{LEVELS}.csv")):
        said = " | ".join(cell.replace("\n", "<br>") for cell in cells)
        yield f"| {level} | {100 * density:.1f} | {said} |"
    yield ""
    yield f"{about['machine']}; {_versions(about['versions'])}."
    yield ""


def _networks(kept: list[Deployment]) -> Iterator[str]:
    if not kept:
        return
    yield "## Every format of every preset's network"
    yield ""
    yield "    python studies/deployment.py networks"
    yield ""
    yield (f"Not trained; the largest {KEPT:.0%} of the weights of each kernel kept, scaled to He "
           f"et al.'s variance; {EXAMPLES} random examples, seed 0.  Bytes, and the largest "
           "difference of an output from Keras', as a share of the largest output; of what no "
           "runtime takes, \"refused\".")
    yield ""
    order = [*networks.NETWORKS]
    kept = sorted(kept, key=lambda made: order.index(made.facts["name"]))
    names = [made.facts["name"] for made in kept]
    rows = pd.concat([made.rows.assign(network=made.facts["name"], largest=made.facts["reference"][
        "largest_output"]) for made in kept])
    yield f"| format | {' | '.join(names)} |"
    yield f"|---|{'---:|' * len(names)}"
    shipped = rows[rows.status == SHIPPED].groupby(["format", "network"]).first()
    tried = set(rows["format"])  # A format may be newer than what is kept.
    for name in filter(tried.__contains__, formats.FORMATS):
        cells = [_cell(shipped.loc[name, network]) if (name, network) in shipped.index
                 else "refused" for network in names]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    refused = rows[rows.status != SHIPPED].groupby(["format", "runtime"], sort=False)
    for (name, runtime), found in refused:
        where = f" in {model_card.RUNTIMES[runtime]}" if runtime else ""
        yield (f"- {name}{where}, of {', '.join(found.network)}: "
               f"{manifest.with_route(found.iloc[0])}")
    yield ""


def _cell(row: pd.Series) -> str:
    error = f"{row.max_error / row.largest:.0e}" if row.max_error else "0"
    return f"{row.bytes:,.0f}<br>{error}"


if __name__ == "__main__":
    main()
