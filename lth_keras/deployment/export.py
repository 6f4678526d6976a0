"""Export: from a trained network to files that are smaller, faster and checked.

1. Compact: remove the units that have no connection left (`deployment.compaction.compact`).
2. Convert: a file of each format (`deployment.formats`).
3. Measure: load it in its own runtime, in a process of its own (`deployment.measuring`).
4. Check: compare with what Keras says of held-out examples (`deployment.checks`).
5. Ship what passed, and say of the rest why it did not, and which route works.
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
from lth_keras.keras2.masking.weight_names import masked
from lth_keras.keras2.masking.wrap import strip_pruning

_BATCH = 256  # Of Keras' own predictions.


def export(network: Any, out: "str | pathlib.Path", *, data: tuple[Any, Any],
           formats: "Sequence[str] | None" = None, representative: Any = None,
           tolerance: float = TOLERANCE, compaction: str = "units", threads: int = 1,
           repeats: int = measuring.REPEATS,
           model: Any = None, train: "Callable[[Any], object] | None" = None, dense: Any = None,
           facts: "dict[str, Any] | None" = None,
           on_format: Callable[[str], None] = lambda name: None) -> Deployment:
    """Writes a trained network in several formats, and ships those that pass their checks.

    Args:
      network: a trained tf_keras model, wrapped or not, or a Ticket.
      out: the folder for the files; a new one, or one that holds an earlier export.
      data: held-out examples and their classes, shapes (examples, ...) and (examples,), which
        every file is compared with Keras on; classes None compares outputs alone.
      formats: names from `deployment.formats.FORMATS`; by default DEFAULT, those without
        "int8" in full if there is no `representative`.
      representative: training examples, some hundred, that full int8 takes its ranges from.
      tolerance: points of accuracy that a format may lose against Keras, >= 0.
      compaction: "units" removes dead units and channels, "inputs" gathers the inputs that are
        used too (smaller kernels; the gathering takes time), "none" nothing.
      threads: cores that a file is timed on, >= 1.
      repeats: measurements of each latency, >= 1; fewer of a file that takes long, but 5.
      model: of a Ticket: the network that it was found in, as freshly built.
      train: of a Ticket: a function that compiles and fits the model it is given.
      dense: the dense network, trained, to compare sizes and times with.
      facts: more about the network, for deployment.json and the card: "name", "dataset".
      on_format: told each format before it is made.

    Returns:
      What was shipped and what was refused, with its measures.

    Raises:
      LotteryError: for an argument that is not allowed, or a folder that holds something else.

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
    reference = bench.predictions(network)
    compacted = None if compaction == "none" else \
        compact(network, take_inputs=compaction == "inputs")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lth_export_") as name:
        unchecked = pathlib.Path(name)
        for wish in wanted:
            on_format(wish)
            rows += bench.rows(compacted.model if compacted else network, wish,
                               unchecked / _file_name(wish), reference)
        about |= bench.baseline(dense, unchecked)
        made = Deployment(folder, manifest.table(dataclasses.replace(
            row, level=about["level"], density=about["density"]) for row in rows), {
            "name": network.name, **about, "input": _shape(network.inputs[0]),
            "output": _shape(network.outputs[0]), "tolerance": tolerance, "threads": threads,
            "compaction": compacted.summary() if compacted else "",
            "takes_inputs": bool(compacted and compacted.inputs),
            "reference": {"accuracy": _accuracy(reference, classes), "examples": len(examples),
                          "largest_output": float(np.abs(reference).max())},
            "versions": measuring.versions(), "machine": provenance.machine()})
        _place(made, unchecked)
    return made


def _check(tolerance: float, compaction: str, threads: int, repeats: int) -> None:
    if not tolerance >= 0:
        raise LotteryError("tolerance must be points of accuracy, >= 0. "
                           f"Received: {tolerance!r}.")
    check_choice("compaction", compaction, COMPACTIONS)
    check_whole("threads", threads, 1)
    check_whole("repeats", repeats, 1)


def _about(network: Any) -> dict[str, Any]:
    # What is known of any network that was pruned here.
    if isinstance(network, Ticket):
        return {"level": network.level, "density": network.density}
    kept = {name: item.mask.numpy() for name, item in masked(network).items()}
    return {"level": None, "density": density(kept) if kept else None}


def _architecture(network: Any, model: Any, train: "Callable[[Any], object] | None") -> Any:
    # What is to be exported, trained or not; nothing is changed yet.
    if not isinstance(network, Ticket):
        if model is not None or train is not None:
            raise LotteryError("model and train are for a Ticket, which is a network before its "
                               f"training. Received: {type(network).__name__} and "
                               f"{'model' if model is not None else 'train'}.")
        return network
    if model is None or train is None:
        missing = "model" if model is None else "train"
        raise LotteryError(
            "A ticket is weights before their training and a mask, not a trained network: export "
            "it with model, the network it was found in, freshly built, and train, a function "
            f"that compiles and fits it. Received: a ticket of level {network.level} without "
            f"{missing}.")
    return model


def _trained(network: Any, model: Any, train: "Callable[[Any], object] | None") -> Any:
    if isinstance(network, Ticket):
        network = network.apply(model)
        assert train is not None
        train(network)
    return strip_pruning(network)


def _examples(data: tuple[Any, Any], network: Any) -> tuple[Array, "Array | None"]:
    examples = np.asarray(data[0])
    classes = None if data[1] is None else np.asarray(data[1])
    ends = [len(end or ()) for end in (network.inputs, network.outputs)]
    if ends != [1, 1]:
        raise LotteryError("An exported network is functional or Sequential, with one input and "
                           f"one output. Received: {network.name!r}, where "
                           f"{ends[0]} and {ends[1]} are known.")
    expected = tuple(network.inputs[0].shape[1:])
    if examples.ndim != len(expected) + 1 or not len(examples) or any(
            want is not None and want != got
            for want, got in zip(expected, examples.shape[1:], strict=True)):
        raise LotteryError(f"data must have examples of the network's input, shape {expected}. "
                           f"Received: shape {examples.shape}.")
    if classes is not None and classes.shape != (len(examples),):
        raise LotteryError(f"data must have a class for each of {len(examples)} examples. "
                           f"Received: shape {classes.shape}.")
    return examples.astype(network.inputs[0].dtype.as_numpy_dtype), classes


def _formats(names: "Sequence[str] | None", representative: Any) -> list[str]:
    if names is None:
        return [name for name in DEFAULT
                if representative is not None or not known.get(name).needs_representative]
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        known.get(name)
    if not wanted:
        raise LotteryError(f"formats must name some of {', '.join(known.FORMATS)}. "
                           "Received: none.")
    return wanted


def _place(made: Deployment, unchecked: pathlib.Path) -> None:
    # deployment.json first: what is killed from here on is an earlier export to the next.
    made.save()
    for name in known.FORMATS:
        path = made.folder / _file_name(name)
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
    """What every file has to stand."""

    examples: Array
    classes: "Array | None"
    representative: Any
    tolerance: float
    threads: int
    repeats: int

    def predictions(self, network: Any) -> Array:
        """What Keras says of the examples."""
        return np.asarray(network.predict(self.examples, batch_size=_BATCH, verbose=0), np.float32)

    def baseline(self, dense: Any, folder: pathlib.Path) -> dict[str, Any]:
        """The row of a dense network as a float32 file, or why there is none."""
        if dense is None:
            return {"dense": None}
        dense = strip_pruning(dense)
        row, *_ = self.rows(dense, "float32", folder / "dense.tflite", self.predictions(dense))
        # It is measured alone: there is no such file in the folder, nor does a level go with it.
        plain = {name: value for name, value in dataclasses.asdict(row).items()
                 if name not in ("level", "density")} | {"file": ""}
        return {"dense": plain if row.status == SHIPPED else None, "dense_refused": row.reason}

    def rows(self, network: Any, name: str, path: pathlib.Path, reference: Array) -> list[Row]:
        """Converts a network, runs its file in every runtime, and compares."""
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
