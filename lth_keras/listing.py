"""The listing of `lth presets`: each preset, and what it costs."""

from rich.console import Console

from lth_keras import agenda, presets
from lth_keras.config import Config


def show_presets(console: Console) -> None:
    """Prints every preset with its weights, its networks and their steps."""
    for name, config in presets.PRESETS.items():
        weights = presets.WEIGHTS.get(name)
        sized = "" if weights is None else f"{weights:,} weights, "
        for text in (f"[bold]{name}[/bold]: {presets.DESCRIPTIONS[name]}",
                     f"  {sized}{cost(config)}"):
            console.print(text, highlight=False, soft_wrap=True)


def cost(config: Config) -> str:
    """What an experiment costs, in words.

    Example:
      >>> print(cost(presets.get("digits").replace(branches="reinit:2@12", replicates=1)))
      1 replicate, 12 rounds, branches ticket, reinit:2@12: 15 networks of 1,000 steps, 15,000 \
steps in all
    """
    waiting = list(agenda.trainings(config))
    steps = sum(agenda.steps_of(config, training) for training in waiting)
    return (f"{config.replicates} replicate{'s'[:config.replicates > 1]}, {config.rounds} rounds, "
            f"branches {', '.join(config.branches)}: {len(waiting)} networks of "
            f"{config.steps:,} steps, {steps:,} steps in all")
