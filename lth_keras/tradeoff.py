"""What a format costs and keeps, against density: accuracy, size and latency, as table and picture.

The question of deployment: which level, in which format, for a budget of bytes, of microseconds,
or of accuracy.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rich import box
from rich.markup import escape
from rich.table import Table

from lth_keras import plots
from lth_keras.card import latency, number, RUNTIMES
from lth_keras.deployment import Deployment, SHIPPED

_PANELS = (("accuracy", "accuracy on held-out examples"), ("bytes", "bytes"),
           ("gzip_bytes", "bytes, gzipped"), ("latency_1_us", "microseconds an example"))


def table(made: Deployment) -> Table:
    """What was measured of every format, in its runtimes.

    Args:
      made: the deployment.
    """
    facts, title = made.facts, made.facts["name"]
    if facts.get("density") is not None:
        title += f" ({facts['density']:.1%} of the weights)"
    accuracy, examples = facts["reference"]["accuracy"], facts["reference"]["examples"]
    keras = "" if accuracy is None else f"Keras' accuracy is {accuracy:.2%} on "
    shown = Table(title=escape(title), box=box.SIMPLE_HEAD, caption=escape(
        f"{keras}{examples:,} held-out examples; latencies are medians [quartiles] in "
        "microseconds a call"))
    for name in ("format", "runtime"):
        shown.add_column(name, overflow="fold")
    for name in ("bytes", "gzip", "accuracy %", "points\nlost", "largest\nerror", "NaN",
                 "memory\nMiB", "batch 1", "batch 32"):
        shown.add_column(name, justify="right", no_wrap=True)
    if facts.get("dense"):
        _add(shown, "dense float32", facts["dense"])
    for _, row in made.rows.iterrows():
        _add(shown, str(row["format"]), row)
    return shown


def _add(shown: Table, name: str, row: "dict[str, object] | pd.Series") -> None:
    row = pd.Series(row)
    refused = row.status != SHIPPED
    cells = [number(row.bytes, ",.0f"), number(row.gzip_bytes, ",.0f"),
             number(100 * row.accuracy if row.accuracy is not None else None, ".2f"),
             number(row.accuracy_lost, "+.2f"), number(row.max_error, ".0e"),
             number(row.not_finite, ",.0f"),
             number(row.peak_memory_bytes / 2**20 if row.peak_memory_bytes else None, ".1f"),
             latency(row, 1), latency(row, 32)]
    shown.add_row(name, RUNTIMES.get(str(row.runtime), "-") + (" (refused)" if refused else ""),
                  *cells, style="red" if refused else "")


def figure(rows: pd.DataFrame, title: str) -> Figure:
    """Accuracy, bytes and latency of the shipped formats against density.

    Args:
      rows: as `survey.survey` gives them.
      title: of the picture.
    """
    shipped = rows[rows.status == SHIPPED]
    drawn = Figure(figsize=(11, 8), layout="constrained")
    drawn.suptitle(title)
    panels = drawn.subplots(2, 2).ravel()
    names = list(dict.fromkeys(shipped["format"]))
    for axes, (column, label) in zip(panels, _PANELS, strict=True):
        for place, name in enumerate(names):
            lines = shipped[shipped["format"] == name].sort_values("level")
            lines = lines.groupby("level").first()  # Of several runtimes the default one.
            axes.plot(100 * lines.density, lines[column], **plots.series_style(place, name))
        plots.density_axis(axes, 100 * shipped.density.drop_duplicates().to_numpy())
        if column == "accuracy":
            plots.percent_axis(axes, label)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
            axes.set_ylabel(label)
    panels[0].legend(fontsize=8)
    return drawn


def by_level(rows: pd.DataFrame) -> Table:
    """A row a level: the smallest, the fastest and the most accurate format that was shipped."""
    shown = Table(title="what each level can be shipped as", box=box.SIMPLE_HEAD)
    for name in ("level", "P_m %", "fewest\nbytes", "of", "fewest\ngzipped", "of ", "fastest\nus",
                 "of  ", "accuracy %"):
        shown.add_column(name, justify="left" if name.startswith("of") else "right",
                         no_wrap=not name.startswith("of"))
    for level, found in rows[rows.status == SHIPPED].groupby("level"):
        cells = []
        for column, form in (("bytes", ",.0f"), ("gzip_bytes", ",.0f"), ("latency_1_us", ",.1f")):
            best = found.iloc[int(found[column].argmin())]
            cells += [format(best[column], form), str(best["format"])]
        accuracies = sorted({f"{value:.2%}"[:-1] for value in found.accuracy.dropna()})
        shown.add_row(str(level), f"{100 * found.density.iloc[0]:.1f}", *cells,
                      " to ".join(dict.fromkeys((accuracies[0], accuracies[-1])))
                      if accuracies else "-")
    return shown
