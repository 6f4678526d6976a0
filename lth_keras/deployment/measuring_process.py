"""Measures one file in one runtime, in a process of its own.

    python -m lth_keras.deployment.measuring_process FOLDER

Reads FOLDER/task.json and FOLDER/examples.npy, loads the file, predicts the examples, takes time
and memory, and writes FOLDER/outputs.npy and FOLDER/trial.json.  A runtime that cannot load or
run the file ends in the "error" of trial.json; one that takes the process with it is seen by the
parent (`deployment.measuring`).  Only NumPy and the runtime are imported, so that memory and time
are theirs.

Memory is the growth of the resident set, in bytes, from before the file is loaded, the runtime
imported, to its peak by the end of the first prediction of 32 examples: /proc's VmHWM less VmRSS,
where there is a /proc (ru_maxrss would count what the parent was).  Time is that of a call with
its inputs in place: of TF Lite, `invoke`.
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

Array = Any
BATCH = 32
# Long enough that the clock's grain does not show, short enough to fall between interruptions.
REPEAT_SECONDS = 5e-3
WARM_UP_SECONDS = 2e-2
# A network that takes seconds a call is repeated until these are over, but so often for quartiles.
MOST_SECONDS = 2.0
LEAST_REPEATS = 5


class LiteRT:
    """A TF Lite file in ai-edge-litert's interpreter.

    Args:
      path: the file.
      threads: of its kernels.
      delegates: whether the default delegates (XNNPACK) may take operations over.
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
        """Puts a batch in place, quantised by the file's own scale if it takes integers."""
        index, dtype = self._input["index"], self._input["dtype"]
        self._interpreter.resize_tensor_input(index, examples.shape)
        self._interpreter.allocate_tensors()
        scale, zero = self._input["quantization"]
        if scale and np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            examples = np.clip(np.rint(examples / scale) + zero, limits.min, limits.max)
        self._interpreter.set_tensor(index, examples.astype(dtype))

    def call(self) -> None:
        """Computes."""
        self._interpreter.invoke()

    def outputs(self) -> Array:
        """What was computed, as floats."""
        values = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"]
        if scale and np.issubdtype(values.dtype, np.integer):
            values = (values.astype(np.float32) - zero) * np.float32(scale)
        return np.asarray(values, np.float32)


class TensorFlow:
    """A SavedModel folder in TensorFlow, by its signature "serving_default"."""

    def __init__(self, path: str, threads: int):
        tf = _tensorflow(threads)
        self._convert = tf.constant
        self._model = tf.saved_model.load(path)  # What a signature needs lives as long as this.
        signature = self._model.signatures["serving_default"]
        names = list(signature.structured_input_signature[1])
        _check_single(names, list(signature.structured_outputs))
        self._function: Callable[[Any], Any] = (
            lambda batch: next(iter(signature(**{names[0]: batch}).values())))
        self._dtype = signature.structured_input_signature[1][names[0]].dtype.as_numpy_dtype

    def give(self, examples: Array) -> None:
        """Puts a batch in place."""
        self._batch = self._convert(examples.astype(self._dtype))

    def call(self) -> None:
        """Computes."""
        self._result = self._function(self._batch)

    def outputs(self) -> Array:
        """What was computed, as floats."""
        return np.asarray(self._result, np.float32)


class Keras(TensorFlow):
    """A .keras file in tf_keras, safe mode on, in a tf.function as `predict` makes it."""

    def __init__(self, path: str, threads: int):
        tf = _tensorflow(threads)
        import tf_keras as keras
        self._convert = tf.constant
        model = keras.models.load_model(path, compile=False)
        _check_single(model.inputs, model.outputs)
        self._function = tf.function(lambda batch: model(batch, training=False), autograph=False)
        self._dtype = model.inputs[0].dtype.as_numpy_dtype


def _builtin(path: str, threads: int) -> LiteRT:
    return LiteRT(path, threads, delegates=False)


# Runtime -> what loads a file, the module that is imported for it, and its package.
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
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError("A network that is measured has one input and one output. "
                         f"Received: {len(inputs)} and {len(outputs)}.")


def predict(runtime: Any, examples: Array) -> Array:
    """The outputs for all examples, in batches of 32 and what remains."""
    parts = []
    for start in range(0, len(examples), BATCH):
        runtime.give(np.asarray(examples[start:start + BATCH]))
        runtime.call()
        parts.append(np.array(runtime.outputs()))
    return np.concatenate(parts)


def latency(runtime: Any, examples: Array, batch: int, repeats: int) -> "dict[str, Any]":
    """Microseconds a call takes: the quartiles of means over repeats of about 5 ms each.

    Examples are used again where there are fewer than a batch.  A slow network is repeated less
    often: as often as MOST_SECONDS allow, but LEAST_REPEATS times.
    """
    runtime.give(np.resize(examples[:batch], (batch, *examples.shape[1:])))
    runtime.call()  # The first call may still compile or pack weights.
    calls, took, begun = 0, 0.0, time.perf_counter()
    while not calls or took < WARM_UP_SECONDS:
        runtime.call()
        calls, took = calls + 1, time.perf_counter() - begun
    calls = max(1, math.ceil(REPEAT_SECONDS * calls / took))
    means: list[float] = []
    gc.disable()
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
    """Bytes of this process: VmRSS now, or VmHWM at most; None where there is no /proc."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def run(task: "dict[str, Any]", folder: pathlib.Path) -> "dict[str, Any]":
    """Measures a file.

    Args:
      task: path, runtime, threads and repeats.
      folder: has examples.npy, and gets outputs.npy.

    Returns:
      version, not_finite, peak_memory_bytes, batch_1 and batch_32.
    """
    load, module, package = RUNTIMES[task["runtime"]]
    importlib.import_module(module)
    # Mapped, so that examples count as memory only batch by batch.
    examples = np.load(folder / "examples.npy", mmap_mode="r", allow_pickle=False)
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # The peak starts again here.
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
    """Measures what a folder's task.json names, and writes the result into the folder."""
    folder = pathlib.Path(arguments[0])
    task = json.loads((folder / "task.json").read_text())
    try:
        result = run(task, folder)
    except Exception as error:  # Whatever a runtime says of a file is a result.
        result = {"error": f"{type(error).__name__}: {error}"}
    unfinished = folder / "trial.json.unfinished"
    unfinished.write_text(json.dumps(result))
    os.replace(unfinished, folder / "trial.json")


if __name__ == "__main__":
    main(sys.argv[1:])
