"""Measures how many survivors end their training with another sign than they had before.

Zhou et al. (NeurIPS 2019, arXiv:1905.01067) find that of a ticket's initial weights little but the
signs matters.  Gadhikar & Burkholz (ICLR 2024, arXiv:2402.19262) follow them through the levels:
with learning-rate rewinding they turn at the first levels and then stay, and the network can bear
that they are disturbed later; with weight rewinding it cannot.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.core.masks import Array, density
from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.trainings import Training
from lth_keras.files.ticket import Ticket
from lth_keras.reports.analyses.analysis import ALL, Analysis, flat, in_order, WorkdirReader
from lth_keras.reports.plots import analysis_figures

_MEASURES = {"flipped_initial": ".1%", "flipped_start": ".1%", "flipped_below": ".1%"}


def flipped(trained: Array, before: Array, mask: Array) -> float:
    """Returns the share of survivors whose sign differs from the one that they had before.

    Args:
      trained: the weights after training, any shape.
      before: their earlier values, same shape; 0 has no sign, and so differs from none.
      mask: 0/1 array, same shape; only the weights that it keeps count.

    Returns:
      The share, in [0, 1]; 0.5 if signs do not depend on each other, NaN if no weight is kept.

    Example:
      >>> flipped(np.array([1.0, -2.0, 3.0]), np.array([-1.0, -1.0, -1.0]), np.array([1, 1, 0]))
      0.5
    """
    kept = mask != 0
    if not kept.any():
        return float("nan")
    # Signs, not a product of weights: that of two small ones would be 0.
    return float(np.mean(np.sign(trained[kept]) * np.sign(before[kept]) < 0))


def analyse(run: WorkdirReader, levels: "Iterable[int] | None" = None) -> Analysis:
    """Analyses how often survivors change their sign, by level and weight.

    A level's trained ticket is compared with the weights at step 0 of its replicate
    (`flipped_initial`), with those that it was trained from (`flipped_start`: the same if it was
    rewound to step 0), and with the trained ticket of the level below (`flipped_below`: NaN at
    level 0, or if its weights were not kept).

    Args:
      run: the workdir.
      levels: the levels. Defaults to all whose ticket was trained.

    Raises:
      WorkdirError: if the workdir has no trained weights of these levels.
    """
    run.check_trained("Signs")
    rows: list[dict[str, Any]] = []
    for replicate, chosen in run.levels(levels).items():
        for level in chosen:
            trained = run.trained(Training(replicate, level))
            if trained is not None:
                below = run.trained(Training(replicate, level - 1)) if level else None
                where = {"replicate": replicate, "level": level,
                         "density": density(trained.masks)}
                rows += [{**where, **row} for row in _rows(run, replicate, trained, below)]
    if not rows:
        raise WorkdirError("Signs need the trained weights of a ticket. Received: "
                           f"{run.root}, without them{'' if levels is None else ' at these levels'}"
                           ". Run with --set keep_trained=tickets.")
    table = pd.DataFrame(rows)
    title = f"{run.title}: signs that turn in training"
    return Analysis(title, table, ("level", "weight"), _MEASURES, {},
                    analysis_figures.signs_figure(table, title), (
        "flipped: share of the survivors whose trained sign is not that of their weight at step 0 "
        "(initial), of the weight that the level was trained from (start), and of the trained "
        "network of the level below (below); 50% by chance.",))


def _rows(run: WorkdirReader, replicate: int, trained: Ticket,
          below: "Ticket | None") -> "Iterable[dict[str, Any]]":
    names = in_order(trained.masks)
    earlier = {"initial": run.initial(replicate),
               "start": run.ticket(replicate, trained.level).weights,
               "below": None if below is None else below.weights}
    for weight, some in [*((name, [name]) for name in names), (ALL, names)]:
        mask, after = flat(trained.masks, some), flat(trained.weights, some)
        yield {"weight": weight, "survivors": int(np.count_nonzero(mask)), **{
            f"flipped_{word}": float("nan") if before is None
            else flipped(after, flat(before, some), mask) for word, before in earlier.items()}}
