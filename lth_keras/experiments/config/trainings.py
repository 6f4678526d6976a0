"""Which networks an experiment trains, in which order, and what each training depends on."""

import dataclasses
from collections.abc import Iterator, Mapping

from lth_keras.controls import control as controls
from lth_keras.controls.known import CONTROLS
from lth_keras.core.masks import Arrays
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import RETRAININGS, Span, STRATEGIES

MOST_NETWORKS = 100_000


@dataclasses.dataclass(frozen=True)
class Training:
    """The training of one network: its replicate, level and branch.

    It is the key under which everything about this network is stored.

    Attributes:
      replicate: the number of the replicate, >= 0.
      level: the number of the level, >= 0.
      branch: "ticket", the name of a control, or "continued".
      branch_index: which of the branch's repeats, >= 0.

    Example:
      >>> print(Training(replicate=0, level=2, branch="reinit", branch_index=1))
      replicate 0, level 2, reinit 1
    """

    replicate: int
    level: int
    branch: str = "ticket"
    branch_index: int = 0

    def __str__(self) -> str:
        number = f" {self.branch_index}" if self.branch_index else ""
        return f"replicate {self.replicate}, level {self.level}, {self.branch}{number}"


def chain(config: Config, replicate: int, level: int) -> Training:
    """Returns the training of a level that the next level's ticket is made from.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100)
      >>> str(chain(config, 0, 3)), str(chain(config.replace(strategy="continued"), 0, 3))
      ('replicate 0, level 3, ticket', 'replicate 0, level 3, continued')
    """
    return Training(replicate, level, config.chain(level))


def trainings(config: Config) -> Iterator[Training]:
    """Yields every training of a configuration in the order in which they are done.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100, rounds=1,
      ...                 replicates=2, branches=("reinit",))
      >>> for training in trainings(config):
      ...     print(training)
      replicate 0, level 0, ticket
      replicate 1, level 0, ticket
      replicate 0, level 1, ticket
      replicate 0, level 1, reinit
      replicate 1, level 1, ticket
      replicate 1, level 1, reinit
    """
    # Level by level: the tickets of a replicate can only be trained one after another, so this
    # lets all replicates end at about the same time, and gives means over them from the start.
    for level in range(config.rounds + 1):
        of_first = at_level(config, config.first_replicate, level)  # The others' are the same.
        for replicate in config.replicate_numbers:
            for one in of_first:
                yield Training(replicate, level, one.branch, one.branch_index)


def check_count(config: Config) -> None:
    """Checks that a run has no more networks than a folder of results can be worked with.

    Raises:
      LotteryError: if it has more than MOST_NETWORKS.

    Example:
      >>> check_count(Config(preset="p", network="n", dataset="d", steps=100, replicates=100_000))
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: A run must train at most 100,000 networks. Received: \
replicates=100,000 and rounds=16, which are 3,300,000 networks. Ask for fewer, or give each \
machine some of the replicates (--first_replicate).
    """
    first = config.first_replicate
    networks = config.replicates * sum(
        len(at_level(config, first, level)) for level in range(config.rounds + 1))
    if networks > MOST_NETWORKS:
        raise LotteryError(
            f"A run must train at most {MOST_NETWORKS:,} networks. Received: replicates="
            f"{config.replicates:,} and rounds={config.rounds:,}, which are {networks:,} networks. "
            "Ask for fewer, or give each machine some of the replicates (--first_replicate).")


def at_level(config: Config, replicate: int, level: int) -> list[Training]:
    """Returns the trainings of a level: its branches, and the one that the next level is made from.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100, strategy="continued",
      ...                 branches=("ticket@2",))
      >>> [str(training) for level in (1, 2) for training in at_level(config, 0, level)]
      ['replicate 0, level 1, continued', 'replicate 0, level 2, continued', \
'replicate 0, level 2, ticket']
    """
    # The training that makes the next ticket comes first: everything above waits for it.
    asked = [Training(replicate, level, branch.name, index)
             for branch in config.plan for index in range(branch.at(level))]
    base = chain(config, replicate, level)
    return asked if base in asked else [base, *asked]


def stands_on(config: Config, training: Training) -> "Training | None":
    """Returns the training that must be finished before another can start, or None.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100)
      >>> str(stands_on(config, Training(0, 2, "reinit")))
      'replicate 0, level 1, ticket'
    """
    if training.level:
        return chain(config, training.replicate, training.level - 1)
    return chain(config, training.replicate, 0) if repeats_from_k(config, training) else None


def repeats_from_k(config: Config, training: Training) -> bool:
    """Returns whether a training repeats the dense network's from step `rewind_step` on.

    The two networks share the first k = `rewind_step` steps and differ in the data order after
    them.  Their linear mode connectivity tells whether training is stable at k (Frankle et al.
    2020, section 2).

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=1000, rewind_step=100)
      >>> [repeats_from_k(config, Training(0, 0, "ticket", index)) for index in (0, 1)]
      [False, True]
    """
    return training.level == 0 and training.branch_index > 0 and config.rewind_step > 0 \
        and RETRAININGS[config.retraining].rewinds


def maker(config: Config, replicate: int, level: int) -> Training:
    """Returns the training whose trained weights were scored to make the masks of a level > 0.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100)
      >>> str(maker(config, 0, 3)), str(maker(config.replace(strategy="one_shot"), 0, 3))
      ('replicate 0, level 2, ticket', 'replicate 0, level 0, ticket')
    """
    # One-shot tickets are all made from the dense network, the others from the level below.
    return chain(config, replicate, 0 if STRATEGIES[config.strategy].one_shot else level - 1)


def takes_from(config: Config, training: Training) -> tuple[Training, ...]:
    """Returns the trainings whose trained weights a training needs in addition to its ticket.

    Trainings that the next level is made from may need those that their strategy scores, or
    continues to train; a control may need those that were scored to make its ticket's masks.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=100, strategy="one_shot")
      >>> [str(other) for other in takes_from(config, Training(0, 2))]
      ['replicate 0, level 0, ticket']
    """
    control = CONTROLS.get(training.branch)
    if control and controls.TRAINED in control.needs:
        return (maker(config, training.replicate, training.level),)
    if not training.level or training != chain(config, training.replicate, training.level):
        return ()
    levels = STRATEGIES[config.strategy].takes(training.level)
    return tuple(chain(config, training.replicate, level) for level in levels)


def span(config: Config, training: Training, masks: Arrays | None = None,
         uses: "Mapping[str, float] | None" = None) -> Span:
    """Returns the steps of a training, and where they lie in the learning-rate schedule.

    Args:
      config: the settings.
      training: the training.
      masks: name -> 0/1 array, the masks that are trained. A control with the same budget as the
        dense network (`scratch`) trains for more steps the sparser its masks are; without masks,
        the longest possible span is returned.
      uses: what makes that budget multiply-adds; see `controls.control.steps_of`.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=1000, rewind_step=100)
      >>> span(config, Training(0, 1))
      Span(steps=1000, first=100, rate_first=100, rate_stretch=1.0)
      >>> span(config, Training(0, 1, "scratch"))
      Span(steps=2000, first=0, rate_first=0, rate_stretch=2.0)
    """
    control = CONTROLS.get(training.branch)
    if control and control.drawn:  # New weights start at step 0, also if the ticket rewinds to k.
        steps = config.steps * (2 if control.budget else 1) if masks is None else \
            controls.steps_of(control, config.steps, masks, uses)
        return Span(steps, rate_stretch=steps / config.steps)
    # A second training of the dense network starts from theta_k if tickets are rewound to it.
    if training.level == 0 and not repeats_from_k(config, training):
        return Span(config.steps)
    if control or training.branch == TICKET:
        return RETRAININGS[config.retraining].span(config)
    return STRATEGIES[config.strategy].span(config, training.level)


def steps_of(config: Config, training: Training) -> int:
    """Returns the largest number of steps that a training can take.

    Example:
      >>> config = Config(preset="p", network="n", dataset="d", steps=1000, rewind_step=100)
      >>> [steps_of(config, Training(0, *which)) for which in [(0,), (1,), (1, "scratch")]]
      [1000, 900, 2000]
    """
    longest = span(config, training)
    return longest.steps - longest.first
