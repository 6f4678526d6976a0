"""A deployment: the files that an export made, what was measured of each, and which one to take.

deployment.json    all of it, beside the files
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import pandas as pd

from lth_keras.errors import LotteryError
from lth_keras.files import atomic

FILE = "deployment.json"
SHIPPED, REFUSED = "shipped", "refused"
COMPACTIONS = ("units", "inputs", "none")  # What is removed before a network is converted.
TOLERANCE = 0.1  # Points of accuracy that a format may lose.
# Training examples that full int8 takes its ranges from: as many as TensorFlow's guide advises,
# more take time and change little.
REPRESENTATIVE = 200
DEFAULT = ("keras", "saved_model", "float32", "float32_sparse", "float16", "dynamic_int8",
           "dynamic_int8_shared", "dynamic_int8_sparse", "int8")
_VERSION = 1
_MOST = 16 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A format's file in one runtime, or a format of which no file could be made.

    What is not known is None, or an empty text.

    Attributes:
      level, density: of the network; density in [0, 1].
      format: its name.
      runtime: its name; empty if no file could be made.
      status: "shipped" if the file may be used with this runtime, otherwise "refused".
      bytes: of the file; of a folder, the sum of its files.
      gzip_bytes: compressed at level 9; of a folder, a tar of it.
      accuracy: share of the examples whose predicted class is the true one, in [0, 1].
      accuracy_lost: accuracy of Keras less that, in percentage points.
      max_error: largest absolute difference of an output from Keras'.
      not_finite: how many outputs are NaN or infinite.
      peak_memory_bytes: growth of the process' memory.
      latency_1_us, latency_32_us: microseconds of a call with 1 and with 32 examples, the median;
        with "low" and "high", the quartiles.
      file: its name in the deployment's folder, if it is there.
      reason: why it is refused.
      route: what to use instead where the format is refused for a runtime.
    """

    level: "int | None" = None
    density: "float | None" = None
    format: str
    runtime: str = ""
    status: str
    bytes: "int | None" = None
    gzip_bytes: "int | None" = None
    accuracy: "float | None" = None
    accuracy_lost: "float | None" = None
    max_error: "float | None" = None
    not_finite: "int | None" = None
    peak_memory_bytes: "int | None" = None
    latency_1_us: "float | None" = None
    latency_1_low_us: "float | None" = None
    latency_1_high_us: "float | None" = None
    latency_32_us: "float | None" = None
    latency_32_low_us: "float | None" = None
    latency_32_high_us: "float | None" = None
    file: str = ""
    reason: str = ""
    route: str = ""


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a device has room for.

    Attributes:
      max_bytes: of the file, or None for any number.
      max_latency_us: microseconds for one example, in the median, or None.
      min_accuracy: share of the held-out examples that are right, in [0, 1], or None.

    Raises:
      LotteryError: for a value outside that.
    """

    max_bytes: "int | None" = None
    max_latency_us: "float | None" = None
    min_accuracy: "float | None" = None

    def __post_init__(self) -> None:
        for name, most in (("max_bytes", math.inf), ("max_latency_us", math.inf),
                           ("min_accuracy", 1)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                limit = "in [0, 1]" if most == 1 else ">= 0"
                raise LotteryError(f"{name} must be a number {limit}. Received: {value!r}.")

    def __bool__(self) -> bool:
        return dataclasses.astuple(self) != (None, None, None)

    def __str__(self) -> str:
        said = ((self.max_bytes, "at most {:,} bytes"), (self.max_latency_us, "at most {:g} us"),
                (self.min_accuracy, "accuracy of at least {:.2%}"))
        return ", ".join(text.format(value) for value, text in said if value is not None)

    def met(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The shipped rows that keep to it, in their order."""
        rows = rows[rows.status == SHIPPED]
        for column, bound in (("bytes", self.max_bytes), ("latency_1_us", self.max_latency_us)):
            if bound is not None:
                rows = rows[rows[column] <= bound]
        return rows if self.min_accuracy is None else rows[rows.accuracy >= self.min_accuracy]

    def choose(self, rows: pd.DataFrame) -> "pd.Series | None":
        """The row to take of those that keep to it: the most accurate, of these the smallest.

        With an accuracy to reach it is the other way about.

        Returns:
          None if there is none.

        Example:
          >>> rows = pd.DataFrame({"status": "shipped", "bytes": [100, 50, 10],
          ...                      "accuracy": [0.98, 0.98, 0.9]})
          >>> print(Budget(max_bytes=60).choose(rows).bytes)
          50
        """
        met, order = self.met(rows), {"accuracy": False, "bytes": True}
        if self.min_accuracy is not None:
            order = dict(reversed(order.items()))
        met = met.sort_values(list(order), ascending=list(order.values()), kind="stable")
        return None if met.empty else met.iloc[0]

    def nearest(self, rows: pd.DataFrame) -> str:
        """What the shipped rows come to, of each thing that it bounds, as a sentence."""
        shipped = rows[rows.status == SHIPPED]
        if shipped.empty:
            return "No format was shipped."
        said = [(self.max_bytes, f"the smallest has {shipped.bytes.min():,.0f} bytes"),
                (self.max_latency_us, f"the fastest takes {shipped.latency_1_us.min():,.1f} us"),
                (self.min_accuracy, f"the most accurate reaches {shipped.accuracy.max():.2%}")]
        return "Of those shipped " + ", ".join(text for bound, text in said
                                               if bound is not None) + "."


@dataclasses.dataclass(frozen=True, eq=False)
class Deployment:
    """What an export made.

    Attributes:
      folder: where the files lie.
      rows: a `Row` for each format and runtime, as a table.
      facts: where the network comes from, the reference, what compaction removed, versions.
    """

    folder: pathlib.Path
    rows: pd.DataFrame
    facts: dict[str, Any]

    @property
    def shipped(self) -> list[str]:
        """The formats whose files are there to be used."""
        return list(dict.fromkeys(self.rows[self.rows.status == SHIPPED]["format"]))

    @property
    def refused(self) -> dict[str, str]:
        """Format -> why it was not shipped, and the route that works."""
        rows = self.rows[~self.rows["format"].isin(self.shipped)]
        return {str(row["format"]): with_route(row) for _, row in rows.iterrows()}

    def save(self) -> None:
        """Writes deployment.json into the folder."""
        atomic.write(self.folder / FILE, encode(self.rows, self.facts))


def with_route(row: "pd.Series[Any]") -> str:
    """Why a row was refused, and the route that works.

    Example:
      >>> with_route(pd.Series({"reason": "it computes NaN", "route": "float32 is exact"}))
      'it computes NaN. Instead: float32 is exact.'
    """
    reason = str(row.reason).rstrip(".")
    return f"{reason}. Instead: {row.route}." if row.route else f"{reason}."


def table(rows: "Iterable[Row | dict[str, Any]]") -> pd.DataFrame:
    """Rows as a table with the columns of `Row`, in their order.

    Example:
      >>> rows = table([Row(format="float32", status=SHIPPED, bytes=4)])
      >>> rows["format"].tolist(), rows.bytes.tolist()
      (['float32'], [4])
    """
    return pd.DataFrame([dataclasses.asdict(row) if isinstance(row, Row) else row for row in rows],
                        columns=list(COLUMNS))


def encode(rows: pd.DataFrame, facts: dict[str, Any]) -> str:
    """A deployment as text; numbers that are not there are null."""
    plain = [{name: _plain(value) for name, value in row.items()}
             for row in rows.to_dict("records")]
    return json.dumps({"version": _VERSION, "facts": facts, "rows": plain}, indent=1) + "\n"


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def read(folder: "str | os.PathLike[str]") -> Deployment:
    """The deployment of a folder that an export wrote.

    Raises:
      LotteryError: if it holds none, or one that is not what an export writes.
    """
    folder = pathlib.Path(folder)
    try:
        plain = json.loads(atomic.read(folder / FILE, _MOST))
        rows = table(plain["rows"])
        if plain["version"] != _VERSION or not isinstance(plain["facts"], dict):
            raise ValueError("another version")
        numbers = [name for name in COLUMNS if name.endswith(("_us", "bytes")) or name in (
            "level", "density", "accuracy", "accuracy_lost", "max_error", "not_finite")]
        rows[numbers] = rows[numbers].apply(pd.to_numeric)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LotteryError(f"A deployment is a folder with the {FILE} that an export wrote. "
                           f"Received: {folder} ({error!s:.100}).") from None
    return Deployment(folder, rows, plain["facts"])


def check_folder(out: "str | os.PathLike[str]") -> pathlib.Path:
    """The folder of an export: a new one, or one that holds an earlier export.

    Raises:
      LotteryError: if it holds something else, which is not touched.
    """
    folder = pathlib.Path(out)
    if os.path.lexists(folder) and not folder.is_dir():
        raise LotteryError(f"out must be a folder. Received: {folder}, a file.")
    if folder.is_dir() and any(folder.iterdir()):
        try:
            read(folder)
        except LotteryError:
            raise LotteryError("out must be a new folder, or one that holds an earlier export. "
                               f"Received: {folder}, which holds something else.") from None
    return folder
