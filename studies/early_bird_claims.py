"""What decides the claim on early-bird tickets: from distances to the parts of a claim.

You et al. (ICLR 2020, arXiv:1909.11957): masks settle in the first 10 to 20% of the epochs.  There
of filters, and by a plain Hamming distance of 0.1, which at 5% is what random masks have; here of
weights, and relative to chance.  Written before the run.
"""

import pathlib
from collections.abc import Iterable

import pandas as pd
from judging import NOT_REPRODUCED, Part, REPRODUCED

KEPT = pathlib.Path(__file__).resolve().parent / "early_bird.csv"
PATIENCE, THRESHOLD, SHARE = 5, 0.1, 0.2


def settled(pairs: pd.DataFrame) -> "int | None":
    """The first epoch whose mask is near those of the four before it; None if there is none."""
    recent = pairs[pairs.epoch - pairs.other < PATIENCE]
    furthest = recent.groupby("epoch").distance.max()
    found = furthest.index[(furthest.index >= PATIENCE) & (furthest <= THRESHOLD)]
    return int(found[0]) if len(found) else None


def eb1(pairs: "pd.DataFrame | None" = None) -> Iterable[Part]:
    """Masks settle in the first fifth of the training, at the larger learning rate."""
    if pairs is None:
        if not KEPT.exists():
            return
        pairs = pd.read_csv(KEPT)
    pairs = pairs[pairs.rate == pairs.rate.max()]
    for density, rows in pairs.groupby("density"):
        found = [settled(one) for _, one in rows.groupby("seed")]
        early = all(epoch is not None and epoch <= SHARE * rows.epoch.max() for epoch in found)
        said = ", ".join("never" if epoch is None else str(epoch) for epoch in found)
        yield Part(f"{density:.0%} kept: settled at epoch {said} of {rows.epoch.max()}",
                   REPRODUCED if early else NOT_REPRODUCED, len(found))
