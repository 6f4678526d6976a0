"""Significance: whether chance alone would show as much.  One-sided tests, one value a replicate.

`chance` for "better than" and "not worse by more than a margin", `no_difference` for "the same
within a margin", `holm` for claims that are made together, `replicates_needed` for what is open,
`replicates_of_chance` for how many `chance` asks for.
"""

import bisect
import math
from collections.abc import Iterable

import numpy as np

from lth_keras.experiments.results.statistics import CONFIDENCE, Estimate

MOST_REPLICATES = 1000


def chance(values: Iterable[float]) -> float:
    """How often chance alone gives a mean so far above 0: the p-value of a one-sided t-test.

    Measures are coarse: steps between validations, single images of a test set.  So values that
    are all equal and above 0 are no certainty; they count as so many signs that agree, 2^-n.

    Args:
      values: one a replicate; NaN is left out.

    Returns:
      In [0, 1]; 1 for fewer than two values, which show nothing.

    Example:
      >>> round(chance([1.0, 2.0, 3.0]), 3), chance([1.0, 1.0, 1.0]), chance([5.0])
      (0.037, 0.125, 1.0)
    """
    array = np.asarray(list(values), float)
    array = np.round(array[~np.isnan(array)], 12)
    count = len(array)
    if count < 2:
        return 1.0
    if np.ptp(array) == 0:
        return 2.0 ** -count if array[0] > 0 else 1.0
    from scipy import special
    standard = array.std(ddof=1) / math.sqrt(count)
    return float(special.stdtr(count - 1, -array.mean() / standard))


def no_difference(values: Iterable[float], margin: float) -> float:
    """The p-value of "no difference beyond a margin", by two one-sided tests (TOST).

    That a test finds no difference does not show that there is none; that the mean lies above
    -margin and below margin, each told by a one-sided test, does.

    Args:
      values: differences, one a replicate.
      margin: the largest difference that counts as none, >= 0, in their unit; within 0 nothing is.

    Returns:
      In [0, 1]: the larger of the two tests'.

    Example:
      >>> found = [0.1, -0.1, 0.0, 0.05, -0.05]
      >>> round(no_difference(found, 0.2), 4), no_difference(found, 0.01) > 0.05
      (0.0024, True)

    Reference: Schuirmann, "A comparison of the two one-sided tests procedure and the power
    approach", J. Pharmacokinetics and Biopharmaceutics 15, 1987.
    """
    array = np.asarray(list(values), float)
    return max(chance(array + margin), chance(margin - array))


def holm(chances: Iterable[float]) -> list[float]:
    """P-values of claims that are made together, corrected so that all share one error.

    If all that come out at most 0.05 are claimed, then any claim at all is false with probability
    0.05 at most, whatever the claims depend on.  The least of m is multiplied by m, the next by
    m - 1, and so on; none falls below one before it.

    Example:
      >>> holm([0.01, 0.04, 0.03])
      [0.03, 0.06, 0.06]

    Reference: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6, 1979.
    """
    found = list(chances)
    corrected, so_far = [1.0] * len(found), 0.0
    for rank, place in enumerate(sorted(range(len(found)), key=found.__getitem__)):
        so_far = max(so_far, min(1.0, (len(found) - rank) * found[place]))
        corrected[place] = so_far
    return corrected


def replicates_needed(difference: Estimate, margin: float = 0.0, power: float = 0.8,
                      confidence: float = CONFIDENCE) -> "int | None":
    """Returns how many replicates are needed to tell a difference from a margin.

    It is the smallest n for which a paired two-sided t-test at level 1 - confidence detects a true
    difference of the size seen, at the deviation seen, with the given power:
    P(T > t(n - 1)) >= power, where T has a non-central t distribution with n - 1 degrees of freedom
    and non-centrality |mean - margin| sqrt(n) / deviation.

    Args:
      difference: the difference seen, over at least two replicates.
      margin: the margin, in the measure's unit.
      power: the power of the test, in (0, 1).
      confidence: 1 minus the level of the test, in (0, 1).

    Returns:
      A number >= 2; None if it is unknown (one replicate) or above 1,000.

    Example:
      >>> replicates_needed(Estimate(mean=1.0, low=0, high=0, deviation=1.0, replicates=3))
      10
    """
    if math.isnan(difference.deviation) or difference.mean == margin:
        return None
    from scipy import special
    if difference.deviation == 0:
        return 2
    effect = abs(difference.mean - margin) / difference.deviation

    def enough(count: int) -> bool:
        bound = special.stdtrit(count - 1, (1 + confidence) / 2)
        below = special.nctdtr(count - 1, effect * math.sqrt(count), bound)
        return bool(below <= 1 - power)
    most = 2  # Power rises with replicates.  SciPy's distribution fails far above what is enough.
    while not enough(most):
        if most == MOST_REPLICATES:
            return None
        most = min(2 * most, MOST_REPLICATES)
    counts = range(2, most + 1)
    return counts[bisect.bisect_left(counts, True, key=enough)]


def replicates_of_chance(difference: Estimate, error: float, margin: float = 0.0) -> "int | None":
    """Returns how many replicates `chance` needs to tell a difference from a margin.

    Args:
      difference: the difference seen, over at least two replicates.
      error: the error of the one-sided test, in (0, 0.5).
      margin: the margin, in the measure's unit.

    Returns:
      As `replicates_needed`; of differences that are all equal, so many that as many signs that
      agree tell it.

    Example:
      >>> replicates_of_chance(Estimate(mean=0.1, low=0, high=0, deviation=0.0, replicates=3), 0.05)
      5
    """
    if difference.deviation == 0 and difference.mean != margin:
        return math.ceil(-math.log2(error))
    return replicates_needed(difference, margin, confidence=1 - 2 * error)
