"""Times TF Lite files in turn: `python -m benchmarks.calls TURNS FILE ...`.

Every turn calls every file so often, at batch 1, in one thread bound to one core, with
ai-edge-litert's default delegates.  Prints a line of JSON: file -> the median microseconds of a
call, turn by turn.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from ai_edge_litert.interpreter import Interpreter

WARM_UP, CALLS = 5, 30  # A turn.


def main() -> None:
    """The entry point."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    turns, *files = sys.argv[1:]
    invoke = {file: _loaded(file) for file in files}
    times: dict[str, list[float]] = {file: [] for file in files}
    for _ in range(int(turns)):
        for file in files:
            times[file].append(_median(invoke[file]))
    print(json.dumps(times))


def _loaded(file: str) -> Callable[[], None]:
    interpreter = Interpreter(model_path=file, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    interpreter.set_tensor(details["index"],
                           np.random.default_rng(0).random(details["shape"], np.float32))
    return interpreter.invoke


def _median(invoke: Callable[[], None]) -> float:
    taken = []
    for _ in range(WARM_UP + CALLS):
        began = time.perf_counter()
        invoke()
        taken.append(time.perf_counter() - began)
    return 1e6 * statistics.median(taken[WARM_UP:])


if __name__ == "__main__":
    main()
