"""Criteria: a weight's scores.  The lowest scores are pruned.

A criterion sees one weight at a time:

    scores = criterion(initial, final, rng)

    initial  the weight at theta_k, where survivors are rewound to
    final    the weight at the end of the round
    rng      a numpy Generator, for criteria that draw
    scores   an array of the weight's shape, free of NaN

To add one, write that function and `register` it; the name then works in the
callback, and in presets and on the command line for criteria of this package.
"""

from collections.abc import Callable

import numpy as np

from lth_keras.arguments import meant
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError

Criterion = Callable[[Array, Array, np.random.Generator], Array]

CRITERIA: dict[str, Criterion] = {}


def register(name: str) -> Callable[[Criterion], Criterion]:
    """Makes a criterion known by name.

    Example:
      >>> @register("signed")
      ... def signed(initial, final, rng):
      ...     return final
      >>> get("signed") is signed
      True
      >>> del CRITERIA["signed"]
    """
    def add(criterion: Criterion) -> Criterion:
        if name in CRITERIA:
            raise LotteryError(f"A criterion's name is taken once. Received: {name!r} again.")
        CRITERIA[name] = criterion
        return criterion
    return add


def get(criterion: "str | Criterion") -> Criterion:
    """The criterion of a name; a function is returned as it is.

    Raises:
      LotteryError: if no criterion has that name; the message lists those there are.
    """
    if callable(criterion):
        return criterion
    if not isinstance(criterion, str) or criterion not in CRITERIA:
        raise LotteryError("criterion must be a function (initial, final, rng) -> scores or "
                           f"a registered name. Received: {criterion!r}. "
                           f"Allowed: {', '.join(sorted(CRITERIA))}.{meant(criterion, CRITERIA)}")
    return CRITERIA[criterion]


def name_of(criterion: "str | Criterion") -> str:
    """The name under which a criterion is written down."""
    if isinstance(criterion, str):
        return criterion
    for name, known in CRITERIA.items():
        if known is criterion:
            return name
    return getattr(criterion, "__qualname__", type(criterion).__name__)


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
