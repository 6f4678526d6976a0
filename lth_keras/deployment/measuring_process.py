"""Measures one file in one runtime, in a process of its own.

    python -m lth_keras.deployment.measuring_process FOLDER

Reads FOLDER/task.json and FOLDER/examples.npy, loads the file, predicts the examples, measures
latency and memory, and writes FOLDER/outputs.npy and FOLDER/trial.json.  Of a network with several
inputs or outputs these are examples_0.npy, outputs_0.npy and so on, with their names in the two
.json files: a file's own order may be another.  If the runtime raises an error, it becomes the
"error" of trial.json; if the runtime crashes the process, the parent (`deployment.measuring`)
reports the crash.  Only NumPy and the runtime are imported, so that nothing else adds to memory
and time.

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
from typing import Any

import numpy as np

from lth_keras.deployment.runtimes import Arrays, ONLY, RUNTIMES

BATCH = 32
# Long enough that the clock's resolution does not matter, short enough that most repeats are not
# interrupted by the operating system.
REPEAT_SECONDS = 5e-3
WARM_UP_SECONDS = 2e-2
# A network that takes seconds a call is measured until this time is over, but often enough for
# quartiles.
MOST_SECONDS = 2.0
LEAST_REPEATS = 5


def predict(runtime: Any, examples: Arrays) -> Arrays:
    """Returns the outputs for all examples, computed in batches of 32; the last may be smaller.

    A file that takes a fixed number of examples in a call gets that many at a time.
    """
    parts, size = [], runtime.batch or BATCH
    for start in range(0, len(next(iter(examples.values()))), size):
        runtime.give({name: np.asarray(values[start:start + size])
                      for name, values in examples.items()})
        runtime.call()
        # Copies: runtimes reuse the buffer.
        parts.append({name: np.array(values) for name, values in runtime.outputs().items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def repeated(examples: Arrays, count: int) -> Arrays:
    """Returns the first examples; if there are too few, they are used several times."""
    return {name: np.resize(values[:count], (count, *values.shape[1:]))
            for name, values in examples.items()}


def latency(runtime: Any, examples: Arrays, batch: int, repeats: int) -> "dict[str, Any]":
    """Measures the microseconds of a call: median and quartiles over repeats of about 5 ms.

    A repeat is the mean over as many calls as fit.  A slow network is repeated less often: as
    often as fits into MOST_SECONDS, but at least LEAST_REPEATS times.
    """
    runtime.give(repeated(examples, batch))
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
      task: a dict of "path", "runtime", "threads" and "repeats"; of "names" if there are several
        inputs or outputs; of "modules", which are imported first from "sys_path", if the file
        needs a user's classes.
      folder: holds the examples; the outputs are written here.

    Returns:
      The fields of `measuring.Measured`, but for its outputs, of which the names are given.
    """
    load, module, package = RUNTIMES[task["runtime"]]
    importlib.import_module(module)  # Before memory is read: it is the file that is measured.
    sys.path += task.get("sys_path", [])
    for each in task.get("modules", []):
        importlib.import_module(each)
    names = task.get("names")
    examples = _load(folder, names["inputs"] if names else [ONLY])
    # Writing 5 resets VmHWM, which would otherwise hold the peak of importing the runtime.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    runtime = load(task["path"], task["threads"], names)
    predict(runtime, repeated(examples, BATCH))
    peak = memory("VmHWM")
    outputs = predict(runtime, examples)
    for name, values in outputs.items():
        np.save(folder / file_name("outputs", list(outputs), name), values, allow_pickle=False)
    return {"version": importlib.metadata.version(package), "outputs": list(outputs),
            "batch": runtime.batch,
            "not_finite": sum(int((~np.isfinite(each)).sum()) for each in outputs.values()),
            "peak_memory_bytes": None if before is None or peak is None else max(0, peak - before),
            **{f"batch_{batch}": latency(runtime, examples, batch, task["repeats"])
               for batch in (1, BATCH) if runtime.batch in (None, batch)}}


def file_name(kind: str, names: "list[str]", name: str) -> str:
    """Returns the name of the file with an array; numbered if there are several, as names vary.

    Example:
      >>> file_name("examples", [""], ""), file_name("outputs", ["age", "name"], "name")
      ('examples.npy', 'outputs_1.npy')
    """
    return f"{kind}.npy" if len(names) == 1 else f"{kind}_{names.index(name)}.npy"


def _load(folder: pathlib.Path, names: "list[str]") -> Arrays:
    # Memory-mapped, so that only the batch in use adds to the memory.
    return {name: np.load(folder / file_name("examples", names, name), mmap_mode="r",
                          allow_pickle=False) for name in names}


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
