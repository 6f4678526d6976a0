"""What is to be trained, in which order, and what each training needs first."""

import dataclasses
from collections.abc import Iterator

from lth_keras.core.controls import CONTROLS
from lth_keras.experiments.config.branches import CONTINUED
from lth_keras.experiments.config.config import Config


@dataclasses.dataclass(frozen=True)
class Training:
    """Which of an experiment's trainings: the key of everything that is kept of it."""

    replicate: int
    level: int
    branch: str = "ticket"
    branch_index: int = 0

    def __str__(self) -> str:
        number = f" {self.branch_index}" if self.branch_index else ""
        return f"replicate {self.replicate}, level {self.level}, {self.branch}{number}"


def chain(config: Config, replicate: int, level: int) -> Training:
    """The training of a level that the next level's ticket is made from.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100)
      >>> str(chain(config, 0, 3)), str(chain(config.replace(strategy="continued"), 0, 3))
      ('replicate 0, level 3, ticket', 'replicate 0, level 3, continued')
    """
    return Training(replicate, level, config.chain(level))


def trainings(config: Config) -> Iterator[Training]:
    """Every training of a configuration, level by level: the order in which they are done.

    So all replicates' chains of tickets, which can only be trained one after the other, end
    at about the same time, and means over replicates can be had from the beginning.
    """
    for level in range(config.rounds + 1):
        for replicate in config.replicate_numbers:
            yield from at_level(config, replicate, level)


def at_level(config: Config, replicate: int, level: int) -> list[Training]:
    """The trainings of a level: those of its branches, and what the next level is made from.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100, strategy="continued",
      ...                 branches=("ticket@2",))
      >>> [str(training) for level in (1, 2) for training in at_level(config, 0, level)]
      ['replicate 0, level 1, continued', 'replicate 0, level 2, continued', \
'replicate 0, level 2, ticket']
    """
    asked = [Training(replicate, level, branch.name, index)
             for branch in config.plan for index in range(branch.at(level))]
    link = chain(config, replicate, level)
    return asked if link in asked else [link, *asked]


def stands_on(config: Config, training: Training) -> "Training | None":
    """The training that must be done before another can start.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100)
      >>> str(stands_on(config, Training(0, 2, "reinit")))
      'replicate 0, level 1, ticket'
    """
    if training.level:
        return chain(config, training.replicate, training.level - 1)
    return chain(config, training.replicate, 0) if repeats_from_k(config, training) else None


def repeats_from_k(config: Config, training: Training) -> bool:
    """Whether a training repeats that of the dense network from step k on.

    It then shares the first k steps: the two networks whose linear mode connectivity tells
    whether training is stable at k (Frankle et al. 2020, section 2).
    """
    return training.level == 0 and training.branch_index > 0 and config.rewind_step > 0 \
        and config.retraining == "weight_rewinding"


def takes_from(config: Config, training: Training) -> "Training | int | None":
    """What a training needs beside its ticket: a trained network, or the ticket of a level.

    Under one_shot, the ticket of the next level is pruned by the dense network; under
    continued, the chain goes on from the weights that it was trained to; what repeats the dense
    network's training from step k on takes theta_k from the ticket of level 1.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100, strategy="one_shot")
      >>> str(takes_from(config, Training(0, 2)))
      'replicate 0, level 0, ticket'
    """
    if repeats_from_k(config, training):
        return 1
    if training.level and training == chain(config, training.replicate, training.level):
        if config.strategy == "one_shot":
            return chain(config, training.replicate, 0)
        if config.strategy == CONTINUED:
            return chain(config, training.replicate, training.level - 1)
    return None


def steps_of(config: Config, training: Training) -> int:
    """How many steps a training takes, at most.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=1000, rewind_step=100)
      >>> [steps_of(config, Training(0, *which)) for which in [(0,), (1,), (1, "scratch")]]
      [1000, 900, 2000]
    """
    control = CONTROLS.get(training.branch)
    if control and control.drawn:
        return config.steps * (2 if control.budget else 1)
    dense = training.level == 0 and not repeats_from_k(config, training)
    return config.steps - (0 if dense or training.branch == CONTINUED else config.rewind_step)
