"""Decides whether an exported file is shipped, by comparing its outputs with Keras'.

A file is *shipped* if a runtime loads it and computes what Keras computes; otherwise it is
*refused*, with the reason and an alternative.  The rules, in this order:

    no runtime loads it                                      refused
    NaN or infinity in any runtime that loads it             refused
    more accuracy lost than tolerated, in any runtime        refused
    errors larger than rounding explains, in any runtime     refused (of int8: without classes)
    some runtimes do not load it                             shipped for the others

A runtime that cannot load a file raises an error, which a user notices.  A runtime that loads it
and computes wrong outputs raises none, so one such runtime is enough to refuse the file for all.
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

# The error that int8 may have when no classes are given, as a share of the largest output: eight
# bits move single outputs far without changing the predicted class, and only classes could tell.
WITHOUT_CLASSES = 0.25


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A file's outputs in one runtime, compared with Keras'.

    Attributes:
      not_finite: how many outputs are NaN or infinite.
      max_error: the largest absolute error of an output; None if some outputs are not finite, or
        their shape differs from Keras'.
      accuracy: the share of examples whose predicted class is the true class, in [0, 1].
      accuracy_lost: Keras' accuracy minus this accuracy, in percentage points.
      agreement: the share of examples for which the file predicts Keras' class, in [0, 1].
    """

    not_finite: int
    max_error: "float | None" = None
    accuracy: "float | None" = None
    accuracy_lost: "float | None" = None
    agreement: "float | None" = None


def refused(name: str, reason: str, route: str) -> list[Row]:
    """Returns the rows of a format that could not be converted: one row, without a runtime.

    Example:
      >>> [row.status for row in refused("int8", "int8 needs examples.", "dynamic_int8")]
      ['refused']
    """
    return [Row(format=name, status=REFUSED, reason=reason, route=route)]


def check(name: str, path: "str | os.PathLike[str]", reference: Array, classes: "Array | None",
          measured: Sequence[Measured], *, tolerance: float = TOLERANCE,
          rounding: "float | None" = None, route: str = "") -> list[Row]:
    """Decides for each runtime whether a file is shipped.

    Args:
      name: the format's name.
      path: the file or folder.
      reference: Keras' outputs for the examples, shape (examples, ..., classes), finite.
      classes: the true classes, shape (examples, ...), or None.
      measured: the result of each runtime, the usual runtime first.
      tolerance: percentage points of accuracy that may be lost.
      rounding: the largest error that the format's precision explains, as a share of the largest
        reference output. None allows any error if there are classes, and WITHOUT_CLASSES
        otherwise.
      route: what to use instead if the file is refused.

    Returns:
      A row for each runtime, in the order of `measured`.

    Raises:
      LotteryError: if Keras' own outputs are not finite, or `classes` does not hold one class for
        each example.

    Example:
      >>> import tempfile
      >>> outputs = np.array([[0.0, 1.0], [2.0, 0.0]])
      >>> with tempfile.NamedTemporaryFile() as file:
      ...     row, = check("float32", file.name, outputs, np.array([1, 0]),
      ...                  [Measured("litert", outputs=outputs * np.nan)], route="keras is exact")
      >>> row.status, row.reason
      ('refused', '4 outputs are NaN or infinite in litert')
    """
    reference, path = np.asarray(reference), pathlib.Path(path)
    if not np.isfinite(reference).all():
        raise LotteryError("A network to export must compute finite outputs. Received: in Keras "
                           f"itself, {int((~np.isfinite(reference)).sum())} of {reference.size} "
                           "outputs are NaN or infinite.")
    compared = [compare(reference, classes, np.asarray(each.outputs)) if _ran(each) else None
                for each in measured]
    scale = float(np.abs(reference).max(initial=0)) or 1.0
    if classes is None and rounding is None:
        rounding = WITHOUT_CLASSES
    # A file that computes wrongly in one runtime is refused for all: nobody would notice.
    wrong = next(filter(None, (_wrong(found, each.runtime, tolerance, rounding, scale)
                               for each, found in zip(measured, compared, strict=True)
                               if found is not None)), "")
    shipped = not wrong and any(compared)
    bytes_, gzip_bytes = file_size(path), gzip_size(path)
    rows = []
    for each, found in zip(measured, compared, strict=True):
        reason = wrong if found else each.error or "The runtime returned no outputs."
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
    # The columns of a file that ran: errors, latency and memory.
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
    # The reason to refuse the file for what it computes, or "".
    where = f"in {runtime}"
    if found.not_finite:
        return f"{found.not_finite} outputs are NaN or infinite {where}"
    if found.max_error is None:
        return f"its outputs have another shape than Keras' {where}"
    # A difference of two accuracies is not exact: losing exactly the tolerance is allowed.
    if found.accuracy_lost is not None and found.accuracy_lost > tolerance + 1e-9:
        return (f"it loses {found.accuracy_lost:.2f} points of accuracy {where}, and at most "
                f"{tolerance:g} are tolerated")
    if rounding is not None and found.max_error > rounding * scale:
        return (f"an output is {found.max_error:.2g} off {where}, and rounding explains at most "
                f"{rounding * scale:.2g}")
    return ""


def compare(reference: Array, classes: "Array | None", outputs: Array) -> Comparison:
    """Compares a file's outputs with Keras'.

    The predicted class is the index of the largest value along the last axis.  If that axis has
    one element, class 1 is predicted above a threshold: 0.5 if all of Keras' outputs are in
    [0, 1], as probabilities are, otherwise 0.

    Args:
      reference: Keras' outputs, shape (examples, ..., classes).
      classes: the true classes, shape (examples, ...), or None.
      outputs: the file's outputs; if their shape differs, only `not_finite` is known.

    Raises:
      LotteryError: if `classes` does not hold one class for each example.

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
    # Both by the rule that fits Keras' outputs: a file may round a probability to above 1.
    ours, theirs = predictions(outputs, reference), predictions(reference, reference)
    rest["agreement"] = float((ours == theirs).mean())
    if classes is not None:
        classes = np.asarray(classes)
        # Labels of shape (examples, 1), as Keras' own data sets have them, are accepted.
        classes = classes[..., 0] if classes.shape == (*ours.shape, 1) else classes
        if classes.shape != ours.shape:
            raise LotteryError("classes must hold one class for each example, shape "
                               f"{ours.shape}. Received: shape {classes.shape}.")
        rest["accuracy"] = float((ours == classes).mean())
        rest["accuracy_lost"] = 100 * (float((theirs == classes).mean()) - rest["accuracy"])
    return Comparison(not_finite, **rest)


def predictions(outputs: Array, reference: Array) -> Array:
    """Returns the predicted classes; -1 where an output is NaN or infinite.

    Args:
      outputs: shape (..., classes).
      reference: Keras' outputs. With one class, they decide whether outputs are probabilities
        (threshold 0.5) or logits (threshold 0).

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
    """Returns the bytes of a file, or of all files in a folder.

    Example:
      >>> import tempfile
      >>> with tempfile.NamedTemporaryFile() as file:
      ...     _ = pathlib.Path(file.name).write_bytes(bytes(1000))
      ...     file_size(file.name), gzip_size(file.name) < 50
      (1000, True)
    """
    return sum(each.stat().st_size for each in _files(pathlib.Path(path)))


def gzip_size(path: "str | os.PathLike[str]") -> int:
    """Returns the bytes of a file compressed by gzip at level 9, or of a folder's tar archive.

    The result depends on file names and contents only, not on times or owners.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = (pathlib.Path(folder) / "zeros").write_bytes(bytes(100_000))
      ...     gzip_size(folder) < 1000
      True
    """
    path = pathlib.Path(path)
    if path.is_file():
        return len(gzip.compress(path.read_bytes(), 9))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for each in _files(path):
            # A new entry has no time and no owner, unlike archive.gettarinfo's.
            entry = tarfile.TarInfo(each.relative_to(path).as_posix())
            entry.size = each.stat().st_size
            with open(each, "rb") as file:
                archive.addfile(entry, file)
    return len(gzip.compress(buffer.getvalue(), 9))


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    # Sorted: the order of a folder's entries differs between machines, and changes a tar file.
    return [path] if path.is_file() else sorted(each for each in path.rglob("*")
                                                if each.is_file())
