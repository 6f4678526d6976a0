"""Draws figures 5 and 8 of Frankle & Carbin (ICLR 2019) from the rows in studies/results.

    python studies/paper_figures.py       writes docs/figure_5.png and docs/figure_8.png

Each shows what there is of the shorter runs of shorter_convnets.py and shorter_resnet.py, and says
how many steps and replicates they have.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import pandas as pd
import reproduction
import shorter_convnets
import shorter_resnet
from matplotlib.figure import Figure

from lth_keras.experiments.results import runs
from lth_keras.experiments.results.runs import Run
from lth_keras.reports.plots.paper_figures import FIGURES

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
# The runs of a figure; those in float32 repeat a replicate.
SHOWN = {5: tuple(shorter_convnets.NAMES.values()),
         8: tuple(shorter_resnet.NAMES[run] for run in ("low", "warm", "own", "rewound"))}


def draw(tables: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> dict[int, Figure]:
    """The figures, by number, of which there are results.

    Args:
      tables: rows by the name of their run.
      about: what is kept beside them, by the same names.
    """
    figures = {}
    for number, names in SHOWN.items():
        found = [Run(None, reproduction.config(about[name]),
                     tables[name].assign(**{reproduction.DROPPED: float("nan")}), name)
                 for name in names if name in tables]
        if found:
            figures[number] = FIGURES[number].draw(runs.together(found))
    return figures


def main() -> None:
    """Writes the pictures."""
    for number, figure in draw(*reproduction.read(reproduction.HERE / "results")).items():
        figure.savefig(DOCS / f"figure_{number}.png", dpi=150)


if __name__ == "__main__":
    main()
