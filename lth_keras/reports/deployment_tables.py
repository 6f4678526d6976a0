"""Tables and a figure of exported files: accuracy, size and latency by format and density.

They answer which level and format to deploy for a budget of bytes, microseconds or accuracy.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from rich import box
from rich.markup import escape
from rich.table import Table

from lth_keras.deployment import model_card
from lth_keras.deployment.manifest import Deployment, SHIPPED
from lth_keras.deployment.model_card import latency, memory, number
from lth_keras.reports.plots import drawing, styles

_HEADS = {"accuracy": "acc.\n%"}  # Measures whose names are too long for a column.
_SHORT = {"litert": "default delegates", "litert_builtin": "no delegates"}
_PANELS = (("accuracy", "accuracy on held-out examples"), ("bytes", "bytes"),
           ("gzip_bytes", "bytes, gzipped"), ("latency_1_us", "microseconds an example"))


def table(made: Deployment, wide: bool = True) -> Table:
    """Makes a table with a row for each format and runtime of a deployment.

    Args:
      made: the deployment.
      wide: whether to add the columns for memory, NaN, quartiles and batches of 32.
    """
    facts, title = made.facts, made.facts["name"]
    if facts.get("density") is not None:
        title += f" ({facts['density']:.1%} of the weights)"
    measure = model_card.only_measure(made)
    quartiles = " [quartiles]" if wide else ""
    refusals = "; * refused" if (made.rows.status != SHIPPED).any() else ""
    costs = model_card.costs(facts)
    costs = f"{costs}; " if costs else ""
    shown = Table(title=escape(title), box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False,
                  caption=escape(f"{costs}{_in_keras(facts['reference'])}; latencies are medians"
                                 f"{quartiles} in microseconds a call{refusals}"))
    shown.add_column("format", overflow="fold")
    fits = [] if measure is None else [_HEADS.get(measure, measure.replace(" ", "\n"))]
    for name in ("bytes", "gzip", *fits, "lost\npt", "max.\nerror",
                 *(("NaN", "memory\nMiB", "batch\n1", "batch\n32") if wide else ("batch\n1",))):
        shown.add_column(name, justify="right", no_wrap=True)
    if facts.get("dense"):
        shown.add_row("dense float32", *_cells(made, pd.Series(facts["dense"]), wide))
    # Rows of one format follow each other: the name is given once, then the runtime.
    ahead = None
    for _, row in made.rows.iterrows():
        refused = row.status != SHIPPED
        name = str(row["format"])
        if name == ahead:
            name = f"  {_SHORT.get(row.runtime, row.runtime)}"
        shown.add_row(name + " *" * refused, *_cells(
            made, row, wide, str(row["format"]) != ahead), style="red" if refused else "")
        ahead = str(row["format"])
    return shown


def _in_keras(reference: dict[str, Any]) -> str:
    examples, outputs = f"{reference['examples']:,} held-out examples", reference.get("outputs", [])
    if reference["accuracy"] is not None:
        return f"Keras' accuracy is {reference['accuracy']:.2%} on {examples}"
    if len(outputs) == 1 and outputs[0]["measure"]:
        measure = outputs[0]["measure"]
        return (f"Keras' {measure} is {model_card.value(measure, outputs[0]['value'])} on "
                f"{examples}; pt are {outputs[0]['unit']}")
    return f"{examples}; pt are the most that an output loses" if len(outputs) > 1 else examples


def by_output(made: Deployment) -> Table:
    """Makes a table with a row for each format, runtime and output, and its measure.

    Args:
      made: the deployment of a network with several outputs.
    """
    shown = Table(title=escape(f"outputs of {made.facts['name']}"), box=box.SIMPLE_HEAD,
                  padding=(0, 0, 0, 1), pad_edge=False)
    for name in ("format", "output", "measure"):
        shown.add_column(name, overflow="fold")
    for name in ("Keras", "file", "lost\npt", "max.\nerror"):
        shown.add_column(name, justify="right", no_wrap=True)
    ahead = None
    for _, each in made.outputs.iterrows():
        name = str(each["format"]) if each.runtime == "litert" or each.runtime not in _SHORT else \
            f"  {_SHORT[each.runtime]}"
        shown.add_row("" if (name, each.runtime) == ahead else name, escape(each.output),
                      escape(each.measure or "none"), model_card.value(each.measure, each.keras),
                      model_card.value(each.measure, each.value), number(each.lost, "+.2f"),
                      number(each.max_error, ".0e"))
        ahead = name, each.runtime
    return shown


def _cells(made: Deployment, row: "pd.Series", wide: bool, sizes: bool = True) -> Iterator[str]:
    # Sizes are left blank in the row of a file's second runtime: they are those of the row above.
    yield from (number(row[name], ",.0f") if sizes else "" for name in ("bytes", "gzip_bytes"))
    measure = model_card.only_measure(made)
    if measure == "accuracy":
        yield number(None if row.accuracy is None else 100 * row.accuracy, ".2f")
        yield number(row.accuracy_lost, "+.2f")
    else:
        if measure is not None:
            yield model_card.fit(made, row)
        lost = [each["lost"] for each in model_card.outputs_of(made, row)
                if model_card.known(each["lost"])]
        yield number(max(lost, default=None), "+.2f")
    yield number(row.max_error, ".0e")
    if wide:
        yield number(row.not_finite, ",.0f")
        yield memory(row)
        yield from (latency(row, batch) for batch in (1, 32))
    else:
        yield latency(row, 1).partition(" ")[0]


def figure(rows: pd.DataFrame, title: str) -> Figure:
    """Draws accuracy, bytes and latency of the shipped formats against density.

    Args:
      rows: rows of several levels, with the columns `manifest.COLUMNS`.
      title: the figure's title.
    """
    shipped = rows[rows.status == SHIPPED]
    drawn = Figure(figsize=(11, 8.5), layout="constrained")
    drawing.head(drawn, title)
    panels = drawn.subplots(2, 2).ravel()
    for axes, (column, label) in zip(panels, _PANELS, strict=True):
        for place, name in enumerate(dict.fromkeys(shipped["format"])):
            lines = shipped[shipped["format"] == name].sort_values("level", kind="stable")
            lines = lines.groupby("level").first()  # The default runtime comes first.
            axes.plot(100 * lines.density, lines[column], **styles.series_style(place, str(name)))
        drawing.density_axis(axes, 100 * shipped.density.drop_duplicates().to_numpy())
        if column == "accuracy":
            drawing.percent_axis(axes, label)
        else:
            _log_axis(axes, label)
    lines, labels = panels[0].get_legend_handles_labels()
    drawn.legend(lines, labels, loc="outside lower center", ncols=5, fontsize=8)
    return drawn


def _log_axis(axes: Axes, label: str) -> None:
    # A log axis whose ticks are plain numbers: "50,000", not "5 x 10^4".
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    plain = FuncFormatter(lambda value, _: f"{value:,.6g}" if value < 1000 else f"{value:,.0f}")
    axes.yaxis.set_major_formatter(plain)
    # Powers of ten alone would be too few ticks on a range of a decade or two.
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5) if high / low < 300 else (1,)))
    axes.yaxis.set_minor_formatter(plain)
    axes.set_ylabel(label)


BEST = ("fewest bytes", "fewest gzipped", "fastest, us", "best %")  # The cells of `best`.


def best(rows: pd.DataFrame) -> Iterator[tuple[int, float, list[str]]]:
    r"""Yields the smallest, fastest and most accurate shipped format of each level.

    Args:
      rows: rows of several levels, with the columns `manifest.COLUMNS`.

    Yields:
      The level, its density in [0, 1], and a cell for each of BEST: a number and, except for the
      accuracy, the format in a second line.

    Example:
      >>> rows = pd.DataFrame({"level": 3, "density": 0.5, "format": ["float32", "int8"],
      ...                      "status": "shipped", "bytes": [400, 100], "gzip_bytes": [90, 50],
      ...                      "latency_1_us": [2.0, 3.0], "accuracy": [0.98, 0.97]})
      >>> next(best(rows))
      (3, 0.5, ['100\nint8', '50\nint8', '2.0\nfloat32', '98.00'])
    """
    for level, found in rows[rows.status == SHIPPED].groupby("level"):
        cells = []
        for column, form in (("bytes", ",.0f"), ("gzip_bytes", ",.0f"), ("latency_1_us", ",.1f")):
            least = found.iloc[int(found[column].argmin())]
            cells.append(f"{least[column]:{form}}\n{least['format']}")
        yield int(str(level)), float(found.density.iloc[0]), [
            *cells, number(100 * found.accuracy.max(), ".2f")]


def by_level(rows: pd.DataFrame) -> Table:
    """Makes a table with the smallest, fastest and most accurate shipped format of each level.

    Where they are known, the multiply-adds of each level's network stand below its density.
    """
    known = bool(rows.macs.notna().any())
    shown = Table(title="best exported files of each level", box=box.SIMPLE_HEAD,
                  padding=(0, 0, 0, 1), pad_edge=False)
    for name in ("level", "P_m %\nmacs" if known else "P_m %", *BEST):
        shown.add_column(name, justify="right", no_wrap=True)
    for level, density, cells in best(rows):
        macs = rows[rows.level == level].macs.max()
        shown.add_row(str(level), f"{100 * density:.1f}" + f"\n{_rounded(macs)}" * known, *cells)
    return shown


def _rounded(count: float) -> str:
    # Three digits: a column of its own would not fit beside the names of formats.
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return number(count, ".0f")
