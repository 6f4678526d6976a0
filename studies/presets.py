"""Writes docs/presets.md: every preset, what it costs, and what a short run of it came to.

    python studies/presets.py                     the page
    python studies/presets.py run [NAME...]       trains presets first, by default all
    ... run NAME... --steps STEPS                 for so many steps, by default 100

A short run is the preset scaled to --steps, on some of its data set's images: the dense network is
trained, pruned as the preset says, rewound and trained again.  studies/presets.csv keeps what
came of it; the figures say that a preset runs, and nothing of what it comes to.
"""

import argparse
import dataclasses
import pathlib

import pandas as pd

from lth_keras.core import masks
from lth_keras.experiments.config import presets, trainings
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.training import datasets
from lth_keras.files import atomic, provenance

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "presets.md"
STEPS = 100
EXAMPLES = {"train": 3000, "test": 500}  # Of the data set's, the first.
VALIDATION = 500  # Of those to train on.


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "presets.csv")
    parser.add_argument("--output", type=pathlib.Path, default=PAGE)
    commands = parser.add_subparsers(dest="command_name")
    runs = commands.add_parser("run", help="train presets for some steps")
    runs.add_argument("names", nargs="*", help="by default all")
    runs.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    if options.command_name == "run":
        for name in options.names or presets.PRESETS:
            keep(options.results, name, train(presets.get(name), options.steps))
    options.output.write_text(page(options.results))


def shortened(config: Config, steps: int) -> Config:
    """A preset with its schedule scaled to fewer steps, pruned once."""
    return dataclasses.replace(
        config.scaled(min(1.0, steps / config.steps)), rounds=1, replicates=1,
        branches=("ticket",), validation_size=min(VALIDATION, config.validation_size))


def train(config: Config, steps: int) -> pd.DataFrame:
    """The rows of a short run: of its dense network, and of the ticket of level 1."""
    from lth_keras.experiments.training_keras2.engine import round_runner
    whole, short = datasets.load(config.dataset), shortened(config, steps)
    some = datasets.Data(*(part[:EXAMPLES["train"]] for part in (whole.x_train, whole.y_train)),
                     *(part[:EXAMPLES["test"]] for part in (whole.x_test, whole.y_test)),
                     whole.classes)
    lab, start, rows = round_runner(short, some), StartingPoint(), []
    for level in range(2):
        outcome = lab.train(Training(0, level), start)
        trained = outcome.trained
        if trained is None:
            raise SystemExit(f"{config.preset} diverged at level {level}; try other --steps.")
        off = sum(int((trained.weights[name][mask == 0] != 0).sum())
                  for name, mask in trained.masks.items())
        rows.append({"preset": config.preset, "level": level, "steps": short.steps,
                     "weights": masks.kept(trained.masks), "pruned_not_zero": off,
                     **{name: outcome.result[name] for name in (
                         "density", "train_accuracy_final", "test_accuracy_final")},
                     "loss": float(outcome.curve.loss.iloc[-1]),
                     "tensorflow": provenance.versions()["tensorflow"],
                     "machine": provenance.machine()})
        start = StartingPoint(outcome.following)
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def keep(results: pathlib.Path, name: str, rows: pd.DataFrame) -> None:
    """Keeps the rows of a preset in place of earlier ones."""
    others = [pd.read_csv(results)] if results.exists() else []
    table = pd.concat([*(kept[kept.preset != name] for kept in others), rows])
    order = {preset: place for place, preset in enumerate(presets.PRESETS)}
    table = table.sort_values(["preset", "level"], kind="stable", key=lambda column: column.map(
        order) if column.name == "preset" else column)
    atomic.write(results, table.to_csv(index=False))


def page(results: pathlib.Path) -> str:
    """All presets as Markdown."""
    kept = pd.read_csv(results) if results.exists() else pd.DataFrame({"preset": []})
    machines = sorted({f"{row.machine}; tensorflow {row.tensorflow}" for row in kept.itertuples()})
    return "\n".join([
        "# Presets", "",
        "Written by `python studies/presets.py`.  `lth run NAME` runs a preset, `lth run NAME "
        "--scale 0.1` a tenth of its steps, its schedule with them.", "",
        "The last columns are of a short run, which shows that a preset runs, and nothing of what "
        "it comes to: the preset scaled to so many steps, on at most "
        f"{EXAMPLES['train']:,} of its data set's training images ({VALIDATION} of them held out) "
        f"and {EXAMPLES['test']} of its test images; the dense network is trained, pruned, rewound "
        "and trained again: `python studies/presets.py run NAME --steps STEPS`.  CIFAR-10 is "
        "CIFAR-10 (JPEG): every image was compressed once.", "",
        "| preset | what it is | weights | networks x steps | short run: steps | P_m at level 1 | "
        "test accuracy, level 0, 1 | pruned weights that are not 0 |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *(_row(name, config, kept[kept.preset == name])
          for name, config in presets.PRESETS.items()), "",
        *([f"Short runs: {'; '.join(machines)}; seed 0.", ""] if machines else [])])


def _row(name: str, config: Config, kept: pd.DataFrame) -> str:
    networks = len(list(trainings.trainings(config)))
    weights = presets.WEIGHTS.get(name)
    cells = [name, presets.DESCRIPTIONS[name], "-" if weights is None else f"{weights:,}",
             f"{networks} x {config.steps:,}"]
    if kept.empty:
        cells += ["-", "-", "-", "-"]
    else:
        dense, ticket = (kept[kept.level == level].iloc[0] for level in range(2))
        cells += [f"{dense.steps} and {ticket.steps}", f"{ticket.density:.1%}",
                  f"{dense.test_accuracy_final:.1%}, {ticket.test_accuracy_final:.1%}",
                  f"{ticket.pruned_not_zero}"]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
