"""What the networks of a run cost: parameters and multiply-adds, dense against each level.

Only runs that prune whole filters have costs: what zeros anywhere save depends on the runtime.
"""

import dataclasses
import math
from collections.abc import Iterator

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table

from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.results.record import MACS, MACS_LEFT, PARAMETERS
from lth_keras.experiments.results.statistics import trained

HEADS = ("parameters", "% of dense", "multiply-adds", "% of dense")  # The cells of `LevelCosts`.


@dataclasses.dataclass(frozen=True)
class LevelCosts:
    """What the tickets of a level cost, as means over replicates; unknown values are NaN.

    Attributes:
      level: the level.
      density: the share of prunable weights that are kept, in [0, 1].
      parameters: weights, biases and statistics of the network without its pruned filters.
      parameters_left: their share of the dense network's, in [0, 1].
      macs: multiply-adds for one example.
      macs_left: their share of the dense network's, in [0, 1].

    Example:
      >>> LevelCosts(1, 0.5, 24_924.0, 0.2926, math.nan, 0.2027).cells
      ['24,924', '29.3', '', '20.3']
    """

    level: int
    density: float
    parameters: float
    parameters_left: float
    macs: float
    macs_left: float

    @property
    def cells(self) -> list[str]:
        """The costs as text, in the order of HEADS."""
        return [_text(self.parameters, ",.0f"), _text(100 * self.parameters_left, ".1f"),
                _text(self.macs, ",.0f"), _text(100 * self.macs_left, ".1f")]


def has_costs(results: pd.DataFrame) -> bool:
    """Whether the share of multiply-adds that is left is known of any training.

    Example:
      >>> has_costs(pd.DataFrame({"macs_left": [0.5]})), has_costs(pd.DataFrame({"level": [1]}))
      (True, False)
    """
    return MACS_LEFT in results and bool(results[MACS_LEFT].notna().any())


def of_levels(results: pd.DataFrame) -> Iterator[LevelCosts]:
    """Yields what the tickets of each level cost, in rising order; nothing without costs.

    Args:
      results: one row for each trained network, with the columns of `record.COLUMNS`. Rows of
        earlier versions lack the numbers of parameters and multiply-adds, not the share.

    Example:
      >>> rows = pd.DataFrame({"branch": "ticket", "level": [0, 1], "density": [1, 0.4],
      ...                      "early_stop_step": 9, "macs_left": [1, 0.25], "macs": [80, 20],
      ...                      "parameters": [50, 15]})
      >>> [costs.cells for costs in of_levels(rows)]
      [['50', '100.0', '80', '100.0'], ['15', '30.0', '20', '25.0']]
    """
    if not has_costs(results):
        return
    rows = trained(results)
    rows = rows[rows.branch == TICKET].reindex(
        columns=["level", "density", PARAMETERS, MACS, MACS_LEFT])
    means = rows.groupby("level").mean()
    dense = means[PARAMETERS].get(0, math.nan)
    for level, row in means.iterrows():
        yield LevelCosts(int(str(level)), row.density, row[PARAMETERS], row[PARAMETERS] / dense,
                         row[MACS], row[MACS_LEFT])


def macs_left(results: pd.DataFrame, branch: str, level: int) -> str:
    """The mean share of multiply-adds that is left to a branch at a level, in percent, as text.

    Example:
      >>> rows = pd.DataFrame({"branch": "ticket", "level": 1, "early_stop_step": 9,
      ...                      "macs_left": [0.25, 0.26]})
      >>> macs_left(rows, "ticket", 1), macs_left(rows, "reinit", 1)
      ('25.5', '')
    """
    rows = trained(results)
    rows = rows[(rows.branch == branch) & (rows.level == level)]
    return _text(100 * rows[MACS_LEFT].mean(), ".1f")


def table(results: pd.DataFrame, title: str) -> Table:
    """Makes a table with a row for each level: parameters and multiply-adds, and their shares.

    Args:
      results: one row for each trained network.
      title: the table's title.
    """
    shown = Table(title=escape(title), box=box.SIMPLE_HEAD, caption="of tickets without their "
                  "pruned filters, for one example; means over replicates")
    for name in ("level", "P_m %", *HEADS):
        shown.add_column(name, justify="right")
    for costs in of_levels(results):
        shown.add_row(str(costs.level), f"{100 * costs.density:.1f}", *costs.cells)
    return shown


def _text(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
