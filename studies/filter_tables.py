"""Draws docs/filters.png and docs/filters_conv2.png, and prints the tables beside them.

    python studies/filter_tables.py

From the rows in studies/results: what LeNet-5 and Conv-2 come to at three densities of whole
filters, each ticket beside the same network re-initialised, trained from scratch for the dense
network's multiply-adds, fine-tuned, and with its learning rate rewound.
"""

import dataclasses
import pathlib
from typing import Any

import pandas as pd
import reproduction

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.results.statistics import by_replicate
from lth_keras.reports.analyses import differences
from lth_keras.reports.analyses.analysis import Analysis

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
PICTURES = {"lenet5_filters": "filters.png", "conv2_filters": "filters_conv2.png"}
OTHERS = ("_rewound", "_tuned")
# Of the networks of a table: its column, its run and its branch there.
COLUMNS = (("ticket", "", "ticket"), ("re-initialised", "", "reinit"), ("scratch", "", "scratch"),
           ("learning rate rewound", "_rewound", "ticket"), ("fine-tuned", "_tuned", "ticket"))


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """A run of which only its rows and settings are kept.

    Attributes:
      root: its name, in errors.
      config: its settings.
      results: its rows.
    """

    root: str
    config: Config
    results: pd.DataFrame

    @property
    def title(self) -> str:
        """Its preset and steps, for titles."""
        return f"{self.config.preset}, {self.config.steps:,} steps"


def kept(name: str, tables: dict[str, pd.DataFrame], about: dict[str, dict[str, Any]]) -> Kept:
    """A run of studies/results."""
    return Kept(name, reproduction.config(about[name]), tables[name])


def compared(name: str, tables: dict[str, pd.DataFrame],
             about: dict[str, dict[str, Any]]) -> Analysis:
    """The differences of a run's networks at the last step, less the ticket's."""
    runs = [kept(run, tables, about) for run in (name, *(f"{name}{other}" for other in OTHERS))
            if run in tables]
    return differences.analyse(runs, at="end")


def table(name: str, tables: dict[str, pd.DataFrame]) -> list[str]:
    """Mean test accuracies at the last step, level by level, as lines of Markdown."""
    rows = tables[name]
    names = [column for column, other, _ in COLUMNS if f"{name}{other}" in tables]
    lines = [f"| level | P_m | multiply-adds | {' | '.join(names)} |",
             f"|{'---:|' * (3 + len(names))}"]
    for level, tickets in rows[rows.branch == "ticket"].groupby("level"):
        means = [by_replicate(tables[f"{name}{other}"], differences.PLACES["end"], branch, level)
                 for _, other, branch in COLUMNS if f"{name}{other}" in tables]
        # All runs have the dense network in common.
        shown = means if level else means[:1] + [mean.iloc[:0] for mean in means[1:]]
        cells = [f"{mean.mean():.2%}" if len(mean) else "" for mean in shown]
        cells = [str(level), _share(tickets.density), _share(tickets.macs_left), *cells]
        lines.append(f"|{'|'.join(f' {cell} '.replace('  ', ' ') for cell in cells)}|")
    return lines


def _share(values: pd.Series) -> str:
    mean = values.mean()
    return "100%" if mean == 1 else f"{mean:.1%}"


def main() -> None:
    """Draws, and prints."""
    tables, about = reproduction.read(reproduction.HERE / "results")
    for name, picture in PICTURES.items():
        if name in tables:
            found = compared(name, tables, about)
            found.figure.savefig(DOCS / picture, dpi=150)
            print("\n".join(table(name, tables)))
            said = found.rows[["level", "network", "difference", "low", "high", "verdict"]]
            print(said.to_string(index=False, float_format="{:+.2f}".format))


if __name__ == "__main__":
    main()
