"""The figures as rows, and the file that keeps them."""

import csv
import dataclasses
import datetime
import pathlib
import statistics
from collections.abc import Mapping, Sequence

FILE = pathlib.Path(__file__).parent / "results.csv"


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
      section, subject: which table it is in.
      name, setting: what was measured, and how.
      unit: of median, least and greatest, which are taken over `runs` runs.
      spread: what least and greatest are: of all runs, or the quartiles.
      ratio: to the row or quantity that `reference` names, taken in the same run.
      note: what the table's foot says: the data, what was left out.
      date: of the run, ISO 8601.
    """

    section: str
    subject: str
    name: str
    setting: str
    unit: str
    median: float
    least: float
    greatest: float
    runs: int
    ratio: float
    reference: str
    note: str = ""
    date: str = dataclasses.field(default_factory=lambda: datetime.date.today().isoformat())
    spread: str = "least .. greatest"


def row(section: str, subject: str, name: str, values: Sequence[float], *, unit: str,
        against: Sequence[float], reference: str, setting: str = "", note: str = "",
        spread: str = "least .. greatest") -> Row:
    """A row of values and what each is divided by, run by run."""
    ratio = statistics.median(value / other
                              for value, other in zip(values, against, strict=True))
    low, high = (min(values), max(values)) if spread != "quartiles" else \
        statistics.quantiles(values, n=4, method="inclusive")[::2]
    return Row(section, subject, name, setting, unit, *(_rounded(part) for part in (
        statistics.median(values), low, high)), len(values), _rounded(ratio), reference, note,
        spread=spread)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def read(machine: Mapping[str, str], path: pathlib.Path = FILE) -> list[Row]:
    """The rows kept, if they were taken on this machine with these versions; or none."""
    if not path.exists():
        return []
    types = {field.name: field.type for field in dataclasses.fields(Row)}
    with path.open(newline="") as file:
        if file.readline() != _comment(machine):
            return []
        return [Row(**{name: types[name](value) for name, value in line.items()})
                for line in csv.DictReader(file)]


def write(rows: Sequence[Row], machine: Mapping[str, str], path: pathlib.Path = FILE) -> None:
    """Keeps the rows, under a comment that says where they were taken."""
    with path.open("w", newline="") as file:
        file.write(_comment(machine))
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Row)],
                                lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)


def _comment(machine: Mapping[str, str]) -> str:
    return "# " + "; ".join(f"{name}: {value}" for name, value in machine.items()) + "\n"
