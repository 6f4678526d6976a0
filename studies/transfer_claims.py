"""What decides the claims on tickets of another task: from results to the parts of a claim.

Claims of Morcos et al. (NeurIPS 2019, arXiv:1906.02773) on VGG-19 and ResNet-50 and larger data
sets, tried on LeNet-300-100 and three sets of 8x8 pixels.  Written before the runs: accuracies are
those at the last step, on the sparsest level.
"""

import itertools
from collections.abc import Iterable

import pandas as pd
from judging import FINAL, gain, Part, series, sign

SETS = ("digits", "mnist", "cifar10")
PAIRS = tuple(itertools.permutations(SETS, 2))  # (Source, target).
NAMES = tuple(f"transfer_{source}_{target}" for source, target in PAIRS)
LAST = 5  # Its level, of 3.1% of the weights.


def tr2(*runs: pd.DataFrame) -> Iterable[Part]:
    """Tickets of another task are better than random masks of as many weights."""
    yield from _less("ticket", "random_mask_global", runs)


def tr4(*runs: pd.DataFrame) -> Iterable[Part]:
    """Random masks are better with the layers' proportions than without."""
    yield from _less("random_mask", "random_mask_global", runs)


def _less(branch: str, other: str, runs: Iterable[pd.DataFrame]) -> Iterable[Part]:
    for (source, target), run in zip(PAIRS, runs, strict=True):
        said = f"{branch.replace('_', ' ')} less {other.replace('_', ' ')}"
        yield sign(f"from {source} to {target}: {said}", gain(
            series(run, FINAL, (branch, LAST)), series(run, FINAL, (other, LAST))))
