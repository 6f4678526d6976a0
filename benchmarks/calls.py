"""Times TF Lite files in turn: `python -m benchmarks.calls TURNS FILE ...`.

Every turn calls every file for about TURN seconds, at batch 1, in one thread bound to one core,
with ai-edge-litert's default delegates.  The clock is the thread's own, which stands still while
other programs have the core.  Prints a line of JSON: file -> microseconds a call, turn by turn.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np
from ai_edge_litert.interpreter import Interpreter

WARM_UP = 5  # Calls of a turn that are not counted.
TURN = 0.02


def main() -> None:
    """The entry point."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    turns, *files = sys.argv[1:]
    invoke = {file: _loaded(file) for file in files}
    times: dict[str, list[float]] = {file: [] for file in files}
    for _ in range(int(turns)):
        for file in files:
            times[file].append(1e6 * _seconds(invoke[file]))
    print(json.dumps(times))


def _loaded(file: str) -> Callable[[], None]:
    interpreter = Interpreter(model_path=file, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    interpreter.set_tensor(details["index"],
                           np.random.default_rng(0).random(details["shape"], np.float32))
    return interpreter.invoke


def _seconds(invoke: Callable[[], None]) -> float:
    one = _mean(invoke, WARM_UP)
    return _mean(invoke, max(3, round(TURN / one)))


def _mean(invoke: Callable[[], None], calls: int) -> float:
    began = time.thread_time()
    for _ in range(calls):
        invoke()
    return (time.thread_time() - began) / calls


if __name__ == "__main__":
    main()
