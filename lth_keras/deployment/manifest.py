"""The result of an export: its files, their measurements, and which file fits a device.

It is written to deployment.json, beside the files.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any, TYPE_CHECKING

from lth_keras import notebook
from lth_keras.deployment.comparison.output_row import OutputRow
from lth_keras.errors import LotteryError
from lth_keras.files import atomic

if TYPE_CHECKING:  # `lth export --help` reads the constants, and pandas would double its time.
    import pandas as pd

FILE = "deployment.json"
SHIPPED, REFUSED = "shipped", "refused"
COMPACTIONS = ("units", "inputs", "none")  # What is removed before a network is converted.
# Points that a file may lose against Keras: of accuracy, or of what else fits the loss.
TOLERANCE = 0.1
# Left out, and made when they are asked for by name: float16_sparse, which computes NaN for some
# networks, and dynamic_int8_sparse and int8_sparse, which the default interpreter does not load.
DEFAULT = ("keras", "saved_model", "float32", "float32_sparse", "float16", "dynamic_int8",
           "dynamic_int8_shared", "int8")
_VERSION = 1
_MOST = 16 * 2**20  # Bytes of a deployment.json that is read; a real one has some ten thousand.


_NO_COLUMN = {"column": False}  # Of a field that has a table of its own.
# What a notebook shows of a row, as text: NaN stands for what is not known.
_SHOWN = {"format": "{}", "runtime": "{}", "status": "{}", "bytes": "{:,.0f}",
          "accuracy": "{:.2%}", "max_error": "{:.2g}", "latency_1_us": "{:,.1f}", "file": "{}"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The measurements of one file in one runtime, or the reason why there is no file.

    Unknown values are None or "".

    Attributes:
      level, density: the network's level and its density in [0, 1].
      parameters, macs: the parameters and multiply-adds of the network in the file, after
        compaction. Zeros that are left count, since few runtimes skip them.
      format: the format's name.
      runtime: the runtime's name; "" if the conversion failed.
      batch: how many examples a call takes; None for any number.
      status: "shipped" if the file may be used with this runtime, otherwise "refused".
      bytes: the size of the file; of a folder, the sum of its files.
      gzip_bytes: the size compressed by gzip at level 9; of a folder, that of its tar archive.
      accuracy: of a network with one output, the share of examples whose predicted class is the
        true class, in [0, 1].
      accuracy_lost: Keras' accuracy minus this accuracy, in percentage points.
      max_error: the largest absolute difference of an output from Keras'.
      not_finite: how many outputs are NaN or infinite.
      peak_memory_bytes: by how much the memory of the process grew.
      latency_1_us, latency_32_us: the median time of a call with 1 and with 32 examples, in
        microseconds; the columns with "low" and "high" are the quartiles.
      file: the file's name in the deployment's folder; "" if it was not shipped.
      reason: why the file is refused.
      route: what to use instead.
      outputs: each output of the network, with the measure that fits its loss; no column, but
        rows of `Deployment.outputs`.

    Example:
      >>> Row(format="float32", runtime="litert", status=SHIPPED, bytes=1_066_340).accuracy is None
      True
    """

    level: "int | None" = None
    density: "float | None" = None
    parameters: "int | None" = None
    macs: "int | None" = None
    format: str
    runtime: str = ""
    batch: "int | None" = None
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
    outputs: tuple[OutputRow, ...] = dataclasses.field(default=(), metadata=_NO_COLUMN)


COLUMNS = tuple(field.name for field in dataclasses.fields(Row) if field.metadata != _NO_COLUMN)
OUTPUT_COLUMNS = ("format", "runtime",
                  *(field.name for field in dataclasses.fields(OutputRow)))


@dataclasses.dataclass(frozen=True)
class Budget:
    """The limits of a device; None means no limit.

    Attributes:
      max_bytes: the largest size of the file, in bytes, >= 0.
      max_latency_us: the longest median time for one example, in microseconds, >= 0.
      min_accuracy: the smallest accuracy on the held-out examples, in [0, 1].

    Raises:
      LotteryError: if a value is outside its range.

    Example:
      >>> print(Budget(max_bytes=50_000, min_accuracy=0.97))
      at most 50,000 bytes, accuracy of at least 97.00%
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

    # False without any limit, so that `if budget:` asks whether the user gave one.
    def __bool__(self) -> bool:
        return dataclasses.astuple(self) != (None, None, None)

    def __str__(self) -> str:
        said = ((self.max_bytes, "at most {:,} bytes"), (self.max_latency_us, "at most {:g} us"),
                (self.min_accuracy, "accuracy of at least {:.2%}"))
        return ", ".join(text.format(value) for value, text in said if value is not None)

    def met(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Returns the shipped rows within the budget, in their order."""
        rows = rows[rows.status == SHIPPED]
        for column, bound in (("bytes", self.max_bytes), ("latency_1_us", self.max_latency_us)):
            if bound is not None:
                rows = rows[rows[column] <= bound]
        return rows if self.min_accuracy is None else rows[rows.accuracy >= self.min_accuracy]

    def choose(self, rows: "pd.DataFrame") -> "pd.Series | None":
        """Returns the best row within the budget: the most accurate, and among equals the smallest.

        If the budget has a `min_accuracy`, it is the smallest, and among equals the most accurate.

        Returns:
          The row, or None if no shipped file is within the budget.

        Example:
          >>> import pandas as pd
          >>> rows = pd.DataFrame({"status": "shipped", "bytes": [100, 50, 10],
          ...                      "accuracy": [0.98, 0.98, 0.9]})
          >>> print(Budget(max_bytes=60).choose(rows).bytes)
          50
        """
        # Column -> whether to sort it upwards; the first column decides, the second among equals.
        met, order = self.met(rows), {"accuracy": False, "bytes": True}
        if self.min_accuracy is not None:
            order = dict(reversed(order.items()))
        met = met.sort_values(list(order), ascending=list(order.values()), kind="stable")
        return None if met.empty else met.iloc[0]

    def nearest(self, rows: "pd.DataFrame") -> str:
        """Returns a sentence with the best shipped value of everything that the budget limits.

        It is printed when no file is within the budget, so that a user knows what to relax.
        """
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
    """The result of an export.

    Attributes:
      folder: the folder with the files.
      rows: a table with one `Row` for each format and runtime.
      outputs: a table with one `OutputRow` for each format, runtime and output of the network.
      facts: the network's origin, Keras' accuracy, what compaction removed, package versions;
        "costs" has the parameters and multiply-adds of the exported network and, under "dense", of
        the dense one, if it is known.

    Example:
      >>> rows = table([Row(format="float32", status=SHIPPED),
      ...               Row(format="int8", status=REFUSED, reason="it computes NaN")])
      >>> made = Deployment(pathlib.Path("deploy"), rows, {})
      >>> made.shipped, made.refused
      (['float32'], {'int8': 'it computes NaN.'})
    """

    folder: pathlib.Path
    rows: "pd.DataFrame"
    facts: dict[str, Any]
    outputs: "pd.DataFrame" = dataclasses.field(default_factory=lambda: outputs_table([]))

    @property
    def shipped(self) -> list[str]:
        """The names of the formats that were shipped for at least one runtime."""
        return list(dict.fromkeys(self.rows[self.rows.status == SHIPPED]["format"]))

    @property
    def refused(self) -> dict[str, str]:
        """Format -> why it was refused, and what to use instead."""
        rows = self.rows[~self.rows["format"].isin(self.shipped)]
        return {str(row["format"]): with_route(row) for _, row in rows.iterrows()}

    def __repr__(self) -> str:
        refused = f", refused: {', '.join(self.refused)}" if self.refused else ""
        return (f"<Deployment in {str(self.folder)!r}: shipped: "
                f"{', '.join(self.shipped) or 'nothing'}{refused}>")

    def _repr_html_(self) -> str:
        rows = self.rows.to_dict("records")
        return notebook.page(repr(self)[1:-1], tuple(_SHOWN), (
            ["" if _plain(row[name]) is None else form.format(row[name])
             for name, form in _SHOWN.items()] for row in rows),
            *(f"{name} is refused: {why}" for name, why in self.refused.items()))

    def save(self) -> None:
        """Writes deployment.json into the folder."""
        atomic.write(self.folder / FILE, encode(self.rows, self.facts, self.outputs))


def with_route(row: "pd.Series[Any]") -> str:
    """Returns why a row was refused, and what to use instead, as sentences.

    Example:
      >>> import pandas as pd
      >>> with_route(pd.Series({"reason": "it computes NaN", "route": "float32 is exact"}))
      'it computes NaN. Instead: float32 is exact.'
    """
    reason = str(row.reason).rstrip(".")
    return f"{reason}. Instead: {row.route}." if row.route else f"{reason}."


def table(rows: "Iterable[Row | dict[str, Any]]") -> "pd.DataFrame":
    """Makes a table of rows, with the fields of `Row` as its columns, in their order.

    Example:
      >>> rows = table([Row(format="float32", status=SHIPPED, bytes=4)])
      >>> rows["format"].tolist(), rows.bytes.tolist()
      (['float32'], [4])
    """
    import pandas as pd
    return pd.DataFrame([dataclasses.asdict(row) if isinstance(row, Row) else row for row in rows],
                        columns=list(COLUMNS))


def outputs_table(rows: Iterable[Row]) -> "pd.DataFrame":
    """Makes a table of the outputs of rows, with the columns OUTPUT_COLUMNS.

    Example:
      >>> outputs = (OutputRow(output="age"), OutputRow(output="sex"))
      >>> outputs_table([Row(format="float32", status=SHIPPED, outputs=outputs)]).output.tolist()
      ['age', 'sex']
    """
    return _outputs([{"format": row.format, "runtime": row.runtime, **dataclasses.asdict(each)}
                     for row in rows for each in row.outputs])


def _outputs(plain: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd
    found = pd.DataFrame(plain, columns=list(OUTPUT_COLUMNS))
    numbers = ["keras", "value", "lost", "max_error", "agreement"]
    # A column of which nothing is known would otherwise hold objects, not numbers.
    found[numbers] = found[numbers].apply(pd.to_numeric)
    return found


def encode(rows: "pd.DataFrame", facts: dict[str, Any],
           outputs: "pd.DataFrame | None" = None) -> str:
    """Returns the text of deployment.json; unknown numbers are null.

    Example:
      >>> text = encode(table([Row(format="float32", status=SHIPPED)]), {"name": "digits"})
      >>> json.loads(text)["rows"][0]["accuracy"] is None
      True
    """
    plain = {"version": _VERSION, "facts": facts, "rows": _records(rows)}
    if outputs is not None:
        plain["outputs"] = _records(outputs)
    return json.dumps(plain, indent=1) + "\n"


def _records(table_: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()}
            for row in table_.to_dict("records")]


def _plain(value: Any) -> Any:
    # json would write NaN, which other programs cannot read, and cannot write NumPy's numbers.
    import pandas as pd
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def read(folder: "str | os.PathLike[str]") -> Deployment:
    """Reads the deployment that an export wrote to a folder.

    Raises:
      LotteryError: if the folder holds no deployment.json, or a damaged one.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     made = Deployment(pathlib.Path(folder), table([]), {"name": "digits"})
      ...     made.save()
      ...     print(read(folder).facts)
      {'name': 'digits'}
    """
    import pandas as pd
    folder = pathlib.Path(folder)
    try:
        plain = json.loads(atomic.read(folder / FILE, _MOST))
        rows = table(plain["rows"])
        if plain["version"] != _VERSION or not isinstance(plain["facts"], dict):
            raise ValueError("another version")
        numbers = [name for name in COLUMNS if name.endswith(("_us", "bytes")) or name in (
            "level", "density", "parameters", "macs", "batch", "accuracy", "accuracy_lost",
            "max_error", "not_finite")]
        # A column of which nothing is known would otherwise be read as objects, not numbers.
        rows[numbers] = rows[numbers].apply(pd.to_numeric)
        # Not in the files of versions that knew networks with one output alone.
        outputs = _outputs(plain.get("outputs", []))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LotteryError(f"A deployment must be a folder with the {FILE} that an export wrote. "
                           f"Received: {folder} ({error!s:.100}).") from None
    return Deployment(folder, rows, plain["facts"], outputs)


def default_tolerance(examples: int) -> float:
    """Returns the points that a file may lose if the user names none: TOLERANCE, or one example.

    Of fewer than 1,000 held-out examples, a single one that a file predicts otherwise is more than
    TOLERANCE, and says nothing about the file.

    Example:
      >>> default_tolerance(10_000), default_tolerance(200)
      (0.1, 0.5)
    """
    return max(TOLERANCE, 100 / examples)


def check_folder(out: "str | os.PathLike[str]") -> pathlib.Path:
    """Checks that an export may write to a folder: it is new, or holds an earlier export.

    Raises:
      LotteryError: if it holds anything else, which is left untouched.

    Example:
      >>> check_folder("no/such/folder").name
      'folder'
    """
    folder = pathlib.Path(out)
    # lexists, since a broken link does not "exist" but cannot be replaced by a folder.
    if os.path.lexists(folder) and not folder.is_dir():
        raise LotteryError(f"out must be a folder. Received: {folder}, a file.")
    if folder.is_dir() and any(folder.iterdir()):
        try:
            read(folder)
        except LotteryError:
            raise LotteryError("out must be a new folder, or one that holds an earlier export. "
                               f"Received: {folder}, which holds something else.") from None
    return folder
