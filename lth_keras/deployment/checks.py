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
from collections.abc import Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.deployment.manifest import REFUSED, Row, SHIPPED, TOLERANCE
from lth_keras.deployment.measuring import Measured
from lth_keras.errors import LotteryError

WITHOUT_CLASSES = 0.25  # Error of eight bits that is tolerated where accuracy cannot tell.


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How a file's outputs in one runtime compare with Keras'.

    Attributes:
      not_finite: how many outputs are NaN or infinite.
      max_error: largest absolute error of an output; None if not all are finite, or their shape
        is another.
      accuracy: share of examples whose predicted class is the true class, in [0, 1].
      accuracy_lost: accuracy of Keras less that, in percentage points.
      agreement: share of examples with the class that Keras predicts, in [0, 1].
    """

    not_finite: int
    max_error: "float | None" = None
    accuracy: "float | None" = None
    accuracy_lost: "float | None" = None
    agreement: "float | None" = None


def refused(name: str, reason: str, route: str) -> list[Row]:
    """The rows of a format of which no file could be made: one, without a runtime.

    Example:
      >>> [row.status for row in refused("int8", "int8 needs examples.", "dynamic_int8")]
      ['refused']
    """
    return [Row(format=name, status=REFUSED, reason=reason, route=route)]


def check(name: str, path: "str | os.PathLike[str]", reference: Array, classes: "Array | None",
          measured: Sequence[Measured], *, tolerance: float = TOLERANCE,
          rounding: "float | None" = None, route: str = "") -> list[Row]:
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

    Returns:
      A row for each runtime, in the order of `measured`.

    Raises:
      LotteryError: if Keras' own outputs are not finite, or there is not one class for each
        example.
    """
    reference, path = np.asarray(reference), pathlib.Path(path)
    if not np.isfinite(reference).all():
        raise LotteryError("A network that is exported must compute finite outputs. Received: "
                           f"{int((~np.isfinite(reference)).sum())} of {reference.size} NaN or "
                           "infinite in Keras itself.")
    compared = [compare(reference, classes, np.asarray(each.outputs)) if _ran(each) else None
                for each in measured]
    scale = float(np.abs(reference).max(initial=0)) or 1.0
    if classes is None and rounding is None:
        rounding = WITHOUT_CLASSES
    # A file that computes wrongly in one runtime is refused for all: it does not say so itself.
    wrong = next(filter(None, (_wrong(found, each.runtime, tolerance, rounding, scale)
                               for each, found in zip(measured, compared, strict=True)
                               if found is not None)), "")
    shipped = not wrong and any(compared)
    bytes_, gzip_bytes = file_size(path), gzip_size(path)
    rows = []
    for each, found in zip(measured, compared, strict=True):
        reason = wrong if found else each.error or "It gave no outputs."
        rows.append(Row(
            format=name, runtime=each.runtime, status=REFUSED if reason else SHIPPED,
            bytes=bytes_ or None, gzip_bytes=gzip_bytes or None,
            file=path.name if shipped else "", reason=reason,
            route=route if wrong or not all(compared) else "",
            **_figures(each, found) if found else {}))
    return rows


def _ran(measured: Measured) -> bool:
    return measured.error is None and measured.outputs is not None


def _figures(measured: Measured, found: Comparison) -> dict[str, Any]:
    """What a row says of a file that ran: how right it is, how fast, and in how much memory."""
    figures = {"not_finite": found.not_finite, "max_error": found.max_error,
               "accuracy": found.accuracy, "accuracy_lost": found.accuracy_lost,
               "peak_memory_bytes": measured.peak_memory_bytes}
    for batch, latency in ((1, measured.batch_1), (32, measured.batch_32)):
        if latency is not None:
            figures |= {f"latency_{batch}_us": latency.median,
                        f"latency_{batch}_low_us": latency.lower,
                        f"latency_{batch}_high_us": latency.upper}
    return figures


def _wrong(found: Comparison, runtime: str, tolerance: float, rounding: "float | None",
           scale: float) -> str:
    """Why what a file computes cannot be accepted; empty if it can."""
    where = f"in {runtime}"
    if found.not_finite:
        return f"{found.not_finite} outputs are NaN or infinite {where}"
    if found.max_error is None:
        return f"its outputs have another shape than Keras' {where}"
    # An example counts whole or not at all: the margin is for the rounding of the difference.
    if found.accuracy_lost is not None and found.accuracy_lost > tolerance + 1e-9:
        return (f"{found.accuracy_lost:.2f} points of accuracy are lost {where}, and {tolerance:g} "
                "are tolerated")
    if rounding is not None and found.max_error > rounding * scale:
        return (f"an output is {found.max_error:.2g} off {where}, and rounding explains at most "
                f"{rounding * scale:.2g}")
    return ""


def compare(reference: Array, classes: "Array | None", outputs: Array) -> Comparison:
    """Compares a file's outputs with Keras'.

    The predicted class is the largest of the outputs' last axis.  If that has one element, class
    1 is predicted above a threshold: 0.5 if all references are in [0, 1], as probabilities are,
    otherwise 0.

    Args:
      reference: Keras' outputs, shape (examples, ..., classes).
      classes: the true classes, shape (examples, ...), or None.
      outputs: the file's; of another shape, nothing but `not_finite` is known.

    Raises:
      LotteryError: if there is not one class for each example.

    Example:
      >>> reference = np.array([[0.0, 1.0], [2.0, 0.0]])
      >>> found = compare(reference, np.array([1, 1]), reference + [[0.0, 0.0], [-1.5, 1.5]])
      >>> found.max_error, found.accuracy, found.accuracy_lost, found.agreement
      (1.5, 1.0, -50.0, 0.5)
    """
    outputs = np.asarray(outputs, np.float64)
    not_finite = int((~np.isfinite(outputs)).sum())
    if outputs.shape != reference.shape:
        return Comparison(not_finite)
    rest: dict[str, float] = {}
    if not not_finite:
        rest["max_error"] = float(np.abs(np.subtract(outputs, reference)).max(initial=0))
    ours, theirs = predictions(outputs, reference), predictions(reference, reference)
    rest["agreement"] = float((ours == theirs).mean())
    if classes is not None:
        classes = np.asarray(classes)
        classes = classes[..., 0] if classes.shape == (*ours.shape, 1) else classes
        if classes.shape != ours.shape:
            raise LotteryError("classes must have one class for each example, shape "
                               f"{ours.shape}. Received: shape {classes.shape}.")
        rest["accuracy"] = float((ours == classes).mean())
        rest["accuracy_lost"] = 100 * (float((theirs == classes).mean()) - rest["accuracy"])
    return Comparison(not_finite, **rest)


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
