"""Measures a file's outputs, latency and memory in the runtime that will load it.

    keras             tf_keras, from a .keras file
    keras3            Keras 3, from a .keras file, on the backend that the model had
    tensorflow        TensorFlow, from a SavedModel folder
    onnxruntime       onnxruntime, from an ONNX file
    litert            ai-edge-litert with its default delegates (XNNPACK), from a TF Lite file
    litert_builtin    ai-edge-litert without its default delegates

Each file is loaded in a process of its own (`measuring_process`), so a runtime that crashes on a
file ends that process, and the crash is reported as a result.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

import lth_keras
from lth_keras import extras
from lth_keras.arguments import check_choice, one_line
from lth_keras.core.masks import Array, Arrays
from lth_keras.deployment import measuring_process, runtimes
from lth_keras.errors import LotteryError
from lth_keras.files import provenance

REPEATS = 30  # Measurements of each latency; each takes about 5 ms.


@dataclasses.dataclass(frozen=True)
class Latency:
    """The time that one call takes, in microseconds.

    Attributes:
      median, lower, upper: the median and quartiles over the repeats.
      repeats: how many repeats there were.
      calls: how many calls each repeat averages over.
    """

    median: float
    lower: float
    upper: float
    repeats: int
    calls: int


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """The result of running a file in a runtime.

    Attributes:
      runtime: the runtime's name.
      error: why the file did not run, in one line; None if it ran.
      outputs: the network's outputs for the examples, float32, shape (examples, ...); of a network
        with several, name -> array.
      not_finite: how many numbers in them are NaN or infinite.
      peak_memory_bytes: by how much the process' resident memory grew, from before the file was
        loaded to its peak during the first prediction of 32 examples; None where the operating
        system does not report it.
      batch: how many examples a call takes; None for any number.
      batch_1, batch_32: the latency of a call with 1 and with 32 examples; None for a number that
        the file does not take.
      version: the version of the runtime's package.
    """

    runtime: str
    error: "str | None" = None
    outputs: "Array | Arrays | None" = None
    not_finite: int = 0
    peak_memory_bytes: "int | None" = None
    batch: "int | None" = None
    batch_1: "Latency | None" = None
    batch_32: "Latency | None" = None
    version: str = ""


def measure(path: "str | os.PathLike[str]", runtime: str, examples: "Array | Arrays",
            threads: int = 1, *, repeats: int = REPEATS, timeout: float = 600.0,
            takes: Any = None, outputs: Sequence[str] = (), backend: str = "",
            modules: Sequence[str] = ()) -> Measured:
    """Loads a file in a runtime, predicts examples, and measures latency and memory.

    To compare the latencies of several files, measure them one after another on a machine that
    is otherwise idle.

    Args:
      path: a file, or a SavedModel folder.
      runtime: one of `runtimes.RUNTIMES`, as listed above.
      examples: at least one, shape (examples, ...), as the network takes them; of a network with
        several inputs or outputs, the name of each input -> array. For a file that takes integers
        they are quantised with the scale stored in the file.
      threads: CPU threads of the runtime, >= 1.
      repeats: how often each latency is measured, for about 5 ms, >= 1; a slow network is
        measured less often, but at least 5 times.
      timeout: seconds after which the process is stopped and the file counts as failed.
      takes: if examples go by name, the structure that the network is called on, with names in
        place of arrays (`comparison.signature.Signature`).
      outputs: if examples go by name, the names of the outputs.
      backend: for "keras3", the backend that computes; by default that of KERAS_BACKEND.
      modules: for "keras3", the modules of the file's own classes, which are imported first.

    Returns:
      What was measured. A file that does not load, crashes the runtime or takes too long has an
      `error` and no other values.

    Raises:
      LotteryError: if the runtime is unknown, there are no examples, or a number is below 1.

    Example:
      >>> measured = measure("no_such_file.tflite", "litert", np.zeros((1, 4), "float32"))
      >>> measured.error.partition("'")[0]
      'ValueError: Could not open '
    """
    check_choice("runtime", runtime, runtimes.RUNTIMES)
    extras.check(runtimes.RUNTIMES[runtime][1], f"The runtime {runtime}")
    arrays = examples if isinstance(examples, dict) else {runtimes.ONLY: examples}
    if not all(map(len, arrays.values())):
        raise LotteryError("examples must hold at least one example. Received: none.")
    if threads < 1 or repeats < 1:
        raise LotteryError("threads and repeats must be >= 1. "
                           f"Received: threads={threads}, repeats={repeats}.")
    task = {"path": os.path.abspath(path), "runtime": runtime, "threads": threads,
            "repeats": repeats}
    if backend:
        task["backend"] = backend
    if modules:
        task |= {"modules": list(modules), "sys_path": sys.path}
    if isinstance(examples, dict):
        task["names"] = {"inputs": list(examples), "outputs": list(outputs), "takes": takes}
    with tempfile.TemporaryDirectory(prefix="lth_keras.") as name:
        folder = pathlib.Path(name)
        for given, values in arrays.items():
            np.save(folder / measuring_process.file_name("examples", list(arrays), given),
                    np.asarray(values), allow_pickle=False)
        (folder / "task.json").write_text(json.dumps(task))
        failure = _run(folder, threads, timeout)
        if failure is not None:
            return Measured(runtime, failure)
        found = json.loads((folder / "trial.json").read_text())
        if "error" in found:
            return Measured(runtime, one_line(found["error"]))
        names = found.pop("outputs")
        read = {each: np.load(folder / measuring_process.file_name("outputs", names, each),
                              allow_pickle=False) for each in names}
    batch_1, batch_32 = (Latency(**found.pop(batch)) if batch in found else None
                         for batch in ("batch_1", "batch_32"))
    return Measured(runtime, outputs=read if len(read) > 1 else read[names[0]],
                    batch_1=batch_1, batch_32=batch_32, **found)


def versions() -> dict[str, str]:
    """Returns the versions of the packages that change what is measured."""
    found = {}
    for package in ("ai-edge-litert", "onnxruntime"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {**provenance.versions(), **found}


def _run(folder: pathlib.Path, threads: int, timeout: float) -> "str | None":
    # Runs the process; returns why it ended without a result, or None if there is one.
    try:
        # `python -m` puts the working folder first on the import path: a numpy.py in the user's
        # folder must not be imported, so the process runs in the folder of its own task.
        done = subprocess.run([sys.executable, "-m", measuring_process.__name__, str(folder)],
                              cwd=folder, env=_environment(threads, _backend(folder)),
                              timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True,
                              check=False)
    except subprocess.TimeoutExpired:
        return f"It took more than {timeout:g} seconds."
    # A runtime may crash while it is unloaded, after the result was written: that is no failure.
    if (folder / "trial.json").exists():
        return None
    printed = done.stderr.decode(errors="replace").strip().splitlines()
    last = f": {printed[-1]}" if printed else ""
    if done.returncode < 0:
        return one_line(f"The runtime crashed ({signal.Signals(-done.returncode).name}){last}")
    return one_line(f"The runtime ended with exit code {done.returncode}{last}")


def _backend(folder: pathlib.Path) -> str:
    return str(json.loads((folder / "task.json").read_text()).get("backend", ""))


def _environment(threads: int, backend: str = "") -> dict[str, str]:
    # No GPU: a file is measured on what a phone or a small server has, and TensorFlow would
    # otherwise reserve the memory of the GPU that the parent process uses.
    package = pathlib.Path(lth_keras.__file__).parent.parent
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3",
             "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": str(threads)}
    if backend:
        found["KERAS_BACKEND"] = backend
    if backend == "jax":
        found["JAX_PLATFORMS"] = "cpu"
        if threads == 1:  # XLA takes all cores or one.
            found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    return found
