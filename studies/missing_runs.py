"""What the runs would take whose claims are not decided: commands, trainings, hours.

    python studies/missing_runs.py [NETWORK...]     measures how fast networks train on this machine

By default all networks of MISSING.  `lth run --dry_run` measures each, on one core, beside nothing
else; missing_runs.csv keeps milliseconds a step with validation.  studies/reproduction.py writes
the table of the scoreboard from it.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
import shorter_convnets
import shorter_resnet

from lth_keras.experiments.config import presets, trainings
from lth_keras.experiments.config.config import Config
from lth_keras.files import atomic, provenance

KEPT = pathlib.Path(__file__).resolve().parent / "missing_runs.csv"
_FLAGS = ("rounds", "steps", "replicates", "branches")
_TUNED = {"retraining": "fine_tuning", "rewind_step": "93750", "branches": "ticket"}
_BFLOAT16 = {"dtype_policy": "mixed_bfloat16"}
_SPEED = re.compile(r"([0-9.,]+) ms a step in one process")


@dataclasses.dataclass(frozen=True)
class Missing:
    """A run that decides claims, if only with others.

    Attributes:
      preset: its preset.
      claims: the names of the claims that wait for it.
      settings: the settings that it changes, as text.
      scale: of its steps.
      name: of its results.
    """

    preset: str
    claims: tuple[str, ...]
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scale: float = 1.0
    name: str = ""

    @property
    def command(self) -> str:
        """What is typed to run it."""
        parts = [self.preset, *(["--scale", f"{self.scale:g}"] if self.scale != 1 else [])]
        for key, value in self.settings.items():
            parts += [f"--{key}", value] if key in _FLAGS else ["--set", f"{key}={value}"]
        return "lth run " + shlex.join(parts)

    @property
    def config(self) -> Config:
        """Its settings."""
        config = presets.get(self.preset)
        config = config if self.scale == 1 else config.scaled(self.scale)
        return config.replace(**self.settings)

    def is_in(self, tables: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> bool:
        """Whether its results are kept, with its settings, of all its replicates."""
        plain = json.loads(json.dumps(self.config.identity))
        return self.name in about and about[self.name]["settings"] == plain \
            and tables[self.name].replicate.nunique() >= self.config.replicates

    @property
    def steps(self) -> tuple[int, int]:
        """How many networks it trains, and for how many steps in all, at most."""
        config = self.config
        waiting = list(trainings.trainings(config))
        return len(waiting), sum(trainings.steps_of(config, training) for training in waiting)


def _of(network: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{name}, {network}" for name in names)


def _convolutional() -> Iterator[Missing]:
    for number, rounds in ((2, 17), (4, 21), (6, 21)):
        net = f"Conv-{number}"
        yield Missing(f"conv{number}", (*_of(net, "C1", "C2", "C3", "C4", "C5"), "C7", "C8"), {
            "rounds": str(rounds), "branches": "ticket,reinit:3"}, name=f"conv{number}")
        yield Missing(f"conv{number}_dropout", ("C6", "C8"), {"rounds": str(rounds)},
                      name=f"conv{number}_dropout")
    for layers, fraction in (("convolutions", "Conv2D:0.1,default:0,output:0"),
                             ("dense", "Conv2D:0,default:0.2,output:0.1")):
        yield Missing("conv2", ("C9",), {"fraction": fraction}, name=f"conv2_{layers}")


def _shorter() -> Iterator[Missing]:
    # Written out, as shorter_convnets.SPEED, GAIN and DENSER say.
    for number, scale, replicates, rounds, branches, share in (
            (2, 0.4, 5, 8, "ticket,reinit@2/4/5/7,random_mask@5/7", "0.19"),
            (4, 0.3, 3, 10, "ticket,reinit@2/5/6,random_mask@5/6", "0.19"),
            (6, 0.3, 3, 10, "ticket,reinit@4/5,random_mask@4/5", "0.2775")):
        names = ("D0", "D1", "D2", "D3", *(["D4"] if number < 6 else []), "D5")
        claims, name = _of(f"Conv-{number}", *names), shorter_convnets.NAMES[number]
        fraction = f"Conv2D:{share},default:0.36,output:0.19"
        yield Missing(f"conv{number}", claims, {
            "rounds": str(rounds), "replicates": str(replicates), "branches": branches,
            "fraction": fraction, **_BFLOAT16}, scale, name)
        yield Missing(f"conv{number}", claims, {
            "rounds": "4", "replicates": "1", "branches": "ticket", "fraction": fraction}, scale,
            f"{name}_float32")
    fraction = "Conv2D:0.488,output:0,stage2_block1_shortcut:0,stage3_block1_shortcut:0"
    controls = {"branches": "ticket,reinit@2/3"}
    kept = {"keep_trained": "tickets", **_BFLOAT16}
    all_of = ("D6", "D7", "D8", "D9", "D10")
    for run, preset, claims, settings in (
            ("low", "resnet18_low", ("D0", "D6", "D7", "D8"), {**controls, **_BFLOAT16}),
            ("float32", "resnet18_low", ("D0", *all_of), {**controls, "replicates": "1"}),
            ("warm", "resnet18_warmup", ("D8",), {**controls, **_BFLOAT16}),
            ("own", "resnet18", ("D6", "D7", "D9", "D10"), {
                "branches": "ticket:2@0/3,reinit@2/3", **kept}),
            ("rewound", "resnet18", ("D9", "D10"), {
                "branches": "ticket:2@0/3", "rewind_step": "100", "validation_every": "100",
                **kept})):
        yield Missing(preset, _of("Resnet-18", *claims), {
            "rounds": "3", "replicates": "3", "fraction": fraction, **settings}, 0.1,
            shorter_resnet.NAMES[run])


def _deep() -> Iterator[Missing]:
    for name, claims, settings in (
            ("vgg19", ("V1", "V4"), {"rounds": "20", "branches": "ticket,reinit"}),
            ("vgg19_low", ("V2",), {"rounds": "15"}), ("vgg19_warmup", ("V3",), {"rounds": "19"}),
            ("vgg19_warmup_layerwise", ("V3",), {"rounds": "12"}), ("resnet18_low", ("R1",), {}),
            ("resnet18", ("R1", "R2"), {"branches": "ticket,reinit"}),
            ("resnet18_warmup", ("R3",), {})):
        yield Missing(name, claims, settings, name=name)
    yield Missing("resnet18", ("R4",), {"warmup_steps": "20000"}, name="resnet18_warmup_high")
    for preset, network in (("vgg16_l1_a", "VGG-16-A"), ("resnet56_l1_a", "ResNet-56-A"),
                            ("resnet56_l1_b", "ResNet-56-B"), ("resnet110_l1_a", "ResNet-110-A"),
                            ("resnet110_l1_b", "ResNet-110-B")):
        yield Missing(preset, _of(network, "S2", "S3", "S4"), name=preset)
        # S3 and S4 compare with what is fine-tuned: 40 epochs at the last learning rate.
        yield Missing(preset, _of(network, "S3", "S4"), _TUNED, name=f"{preset}_tuned")


def _small() -> Iterator[Missing]:
    for preset, rate, rounds in (("lenet_300_100", "2e-4", "12"), ("lenet_300_100", "2e-3", "12"),
                                 ("lenet_300_100_sgd", "0.4", "21"),
                                 ("lenet_300_100_sgd", "0.8", "21")):
        adam = "" if preset.endswith("sgd") else "_adam"
        yield Missing(preset, ("L16",), {
            "rounds": rounds, "replicates": "3", "branches": "ticket", "learning_rate": rate}, 0.2,
            f"{preset}{adam}_{rate}")


MISSING = (*_small(), *_shorter(), *_convolutional(), *_deep())


def network_of(run: Missing) -> str:
    """What the speed of a run depends on, but for filters that are gone."""
    config = run.config
    policy = "" if config.dtype_policy == "float32" else f", {config.dtype_policy}"
    return f"{config.network}, batches of {config.batch_size}{policy}"


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", help="by default all")
    options = parser.parse_args()
    first = {network_of(run): run for run in reversed(MISSING)}
    for network, run in reversed(first.items()):
        if not options.networks or network.partition(",")[0] in options.networks:
            keep(network, speed(run))


def speed(run: Missing) -> float:
    """Milliseconds a step, with validation, of one network on one core."""
    said = subprocess.run([*shlex.split(run.command), "--dry_run", "--jobs", "1"], check=True,
                          capture_output=True, text=True).stdout
    found = _SPEED.search(said)
    if found is None:
        raise SystemExit(f"No speed is said in: {said}")
    return float(found[1].replace(",", ""))


def keep(network: str, milliseconds: float) -> None:
    """Keeps a speed, in place of an earlier one of the network."""
    _, _, machine = provenance.machine().partition(", ")  # Less its number of cores.
    rows = [{"network": network, "milliseconds": milliseconds, "machine": machine}]
    if KEPT.exists():
        there = pd.read_csv(KEPT)
        rows = [*there[there.network != network].to_dict("records"), *rows]
    atomic.write(KEPT, pd.DataFrame(rows).to_csv(index=False))


def table(tables: Mapping[str, pd.DataFrame], about: Mapping[str, Any],
          kept: "pd.DataFrame | None" = None) -> list[str]:
    """Lines of Markdown: each run that is not among some results, and what it takes.

    Args:
      tables: the rows that are there, by the name of their run.
      about: their settings, by the same names.
      kept: the speeds; by default those of missing_runs.csv.
    """
    rows = pd.read_csv(KEPT) if kept is None else kept
    speeds = rows.set_index("network").milliseconds
    lines = ["## What the missing runs take", "",
             "One network after another on one core, of which `lth run --dry_run` measured a step "
             f"with its share of validation ({', '.join(dict.fromkeys(rows.machine))}; `python "
             "studies/missing_runs.py`).  Levels of filters get cheaper as they go, so theirs are "
             "at most so many hours.  No GPU was there to be measured.", "",
             "| claims | hours of a core | ms a step | networks | steps in all | run |",
             "|---|---:|---:|---:|---:|---|"]
    for run in MISSING:
        if not run.is_in(tables, about):
            (networks, steps), each = run.steps, speeds.get(network_of(run))
            cells = ["not measured", ""] if each is None else [
                f"{steps * each / 3.6e6:,.1f}", f"{each:,.1f}"]
            lines.append(f"| {said(run.claims)} | {' | '.join(cells)} | {networks:,} | {steps:,} | "
                         f"`{run.command}` |")
    return [*lines, ""]


def said(claims: Iterable[str]) -> str:
    """Names of claims, those on one network together.

    Example:
      >>> said(["C1, Conv-2", "C2, Conv-2", "C7"])
      'C1, C2 (Conv-2); C7'
    """
    by_network: dict[str, list[str]] = {}
    for claim in claims:
        name, _, network = claim.partition(", ")
        by_network.setdefault(network, []).append(name)
    return "; ".join(", ".join(names) + (f" ({network})" if network else "")
                     for network, names in by_network.items())


if __name__ == "__main__":
    main()
