"""An analysis as a user gets it: a table in the terminal, CSV files and a picture."""

import functools
import os
import pathlib
from collections.abc import Callable, Collection

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lth_keras.files import atomic
from lth_keras.reports.analyses import widths
from lth_keras.reports.analyses.analysis import Analysis, span, summarise
from lth_keras.reports.plots import drawing

RANGES = "[least, greatest]"
_MOST_ROWS = 40  # A longer table shows only the levels that the figure shows.


def show(found: Analysis, some: bool, console: Console) -> None:
    """Prints an analysis: its table and its notes.

    Args:
      found: the analysis.
      some: whether to show only some of many levels, those of the figure.
      console: the console to print to.
    """
    rows, chosen = found.rows, list[int]()
    if some and not found.across and len(rows.groupby(list(found.keys))) > _MOST_ROWS:
        chosen = drawing.shown_levels(rows)
        rows = rows[rows.level.isin(chosen)]
    if found.across:
        console.print(crossed_table(found))
    else:  # Then measures, the last of them first; one is always there.
        widths.show(functools.partial(table, rows, found),
                    (RANGES, *[name.replace("_", " ") for name in [*found.measures][:0:-1]]),
                    console)
    say = functools.partial(console.print, soft_wrap=True, highlight=False, markup=False)
    for note in found.notes:
        say(note)
    if chosen:
        say(f"{len(chosen)} of {found.rows.level.nunique()} levels are shown. Choose others with "
            "--levels; the CSV file has all levels.")


def table(rows: pd.DataFrame, of: Analysis, without: Collection[str] = ()) -> Table:
    """Makes a table with the means over replicates, one row for each combination of keys.

    Args:
      rows: the rows of the analysis to show.
      of: the analysis.
      without: what to leave out: RANGES, or measures by name.
    """
    spread = RANGES not in without
    measures = {name: form for name, form in of.measures.items()
                if name.replace("_", " ") not in without}
    summary = summarise(rows, of.keys, ["density", *of.measures])
    counts = summary["rows", "count"]
    caption = of.caption or "one replicate or pair" if of.caption or counts.max() == 1 else \
        f"means over {span(counts)} replicates or pairs{' [least, greatest]' if spread else ''}"
    shown = Table(title=escape(of.title), box=box.SIMPLE_HEAD, caption=escape(caption))
    for name in (*of.keys, "P_m %", *measures):
        text = name in of.keys and name != "level"
        shown.add_column(name if name == "P_m %" else name.replace("_", "\n"),
                         justify="left" if text else "right", no_wrap=not text, overflow="fold")
    ahead: tuple[object, ...] = ()
    for keys, row in summary.iterrows():
        assert isinstance(keys, tuple)
        named = of.keys.index("level") + 1  # The density belongs to the keys up to the level.
        # A key that is the same as in the row above is left blank.
        cells = ["" if keys[:place + 1] == ahead[:place + 1] else escape(str(key))
                 for place, key in enumerate(keys)]
        density = "" if keys[:named] == ahead[:named] else f"{row['density', 'mean'] * 100:.1f}"
        shown.add_row(*cells, density,
                      *(_cell(row[name], form, spread) for name, form in measures.items()))
        ahead = keys
    return shown


_MANY = 6  # So many columns of names need narrow ones to fit a terminal of 80.


def crossed_table(of: Analysis) -> Table:
    """Makes a table of the first measure, with a column for each value of the key `across`.

    Args:
      of: the analysis; its last key is `across`. Numbers are sorted, and names as in the rows.
    """
    *keys, across = of.keys
    name, form = next(iter(of.measures.items()))
    means = of.rows.groupby([*keys, across], sort=False)[name].mean().unstack(across)
    counts = of.rows.groupby(list(of.keys), sort=False).size()
    caption = "one replicate" if counts.max() == 1 else \
        f"means over {span(counts)} replicates"
    shown = Table(title=escape(of.title), box=box.SIMPLE_HEAD, collapse_padding=True,
                  pad_edge=False, caption=f"{name.replace('_', ' ')} by {across}, {caption}")
    numbers = pd.api.types.is_numeric_dtype(means.columns)
    for key in keys:
        shown.add_column(key, overflow="fold", min_width=0 if numbers else len(key))
    columns = sorted(means.columns) if numbers else [*dict.fromkeys(of.rows[across])]
    for value in columns:
        # Names wrap between their words, numbers never: a cell is six characters wide.
        shown.add_column(f"{value:.3g}" if numbers else escape(str(value).replace("_", " ")),
                         justify="right", no_wrap=numbers, min_width=6, overflow="fold",
                         max_width=None if len(columns) < _MANY else 6)
    # The order of the rows is the analysis's; pandas sorts those of an unstacked table.
    for place in dict.fromkeys(of.rows[keys].itertuples(index=False, name=None)):
        row = means.loc[place if len(keys) > 1 else place[0]]
        shown.add_row(*map(escape, map(str, place)),
                      *(f"{row[value]:{form}}" for value in columns))
    return shown


def _cell(values: "pd.Series[float]", form: str, spread: bool) -> str:
    mean, low, high = (values[part] for part in ("mean", "min", "max"))
    if np.isnan(mean):
        return ""
    ends = f" [{low:{form}}, {high:{form}}]"
    return escape(f"{mean:{form}}{ends if spread and low != high else ''}")


def save(found: Analysis, folder: pathlib.Path, name: str, say: Callable[[str], None]) -> None:
    """Writes an analysis: NAME.csv, NAME_DETAIL.csv for each of its details, and NAME.png.

    Raises:
      OSError: if a file cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    for stem, rows in {name: found.rows, **{f"{name}_{detail}": rows for detail, rows
                                            in found.details.items()}}.items():
        path = folder / f"{stem}.csv"
        atomic.write(path, rows.to_csv(index=False))
        say(f"table: {path}")
    path = folder / f"{name}.png"
    drawing.save(found.figure, path)
    say(f"figure: {path}")
