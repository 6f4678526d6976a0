"""What decides the claims on the shares of supermasks: from accuracies to the parts of a claim.

Ramanujan et al. (CVPR 2020, arXiv:1911.13299, figure 3): edge-popup is best where between 30 and
70% of the weights are kept, and none or all of an untrained network's weights guess.  Written
before the runs.
"""

import pathlib
from collections.abc import Iterable

import pandas as pd
from judging import NOT_REPRODUCED, Part, REPRODUCED

KEPT = pathlib.Path(__file__).resolve().parent / "supermasks.csv"
BETWEEN = (0.3, 0.7)
CHANCE, NEAR = 10, 10  # Of ten classes, and how far from it still is a guess: points.
GOOD = 95
SCALED = "VarianceScaling(2 / kept)"


def e5(found: "pd.DataFrame | None" = None) -> Iterable[Part]:
    """The best share of each network, and how good none and all of its weights are."""
    for network, rows in _edge_popup(found):
        means = rows.groupby("kept").accuracy.mean()
        replicates = rows.seed.nunique()
        yield Part(f"{network}: best at {means.idxmax():.0%} kept, {means.max():.2f}%",
                   _verdict(BETWEEN[0] <= means.idxmax() <= BETWEEN[1]), replicates)
        for share, name in ((0, "none"), (1, "all")):
            guesses = rows[rows.kept == share].accuracy
            yield Part(f"{network}, {name} kept: {guesses.min():.2f} to {guesses.max():.2f}%",
                       _verdict(bool((abs(guesses - CHANCE) <= NEAR).all())), replicates)


def e6(found: "pd.DataFrame | None" = None) -> Iterable[Part]:
    """Half of the weights of an untrained network, convolutional or not."""
    for network, rows in _edge_popup(found):
        half = rows[rows.kept == 0.5].accuracy
        yield Part(f"{network}, half kept: {half.min():.2f} to {half.max():.2f}%",
                   _verdict(bool((half >= GOOD).all())), len(half))


def _edge_popup(found: "pd.DataFrame | None") -> Iterable[tuple[str, pd.DataFrame]]:
    if found is None:
        if not KEPT.exists():
            return ()
        found = pd.read_csv(KEPT)
    chosen = found[(found.method == "edge_popup") & (found.initializer == SCALED)]
    return [(str(network), rows) for network, rows in chosen.groupby("network", sort=False)]


def _verdict(holds: bool) -> str:
    return REPRODUCED if holds else NOT_REPRODUCED
