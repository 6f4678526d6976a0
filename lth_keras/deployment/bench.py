"""Makes a network's files, runs each in its runtimes and compares it with Keras.

What Keras computes is the network's own outputs or, for TF Lite files of a network that computes
in another precision than float32, those of a float32 copy.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.deployment import checks, manifest, measuring
from lth_keras.deployment.comparison import measures, signature
from lth_keras.deployment.comparison.measures import Expected
from lth_keras.deployment.comparison.signature import Signature
from lth_keras.deployment.conversion import formats as known
from lth_keras.deployment.manifest import Row, SHIPPED
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.errors import LotteryError

_BATCH = 256  # Examples in a call of Keras' own predict; changes speed alone.
# A runtime that is not what users load a file in by default -> the folder of the files that it
# alone loads.
FOLDERS = {"litert_builtin": "litert_without_default_delegates"}
# The error that sums in another order explain, as a share of the largest output.
EXACT = 1e-3
# The error that another precision explains, as a share of the largest output: float16 has 11 bits
# of mantissa, bfloat16 8, which are eight times as coarse.
_PRECISIONS = {"float16": 2e-2, "bfloat16": 0.16}


def _with_routes(rows: list[Row], attempt: Callable[[str], list[Row]]) -> list[Row]:
    """Names a format that works in each row that was refused.

    One that was not asked for is made and checked too, so that nobody is sent from one refusal
    to the next.
    """
    works = {row.format: False for row in rows}
    works |= {row.format: True for row in rows if row.status == SHIPPED}

    def is_shipped(name: str) -> bool:
        if name not in works:
            works[name] = any(row.status == SHIPPED for row in attempt(name))
        return works[name]
    return [dataclasses.replace(row, route=known.route(row.format, is_shipped))
            if row.status != SHIPPED else row for row in rows]


def difference(expected: Expected, outputs: Array) -> float:
    """Returns the largest error as a share of the largest output; infinite if shapes differ."""
    error = checks.compare(expected, outputs).max_error
    return float("inf") if error is None else error / checks.largest(expected)


def file_name(name: str) -> str:
    """Returns the name of the file, or folder, of a format."""
    return f"model_{name}{known.get(name).suffix}"


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What files are compared with: a network's outputs in Keras, and those of its float32 copy.

    Attributes:
      expected: the network's outputs and their measures.
      of_copy: those of the copy; of a network that computes in float32, the same.
      rounding: the error that the network's precision explains, as a share of the largest output.
      copy: how far the copy is from the network, for the card; None if there is no copy.
      refused: why the copy does not stand for the network, or "".
    """

    expected: list[Expected]
    of_copy: list[Expected]
    rounding: float = 0.0
    copy: "dict[str, Any] | None" = None
    refused: str = ""


def _note(other: str, error: float, rounding: float, expected: list[Expected],
          found: list[checks.Comparison]) -> str:
    # TF Lite has no kernels for the precision that the network was trained in.
    lost = "".join(f", and the copy loses {each.lost:.2f} {wanted.measure.unit}"
                   for wanted, each in zip(expected, found, strict=True)
                   if wanted.measure and each.lost is not None)
    return (f"The network computes in {other}. TF Lite files were made from a float32 copy of the "
            "same weights, and compared with what that copy computes in Keras. An output of the "
            f"copy differs from the network's by {error:.1e} of the largest output (rounding "
            f"explains {rounding:g}){lost}.")


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """Converts, measures and checks each file in the same way.

    Examples, targets, losses and representative examples are in the order of `tf.nest.flatten`: a
    second build of a network may give its inputs and outputs other names.
    """

    examples: list[Array]
    targets: "list[Array | None]"
    losses: list[Any]
    representative: "list[Array] | None"
    tolerance: float
    threads: int
    repeats: int
    by_default: bool

    def reference(self, network: Any) -> Reference:
        """Returns Keras' outputs of a network and, if it has another precision, of its copy."""
        kind, expected = kind_of(network), self.expected(network)
        other = kind.precision(network)
        if other is None:
            return Reference(expected, expected)
        with kind.in_float32(network) as same:
            of_copy = self.expected(same)
        rounding = max(EXACT, _PRECISIONS.get(other, 0.0))
        found = [checks.compare(wanted, each.outputs)
                 for wanted, each in zip(expected, of_copy, strict=True)]
        # Where a measure tells what may be lost, it decides, as for int8.
        reasons = [checks.wrong_output(wanted, each, "the float32 copy", self.tolerance,
                                       rounding if each.lost is None else None)
                   for wanted, each in zip(expected, found, strict=True)]
        error = max(difference(wanted, each.outputs)
                    for wanted, each in zip(expected, of_copy, strict=True))
        return Reference(expected, of_copy, rounding, {
            "of": other, "error": error, "tolerated": rounding,
            "note": _note(other, error, rounding, expected, found)},
            next(filter(None, reasons), ""))

    def expected(self, network: Any) -> list[Expected]:
        """Returns Keras' outputs for the examples, which files are compared with."""
        names, kind = signature.of(network), kind_of(network)
        ends = len(names.inputs), len(names.outputs)
        if ends != (len(self.examples), len(self.losses)):
            raise LotteryError(
                f"A network to compare with must have {len(self.examples)} inputs and "
                f"{len(self.losses)} outputs, as the exported one has. Received: {network.name!r}, "
                f"which has {ends[0]} and {ends[1]}.")
        given = names.pack(dict(zip(names.inputs, self.examples, strict=True)))
        outputs = kind.predict(network, given, _BATCH)
        return [measures.expected(*each, kind) for each in zip(
            names.outputs, [self._checked(each, network) for each in outputs], self.targets,
            self.losses, strict=True)]

    def _checked(self, outputs: Any, network: Any) -> Array:
        found: Array = np.asarray(outputs, np.float32)
        if found.shape[:1] != (len(self.examples[0]),):
            raise LotteryError("Each output of a network to export must have one entry for each "
                               f"of the {len(self.examples[0])} examples. Received: "
                               f"{network.name!r}, with an output of shape {found.shape}.")
        return found

    def baseline(self, dense: Any, folder: pathlib.Path) -> dict[str, Any]:
        """Measures the dense network as a float32 file; gives its row, or why it has none."""
        if dense is None:
            return {"dense": None}
        try:
            dense = kind_of(dense).bare(dense)
            reference = self.reference(dense)
            with known.converter(dense) as convert:
                row, *_ = self.rows(dense, "float32", folder, reference, convert)
        except LotteryError as error:  # It is a comparison: the export goes on without.
            return {"dense": None, "dense_refused": str(error)}
        # Its file is not shipped, and the level, density and costs of the export are not its own.
        plain = {name: value for name, value in dataclasses.asdict(row).items()
                 if name not in ("level", "density", "parameters", "macs")} | {"file": ""}
        return {"dense": plain if row.status == SHIPPED else None, "dense_refused": row.reason}

    def rows(self, network: Any, name: str, folder: pathlib.Path, reference: Reference,
             convert: Callable[..., None]) -> list[Row]:
        """Converts a network, runs the file in each runtime, and compares it with Keras.

        Args:
          network: the network.
          name: the format's name.
          folder: the folder for the file.
          reference: what Keras computes.
          convert: converts the network (`formats.converter`).
        """
        wanted, names = known.get(name), signature.of(network)
        path = folder / file_name(name)
        if wanted.in_float32 and reference.refused:
            return checks.refused(name, "it is made from a float32 copy of the network, and "
                                  f"{reference.refused}")
        try:
            convert(name, path, self._given(self.representative, names))
        except LotteryError as error:
            return checks.refused(name, str(error))
        measured = [self._measured(network, path, runtime)
                    for runtime in known.runtimes(name, network)]
        rounding, expected = wanted.rounding, reference.of_copy
        if not wanted.in_float32:
            expected = reference.expected
            rounding = None if rounding is None else max(rounding, reference.rounding)
        return self._placed(checks.check(name, path, expected, measured, tolerance=self.tolerance,
                                         rounding=rounding))

    def _measured(self, network: Any, path: pathlib.Path, runtime: str) -> measuring.Measured:
        kind, names = kind_of(network), signature.of(network)
        given: Any = dict(zip(names.inputs, self.examples, strict=True))
        options: dict[str, Any] = {"takes": names.takes, "outputs": names.outputs}
        if runtime == kind.runtime:
            # Keras calls a file as it does the network: on a dict, though it be of one array.
            options |= kind.loading(network)
        elif names.single:
            given, options = self.examples[0], {}
        return measuring.measure(path, runtime, given, self.threads, repeats=self.repeats,
                                 **options)

    def all_rows(self, network: Any, names: Sequence[str], folder: pathlib.Path,
                 reference: Reference, on_format: Callable[[str], None]) -> list[Row]:
        """Makes and checks a file of each format, and names what to use instead of the refused."""
        rows: list[Row] = []
        with known.converter(network) as convert:
            for name in names:
                on_format(name)
                rows += self.rows(network, name, folder, reference, convert)
            return _with_routes(
                rows, lambda name: self.rows(network, name, folder, reference, convert))

    def _placed(self, rows: list[Row]) -> list[Row]:
        # A file that the usual runtime does not load lies in a folder that says which one does;
        # by default there is none.
        usable = [row.runtime for row in rows if row.status == SHIPPED]
        if not usable or rows[0].runtime in usable:
            return rows
        if self.by_default:
            reason = f"it does not load by default: {rows[0].reason}"
            return [dataclasses.replace(row, status=manifest.REFUSED, file="",
                                        reason=row.reason or reason) for row in rows]
        folder = FOLDERS.get(usable[0], usable[0])
        return [dataclasses.replace(row, file=f"{folder}/{row.file}") for row in rows]

    def _given(self, arrays: "list[Array] | None", names: Signature) -> Any:
        # The array of the only input, or arrays by name.
        if arrays is None or names.single:
            return arrays and arrays[0]
        return dict(zip(names.inputs, arrays, strict=True))
