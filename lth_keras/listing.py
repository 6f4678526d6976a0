"""The listing of `lth presets`: each preset, and what it costs."""

from rich.console import Console

from lth_keras import presets
from lth_keras.config import Config


def show(console: Console) -> None:
    """Prints every preset with its networks, their steps and weights."""
    for name, config in presets.PRESETS.items():
        console.print(f"[bold]{name}[/bold]: {presets.DESCRIPTIONS[name]}", highlight=False,
                      soft_wrap=True)
        weights = presets.WEIGHTS.get(name)
        sized = "" if weights is None else f"{weights:,} weights, "
        console.print(f"  {sized}{cost(config)}", highlight=False, soft_wrap=True, markup=False)


def networks(config: Config) -> int:
    """How many networks an experiment trains.

    Example:
      >>> networks(presets.get("digits").replace(branches=("reinit:3@2/12",), replicates=2))
      38
    """
    return config.replicates * sum(branch.at(level) for level in range(config.rounds + 1)
                                   for branch in config.plan)


def cost(config: Config) -> str:
    """What an experiment costs, in words.

    Example:
      >>> cost(presets.get("digits"))  # doctest: +NORMALIZE_WHITESPACE
      '3 replicates, 12 rounds, branches ticket, reinit: 75 networks of 1,000 steps, 75,000 steps
      in all'
    """
    count = networks(config)
    return (f"{config.replicates} replicate{'s'[:config.replicates > 1]}, {config.rounds} rounds, "
            f"branches {', '.join(config.branches)}: {count} networks of {config.steps:,} steps, "
            f"{count * config.steps:,} steps in all")
