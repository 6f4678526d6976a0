"""`lth.export`: writes a trained network in several formats and ships the files that work.

1. Compact: remove the units that have no connections left (`deployment.compaction.compact`).
2. Convert: write a file of each format (`deployment.formats`).
3. Measure: load each file in its own runtime and process (`deployment.measuring`).
4. Check: compare its outputs with Keras' on held-out examples (`deployment.checks`).
5. Ship: keep the files that pass; for the others report the reason and an alternative.
"""

import dataclasses
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lth_keras.arguments import check_choice, check_whole
from lth_keras.core.masks import Array, density
from lth_keras.deployment import checks, manifest, measuring, model_card
from lth_keras.deployment import formats as known
from lth_keras.deployment.compaction.compact import compact
from lth_keras.deployment.manifest import COMPACTIONS, DEFAULT, Deployment, Row, SHIPPED, TOLERANCE
from lth_keras.errors import LotteryError
from lth_keras.files import atomic, provenance
from lth_keras.files.ticket import Ticket
from lth_keras.keras2.masking.weight_names import check_keras2, masked
from lth_keras.keras2.masking.wrap import strip_pruning

_BATCH = 256  # Examples in a call of Keras' own predict; changes speed alone.


def export(network: Any, out: "str | pathlib.Path", *, data: tuple[Any, Any],
           formats: "Sequence[str] | None" = None, representative: Any = None,
           tolerance: float = TOLERANCE, compaction: str = "units", threads: int = 1,
           repeats: int = measuring.REPEATS,
           model: Any = None, train: "Callable[[Any], object] | None" = None, dense: Any = None,
           facts: "dict[str, Any] | None" = None,
           on_format: Callable[[str], None] = lambda name: None) -> Deployment:
    """Exports a trained network to several formats, and ships the files that pass their checks.

    Args:
      network: a trained tf_keras model, with or without pruning wrappers, or a Ticket.
      out: the folder for the files: a new one, or one that holds an earlier export, which is
        replaced.
      data: held-out examples and their classes, shapes (examples, ...) and (examples,). Every
        file is compared with Keras on them. With None for the classes, only outputs are
        compared, not accuracy.
      formats: names from `deployment.formats.FORMATS`. Defaults to `manifest.DEFAULT`, without
        "int8" if `representative` is None.
      representative: about 200 training examples, from which "int8" measures the range of each
        tensor.
      tolerance: percentage points of accuracy that a file may lose against Keras, >= 0.
      compaction: "units" removes units and channels without connections; "inputs" also removes
        unused inputs by gathering the used ones (kernels get smaller, but gathering takes
        time); "none" removes nothing.
      threads: CPU threads that the runtime may use while a file is timed, >= 1.
      repeats: how often each latency is measured, >= 1; a slow file is measured less often, but
        at least 5 times.
      model: for a Ticket only: a freshly built copy of the network it was found in.
      train: for a Ticket only: a function that compiles and fits the model it is given.
      dense: the trained dense network, to compare size and latency with.
      facts: more about the network for deployment.json and the model card, such as "name" and
        "dataset".
      on_format: called with each format's name before it is converted.

    Returns:
      A `Deployment`: the formats that were shipped and refused, with all measurements.

    Raises:
      LotteryError: if an argument is not allowed, or `out` holds something other than an export.

    Example:
      >>> import tempfile
      >>> import tf_keras as keras
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     made = export(model, folder, data=(np.eye(4, dtype="float32"), None),
      ...                   formats=["float32"])
      >>> made.shipped, made.refused
      (['float32'], {})
    """
    _check(tolerance, compaction, threads, repeats)
    wanted, folder = _formats(formats, representative), manifest.check_folder(out)
    examples, classes = _examples(data, _architecture(network, model, train))
    about = {**_about(network), **(facts or {})}
    network = _trained(network, model, train)
    bench = _Bench(examples, classes, representative, tolerance, threads, repeats)
    # Of the network before compaction, so that the checks cover compaction too.
    reference = bench.predictions(network)
    compacted = None if compaction == "none" else \
        compact(network, take_inputs=compaction == "inputs")
    rows: list[Row] = []
    # Files that have not passed yet never lie in the user's folder.
    with tempfile.TemporaryDirectory(prefix="lth_export_") as name:
        unchecked = pathlib.Path(name)
        for format_name in wanted:
            on_format(format_name)
            rows += bench.rows(compacted.model if compacted else network, format_name,
                               unchecked / _file_name(format_name), reference)
        about |= bench.baseline(dense, unchecked)
        made = Deployment(folder, manifest.table(dataclasses.replace(
            row, level=about["level"], density=about["density"]) for row in rows), {
            "name": network.name, **about, "input": _shape(network.inputs[0]),
            "output": _shape(network.outputs[0]), "tolerance": tolerance, "threads": threads,
            "compaction": compacted.summary() if compacted else "",
            "takes_inputs": bool(compacted and compacted.inputs),
            # The largest output tells how large an absolute error is.
            "reference": {"accuracy": _accuracy(reference, classes), "examples": len(examples),
                          "largest_output": float(np.abs(reference).max())},
            "versions": measuring.versions(), "machine": provenance.machine()})
        _place(made, unchecked)
    return made


def _check(tolerance: float, compaction: str, threads: int, repeats: int) -> None:
    if not tolerance >= 0:
        raise LotteryError("tolerance must be a number of percentage points, >= 0. "
                           f"Received: {tolerance!r}.")
    check_choice("compaction", compaction, COMPACTIONS)
    check_whole("threads", threads, 1)
    check_whole("repeats", repeats, 1)


def _about(network: Any) -> dict[str, Any]:
    # The level and density to report; a model that was never wrapped has neither.
    if isinstance(network, Ticket):
        return {"level": network.level, "density": network.density}
    kept = {name: item.mask.numpy() for name, item in masked(network).items()}
    return {"level": None, "density": density(kept) if kept else None}


def _architecture(network: Any, model: Any, train: "Callable[[Any], object] | None") -> Any:
    # Returns the model whose shapes say what data must look like. It is not trained yet: all
    # arguments are checked before anything that takes time.
    if not isinstance(network, Ticket):
        if model is not None or train is not None:
            raise LotteryError("model and train may be given with a Ticket only, which still has "
                               f"to be trained. Received: {type(network).__name__} and "
                               f"{'model' if model is not None else 'train'}.")
        check_keras2(network)
        return network
    if model is None or train is None:
        missing = "model" if model is None else "train"
        raise LotteryError(
            "A ticket holds masks and the weights before training, so it must be trained before "
            "it is exported: give model, a freshly built copy of its network, and train, a "
            "function that compiles and fits that model. Received: a ticket of level "
            f"{network.level} without {missing}.")
    check_keras2(model)
    return model


def _trained(network: Any, model: Any, train: "Callable[[Any], object] | None") -> Any:
    # Returns the network to convert: trained if it is a ticket, and without pruning wrappers.
    if isinstance(network, Ticket):
        network = network.apply(model)
        assert train is not None  # _architecture has checked it.
        train(network)
    return strip_pruning(network)


def _examples(data: tuple[Any, Any], network: Any) -> tuple[Array, "Array | None"]:
    # Checks the held-out data, and converts examples to the network's own dtype: every runtime
    # must see exactly the numbers that Keras sees.
    examples = np.asarray(data[0])
    classes = None if data[1] is None else np.asarray(data[1])
    # A subclassed model has neither, and a model that was never built has none.
    ends = [len(end or ()) for end in (network.inputs, network.outputs)]
    if ends != [1, 1]:
        raise LotteryError("A network to export must be functional or Sequential, with one input "
                           f"and one output. Received: {network.name!r}, which has {ends[0]} "
                           f"known inputs and {ends[1]} known outputs.")
    expected = tuple(network.inputs[0].shape[1:])
    if examples.ndim != len(expected) + 1 or not len(examples) or any(
            want is not None and want != got
            for want, got in zip(expected, examples.shape[1:], strict=True)):
        raise LotteryError("data must hold at least one example of the network's input shape, "
                           f"{expected}. Received: shape {examples.shape}.")
    if classes is not None and classes.shape != (len(examples),):
        raise LotteryError(f"data must hold one class for each of its {len(examples)} examples. "
                           f"Received: classes of shape {classes.shape}.")
    return examples.astype(network.inputs[0].dtype.as_numpy_dtype), classes


def _formats(names: "Sequence[str] | None", representative: Any) -> list[str]:
    # By default what can be made; asked for by name, a format without its examples is refused.
    if names is None:
        return [name for name in DEFAULT
                if representative is not None or not known.get(name).needs_representative]
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        known.get(name)  # Raises for an unknown name, before anything is converted.
    if not wanted:
        raise LotteryError(f"formats must name at least one of {', '.join(known.FORMATS)}. "
                           "Received: none.")
    return wanted


def _place(made: Deployment, unchecked: pathlib.Path) -> None:
    # deployment.json is written first: it marks the folder as an export, so that an export
    # killed from here on can be repeated into the same folder.
    made.save()
    for name in known.FORMATS:
        path = made.folder / _file_name(name)
        # The files of an earlier export go, also those that are not made this time: what lies
        # in the folder is what deployment.json lists.
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if name in made.shipped:
            shutil.move(unchecked / path.name, path)
    atomic.write(made.folder / model_card.FILE, model_card.text(made))


def _file_name(name: str) -> str:
    return f"model_{name}{known.get(name).suffix}"


def _accuracy(reference: Array, classes: "Array | None") -> "float | None":
    return None if classes is None else \
        float((checks.predictions(reference, reference) == classes).mean())


def _shape(tensor: Any) -> dict[str, Any]:
    return {"shape": list(tensor.shape[1:]), "dtype": tensor.dtype.name}


@dataclasses.dataclass(frozen=True, eq=False)
class _Bench:
    """Converts, measures and checks each file in the same way."""

    examples: Array
    classes: "Array | None"
    representative: Any
    tolerance: float
    threads: int
    repeats: int

    def predictions(self, network: Any) -> Array:
        """Returns Keras' outputs for the examples, float32, which files are compared with."""
        return np.asarray(network.predict(self.examples, batch_size=_BATCH, verbose=0), np.float32)

    def baseline(self, dense: Any, folder: pathlib.Path) -> dict[str, Any]:
        """Measures the dense network as a float32 file; gives its row, or why it has none."""
        if dense is None:
            return {"dense": None}
        dense = strip_pruning(dense)
        row, *_ = self.rows(dense, "float32", folder / "dense.tflite", self.predictions(dense))
        # Its file is not shipped, and the level and density of the export are not its own.
        plain = {name: value for name, value in dataclasses.asdict(row).items()
                 if name not in ("level", "density")} | {"file": ""}
        return {"dense": plain if row.status == SHIPPED else None, "dense_refused": row.reason}

    def rows(self, network: Any, name: str, path: pathlib.Path, reference: Array) -> list[Row]:
        """Converts a network, runs the file in each runtime, and compares it with Keras."""
        wanted = known.get(name)
        try:
            known.convert(network, name, path, self.representative)
        except LotteryError as error:
            return checks.refused(name, str(error), wanted.route)
        measured = [measuring.measure(path, runtime, self.examples, self.threads,
                                     repeats=self.repeats) for runtime in wanted.runtimes]
        return checks.check(name, path, reference, self.classes, measured,
                            tolerance=self.tolerance, rounding=wanted.rounding,
                            route=wanted.route)
