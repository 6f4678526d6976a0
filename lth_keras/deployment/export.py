"""`lth.export`: writes a trained network in several formats and ships the files that work.

1. Compact: remove the units that have no connections left (`deployment.compaction.compact`).
2. Convert: write a file of each format (`deployment.conversion.formats`).
3. Measure: load each file in its own runtime and process (`deployment.measuring`).
4. Check: compare its outputs with Keras' on held-out examples (`deployment.checks`), by the
   measure that fits the loss of each output (`deployment.comparison`).
5. Ship: keep the files that pass; for the others report the reason and an alternative.
"""

import dataclasses
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras import extras
from lth_keras.arguments import check_choice, check_whole, one_line
from lth_keras.core.masks import density
from lth_keras.costs.profile import profile
from lth_keras.deployment import checks, manifest, measuring, model_card, runtimes
from lth_keras.deployment.bench import Bench, difference, EXACT, file_name, FOLDERS, Reference
from lth_keras.deployment.compaction.compact import compact, Compacted
from lth_keras.deployment.comparison import held_out, measures, signature
from lth_keras.deployment.comparison.measures import Expected
from lth_keras.deployment.comparison.signature import Signature
from lth_keras.deployment.conversion import formats as known
from lth_keras.deployment.manifest import COMPACTIONS, DEFAULT, Deployment
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.model_kind import ModelKind
from lth_keras.errors import LotteryError
from lth_keras.files import atomic, provenance
from lth_keras.files.ticket import Ticket


def export(network: Any, out: "str | pathlib.Path", *, data: tuple[Any, Any],
           formats: "Sequence[str] | None" = None, representative: Any = None,
           tolerance: "float | None" = None, compaction: str = "units", threads: int = 1,
           repeats: int = measuring.REPEATS,
           model: Any = None, train: "Callable[[Any], object] | None" = None, dense: Any = None,
           facts: "dict[str, Any] | None" = None,
           on_format: Callable[[str], None] = lambda name: None) -> Deployment:
    """Exports a trained network to several formats, and ships the files that pass their checks.

    Args:
      network: a trained model of Keras 3 on any backend; one of tf_keras, with or without pruning
        wrappers; or a Ticket. A subclassed model may have any call; it is called on an example if
        it is not built, and if it is wrapped it is stripped in place, as by `strip_pruning`.
      out: the folder for the files: a new one, or one that holds an earlier export, which is
        replaced.
      data: held-out examples and their targets (x, y), as `model.evaluate` takes them: arrays, or
        lists or dicts of arrays if the model has several inputs or outputs. Every file is compared
        with Keras on them, by a measure that fits the compiled loss of each output: accuracy,
        squared or absolute error, or the loss itself (`comparison.measures`). Without targets
        (None), or without a loss that says what they are, only outputs are compared.
      formats: names from `deployment.conversion.formats.FORMATS`. Defaults to `manifest.DEFAULT`,
        without "int8" if `representative` is None.
      representative: about 200 training examples, in the structure of x, from which "int8" measures
        the range of each tensor.
      tolerance: points that a file may lose against Keras, >= 0: percentage points of accuracy, or
        of the targets' variance or deviation. Defaults to 0.1, or the share of one example if
        there are fewer than 1,000.
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
    x, y = held_out.check_pair(data)
    architecture = _architecture(network, model, train)
    held_out.build(architecture, x)
    names = signature.of(architecture)
    examples = held_out.inputs(x, names)
    targets = held_out.targets(y, names, len(examples[0]))
    if representative is not None:
        representative = held_out.inputs(representative, names, "representative")
    tolerance = manifest.default_tolerance(len(examples[0])) if tolerance is None else tolerance
    about = {**_about(network), **(facts or {})}
    trained = _trained(network, model, train)
    losses = measures.losses(trained, names.outputs)
    network = kind_of(trained).bare(trained)
    bench = Bench(examples, targets, losses, representative, tolerance, threads, repeats,
                   by_default=formats is None or tuple(formats) == DEFAULT)
    # Of the network before compaction, so that the checks cover compaction too.
    reference = bench.reference(network)
    compacted = _compact(network, compaction, bench, reference)
    # Files that have not passed yet never lie in the user's folder.
    with tempfile.TemporaryDirectory(prefix="lth_export_") as name:
        unchecked = pathlib.Path(name)
        rows = bench.all_rows(compacted.model if compacted else network, wanted, unchecked,
                              reference, on_format)
        return _placed(_deployment(folder, rows, {
            "name": network.name, **about, **bench.baseline(dense, unchecked / "dense"),
            **_ends(network, names, reference.expected), "tolerance": tolerance, "threads": threads,
            **_compaction(compacted, network),
            "costs": _costs(compacted, network, dense, examples, about["density"] is not None),
            "reference": _reference(reference.expected),
            "float32_copy": reference.copy}, kind_of(network)), unchecked)


def _deployment(folder: pathlib.Path, rows: Sequence[Any], about: Mapping[str, Any],
                kind: ModelKind) -> Deployment:
    costs = about["costs"] or {}
    table = manifest.table(dataclasses.replace(
        row, level=about["level"], density=about["density"], parameters=costs.get("parameters"),
        macs=costs.get("macs")) for row in rows)
    return Deployment(folder, table, {
        **about, "keras": kind.title, "backend": kind.backend,
        "versions": {**measuring.versions(), **kind.versions()}, "machine": provenance.machine()},
        manifest.outputs_table(rows))


def _compaction(compacted: Any, network: Any) -> dict[str, Any]:
    made = compacted.model if compacted else network
    return {"compaction": compacted.summary() if compacted else "",
            "own_layers": any(type(layer).__module__.startswith("lth_keras.")
                              for layer in kind_of(made).layers(made))}


def _costs(compacted: Any, network: Any, dense: Any, examples: Sequence[Any],
           is_pruned: bool) -> "dict[str, Any] | None":
    # What the exported network costs, and the dense one; None where it cannot be counted.
    shapes = [each.shape[1:] for each in examples]

    def counted(network: Any) -> "dict[str, Any] | None":
        try:
            found = profile(network, shapes)
        except Exception:  # It is told beside the files; a user's layers may raise anything.
            return None
        return {"parameters": found.parameters, "macs": found.macs, "notes": list(found.notes)}
    own = counted(compacted.model if compacted else network)
    whole = counted(network if dense is None else dense)
    if dense is None and not is_pruned and whole == own:
        whole = None  # Nobody knows what it was made from: it may have been compacted before.
    return own and {**own, "dense": whole}


def _check(tolerance: "float | None", compaction: str, threads: int, repeats: int) -> None:
    if tolerance is not None and not tolerance >= 0:
        raise LotteryError("tolerance must be a number of points, >= 0. "
                           f"Received: {tolerance!r}.")
    check_choice("compaction", compaction, COMPACTIONS)
    check_whole("threads", threads, 1)
    check_whole("repeats", repeats, 1)


def _about(network: Any) -> dict[str, Any]:
    # The level and density to report; a model that was never wrapped has neither.
    if isinstance(network, Ticket):
        return {"level": network.level, "density": network.density,
                "settings": network.provenance.get("settings", {})}
    kept = kind_of(network).masks(network)
    return {"level": None, "density": density(kept) if kept else None}


def _architecture(network: Any, model: Any, train: "Callable[[Any], object] | None") -> Any:
    # Returns the model whose shapes say what data must look like. It is not trained yet: all
    # arguments are checked before anything that takes time.
    if not isinstance(network, Ticket):
        if model is not None or train is not None:
            raise LotteryError("model and train may be given with a Ticket only, which still has "
                               f"to be trained. Received: {type(network).__name__} and "
                               f"{'model' if model is not None else 'train'}.")
        kind_of(network).check(network)
        return network
    if model is None or train is None:
        missing = "model" if model is None else "train"
        raise LotteryError(
            "A ticket holds masks and the weights before training, so it must be trained before "
            "it is exported: give model, a freshly built copy of its network, and train, a "
            "function that compiles and fits that model. Received: a ticket of level "
            f"{network.level} without {missing}.")
    kind_of(model).check(model)
    return model


def _trained(network: Any, model: Any, train: "Callable[[Any], object] | None") -> Any:
    # Returns the network to export, which is trained first if it is a ticket.
    if isinstance(network, Ticket):
        network = network.apply(model)
        assert train is not None  # _architecture has checked it.
        train(network)
    return network


def _compact(network: Any, compaction: str, bench: Bench,
             reference: Reference) -> "Compacted | None":
    # Compaction is a gain, not a need: of a network that it fails on, the network itself is
    # exported, and the summary says why.
    if compaction == "none":
        return None
    try:
        made = compact(network, take_inputs=compaction == "inputs")
        worst = 0.0 if made.model is network else max(
            difference(wanted, found.outputs)
            for wanted, found in zip(reference.expected, bench.expected(made.model), strict=True))
        reason = f"its outputs would differ by {worst:.2g} of the largest" * (
            worst > max(EXACT, reference.rounding))
    except Exception as error:  # A user's layers may raise anything when they are made anew.
        reason = f"compaction raised {type(error).__name__}: {one_line(error)}"
    if not reason:
        return made
    count = network.count_params()
    return Compacted(network, {}, {}, (f"{network.name}: is exported as it is, since {reason}",),
                     (count, count))


def _formats(names: "Sequence[str] | None", representative: Any) -> list[str]:
    # By default what can be made; asked for by name, a format without its examples is refused.
    wanted = list(dict.fromkeys(names)) if names is not None else [
        name for name in DEFAULT
        if representative is not None or not known.get(name).needs_representative]
    for name in wanted:  # Errors before anything is converted: an unknown name, no runtime.
        for runtime in known.get(name).runtimes:
            extras.check(runtimes.RUNTIMES[runtime][1], f"The format {name}")
    if not wanted:
        raise LotteryError(f"formats must name at least one of {', '.join(known.FORMATS)}. "
                           "Received: none.")
    return wanted


def _placed(made: Deployment, unchecked: pathlib.Path) -> Deployment:
    # deployment.json is written first: it marks the folder as an export, so that an export
    # killed from here on can be repeated into the same folder.
    made.save()
    # The files of an earlier export go, also those that are not made this time: what lies in the
    # folder is what deployment.json lists.
    for folder in (made.folder, *(made.folder / name for name in FOLDERS.values())):
        for name in known.FORMATS:
            path = folder / file_name(name)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if folder != made.folder and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for file in filter(None, dict.fromkeys(made.rows.file)):
        path = made.folder / file
        path.parent.mkdir(exist_ok=True)
        shutil.move(unchecked / path.name, path)
    atomic.write(made.folder / model_card.FILE, model_card.text(made))
    return made


def _reference(expected: list[Expected]) -> dict[str, Any]:
    # What Keras itself computes, and what files are compared by.
    first = expected[0]
    one = len(expected) == 1 and first.measure and first.measure.name == checks.ACCURACY
    return {"accuracy": first.value if one else None, "examples": len(first.outputs),
            # The largest output tells how large an absolute error is.
            "largest_output": max(float(np.abs(each.outputs).max(initial=0))
                                  for each in expected),
            "outputs": [{"output": each.name, "measure": each.measure.name if each.measure else "",
                         "unit": each.measure.unit if each.measure else "", "value": each.value,
                         "note": each.note} for each in expected]}


def _ends(network: Any, names: Signature, expected: list[Expected]) -> dict[str, Any]:
    # The shapes and types of what goes in and comes out, for the card. A subclassed network has no
    # symbolic outputs: what it computed shows their shapes.
    kind = kind_of(network)
    ends = kind.tree.flatten(kind.structure(network)[1]) if kind.is_graph(network) else \
        [each.outputs for each in expected]
    inputs = {name: {"shape": list(spec.shape[1:]), "dtype": spec.dtype}
              for name, spec in names.inputs.items()}
    # Keras 3 has names for types, TensorFlow and NumPy have types with names.
    outputs = {each.name: {"shape": list(end.shape[1:]),
                           "dtype": getattr(end.dtype, "name", end.dtype)}
               for each, end in zip(expected, ends, strict=True)}
    if names.single:
        return {"input": inputs.popitem()[1], "output": outputs.popitem()[1]}
    return {"inputs": inputs, "outputs": outputs}
