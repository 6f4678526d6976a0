"""Criteria: a weight's scores.  The lowest scores are pruned.

A criterion sees one weight at a time:

    scores = criterion(initial, final, rng)

    initial  the weight at theta_k, where survivors are rewound to
    final    the weight at the end of the round
    rng      a numpy Generator, for criteria that draw
    scores   an array of the weight's shape, free of NaN

One that needs more says so when it is registered, and gets it by name:

    @register("taylor", needs=("gradient",))
    def taylor(initial, final, rng, gradient): ...

`NEEDS` lists what can be needed and who provides it.  Whoever prunes checks that before
training (`check_needs`), and computes nothing that was not asked for.

To add a criterion, write that function and `register` it; the name then works in the callback,
in presets and on the command line.
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection

import numpy as np

from lth_keras.arguments import meant
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError

Score = Callable[..., Array]

# What a criterion can need, each an array of its weight's shape.
NEEDS: dict[str, str] = {
    "mask": "the weight's mask in the round that ends, uint8; from everyone who prunes",
    "gradient": "the loss's mean gradient at the trained weights; from lth run, over its training "
                "examples, and from Search and LotteryTicketCallback given scoring_data=(x, y)",
    "initial_gradient": "the same at theta_k under the round's mask; from the same",
}


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A function that scores a weight, and what it needs for that.

    Attributes:
      name: under which it is written down.
      score: (initial, final, rng) -> scores, which takes each of its needs by name besides.
      needs: of what kinds, mostly keys of NEEDS; () for none.

    Raises:
      LotteryError: if the function does not take just what is declared.

    Example:
      >>> taylor = Criterion("taylor", lambda initial, final, rng, gradient:
      ...                    np.abs(final * gradient), needs=("gradient",))
      >>> taylor(np.zeros(2), np.array([1.0, 2.0]), None, gradient=np.array([-3.0, 0.5]))
      array([3., 1.])
    """

    name: str
    score: Score
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", tuple(self.needs))
        taken, required = _named_arguments(self.score)
        wrong = [need for need in self.needs if taken is not None and need not in taken]
        wrong += [name for name in required if name not in self.needs]
        if wrong:
            raise LotteryError(
                "A criterion takes (initial, final, rng) and, by name, just what it declares: "
                f"register(name, needs=(...)). Received: {self.name!r} with needs={self.needs}, "
                f"but {', '.join(map(repr, wrong))} is declared or taken alone.")

    def __call__(self, initial: Array, final: Array, rng: np.random.Generator,
                 **needed: Array) -> Array:
        """The scores of one weight; `needed` has an array for each of `needs`."""
        return self.score(initial, final, rng, **needed)


CriterionLike = str | Criterion | Score

CRITERIA: dict[str, Criterion] = {}


def _named_arguments(score: Score) -> tuple["set[str] | None", list[str]]:
    # Those after the first three that can be given by name, None for any; and those that must be.
    try:
        parameters = list(inspect.signature(score).parameters.values())
    except (TypeError, ValueError):  # Some functions written in C have no signature.
        return None, []
    if any(item.kind is item.VAR_KEYWORD for item in parameters):
        return None, []
    first = [item for item in parameters if item.kind in (
        item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)][:3]
    more = [item for item in parameters if item not in first and item.kind is not
            item.VAR_POSITIONAL]
    return {item.name for item in more}, [item.name for item in more if item.default is item.empty]


def register(name: str, needs: Collection[str] = ()) -> Callable[[Score], Score]:
    """Makes a criterion known by name.

    Args:
      name: for callbacks, presets and the command line.
      needs: what it takes by name besides (initial, final, rng); see NEEDS.

    Example:
      >>> @register("signed")
      ... def signed(initial, final, rng):
      ...     return final
      >>> get("signed").score is signed
      True
      >>> del CRITERIA["signed"]
    """
    def add(score: Score) -> Score:
        if name in CRITERIA:
            raise LotteryError(f"A criterion's name is taken once. Received: {name!r} again.")
        CRITERIA[name] = Criterion(name, score, tuple(needs))
        return score
    return add


def get(criterion: CriterionLike) -> Criterion:
    """The criterion of a name or of a function.

    Raises:
      LotteryError: if no criterion has that name; the message lists those there are.

    Example:
      >>> get("magnitude").name, get(magnitude).name, get(len).name
      ('magnitude', 'magnitude', 'len')
    """
    if isinstance(criterion, Criterion):
        return criterion
    if isinstance(criterion, str) and criterion in CRITERIA:
        return CRITERIA[criterion]
    if callable(criterion):
        known = [item for item in CRITERIA.values() if item.score is criterion]
        name = getattr(criterion, "__qualname__", type(criterion).__name__)
        return known[0] if known else Criterion(name, criterion)
    raise LotteryError("criterion must be a function (initial, final, rng) -> scores or "
                       f"a registered name. Received: {criterion!r}. "
                       f"Allowed: {', '.join(sorted(CRITERIA))}.{meant(criterion, CRITERIA)}")


def name_of(criterion: CriterionLike) -> str:
    """The name under which a criterion is written down.

    Example:
      >>> name_of(magnitude), name_of(np.square)
      ('magnitude', 'square')
    """
    return criterion if isinstance(criterion, str) else get(criterion).name


def check_needs(criterion: CriterionLike, provided: Collection[str], caller: str) -> Criterion:
    """Makes sure, before training, that a criterion will get what it needs.

    Args:
      criterion: a registered name, a function or a Criterion.
      provided: what the caller can provide besides the mask.
      caller: who prunes, for the message.

    Returns:
      The criterion.

    Raises:
      LotteryError: if it needs something else; the message says who provides that.

    Example:
      >>> check_needs("magnitude", (), "Search").needs
      ()
    """
    criterion = get(criterion)
    provided = sorted({"mask", *provided})
    missing = [need for need in criterion.needs if need not in provided]
    if missing:
        where = "; ".join(f"{need}: {NEEDS.get(need, 'nobody provides it yet')}"
                          for need in missing)
        raise LotteryError(f"{caller} must provide what its criterion needs. Received: "
                           f"{criterion.name!r}, which needs {', '.join(missing)}, from one that "
                           f"provides {', '.join(provided)}. {where}.")
    return criterion


@register("magnitude")
def magnitude(initial: Array, final: Array, rng: np.random.Generator) -> Array:
    """|w| at the end of the round (Frankle & Carbin 2019, section 1).

    Example:
      >>> magnitude(np.zeros(2), np.array([-3.0, 1.0]), np.random.default_rng(0))
      array([3., 1.])
    """
    return np.abs(final)


@register("random")
def random(initial: Array, final: Array, rng: np.random.Generator) -> Array:
    """Uniform draws: prunes any weight as likely as any other.

    Example:
      >>> random(np.zeros(2), np.ones(2), np.random.default_rng(0)).shape
      (2,)
    """
    return rng.random(final.shape)


@register("taylor", needs=("gradient",))
def taylor(initial: Array, final: Array, rng: np.random.Generator, gradient: Array) -> Array:
    """|w x dL/dw|: what the loss would change by without the weight, to first order.

    Molchanov et al., ICLR 2017 (arXiv:1611.06440), section 2.2, of single weights.

    Example:
      >>> taylor(np.zeros(2), np.array([1.0, 2.0]), np.random.default_rng(0),
      ...        gradient=np.array([-3.0, 0.5]))
      array([3., 1.])
    """
    return np.abs(np.multiply(final, gradient))
