"""What decides the claims on scores at initialisation: from results to the parts of a claim.

Claims of Frankle et al. (ICLR 2021, arXiv:2009.08576) on ResNet-20 and VGG-16, tried on their
LeNet-300-100 for a quarter of their 40 epochs, at four densities.  Written before the runs:
accuracies are those at the last step, and a network is "as good" if it is no more than 0.3 points
less accurate, told from chance.
"""

from collections.abc import Iterable

import pandas as pd
from judging import FINAL, gain, Part, series, sign

MARGIN = 0.003
LEVELS = (1, 2, 3, 4)  # Of 40.0%, 16.0%, 6.4% and 2.6% of the weights.
SPARSE = (2, 3, 4)  # Of 80% pruned and more.
EARLY = ("snip", "grasp", "synflow", "magnitude")
NAMES = tuple(f"lenet_at_init_{name}" for name in (*EARLY, "random", "iterative"))


def f1(*runs: pd.DataFrame) -> Iterable[Part]:
    """Masks of early methods are as good shuffled in each layer, and with weights drawn anew."""
    for method, run in zip(EARLY, runs, strict=True):
        for branch in ("shuffled_mask", "reinit"):
            yield from _no_worse(run, method, branch)


def f2(run: pd.DataFrame) -> Iterable[Part]:
    """Masks of magnitudes after training are worse shuffled, and with weights drawn anew."""
    for level in SPARSE:
        for branch in ("shuffled_mask", "reinit"):
            yield sign(f"ticket less {branch.replace('_', ' ')}, level {level}", gain(
                series(run, FINAL, ("ticket", level)), series(run, FINAL, (branch, level))))


def f3(run: pd.DataFrame) -> Iterable[Part]:
    """GraSP's masks are as good with the scores inverted."""
    yield from _no_worse(run, "grasp", "inverted")


def f4(*runs: pd.DataFrame) -> Iterable[Part]:
    """Early methods are better than random masks, and worse than magnitudes after training."""
    *early, random, after = runs
    for level in SPARSE:
        for method, run in zip(EARLY, early, strict=True):
            own = series(run, FINAL, ("ticket", level))
            yield sign(f"{method} less random, level {level}",
                       gain(own, series(random, FINAL, ("ticket", level))))
            yield sign(f"after training less {method}, level {level}",
                       gain(series(after, FINAL, ("ticket", level)), own))


def _no_worse(run: pd.DataFrame, method: str, branch: str) -> Iterable[Part]:
    for level in LEVELS:
        found = gain(series(run, FINAL, (branch, level)) + MARGIN,
                     series(run, FINAL, ("ticket", level)))
        yield sign(f"{method}, {branch.replace('_', ' ')} less ticket, level {level}, and 0.3",
                   found)
