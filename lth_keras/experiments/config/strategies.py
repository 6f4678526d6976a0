"""Strategies (which weights are scored for the next masks) and retrainings (what is trained then).

A run has one of each.  At every level, one training makes the ticket of the next level: together
these trainings are the run's chain.  The strategy decides which branch the chain is, which other
trained weights it needs, and which weights are scored.  The retraining decides the values from
which survivors are trained, and where in the learning-rate schedule they begin.

    strategy      iterative   scores the ticket's trained weights (Frankle & Carbin 2019, section 2)
                  one_shot    scores the dense network's trained weights (the same)
                  continued   scores a network that is pruned and trained on, without rewinding
                  snip and others (`config.at_init`) score the weights before training
    retraining    weight_rewinding          resets survivors to theta_k (the same, 2019 and 2020)
                  learning_rate_rewinding   keeps their values, resets the learning rate to step k
                  fine_tuning               keeps values and learning rate (Renda et al. 2020)

To add one, subclass `Strategy` or `Retraining`, override what differs, and decorate the class with
`register`.  `--set strategy=NAME` then accepts its name; nothing else has to be changed.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lth_keras.controls.known import CONTROLS
from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.branches import TICKET

CONSTANT = 1e30  # Stretched by this factor, a schedule stays at the step at which it begins.

# Weights to score -> the next masks, by the criterion, fractions and structure of the run.
Prune = Callable[[Arrays], dict[str, Array]]


@dataclasses.dataclass(frozen=True)
class Span:
    """The steps of a training, and where they lie in the learning-rate schedule.

    Attributes:
      steps: the number of the last step, >= 1.
      first: the step that its initial weights belong to; the steps after it are trained.
      rate_first: the step of the schedule at which it begins.
      rate_stretch: training steps for each step of the schedule, > 0; `CONSTANT` keeps the
        learning rate at that of `rate_first`.

    Example:
      >>> span = Span(steps=30_000, first=500, rate_first=500)
      >>> span.steps - span.first
      29500
    """

    steps: int
    first: int = 0
    rate_first: int = 0
    rate_stretch: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedRound:
    """The weights and masks at the end of a training that makes the next level's ticket.

    Attributes:
      level: the level of the training; the ticket to make is of the level above.
      masks: name -> 0/1 array, the masks of this level's ticket.
      theta: name -> array, the weights from which the survivors of this level were trained:
        theta_k, at level 0 and with weight rewinding.
      trained: name -> array, the weights at the end of the training.
      taken: level -> weights of the trained networks that `Strategy.takes` asked for.
      at_init: computes the masks of the next level by the strategy's `at_init`.
    """

    level: int
    masks: Arrays
    theta: Arrays
    trained: Arrays
    taken: Mapping[int, Arrays]
    at_init: Callable[[], dict[str, Array]] = dict


class Strategy:
    """Decides which weights are scored for the masks of the next level.  Subclass it to add one.

    Attributes:
      name: the name in `--set strategy=NAME`.
      summary: a few words for the list of settings.
      chain: the branch whose training at each level above 0 makes the next ticket: the ticket
        itself, or a branch of the strategy's own, which is then trained in addition.
      one_shot: whether all levels' masks come from the dense network.
      at_init: the method of `lth.prune_at_init` that makes the masks of each level from theta_k, or
        "" if they come from trained weights.
      from_source: whether tickets are those of another run, so that nothing is pruned.

    Example:
      >>> [name for name, strategy in STRATEGIES.items() if strategy.one_shot]
      ['one_shot', 'snip', 'grasp', 'synflow', 'magnitude_at_init', 'random_at_init']
    """

    name: str
    summary: str
    chain: str = TICKET
    one_shot: bool = False
    at_init: str = ""
    from_source: bool = False

    @property
    def title(self) -> str:
        """The name in reports."""
        return self.name.replace("_", " ")

    @property
    def scores_trained(self) -> bool:
        """Whether masks come from trained weights of this run."""
        return not (self.at_init or self.from_source)

    def takes(self, level: int) -> tuple[int, ...]:
        """Returns the lower levels whose trained weights a training of the chain needs."""
        return ()

    def begin(self, ticket: Arrays, taken: Mapping[int, Arrays]) -> Arrays:
        """Returns the weights from which a chain of the strategy's own is trained, unmasked.

        Args:
          ticket: name -> array, the weights of its level's ticket.
          taken: level -> weights of the trained networks that `takes` asked for.
        """
        return ticket

    def span(self, config: Any, level: int) -> Span:
        """Returns the steps of a chain of the strategy's own; by default all, from step 0 on."""
        return Span(config.steps)

    def scored(self, ended: FinishedRound) -> Arrays:
        """Returns the weights to score, whose values survivors keep if they are not rewound."""
        return ended.theta if self.at_init else ended.trained

    def next_masks(self, ended: FinishedRound, prune: Prune) -> dict[str, Array]:
        """Returns the masks of the next level.

        Args:
          ended: the training that has just ended.
          prune: a function that returns the masks for scored weights, by the run's criterion,
            fractions and structure.  A strategy that makes masks otherwise need not call it.

        Returns:
          name -> 0/1 array, of each weight in `ended.masks`.
        """
        return ended.at_init() if self.at_init else prune(self.scored(ended))

    def check(self, config: Any) -> None:
        """Checks that the strategy can work with a configuration.

        Raises:
          LotteryError: if it needs trained weights and `keep_trained` is "none".
        """
        # Level 1 also if rounds is 0: every run makes the ticket of one level more.
        levels = range(1, max(1, config.rounds) + 1)
        if config.keep_trained == "none" and any(map(self.takes, levels)):
            raise LotteryError(f"strategy={self.name} needs trained weights, so they must be "
                               "kept. Received: keep_trained=none. Leave it out.")


class Retraining:
    """Decides the values from which survivors are trained.  Subclass it to add one.

    Attributes:
      name: the name in `--set retraining=NAME`.
      summary: a few words for the list of settings.
      rewinds: whether every ticket has the weights of theta_k, which the dense network's training
        must then capture.

    Example:
      >>> [name for name, retraining in RETRAININGS.items() if retraining.rewinds]
      ['weight_rewinding']
    """

    name: str
    summary: str
    rewinds: bool = False

    @property
    def title(self) -> str:
        """The name in reports."""
        return self.name.replace("_", " ")

    @property
    def not_rewound(self) -> str:
        """The title if survivors keep what they have learned, "" if they are rewound."""
        return "" if self.rewinds else self.title

    def survivors(self, theta: Arrays, scored: Arrays) -> Arrays:
        """Returns the weights of the next level's ticket.

        Args:
          theta: name -> array, the weights from which the level below was trained.
          scored: name -> array, the trained weights that were scored.
        """
        return theta if self.rewinds else scored

    def span(self, config: Any) -> Span:
        """Returns the steps of a ticket's training: those after step k, at their learning rates."""
        return Span(config.steps, first=config.rewind_step, rate_first=config.rewind_step)

    def check(self, config: Any) -> None:
        """Checks that the retraining can work with a configuration.

        Raises:
          LotteryError: if a control takes the ticket's weights for initial ones, and they are not.
        """
        if self.rewinds:
            return
        initial = [branch.name for branch in config.plan
                   if branch.name in CONTROLS and CONTROLS[branch.name].initial]
        if initial:
            raise LotteryError(f"The branch {initial[0]} takes the ticket's weights for those "
                               "before training, so it needs retraining=weight_rewinding. "
                               f"Received: retraining={self.name}. Leave the branch out, or use "
                               "reinit or random_mask.")


STRATEGIES: dict[str, Strategy] = {}
RETRAININGS: dict[str, Retraining] = {}
_Kind = TypeVar("_Kind", bound=Strategy | Retraining)


def register(kind: type[_Kind]) -> type[_Kind]:
    """Decorates a strategy or a retraining, so that settings accept its name.

    Raises:
      LotteryError: if its name is already registered, or its chain has the name of a control, or
        one that cannot be part of a path.

    Example:
      >>> @register
      ... class Initial(Strategy):
      ...     name, summary = "initial", "by the weights before training"
      ...     def scored(self, ended):
      ...         return ended.theta
      >>> STRATEGIES.pop("initial").title
      'initial'
    """
    known: dict[str, Any] = STRATEGIES if issubclass(kind, Strategy) else RETRAININGS
    made = kind()  # One object serves all runs: strategies and retrainings have no state.
    if made.name in known:
        what = "strategy" if known is STRATEGIES else "retraining"
        raise LotteryError(f"A {what} must have a name that no other {what} has. Received: "
                           f"{made.name!r}, which is already registered.")
    chain = getattr(made, "chain", TICKET)
    if chain in CONTROLS or not re.fullmatch(r"[A-Za-z]\w{0,49}", chain, re.ASCII):
        raise LotteryError("The chain of a strategy must be a name of letters, digits and '_', and "
                           f"not that of a control. Received: {chain!r:.100} of {made.name}.")
    known[made.name] = made
    return kind


def chain_branches() -> list[str]:
    """Returns the branches, other than the ticket, that some strategy trains as its chain.

    Example:
      >>> chain_branches()
      ['continued']
    """
    return list(dict.fromkeys(strategy.chain for strategy in STRATEGIES.values()
                              if strategy.chain != TICKET))


def describe(known: "Mapping[str, Strategy] | Mapping[str, Retraining]") -> str:
    """Returns every registered name with its summary, on one line for the list of settings.

    Example:
      >>> describe({"one_shot": STRATEGIES["one_shot"]})
      'one_shot: scores the trained dense network at every level'
    """
    return "; ".join(f"{name}: {one.summary}" for name, one in known.items())


@register
class Iterative(Strategy):
    """Prunes each level from the one below, by the trained weights of its ticket.

    Example:
      >>> ended = FinishedRound(2, {}, theta={"w": 1}, trained={"w": 2}, taken={0: {"w": 3}})
      >>> Iterative().scored(ended), OneShot().scored(ended)
      ({'w': 2}, {'w': 3})
    """

    name, summary = "iterative", "scores the trained ticket of the level below"


@register
class OneShot(Strategy):
    """Prunes every level by the trained weights of the dense network.

    Example:
      >>> OneShot().takes(level=5), Continued().takes(level=5), Iterative().takes(level=5)
      ((0,), (4,), ())
    """

    name, summary = "one_shot", "scores the trained dense network at every level"
    one_shot = True

    def takes(self, level: int) -> tuple[int, ...]:
        """Returns level 0, the dense network."""
        return (0,)

    def scored(self, ended: FinishedRound) -> Arrays:
        """Returns the dense network's trained weights."""
        # At level 0 the training that has just ended is the dense network's.
        return ended.taken[0] if ended.level else ended.trained


@register
class Continued(Strategy):
    """Prunes a network and trains it on, without rewinding; tickets get its masks.

    Frankle & Carbin 2019 (appendix B, figures 9 and 10) find that resetting weights in each round,
    as "iterative" does, gives better tickets at small sizes.

    Example:
      >>> Continued().begin({"w": 1}, taken={2: {"w": 5}})
      {'w': 5}
    """

    name, summary = "continued", "scores a network that is trained on without rewinding"
    chain = "continued"

    def takes(self, level: int) -> tuple[int, ...]:
        """Returns the level below, at which the network was pruned."""
        return (level - 1,)

    def begin(self, ticket: Arrays, taken: Mapping[int, Arrays]) -> Arrays:
        """Returns the weights to which the network was trained at the level below."""
        below, = taken.values()
        return below

    def check(self, config: Any) -> None:
        """Checks that the retraining rewinds: the tickets are to be compared with this network."""
        if not RETRAININGS[config.retraining].rewinds:
            raise LotteryError("strategy=continued needs retraining=weight_rewinding, since only "
                               "its own network is trained without rewinding. "
                               f"Received: retraining={config.retraining}.")
        super().check(config)


@register
class WeightRewinding(Retraining):
    """Resets survivors to theta_k (Frankle & Carbin 2019; Frankle et al. 2020).

    Example:
      >>> WeightRewinding().survivors(theta={"w": 1}, scored={"w": 2})
      {'w': 1}
    """

    name, summary = "weight_rewinding", "theta_k"
    rewinds = True


@register
class LearningRateRewinding(Retraining):
    """Keeps survivors' values, and resets the learning rate to step k (Renda et al. 2020).

    Example:
      >>> LearningRateRewinding().survivors(theta={"w": 1}, scored={"w": 2})
      {'w': 2}
    """

    name, summary = "learning_rate_rewinding", "their trained values"


@register
class FineTuning(Retraining):
    """Keeps survivors' values, and trains at the last learning rate (Han et al. 2015)."""

    name, summary = "fine_tuning", "their trained values, at the last learning rate"

    def span(self, config: Any) -> Span:
        """Returns as many steps as come after step k, all at the last learning rate."""
        # The schedule begins at its last step, before any drop after it, and is stretched so far
        # that it never moves on.
        return Span(config.steps, first=config.rewind_step, rate_first=config.steps - 1,
                    rate_stretch=CONSTANT)

    def check(self, config: Any) -> None:
        """Checks that rewind_step > 0: with 0 it would train for as long as the dense network."""
        if not config.rewind_step:
            raise LotteryError("retraining=fine_tuning trains steps - rewind_step steps at the "
                               "last learning rate, so rewind_step must be above 0. Received: "
                               "rewind_step=0.")
        super().check(config)
