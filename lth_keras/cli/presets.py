"""Lists presets and what they cost, networks, data sets, branches and settings.

It is the command `lth presets`, and the end of `lth run --help`.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lth_keras.controls.known import CONTROLS
from lth_keras.core import criteria
from lth_keras.experiments.config import presets, trainings
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import CHOICES, Config, NOT_SETTABLE
from lth_keras.experiments.training import datasets, networks

if TYPE_CHECKING:
    from rich.console import Console

# Setting -> the words that it can be, where it has some.
VALUES = {**{name: tuple(words) for name, words in CHOICES.items()},
          "network": tuple(networks.NETWORKS), "dataset": tuple(datasets.DATASETS),
          "criterion": tuple(criteria.CRITERIA), "branches": (TICKET, *CONTROLS)}


def set_words() -> list[str]:
    """Returns what can follow --set: KEY=VALUE for settings that are words, KEY= for others.

    Example:
      >>> [word for word in set_words() if word.startswith(("seed", "optimizer"))]
      ['seed=', 'optimizer=adam', 'optimizer=sgd']
    """
    names = [field.name for field in dataclasses.fields(Config) if field.name not in NOT_SETTABLE]
    return [f"{name}={word}" for name in names for word in VALUES.get(name, ("",))]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`lth presets` has no flags."""


def epilog() -> str:
    """Returns what the help of `lth presets` says at its end."""
    return "`lth run PRESET` runs one; `lth run --help` has what may be changed."


def run(arguments: argparse.Namespace, console: "Console") -> None:
    """Runs `lth presets`."""
    show_presets(console)


def show_presets(console: "Console") -> None:
    """Prints every preset: its number of weights, how many networks it trains, and for how long.

    Example:
      >>> from rich.console import Console
      >>> show_presets(Console(quiet=True))
    """
    for name, config in presets.PRESETS.items():
        # Counting weights would build the network, and load TensorFlow: they are written down.
        weights = presets.WEIGHTS.get(name)
        sized = "" if weights is None else f"{weights:,} weights, "
        for text in (f"[bold]{name}[/bold]: {presets.DESCRIPTIONS[name]}",
                     f"  {sized}{cost(config)}"):
            console.print(text, highlight=False, soft_wrap=True)


def run_help() -> str:
    """Returns the end of `lth run --help`: presets, networks, data sets, branches and settings.

    Example:
      >>> run_help().splitlines()[0]
      'presets:'
    """
    parts = {
        "presets": presets.DESCRIPTIONS,
        "networks, for --set network=NAME": {
            **{name: _first_line(network) for name, network in networks.NETWORKS.items()},
            "lenet_WIDTH_WIDTH": "A LeNet of other widths, such as lenet_150_50."},
        "data sets, for --set dataset=NAME": {
            name: _first_line(loader) for name, loader in datasets.DATASETS.items()},
        "branches, as NAME, NAME:REPEATS, NAME:REPEATS@LEVELS or NAME@last": {
            "ticket": "the ticket, at every level; with strategy=continued it may be trained at "
                      "some levels only, such as ticket@12/15",
            **{name: control.title for name, control in CONTROLS.items()}},
        "settings for --set, on top of the preset's": {
            field.name: field.metadata["help"] for field in dataclasses.fields(Config)
            if field.name not in NOT_SETTABLE}}
    return "\n\n".join([*(_listed(title, of) for title, of in parts.items()),
                        "Run the same command again to continue an interrupted run, or with more "
                        "--rounds or\n--replicates to extend a finished one."])


def _first_line(thing: object) -> str:
    # Of what a user has registered, nothing may be said.
    return (thing.__doc__ or "").strip().partition("\n")[0]


def _listed(title: str, texts: Mapping[str, str]) -> str:
    width = max(map(len, texts), default=0)
    return "\n".join([f"{title}:", *(f"  {name:<{width}} {text}" for name, text in texts.items())])


def cost(config: Config) -> str:
    """Returns how many networks an experiment trains, and for how many steps, as text.

    Example:
      >>> print(cost(presets.get("digits").replace(branches="reinit:2@last", replicates=1)))
      1 replicate, 3 rounds, branches ticket, reinit:2@last: 6 networks of 1,500 steps, 9,000 \
steps in all
    """
    # An upper bound: a control with the dense network's budget (scratch) trains for fewer steps
    # where its masks are denser.
    waiting = list(trainings.trainings(config))
    steps = sum(trainings.steps_of(config, training) for training in waiting)
    return (f"{config.replicates:,} replicate{'s'[:config.replicates > 1]}, {config.rounds} "
            f"rounds, branches {', '.join(config.branches)}: {len(waiting):,} networks of "
            f"{config.steps:,} steps, {steps:,} steps in all")
