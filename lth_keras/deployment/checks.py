"""Checks: whether a file may be used, judged by what it computed.

A file is *shipped* if a runtime loads it and computes what Keras does; otherwise it is *refused*,
with the reason and the route that works.  In this order:

    no runtime loads it                                      refused
    NaN or infinity in any runtime that loads it             refused
    more accuracy lost than is tolerated, in any             refused
    errors that its precision does not explain, in any       refused (eight bits: if no classes)
    some runtime does not load it                            shipped for those that do

A runtime that refuses a file says so itself; one that loads it and computes wrongly does not, so
a single such one is enough to refuse the file.
"""

import dataclasses
import gzip
import io
import os
import pathlib
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.deployment.manifest import REFUSED, SHIPPED, TOLERANCE
from lth_keras.deployment.measuring import Measured
from lth_keras.errors import LotteryError

WITHOUT_CLASSES = 0.25  # Error of eight bits that is tolerated where accuracy cannot tell.


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A file in one runtime beside Keras.

    Attributes:
      runtime: its name.
      error: why it did not run, in one line; the rest is then None.
      not_finite: how many outputs are NaN or infinite.
      max_error: largest absolute error of an output; None if not all are finite.
      accuracy: share of examples whose predicted class is the true class, in [0, 1].
      accuracy_lost: accuracy of Keras less that, in percentage points.
      agreement: share of examples with the class that Keras predicts, in [0, 1].
      peak_memory_bytes, batch_1, batch_32, version: as measured; latencies are dicts with median,
        lower and upper, in microseconds.
    """

    runtime: str
    error: "str | None" = None
    not_finite: "int | None" = None
    max_error: "float | None" = None
    accuracy: "float | None" = None
    accuracy_lost: "float | None" = None
    agreement: "float | None" = None
    peak_memory_bytes: "int | None" = None
    batch_1: "dict[str, Any] | None" = None
    batch_32: "dict[str, Any] | None" = None
    version: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of a format's file.

    Attributes:
      format: its name.
      status: "shipped" or "refused".
      runtimes: those it may be used with; none if refused.
      reason: why it is refused, or which runtimes do not load it; empty otherwise.
      route: what to do instead; empty if all is well.
      bytes: of the file; of a folder, the sum of its files.
      gzip_bytes: compressed at level 9; of a folder, a tar of it.
      compared: it in each of its runtimes.
    """

    format: str
    status: str
    runtimes: tuple[str, ...]
    reason: str
    route: str
    bytes: int
    gzip_bytes: int
    compared: tuple[Comparison, ...]


def refused(name: str, reason: str, route: str) -> Row:
    """The row of a format of which no file could be made.

    Example:
      >>> refused("int8", "int8 needs representative examples.", "dynamic_int8").status
      'refused'
    """
    return Row(name, REFUSED, (), reason, route, 0, 0, ())


def check(name: str, path: "str | os.PathLike[str]", reference: Array, classes: "Array | None",
          measured: Sequence[Measured], *, tolerance: float = TOLERANCE,
          rounding: "float | None" = None, route: str = "") -> Row:
    """Judges a file by what it computed in its runtimes.

    Args:
      name: of its format.
      path: the file or folder.
      reference: Keras' outputs for the examples, shape (examples, ..., classes), finite.
      classes: the true classes, shape (examples, ...), or None.
      measured: the file in each of its runtimes, in the order of a user's preference.
      tolerance: the accuracy that may be lost, in percentage points.
      rounding: the largest error that the format's precision explains, as a share of the largest
        reference; None for any, or WITHOUT_CLASSES if there are none.
      route: what to do if the file is refused.

    Raises:
      LotteryError: if Keras' own outputs are not finite, or classes are not one an example.
    """
    reference = np.asarray(reference)
    if not np.isfinite(reference).all():
        raise LotteryError("A network that is exported computes finite outputs. Received: "
                           f"{int((~np.isfinite(reference)).sum())} of {reference.size} NaN or "
                           "infinite in Keras itself.")
    compared = tuple(compare(reference, classes, each) for each in measured)
    scale = float(np.abs(reference).max(initial=0)) or 1.0
    if classes is None and rounding is None:
        rounding = WITHOUT_CLASSES
    loaded = [each for each in compared if each.error is None]
    wrong = next(filter(None, (_wrong(each, tolerance, rounding, scale) for each in loaded)), None)
    failures = "; ".join(f"{each.runtime} does not load it: {each.error}"
                         for each in compared if each.error is not None)
    well = not wrong and bool(loaded)
    return Row(name, SHIPPED if well else REFUSED,
               tuple(each.runtime for each in loaded) if well else (),
               wrong or failures, route if wrong or failures else "",
               file_size(path), gzip_size(path), compared)


def _wrong(found: Comparison, tolerance: float, rounding: "float | None",
           scale: float) -> "str | None":
    where = f"in {found.runtime}"
    if found.not_finite:
        return f"{found.not_finite} outputs are NaN or infinite {where}"
    if found.max_error is None:
        return f"its outputs have another shape than Keras' {where}"
    # A point is a whole example or none: the margin is for the rounding of the difference.
    if found.accuracy_lost is not None and found.accuracy_lost > tolerance + 1e-9:
        return (f"{found.accuracy_lost:.2f} points of accuracy are lost {where}, and {tolerance:g} "
                "are tolerated")
    if rounding is not None and found.max_error > rounding * scale:
        return (f"an output is {found.max_error:.2g} off {where}, and rounding explains at most "
                f"{rounding * scale:.2g}")
    return None


def plain_rows(row: Row, file: str) -> Iterator[dict[str, Any]]:
    """A format as rows of a deployment's table: one a runtime, or one if no file could be made.

    Args:
      row: what is known of it.
      file: the name that it is shipped under.
    """
    whole = {"format": row.format, "bytes": row.bytes or None,
             "gzip_bytes": row.gzip_bytes or None, "route": row.route}
    if not row.compared:
        yield {**whole, "runtime": "", "status": row.status, "reason": row.reason, "file": ""}
    for found in row.compared:
        here = found.runtime in row.runtimes
        yield {**whole, "runtime": found.runtime, "status": SHIPPED if here else REFUSED,
               "reason": "" if here else found.error or row.reason,
               "file": file if row.status == SHIPPED else "", "accuracy": found.accuracy,
               "accuracy_lost": found.accuracy_lost, "max_error": found.max_error,
               "not_finite": found.not_finite, "peak_memory_bytes": found.peak_memory_bytes,
               **{f"latency_{batch}_{ours}us": latency and latency[theirs]
                  for batch, latency in ((1, found.batch_1), (32, found.batch_32))
                  for ours, theirs in (("", "median"), ("low_", "lower"), ("high_", "upper"))}}


def compare(reference: Array, classes: "Array | None", measured: Measured) -> Comparison:
    """A file in one runtime beside Keras.

    The predicted class is the largest of the outputs' last axis.  If that has one element, class
    1 is predicted above a threshold: 0.5 if all references are in [0, 1], as probabilities are,
    otherwise 0.

    Args:
      reference: Keras' outputs, shape (examples, ..., classes).
      classes: the true classes, shape (examples, ...), or None.
      measured: the file in the runtime.

    Raises:
      LotteryError: if classes are not one an example.
    """
    if measured.error is not None or measured.outputs is None:
        return Comparison(measured.runtime, measured.error or "It gave no outputs.")
    outputs = np.asarray(measured.outputs, np.float64)
    rest: dict[str, Any] = {
        "not_finite": int((~np.isfinite(outputs)).sum()),
        "peak_memory_bytes": measured.peak_memory_bytes, "version": measured.version,
        **{batch: latency and dataclasses.asdict(latency) for batch, latency in
           (("batch_1", measured.batch_1), ("batch_32", measured.batch_32))}}
    if outputs.shape != reference.shape:
        return Comparison(measured.runtime, **rest)
    if not rest["not_finite"]:
        rest["max_error"] = float(np.abs(np.subtract(outputs, reference)).max(initial=0))
    ours, theirs = predictions(outputs, reference), predictions(reference, reference)
    rest["agreement"] = float((ours == theirs).mean())
    if classes is not None:
        classes = np.asarray(classes)
        classes = classes[..., 0] if classes.shape == (*ours.shape, 1) else classes
        if classes.shape != ours.shape:
            raise LotteryError(f"classes have one class an example, shape {ours.shape}. Received: "
                               f"shape {classes.shape}.")
        rest["accuracy"] = float((ours == classes).mean())
        rest["accuracy_lost"] = 100 * (float((theirs == classes).mean()) - rest["accuracy"])
    return Comparison(measured.runtime, **rest)


def predictions(outputs: Array, reference: Array) -> Array:
    """The predicted classes; NaN predicts no class (-1).

    Args:
      outputs: shape (..., classes).
      reference: Keras' outputs, which tell probabilities from logits if there is one class.

    Example:
      >>> predictions(np.array([[0.1, 0.9], [2.0, -1.0], [np.nan, 0.0]]), np.zeros((3, 2)))
      array([ 1,  0, -1])
    """
    finite = np.isfinite(outputs).all(axis=-1)
    if outputs.shape[-1] == 1:
        threshold = 0.5 if np.all(np.clip(reference, 0, 1) == reference) else 0.0
        classes = np.greater(outputs[..., 0], threshold).astype(int)
    else:
        classes = np.where(np.isnan(outputs), -np.inf, outputs).argmax(axis=-1)
    return np.where(finite, classes, -1)


def file_size(path: "str | os.PathLike[str]") -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(each.stat().st_size for each in _files(pathlib.Path(path)))


def gzip_size(path: "str | os.PathLike[str]") -> int:
    """Bytes that gzip at level 9 makes of a file, or of a tar of a folder.

    Names, content and their order alone count, not when or by whom they were written.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return len(gzip.compress(path.read_bytes(), 9))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for each in _files(path):
            entry = tarfile.TarInfo(each.relative_to(path).as_posix())
            entry.size = each.stat().st_size
            with open(each, "rb") as file:
                archive.addfile(entry, file)
    return len(gzip.compress(buffer.getvalue(), 9))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    return [path] if path.is_file() else sorted(each for each in path.rglob("*")
                                                if each.is_file())
