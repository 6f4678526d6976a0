"""Criteria: functions that score weights.  The weights with the lowest scores are pruned.

A criterion is called for one weight (array) at a time:

    scores = criterion(initial, final, rng)

    initial  the weight at theta_k, to which survivors are rewound
    final    the weight at the end of the round
    rng      a numpy Generator, for criteria that draw random numbers
    scores   an array of the weight's shape, without NaN

A criterion that needs more declares it when it is registered, and gets it by name:

    @register("taylor", needs=("gradient",))
    def taylor(initial, final, rng, gradient): ...

`NEEDS` lists what can be needed, and who provides it.  Searches check before training that they
can provide it (`check_needs`), and compute it only for criteria that need it.

To add a criterion, write such a function and `register` it.  Its name then works in the callback,
in presets and on the command line.

Those of Zhou et al. (NeurIPS 2019, arXiv:1905.01067, section 3 and their code) compare a weight's
initial and final values.  In runs that rewind to a later step, `--set against=theta_0` gives them
theta_0 as `initial`, as in the paper.

Where filters are pruned (structure="filters"), a unit's score is the mean of its filters' scores,
unless the criterion has a way of its own to score units (`core.unit_criteria`).
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection

import numpy as np

from lth_keras.arguments import meant
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError

Score = Callable[..., Array]

_PROVIDED = ("provided by lth run, over its training examples, and by Search and "
             "LotteryTicketCallback with scoring_data=(x, y)")
# What a criterion can need -> what it is, and who provides it. Each is an array of the weight's
# shape, if it does not say otherwise.
NEEDS: dict[str, str] = {
    "mask": "the weight's mask in the round that ends, uint8; provided by all searches",
    "gradient": f"the loss's mean gradient at the trained weights; {_PROVIDED}",
    "initial_gradient": "the loss's mean gradient at theta_k with the round's masks; "
                        f"{_PROVIDED}",
    "activation": "the mean |a| of what each filter of a kernel gives to the next layers, shape "
                  f"(filters,), only where filters are pruned; {_PROVIDED}",
}


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A function that scores a weight, and what it needs.

    Attributes:
      name: the name that is stored in settings and tickets.
      score: a function (initial, final, rng) -> scores that takes each of its needs by name too.
      needs: what it needs, usually keys of NEEDS.
      score_units: a function (units, rng) -> scores of the units of a group, which takes each of
        its needs by name too; see `core.unit_criteria`. None if single weights are scored alone.
      units_only: whether it cannot score single weights.

    Raises:
      LotteryError: if the function's arguments are not those that are declared.

    Example:
      >>> taylor = Criterion("taylor", lambda initial, final, rng, gradient:
      ...                    np.abs(final * gradient), needs=("gradient",))
      >>> taylor(np.zeros(2), np.array([1.0, 2.0]), None, gradient=np.array([-3.0, 0.5]))
      array([3., 1.])
    """

    name: str
    score: Score
    needs: tuple[str, ...] = ()
    score_units: "Score | None" = None
    units_only: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", tuple(self.needs))
        if self.score_units is not None:
            self._check_arguments(self.score_units, 2, "(units, rng)")
        if not self.units_only:
            self._check_arguments(self.score, 3, "(initial, final, rng)")

    def _check_arguments(self, score: Score, first: int, said: str) -> None:
        taken, required = _named_arguments(score, first)
        wrong = [need for need in self.needs if taken is not None and need not in taken]
        wrong += [name for name in required if name not in self.needs]
        if wrong:
            raise LotteryError(
                f"A criterion must take {said} and, by name, exactly what it "
                f"declares. Received: {self.name!r} with needs={self.needs}, where "
                f"{', '.join(map(repr, wrong))} is only declared or only an argument. Use "
                "register(name, needs=(...)).")

    def __call__(self, initial: Array, final: Array, rng: np.random.Generator,
                 **needed: Array) -> Array:
        """Returns the scores of one weight; `needed` has an array for each of `needs`."""
        return self.score(initial, final, rng, **needed)


CriterionLike = str | Criterion | Score

CRITERIA: dict[str, Criterion] = {}


def _named_arguments(score: Score, count: int) -> tuple["set[str] | None", list[str]]:
    # Returns the arguments after the first few: those that can be given by name (None if any
    # name can), and those that must be.
    try:
        parameters = list(inspect.signature(score).parameters.values())
    except (TypeError, ValueError):  # Some functions written in C have no signature.
        return None, []
    if any(item.kind is item.VAR_KEYWORD for item in parameters):
        return None, []
    first = [item for item in parameters if item.kind in (
        item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)][:count]
    more = [item for item in parameters if item not in first and item.kind is not
            item.VAR_POSITIONAL]
    return {item.name for item in more}, [item.name for item in more if item.default is item.empty]


def register(name: str, needs: Collection[str] = ()) -> Callable[[Score], Score]:
    """Decorates a criterion, so that settings accept its name.

    Args:
      name: the name for callbacks, presets and the command line.
      needs: the arguments that it takes besides (initial, final, rng); see NEEDS.

    Raises:
      LotteryError: if a criterion with this name is already registered.

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
            raise LotteryError("A criterion must have a name that no other criterion has. "
                               f"Received: {name!r}, which is already registered.")
        CRITERIA[name] = Criterion(name, score, tuple(needs))
        return score
    return add


def get(criterion: CriterionLike) -> Criterion:
    """Returns the criterion with a name, or makes one of a function.

    Raises:
      LotteryError: if no criterion has this name; the message lists all names.

    Example:
      >>> get("magnitude").name, get(magnitude).name, get(len).name
      ('magnitude', 'magnitude', 'len')
    """
    if isinstance(criterion, Criterion):
        return criterion
    if isinstance(criterion, str) and criterion in CRITERIA:
        return CRITERIA[criterion]
    if callable(criterion):
        # A registered function is the same criterion under its name, or tickets would differ.
        known = [item for item in CRITERIA.values() if item.score is criterion]
        name = getattr(criterion, "__qualname__", type(criterion).__name__)
        return known[0] if known else Criterion(name, criterion)
    raise LotteryError("criterion must be a function (initial, final, rng) -> scores or "
                       f"a registered name. Received: {criterion!r}. "
                       f"Allowed: {', '.join(sorted(CRITERIA))}.{meant(criterion, CRITERIA)}")


def name_of(criterion: CriterionLike) -> str:
    """Returns the name of a criterion, as it is stored in settings and tickets.

    Example:
      >>> name_of(magnitude), name_of(np.square)
      ('magnitude', 'square')
    """
    return criterion if isinstance(criterion, str) else get(criterion).name


def check_needs(criterion: CriterionLike, provided: Collection[str], caller: str) -> Criterion:
    """Checks before training that a criterion will get what it needs.

    Args:
      criterion: a registered name, a function or a Criterion.
      provided: the needs that the caller can meet, besides the mask.
      caller: the name of the search, for the message.

    Returns:
      The criterion.

    Raises:
      LotteryError: if it needs anything else; the message says who provides it.

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
                           f"{criterion.name!r}, which needs {', '.join(missing)}; provided is "
                           f"only {', '.join(provided)}. {where}.")
    return criterion


@register("magnitude")
def magnitude(initial: Array, final: Array, rng: np.random.Generator) -> Array:
    """Scores by |w| at the end of the round (Frankle & Carbin 2019, section 1).

    Example:
      >>> magnitude(np.zeros(2), np.array([-3.0, 1.0]), np.random.default_rng(0))
      array([3., 1.])
    """
    return np.abs(final)


@register("random")
def random(initial: Array, final: Array, rng: np.random.Generator) -> Array:
    """Scores by uniform random numbers, so that all weights are equally likely to be pruned.

    Example:
      >>> random(np.zeros(2), np.ones(2), np.random.default_rng(0)).shape
      (2,)
    """
    return rng.random(final.shape)


@register("taylor", needs=("gradient",))
def taylor(initial: Array, final: Array, rng: np.random.Generator, gradient: Array) -> Array:
    """Scores by |w x dL/dw|, to first order the change of the loss if the weight is pruned.

    Molchanov et al., ICLR 2017 (arXiv:1611.06440), section 2.2, applied to single weights.

    Example:
      >>> taylor(np.zeros(2), np.array([1.0, 2.0]), np.random.default_rng(0),
      ...        gradient=np.array([-3.0, 0.5]))
      array([3., 1.])
    """
    return np.abs(np.multiply(final, gradient))


def _zhou(name: str, score: Callable[[Array, Array], Array], said: str) -> None:
    def of(initial: Array, final: Array, rng: np.random.Generator) -> Array:
        return score(initial, final)
    of.__name__, of.__doc__ = name, f"Scores by {said} (Zhou et al. 2019)."
    register(name)(of)


def _only(score: Callable[[Array, Array], Array], same: bool) -> Callable[[Array, Array], Array]:
    # Of weights that have kept their sign, or that have not, first.  (Their code scores the others
    # 0, and so prunes a weight that became smaller before them.)
    return lambda initial, final: np.where(
        (np.sign(initial) == np.sign(final)) == same, score(initial, final), -np.inf)


def _final(initial: Array, final: Array) -> Array:
    return np.abs(final)


def _growth(initial: Array, final: Array) -> Array:
    return np.abs(final) - np.abs(initial)


_zhou("large_final", _final, "|final|, as magnitude does")
_zhou("small_final", lambda initial, final: -np.abs(final), "-|final|")
_zhou("large_init", lambda initial, final: np.abs(initial), "|initial|")
_zhou("small_init", lambda initial, final: -np.abs(initial), "-|initial|")
_zhou("magnitude_increase", _growth, "|final| - |initial|")
_zhou("movement", lambda initial, final: np.abs(np.subtract(final, initial)), "|final - initial|")
_zhou("large_final_same_sign", _only(_final, True), "|final|, those that keep their sign first")
_zhou("large_final_diff_sign", _only(_final, False), "|final|, those that change sign first")
_zhou("magnitude_increase_same_sign", _only(_growth, True),
      "|final| - |initial|, those that keep their sign first")
_zhou("magnitude_increase_diff_sign", _only(_growth, False),
      "|final| - |initial|, those that change sign first")


@register("large_init_large_final", needs=("mask",))
def large_init_large_final(initial: Array, final: Array, rng: np.random.Generator,
                           mask: Array) -> Array:
    """Scores by the lower of the ranks of |initial| and |final| among the weights that are left.

    What is kept has both above the same percentile (Zhou et al. 2019).  Ranks are within a weight
    array, so that with scope="global" layers are compared by rank.

    Example:
      >>> large_init_large_final(np.array([3.0, -1.0, 2.0]), np.array([-1.0, 3.0, 2.0]), None,
      ...                        mask=np.ones(3))
      array([0., 0., 1.])
    """
    return _lower_rank(np.abs(initial), np.abs(final), mask)


@register("small_init_small_final", needs=("mask",))
def small_init_small_final(initial: Array, final: Array, rng: np.random.Generator,
                           mask: Array) -> Array:
    """Scores by the lower of the ranks of -|initial| and -|final| (the same)."""
    return _lower_rank(-np.abs(initial), -np.abs(final), mask)


def _lower_rank(one: Array, other: Array, mask: Array) -> Array:
    left = mask != 0
    ranks = [np.argsort(np.argsort(values[left], kind="stable")) for values in (one, other)]
    scores = np.zeros(mask.shape)
    scores[left] = np.minimum(*ranks)
    return scores


@register("snip", needs=("initial_gradient",))
def snip(initial: Array, final: Array, rng: np.random.Generator,
         initial_gradient: Array) -> Array:
    """Scores by |initial x dL/d initial|, over all training examples (Lee et al., ICLR 2019).

    Example:
      >>> snip(np.array([1.0, 2.0]), np.zeros(2), None, initial_gradient=np.array([-3.0, 0.5]))
      array([3., 1.])
    """
    return np.abs(np.multiply(initial, initial_gradient))


@register("gradient", needs=("initial_gradient",))
def gradient(initial: Array, final: Array, rng: np.random.Generator,
             initial_gradient: Array) -> Array:
    """Scores by |dL/d initial|, over all training examples (Zhou et al. 2019)."""
    return np.abs(initial_gradient)
