"""Measures a file in the runtime that will use it: its outputs, latency and memory.

    keras             tf_keras, from a .keras file
    tensorflow        TensorFlow, from a SavedModel folder
    litert            ai-edge-litert with its default delegates (XNNPACK), from a TF Lite file
    litert_builtin    the same without them

Each file is loaded in a process of its own (`measuring_process`): a runtime that crashes on a
file is a result, not the end of the program.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import numpy as np

import lth_keras
from lth_keras.arguments import check_choice, one_line
from lth_keras.core.masks import Array
from lth_keras.deployment import measuring_process
from lth_keras.errors import LotteryError
from lth_keras.files import provenance

REPEATS = 30  # Of each latency.


@dataclasses.dataclass(frozen=True)
class Latency:
    """How long a call takes, in microseconds.

    Attributes:
      median, lower, upper: quartiles over repeats of the mean call.
      repeats: how many there were.
      calls: how many calls a repeat had.
    """

    median: float
    lower: float
    upper: float
    repeats: int
    calls: int


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What came of a file in a runtime.

    Attributes:
      runtime: its name.
      error: why there is nothing else, in one line; None if it ran.
      outputs: what the network gives for the examples, float32, shape (examples, ...).
      not_finite: how many of them are NaN or infinite.
      peak_memory_bytes: growth of the resident set from before the file was loaded to its peak by
        the end of the first prediction of 32 examples; None where the system does not say.
      batch_1, batch_32: how long a call takes with 1 and with 32 examples.
      version: of the runtime's package.
    """

    runtime: str
    error: "str | None" = None
    outputs: "Array | None" = None
    not_finite: int = 0
    peak_memory_bytes: "int | None" = None
    batch_1: "Latency | None" = None
    batch_32: "Latency | None" = None
    version: str = ""


def measure(path: "str | os.PathLike[str]", runtime: str, examples: Array, threads: int = 1,
            *, repeats: int = REPEATS, timeout: float = 600.0) -> Measured:
    """Loads a file in a runtime, predicts examples, and takes time and memory.

    Latencies of several files compare if they are measured one after another on a machine that
    does nothing else.

    Args:
      path: a file, or a SavedModel folder.
      runtime: "keras", "tensorflow", "litert" or "litert_builtin".
      examples: shape (examples, ...), at least one, as the network takes them; quantised by the
        file's own parameters where it takes integers.
      threads: the runtime's, >= 1.
      repeats: measurements of about 5 ms for each latency, >= 1; fewer of a network that takes
        long, but 5.
      timeout: seconds after which the process is ended, which is an error of the file.

    Returns:
      What was measured; a file that does not load, crashes the runtime or takes too long has an
      `error` and nothing else.

    Raises:
      LotteryError: for an unknown runtime, or no examples.
    """
    check_choice("runtime", runtime, measuring_process.RUNTIMES)
    if not len(examples):
        raise LotteryError("A file is measured with at least one example. Received: none.")
    if threads < 1 or repeats < 1:
        raise LotteryError("threads and repeats must be >= 1. "
                           f"Received: threads={threads}, repeats={repeats}.")
    task = {"path": os.path.abspath(path), "runtime": runtime, "threads": threads,
            "repeats": repeats}
    with tempfile.TemporaryDirectory(prefix="lth_keras.") as name:
        folder = pathlib.Path(name)
        np.save(folder / "examples.npy", np.asarray(examples), allow_pickle=False)
        (folder / "task.json").write_text(json.dumps(task))
        failure = _run(folder, threads, timeout)
        if failure is not None:
            return Measured(runtime, failure)
        found = json.loads((folder / "trial.json").read_text())
        if "error" in found:
            return Measured(runtime, one_line(found["error"]))
        outputs = np.load(folder / "outputs.npy", allow_pickle=False)
    batch_1, batch_32 = (Latency(**found.pop(batch)) for batch in ("batch_1", "batch_32"))
    return Measured(runtime, outputs=outputs, batch_1=batch_1, batch_32=batch_32, **found)


def versions() -> dict[str, str]:
    """The versions of the packages that a measurement depends on."""
    litert = importlib.metadata.version("ai-edge-litert")
    return {**provenance.versions(), "ai-edge-litert": litert}


def _run(folder: pathlib.Path, threads: int, timeout: float) -> "str | None":
    # What ended the process before it had a result; None if it has one.
    try:
        # Where there is nothing that could be imported in place of a package.
        done = subprocess.run([sys.executable, "-m", measuring_process.__name__, str(folder)],
                              cwd=folder, env=_environment(threads), timeout=timeout,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except subprocess.TimeoutExpired:
        return f"It took more than {timeout:g} seconds."
    if (folder / "trial.json").exists():
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    last = f": {said[-1]}" if said else ""
    if done.returncode < 0:
        return one_line(f"The runtime crashed ({signal.Signals(-done.returncode).name}){last}")
    return one_line(f"The runtime ended with exit code {done.returncode}{last}")


def _environment(threads: int) -> dict[str, str]:
    package = pathlib.Path(lth_keras.__file__).parent.parent
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": str(threads)}
