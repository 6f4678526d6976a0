"""Measures one file in one runtime, in a process of its own.

    python -m lth_keras.deployment.measuring_process FOLDER

Reads FOLDER/task.json and FOLDER/examples.npy, loads the file, predicts the examples, measures
latency and memory, and writes FOLDER/outputs.npy and FOLDER/trial.json.  If the runtime raises an
error, it becomes the "error" of trial.json; if the runtime crashes the process, the parent
(`deployment.measuring`) reports the crash.  Only NumPy and the runtime are imported, so that
nothing else adds to memory and time.

Memory is the growth of the resident set in bytes: from after the runtime is imported and before
the file is loaded, to the peak during the first prediction of 32 examples (VmHWM less VmRSS of
/proc; ru_maxrss would start from the parent's peak).  Latency is the time of one call whose
inputs are already in place: of TF Lite, `invoke`.
"""

import contextlib
import gc
import importlib.metadata
import json
import math
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any  # core.masks.Array, which is not imported: see above.
BATCH = 32
# Long enough that the clock's resolution does not matter, short enough that most repeats are not
# interrupted by the operating system.
REPEAT_SECONDS = 5e-3
WARM_UP_SECONDS = 2e-2
# A network that takes seconds a call is measured until this time is over, but often enough for
# quartiles.
MOST_SECONDS = 2.0
LEAST_REPEATS = 5


class LiteRT:
    """Runs a TF Lite file in ai-edge-litert's interpreter.

    Args:
      path: the file.
      threads: CPU threads of the interpreter.
      delegates: whether the default delegates (XNNPACK) may run operations.
    """

    def __init__(self, path: str, threads: int, delegates: bool = True):
        from ai_edge_litert import interpreter
        kinds = interpreter.OpResolverType
        kind = kinds.AUTO if delegates else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreter: Any = interpreter.Interpreter(
            path, num_threads=threads, experimental_op_resolver_type=kind)
        inputs, outputs = (self._interpreter.get_input_details(),
                           self._interpreter.get_output_details())
        _check_single(inputs, outputs)
        self._input, self._output = inputs[0], outputs[0]

    def give(self, examples: Array) -> None:
        """Sets the input batch, quantised with the file's own scale if the file takes integers."""
        index, dtype = self._input["index"], self._input["dtype"]
        # Done anew for each batch: the last one may be smaller than the others.
        self._interpreter.resize_tensor_input(index, examples.shape)
        self._interpreter.allocate_tensors()
        scale, zero = self._input["quantization"]
        if scale and np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            examples = np.clip(np.rint(examples / scale) + zero, limits.min, limits.max)
        self._interpreter.set_tensor(index, examples.astype(dtype))

    def call(self) -> None:
        """Computes the outputs of the batch; this is what is timed."""
        self._interpreter.invoke()

    def outputs(self) -> Array:
        """Returns the outputs of the last call, as float32."""
        values = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"]
        if scale and np.issubdtype(values.dtype, np.integer):
            values = (values.astype(np.float32) - zero) * np.float32(scale)
        return np.asarray(values, np.float32)


class TensorFlow:
    """Runs the "serving_default" signature of a SavedModel folder in TensorFlow."""

    def __init__(self, path: str, threads: int):
        tf = _tensorflow(threads)
        self._convert = tf.constant
        # The object must stay alive: a signature holds its variables by weak references alone.
        self._model = tf.saved_model.load(path)
        signature = self._model.signatures["serving_default"]
        names = list(signature.structured_input_signature[1])
        _check_single(names, list(signature.structured_outputs))
        self._function: Callable[[Any], Any] = (
            lambda batch: next(iter(signature(**{names[0]: batch}).values())))
        self._dtype = signature.structured_input_signature[1][names[0]].dtype.as_numpy_dtype

    def give(self, examples: Array) -> None:
        """Sets the input batch."""
        self._batch = self._convert(examples.astype(self._dtype))

    def call(self) -> None:
        """Computes the outputs of the batch; this is what is timed."""
        self._result = self._function(self._batch)

    def outputs(self) -> Array:
        """Returns the outputs of the last call, as float32."""
        return np.asarray(self._result, np.float32)


class Keras(TensorFlow):
    """Runs a .keras file in tf_keras, loaded in safe mode, in a tf.function as `predict` does."""

    def __init__(self, path: str, threads: int):
        tf = _tensorflow(threads)
        import tf_keras as keras
        self._convert = tf.constant
        model = keras.models.load_model(path, compile=False)
        _check_single(model.inputs, model.outputs)
        self._function = tf.function(lambda batch: model(batch, training=False), autograph=False)
        self._dtype = model.inputs[0].dtype.as_numpy_dtype


def _builtin(path: str, threads: int) -> LiteRT:
    # The runtime without XNNPACK loads sparse int8 files, which the default one refuses.
    return LiteRT(path, threads, delegates=False)


# Runtime -> the function that loads a file, the module it imports, and the package it is in.
RUNTIMES: dict[str, tuple[Callable[[str, int], Any], str, str]] = {
    "litert": (LiteRT, "ai_edge_litert.interpreter", "ai-edge-litert"),
    "litert_builtin": (_builtin, "ai_edge_litert.interpreter", "ai-edge-litert"),
    "keras": (Keras, "tf_keras", "tf_keras"),
    "tensorflow": (TensorFlow, "tensorflow", "tensorflow"),
}


def _tensorflow(threads: int) -> Any:
    import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _check_single(inputs: Any, outputs: Any) -> None:
    # A file with more could be measured, but its outputs could not be compared with classes.
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError("A network to measure must have one input and one output. "
                         f"Received: {len(inputs)} and {len(outputs)}.")


def predict(runtime: Any, examples: Array) -> Array:
    """Returns the outputs for all examples, computed in batches of 32; the last may be smaller."""
    parts = []
    for start in range(0, len(examples), BATCH):
        runtime.give(np.asarray(examples[start:start + BATCH]))
        runtime.call()
        parts.append(np.array(runtime.outputs()))  # A copy: runtimes reuse the buffer.
    return np.concatenate(parts)


def latency(runtime: Any, examples: Array, batch: int, repeats: int) -> "dict[str, Any]":
    """Measures the microseconds of a call: median and quartiles over repeats of about 5 ms.

    A repeat is the mean over as many calls as fit.  If there are fewer examples than the batch
    needs, they are used several times.  A slow network is repeated less often: as often as fits
    into MOST_SECONDS, but at least LEAST_REPEATS times.
    """
    runtime.give(np.resize(examples[:batch], (batch, *examples.shape[1:])))
    runtime.call()  # The first call may still compile or pack weights.
    # The warm-up also tells how many calls a repeat needs.
    calls, took, begun = 0, 0.0, time.perf_counter()
    while not calls or took < WARM_UP_SECONDS:
        runtime.call()
        calls, took = calls + 1, time.perf_counter() - begun
    calls = max(1, math.ceil(REPEAT_SECONDS * calls / took))
    means: list[float] = []
    gc.disable()  # A garbage collection in a repeat would count as time of the network.
    try:
        ends = time.perf_counter() + MOST_SECONDS
        while len(means) < repeats and (
                len(means) < LEAST_REPEATS or time.perf_counter() < ends):
            begun = time.perf_counter()
            for _ in range(calls):
                runtime.call()
            means.append((time.perf_counter() - begun) / calls * 1e6)
    finally:
        gc.enable()
    lower, median, upper = np.percentile(means, (25, 50, 75)).tolist()
    return {"median": median, "lower": lower, "upper": upper, "repeats": len(means), "calls": calls}


def memory(field: str) -> "int | None":
    """Returns the resident bytes of this process; None where there is no /proc, as on macOS.

    Args:
      field: "VmRSS" for the bytes now, "VmHWM" for the peak.
    """
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def run(task: "dict[str, Any]", folder: pathlib.Path) -> "dict[str, Any]":
    """Measures a file.

    Args:
      task: a dict of "path", "runtime", "threads" and "repeats".
      folder: holds examples.npy; outputs.npy is written here.

    Returns:
      The fields of `measuring.Measured`, but for its outputs.
    """
    load, module, package = RUNTIMES[task["runtime"]]
    importlib.import_module(module)  # Before memory is read: it is the file that is measured.
    # Memory-mapped, so that only the batch in use adds to the memory.
    examples = np.load(folder / "examples.npy", mmap_mode="r", allow_pickle=False)
    # Writing 5 resets VmHWM, which would otherwise hold the peak of importing the runtime.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    runtime = load(task["path"], task["threads"])
    runtime.give(np.resize(examples[:BATCH], (BATCH, *examples.shape[1:])))
    runtime.call()
    runtime.outputs()
    peak = memory("VmHWM")
    outputs = predict(runtime, examples)
    np.save(folder / "outputs.npy", outputs, allow_pickle=False)
    return {"version": importlib.metadata.version(package),
            "not_finite": int((~np.isfinite(outputs)).sum()),
            "peak_memory_bytes": None if before is None or peak is None else max(0, peak - before),
            **{f"batch_{batch}": latency(runtime, examples, batch, task["repeats"])
               for batch in (1, BATCH)}}


def main(arguments: list[str]) -> None:
    """Measures the file that the folder's task.json names, and writes the result there."""
    folder = pathlib.Path(arguments[0])
    task = json.loads((folder / "task.json").read_text())
    try:
        result = run(task, folder)
    except Exception as error:  # That a runtime refuses a file is a result too.
        result = {"error": f"{type(error).__name__}: {error}"}
    # Renamed when complete: the parent takes an existing trial.json for a finished one.
    unfinished = folder / "trial.json.unfinished"
    unfinished.write_text(json.dumps(result))
    os.replace(unfinished, folder / "trial.json")


if __name__ == "__main__":
    main(sys.argv[1:])
