"""The rows as tables, on the terminal and in README.md."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table

from benchmarks.rows import Row

README = pathlib.Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
_NUMBERS = ("median", "least .. greatest", "quartiles", "ratio")


def rich_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """A table for each subject."""
    for title, some in _grouped(rows):
        table = Table(title=title, box=box.SIMPLE_HEAD, caption=_foot(some))
        for heading in _headings(some):
            table.add_column(heading, justify="right" if heading in _NUMBERS else "left")
        for row in some:
            table.add_row(*_cells(row))
        yield table


def write_readme(rows: Sequence[Row], machine: Mapping[str, str],
                 path: pathlib.Path = README) -> None:
    """Puts the tables between the markers of a README."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in machine.items())]
    for title, some in _grouped(rows):
        headings = _headings(some)
        lines = [headings, ["---:" if heading in _NUMBERS else "---" for heading in headings],
                 *(_cells(row) for row in some)]
        parts += [f"### {title}", "\n".join(f"| {' | '.join(line)} |" for line in lines),
                  _foot(some)]
    before, rest = path.read_text().split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}")


def _headings(rows: Sequence[Row]) -> tuple[str, ...]:
    return "what", "setting", "median", rows[0].spread, "ratio", "to"


def _grouped(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    titles = dict.fromkeys((row.section, row.subject) for row in rows)
    for section, subject in titles:
        yield f"{section}: {subject}", [row for row in rows
                                        if (row.section, row.subject) == (section, subject)]


def _cells(row: Row) -> list[str]:
    spread = f"{_shown(row.least)} .. {_shown(row.greatest)}" if row.runs > 1 else ""
    median = f"{row.median:.0f}" if row.unit.startswith("of ") else _shown(row.median)
    return [row.name, row.setting, f"{median} {row.unit}", spread,
            f"{row.ratio:.2f}", row.reference]


def _shown(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def _foot(rows: Sequence[Row]) -> str:
    notes = dict.fromkeys(row.note for row in rows if row.note)
    runs = sorted({row.runs for row in rows})
    dates = sorted({row.date for row in rows})
    counted = " or ".join(str(count) for count in runs)
    return "; ".join([*notes, f"{counted} run{'' if runs == [1] else 's'}",
                      " to ".join(dict.fromkeys((dates[0], dates[-1])))]) + "."
