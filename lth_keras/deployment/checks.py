"""Decides whether an exported file is shipped, by comparing its outputs with Keras'.

A file is *shipped* if a runtime loads it and computes what Keras computes; otherwise it is
*refused*, with the reason.  The rules, in this order:

    no runtime loads it                                      refused
    NaN or infinity in any runtime that loads it             refused
    more points lost than tolerated, in any runtime          refused
    errors larger than rounding explains, in any runtime     refused (of int8: without a measure)
    some runtimes do not load it                             shipped for the others

They hold for each output of a network.  What points are is up to its measure
(`comparison.measures`): of accuracy, or of the targets' variance.

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
from lth_keras.deployment.comparison.measures import Expected, predictions
from lth_keras.deployment.comparison.output_row import OutputRow
from lth_keras.deployment.manifest import REFUSED, Row, SHIPPED, TOLERANCE
from lth_keras.deployment.measuring import Measured
from lth_keras.errors import LotteryError

# The error that int8 may have where nothing measures how well outputs fit targets, as a share of
# the largest output: eight bits move single outputs far without changing what they say.
WITHOUT_MEASURE = 0.25
ACCURACY = "accuracy"  # The measure that has columns of its own.


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One output of a file in one runtime, compared with Keras'.

    Attributes:
      not_finite: how many numbers are NaN or infinite.
      max_error: the largest absolute error of a number; None if some are not finite, or their
        shape differs from Keras'.
      value: the output's measure; None if it has none.
      lost: by how many points the measure is worse than Keras'.
      agreement: the share of predicted classes that are Keras', in [0, 1]; None of numbers.
    """

    not_finite: int
    max_error: "float | None" = None
    value: "float | None" = None
    lost: "float | None" = None
    agreement: "float | None" = None


def refused(name: str, reason: str) -> list[Row]:
    """Returns the rows of a format that could not be converted: one row, without a runtime.

    Example:
      >>> [row.status for row in refused("int8", "int8 needs examples.")]
      ['refused']
    """
    return [Row(format=name, status=REFUSED, reason=reason)]


def check(name: str, path: "str | os.PathLike[str]", expected: Sequence[Expected],
          measured: Sequence[Measured], *, tolerance: float = TOLERANCE,
          rounding: "float | None" = None) -> list[Row]:
    """Decides for each runtime whether a file is shipped.

    Args:
      name: the format's name.
      path: the file or folder.
      expected: Keras' outputs, finite, and their measures; one for each output of the network.
      measured: the result of each runtime, the usual runtime first.
      tolerance: points that each measure may lose.
      rounding: the largest error that the format's precision explains, as a share of an output's
        largest number in Keras. None allows any error of an output whose measure says what may be
        lost, and WITHOUT_MEASURE otherwise.

    Returns:
      A row for each runtime, in the order of `measured`.

    Raises:
      LotteryError: if Keras' own outputs are not finite.

    Example:
      >>> import tempfile
      >>> outputs = np.array([[0.0, 1.0], [2.0, 0.0]])
      >>> with tempfile.NamedTemporaryFile() as file:
      ...     row, = check("float32", file.name, [Expected("y", outputs)],
      ...                  [Measured("litert", outputs=outputs * np.nan)])
      >>> row.status, row.reason
      ('refused', '4 outputs are NaN or infinite in litert')
    """
    path = pathlib.Path(path)
    _check_finite(expected)
    compared = [_compared(expected, each) if _ran(each) else None for each in measured]
    # A file that computes wrongly in one runtime is refused for all: nobody would notice.
    wrong = next(filter(None, (
        wrong_output(wanted, found, each.runtime if len(expected) == 1 else
                     f"{each.runtime}, output {wanted.name!r}", tolerance, rounding)
        for each, outputs in zip(measured, compared, strict=True) if outputs is not None
        for wanted, found in zip(expected, outputs, strict=True))), "")
    shipped = not wrong and any(compared)
    bytes_, gzip_bytes = file_size(path), gzip_size(path)
    rows = []
    for each, outputs in zip(measured, compared, strict=True):
        reason = wrong if outputs else each.error or "The runtime returned no outputs."
        rows.append(Row(
            format=name, runtime=each.runtime, status=REFUSED if reason else SHIPPED,
            bytes=bytes_ or None, gzip_bytes=gzip_bytes or None,
            file=path.name if shipped else "", reason=reason,
            **_figures(each, expected, outputs) if outputs else {}))
    return rows


def _check_finite(expected: Sequence[Expected]) -> None:
    numbers = sum(wanted.outputs.size for wanted in expected)
    wrong = sum(int((~np.isfinite(wanted.outputs)).sum()) for wanted in expected)
    if wrong:
        raise LotteryError("A network to export must compute finite outputs. Received: in Keras "
                           f"itself, {wrong} of {numbers} outputs are NaN or infinite.")


def _ran(measured: Measured) -> bool:
    return measured.error is None and measured.outputs is not None


def _compared(expected: Sequence[Expected], measured: Measured) -> list[Comparison]:
    outputs = measured.outputs
    by_name: dict[str, Any] = outputs if isinstance(outputs, dict) else {expected[0].name: outputs}
    # An output that the file does not have is as wrong as one of another shape.
    return [compare(wanted, np.asarray(by_name.get(wanted.name, ()))) for wanted in expected]


def _figures(measured: Measured, expected: Sequence[Expected],
             found: Sequence[Comparison]) -> dict[str, Any]:
    # The columns of a file that ran: errors, latency and memory.
    errors = [each.max_error for each in found if each.max_error is not None]
    figures: dict[str, Any] = {
        "batch": measured.batch,
        "not_finite": sum(each.not_finite for each in found),
        "max_error": max(errors) if len(errors) == len(found) else None,
        "peak_memory_bytes": measured.peak_memory_bytes,
        "outputs": tuple(map(_output_row, expected, found))}
    if len(expected) == 1 and expected[0].measure and expected[0].measure.name == ACCURACY:
        figures |= {"accuracy": found[0].value, "accuracy_lost": found[0].lost}
    for batch, latency in ((1, measured.batch_1), (32, measured.batch_32)):
        if latency is not None:
            figures |= {f"latency_{batch}_us": latency.median,
                        f"latency_{batch}_low_us": latency.lower,
                        f"latency_{batch}_high_us": latency.upper}
    return figures


def _output_row(expected: Expected, found: Comparison) -> OutputRow:
    measure = expected.measure
    return OutputRow(
        output=expected.name, measure=measure.name if measure else "",
        unit=measure.unit if measure else "", keras=expected.value, value=found.value,
        lost=found.lost, max_error=found.max_error, agreement=found.agreement)


def wrong_output(expected: Expected, found: Comparison, where: str, tolerance: float,
                 rounding: "float | None") -> str:
    """Returns the reason to refuse an output that differs from Keras', or "".

    Args:
      expected: Keras' output.
      found: the comparison with it.
      where: what computed the output, such as "litert".
      tolerance: points that the measure may lose.
      rounding: the largest error that is allowed, as `check` takes it.

    Example:
      >>> wrong_output(Expected("y", np.ones(3)), Comparison(0, max_error=0.5), "litert", 0.1, 1e-3)
      'an output is 0.5 off in litert, and rounding explains at most 0.001'
    """
    where = f"in {where}"
    if found.not_finite:
        return f"{found.not_finite} outputs are NaN or infinite {where}"
    if found.max_error is None:
        return f"its outputs have another shape than Keras' {where}"
    # A difference of two accuracies is not exact: losing exactly the tolerance is allowed.
    if found.lost is not None and expected.measure and found.lost > tolerance + 1e-9:
        return (f"it loses {found.lost:.2f} {expected.measure.unit} {where}, and at most "
                f"{tolerance:g} are tolerated")
    if expected.measure and expected.value is not None and found.value is None:
        return f"its {expected.measure.name} is NaN or infinite {where}"
    if rounding is None and found.lost is None:
        rounding = WITHOUT_MEASURE
    scale = largest(expected)
    if rounding is not None and found.max_error > rounding * scale:
        return (f"an output is {found.max_error:.2g} off {where}, and rounding explains at most "
                f"{rounding * scale:.2g}")
    return ""


def largest(expected: Expected) -> float:
    """Returns the largest absolute number of Keras' outputs, or 1 if all are 0.

    Example:
      >>> largest(Expected("y", np.array([[-2.0, 1.0]])))
      2.0
    """
    return float(np.abs(expected.outputs).max(initial=0)) or 1.0


def compare(expected: Expected, outputs: Array) -> Comparison:
    """Compares one output of a file with Keras'.

    The predicted class is the index of the largest value along the last axis.  If that axis has
    one element, class 1 is predicted above a threshold: 0.5 if all of Keras' outputs are in
    [0, 1], as probabilities are, otherwise 0.

    Args:
      expected: Keras' outputs and their measure.
      outputs: the file's outputs; if their shape differs, only `not_finite` is known.

    Example:
      >>> from lth_keras.deployment.comparison import measures
      >>> keras = np.array([[0.0, 1.0], [2.0, 0.0]])
      >>> wanted = measures.expected("y", keras, np.array([1, 0]),
      ...                            "sparse_categorical_crossentropy")
      >>> found = compare(wanted, keras + [[0.0, 0.0], [-1.5, 1.5]])
      >>> found.max_error, found.value, found.lost, found.agreement
      (1.5, 0.5, 50.0, 0.5)
    """
    reference, outputs = expected.outputs, np.asarray(outputs, np.float64)
    not_finite = int((~np.isfinite(outputs)).sum())
    if outputs.shape != reference.shape:
        return Comparison(not_finite)
    of_classes = expected.measure is None or expected.measure.name == ACCURACY
    value = None if not_finite and not of_classes else expected.measured(outputs)
    agreement = None
    if of_classes and reference.ndim > 1:
        # By the rule that fits Keras' outputs: a file may round a probability to above 1.
        agreement = float((predictions(outputs, reference)
                           == predictions(reference, reference)).mean())
    return Comparison(
        not_finite, None if not_finite else
        float(np.abs(np.subtract(outputs, reference)).max(initial=0)),
        value, expected.lost(value), agreement)


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
