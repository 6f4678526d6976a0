"""Strategies and retrainings: what the next masks come from, and what survivors go back to.

A run has one of each.  At every level one training, the chain's, ends in the ticket of the next
level, which stands on it.  The strategy says which branch the chain is, what else its trainings
take, and which masks they end in.  The retraining says which weights the survivors are given, and
where in the learning rate's schedule they begin.

    strategy      iterative   by the ticket's trained weights (Frankle & Carbin 2019, section 2)
                  one_shot    by the dense network's trained weights (the same)
                  continued   by those of a network that is pruned and trained on, never rewound
    retraining    weight_rewinding          to theta_k (the same, 2019 and 2020)
                  learning_rate_rewinding   weights stay, the learning rate goes back to step k
                  fine_tuning               weights and learning rate stay (Renda et al. 2020)

To add one, subclass `Strategy` or `Retraining`, override what differs, and decorate it with
`register`: `--set strategy=NAME` then knows it, and nothing else has to.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lth_keras.core.controls import CONTROLS
from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.branches import TICKET

CONSTANT = 1e30  # A schedule that is stretched so far never leaves the step it begins at.

# The weights to score -> the next masks, by the criterion, fractions and structure of the run.
Prune = Callable[[Arrays], dict[str, Array]]


@dataclasses.dataclass(frozen=True)
class Span:
    """How many steps a training takes, and where in the learning rate's schedule they lie.

    Attributes:
      steps: the step at which it ends, >= 1.
      first: the step that its weights are of; it trains the steps after it.
      rate_first: the step of the schedule at which it begins.
      rate_stretch: its steps a step of the schedule, > 0; `CONSTANT` to stay at `rate_first`.
    """

    steps: int
    first: int = 0
    rate_first: int = 0
    rate_stretch: float = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedRound:
    """What a strategy finds at the end of the chain's training of a level.

    Attributes:
      level: of the training; the ticket to be made is of the level above.
      masks: name -> 0/1 array, those of its level's ticket.
      theta: name -> array, the weights that survivors of its level began with: theta_k, at level
        0 and wherever they are rewound.
      trained: name -> array, the weights at the end of the training.
      taken: level -> weights, of the trained networks that `Strategy.takes` named.
    """

    level: int
    masks: Arrays
    theta: Arrays
    trained: Arrays
    taken: Mapping[int, Arrays]


class Strategy:
    """What the masks of the next level come from.

    Attributes:
      name: as in `--set strategy=NAME`.
      summary: what it does, in a few words for the list of settings.
      chain: the branch whose training at each level above 0 ends in the next ticket: the ticket
        itself, or a branch of the strategy's own, which is then trained beside it.
      one_shot: whether the dense network alone decides every level's masks.
    """

    name: str
    summary: str
    chain: str = TICKET
    one_shot: bool = False

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.name.replace("_", " ")

    def takes(self, level: int) -> tuple[int, ...]:
        """The lower levels whose trained weights the chain's training of a level > 0 needs."""
        return ()

    def begin(self, ticket: Arrays, taken: Mapping[int, Arrays]) -> Arrays:
        """The weights that a chain of its own is trained from, under its level's masks.

        Args:
          ticket: name -> array, the weights of its level's ticket.
          taken: level -> weights, of the trained networks that `takes` named.
        """
        return ticket

    def span(self, config: Any, level: int) -> Span:
        """The steps of a chain of its own at a level > 0: by default all, from step 0 on."""
        return Span(config.steps)

    def scored(self, ended: FinishedRound) -> Arrays:
        """The weights that are scored, which survivors keep if they are not rewound."""
        return ended.trained

    def next_masks(self, ended: FinishedRound, prune: Prune) -> dict[str, Array]:
        """The masks of the next level.

        Args:
          ended: the training that they are made after.
          prune: gives the masks that the run's criterion, fractions and structure make of scored
            weights.  A strategy whose masks come from elsewhere need not call it.

        Returns:
          name -> 0/1 array, of each weight in `ended.masks`.
        """
        return prune(self.scored(ended))

    def check(self, config: Any) -> None:
        """Refuses a configuration that the strategy cannot serve.

        Raises:
          LotteryError: if trained weights that it takes are not kept.
        """
        levels = range(1, max(1, config.rounds) + 1)
        if config.keep_trained == "none" and any(map(self.takes, levels)):
            raise LotteryError(f"strategy={self.name} takes trained weights, so they must be "
                               "kept. Received: keep_trained=none. Leave it out.")


class Retraining:
    """What survivors go back to before they are trained as the ticket of their level.

    Attributes:
      name: as in `--set retraining=NAME`.
      summary: what it does, in a few words for the list of settings.
      rewinds: whether every ticket has the weights of theta_k, which the dense network then keeps.
    """

    name: str
    summary: str
    rewinds: bool = False

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.name.replace("_", " ")

    def survivors(self, theta: Arrays, scored: Arrays) -> Arrays:
        """The weights of the next level's ticket.

        Args:
          theta: name -> array, the weights that the level below began with.
          scored: name -> array, the weights that they were pruned by.
        """
        return theta if self.rewinds else scored

    def span(self, config: Any) -> Span:
        """The steps of a ticket's training: those after step k, at the learning rates of then."""
        return Span(config.steps, first=config.rewind_step, rate_first=config.rewind_step)

    def check(self, config: Any) -> None:
        """Refuses a configuration that the retraining cannot serve."""


STRATEGIES: dict[str, Strategy] = {}
RETRAININGS: dict[str, Retraining] = {}
_Kind = TypeVar("_Kind", bound=Strategy | Retraining)


def register(kind: type[_Kind]) -> type[_Kind]:
    """Makes a strategy or a retraining known by its name.

    Raises:
      LotteryError: if its name is taken, or its chain's is a control's or cannot be in a path.

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
    made = kind()
    if made.name in known:
        raise LotteryError(f"The name of a {'strategy' if known is STRATEGIES else 'retraining'} "
                           f"is taken once. Received: {made.name!r} again.")
    chain = getattr(made, "chain", TICKET)
    if chain in CONTROLS or not re.fullmatch(r"[A-Za-z]\w{0,49}", chain, re.ASCII):
        raise LotteryError("The chain of a strategy is a name of letters, digits and '_', and not "
                           f"a control's. Received: {chain!r:.100} of {made.name}.")
    known[made.name] = made
    return kind


def chain_branches() -> list[str]:
    """The branches that are there only for some strategy's chain, beside the ticket.

    Example:
      >>> chain_branches()
      ['continued']
    """
    return list(dict.fromkeys(strategy.chain for strategy in STRATEGIES.values()
                              if strategy.chain != TICKET))


def describe(known: "Mapping[str, Strategy] | Mapping[str, Retraining]") -> str:
    """Every registered name with its summary, in one line for the list of settings."""
    return "; ".join(f"{name}: {one.summary}" for name, one in known.items())


@register
class Iterative(Strategy):
    """Each level is pruned from the one below, by its ticket's trained weights."""

    name, summary = "iterative", "each level pruned from the one below"


@register
class OneShot(Strategy):
    """Each level is pruned by the dense network's trained weights."""

    name, summary = "one_shot", "each from the dense network"
    one_shot = True

    def takes(self, level: int) -> tuple[int, ...]:
        """The dense network."""
        return (0,)

    def scored(self, ended: FinishedRound) -> Arrays:
        """The dense network's trained weights."""
        return ended.taken[0] if ended.level else ended.trained


@register
class Continued(Strategy):
    """A network is pruned and trained on, never rewound; its masks are the tickets'."""

    name, summary = "continued", "from a network that is trained on without rewinding"
    chain = "continued"

    def takes(self, level: int) -> tuple[int, ...]:
        """The network as it was before it was pruned."""
        return (level - 1,)

    def begin(self, ticket: Arrays, taken: Mapping[int, Arrays]) -> Arrays:
        """The weights that it was trained to at the level below."""
        below, = taken.values()
        return below

    def check(self, config: Any) -> None:
        """Refuses another retraining, since its own network is what is not rewound."""
        if not RETRAININGS[config.retraining].rewinds:
            raise LotteryError("strategy=continued judges tickets by weight_rewinding. "
                               f"Received: retraining={config.retraining}.")
        super().check(config)


@register
class WeightRewinding(Retraining):
    """Survivors are rewound to theta_k (Frankle & Carbin 2019; Frankle et al. 2020)."""

    name, summary = "weight_rewinding", "theta_k"
    rewinds = True


@register
class LearningRateRewinding(Retraining):
    """Survivors keep their values; the learning rate goes back to step k (Renda et al. 2020)."""

    name, summary = "learning_rate_rewinding", "their trained values"


@register
class FineTuning(Retraining):
    """Survivors keep their values and are trained at the last learning rate (Han et al. 2015)."""

    name, summary = "fine_tuning", "those, at the last learning rate"

    def span(self, config: Any) -> Span:
        """As many steps as after step k, all at the learning rate of the last."""
        return Span(config.steps, first=config.rewind_step, rate_first=config.steps,
                    rate_stretch=CONSTANT)

    def check(self, config: Any) -> None:
        """Refuses rewind_step=0, with which it would train for as long as the dense network."""
        if not config.rewind_step:
            raise LotteryError("retraining=fine_tuning trains steps - rewind_step steps at the "
                               "last learning rate, so rewind_step must be above 0. Received: "
                               "rewind_step=0.")
