"""What is to be trained, in which order, and what each training needs first."""

import dataclasses
from collections.abc import Iterator

from lth_keras.core import controls
from lth_keras.core.controls import CONTROLS
from lth_keras.core.masks import Arrays
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import RETRAININGS, Span, STRATEGIES


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
    base = chain(config, replicate, level)
    return asked if base in asked else [base, *asked]


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
        and RETRAININGS[config.retraining].rewinds


def takes_from(config: Config, training: Training) -> tuple[Training, ...]:
    """The trainings whose trained weights another needs beside its ticket.

    Only the chain's have any: what its strategy prunes by, or goes on from.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100, strategy="one_shot")
      >>> [str(other) for other in takes_from(config, Training(0, 2))]
      ['replicate 0, level 0, ticket']
    """
    if not training.level or training != chain(config, training.replicate, training.level):
        return ()
    levels = STRATEGIES[config.strategy].takes(training.level)
    return tuple(chain(config, training.replicate, level) for level in levels)


def span(config: Config, training: Training, masks: Arrays | None = None) -> Span:
    """The steps that a training takes, and where they lie in the learning rate's schedule.

    Args:
      config: the settings.
      training: which.
      masks: name -> 0/1 array, those that it is trained with: a control that may cost as much as
        the dense network is trained for longer, the sparser it is.  Without them, its span is the
        longest that it can be.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=1000, rewind_step=100)
      >>> span(config, Training(0, 1))
      Span(steps=1000, first=100, rate_first=100, rate_stretch=1.0)
      >>> span(config, Training(0, 1, "scratch"))
      Span(steps=2000, first=0, rate_first=0, rate_stretch=2.0)
    """
    control = CONTROLS.get(training.branch)
    if control and control.drawn:  # From step 0 on, wherever the ticket goes on from.
        steps = config.steps * (2 if control.budget else 1) if masks is None else \
            controls.steps_of(control, config.steps, masks)
        return Span(steps, rate_stretch=steps / config.steps)
    if training.level == 0 and not repeats_from_k(config, training):
        return Span(config.steps)
    if control or training.branch == TICKET:
        return RETRAININGS[config.retraining].span(config)
    return STRATEGIES[config.strategy].span(config, training.level)


def steps_of(config: Config, training: Training) -> int:
    """How many steps a training takes, at most.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=1000, rewind_step=100)
      >>> [steps_of(config, Training(0, *which)) for which in [(0,), (1,), (1, "scratch")]]
      [1000, 900, 2000]
    """
    longest = span(config, training)
    return longest.steps - longest.first
