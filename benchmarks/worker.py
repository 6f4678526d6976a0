"""One contender in a process of its own: `python -m benchmarks.worker NAME --task ...`.

Prints one line of JSON: milliseconds a step, by what was measured.
"""

import argparse
import importlib
import json
import os

import numpy as np

from benchmarks.task import Job, TASKS

# Contender -> the module whose measure(name, job) times it.
HOMES = {
    "loop_masked": "loop",
    "loop_dense": "loop",
    "fit_callback": "fits",
    "fit_dense": "fits",
    "fit_dense_plain": "fits",
    "tfmot_guide": "fits",
    "tfmot_guide_xla": "fits",
    "tfmot_every_10": "fits",
    "fit_keras3_tensorflow": "fits_keras3",
    "fit_keras3_jax": "fits_keras3",
    "saved_fits": "saved_fits",
    "loop_keras3": "keras3_loop",
    "jax_loop": "jax_loop",
    "torch_loop": "torch_loop",
}


def main() -> None:
    """The entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker")
    parser.add_argument("name", choices=HOMES)
    parser.add_argument("--task", choices=TASKS, default="lenet")
    parser.add_argument("--examples", required=True, help="file of `benchmarks.task`")
    parser.add_argument("--threads", type=int, default=0, help="0: the framework's default")
    parser.add_argument("--width", type=float, default=1, help="factor on LeNet's hidden units")
    parser.add_argument("--quick", action="store_true", help="fewest steps")
    asked = parser.parse_args()
    task = TASKS[asked.task].quick() if asked.quick else TASKS[asked.task]
    if asked.threads == 1:
        _one_core()
    examples = np.load(asked.examples)
    job = Job(task, examples["x"], examples["y"], asked.threads, asked.width)
    module = importlib.import_module(f"benchmarks.{HOMES[asked.name]}")
    print(json.dumps(module.measure(asked.name, job)))


def _one_core() -> None:
    # Before any framework starts its threads.  A thread setting alone leaves some of them
    # other pools, so the process is bound to one core too.
    os.environ["XLA_FLAGS"] = ("--xla_cpu_multi_thread_eigen=false "
                               "intra_op_parallelism_threads=1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


if __name__ == "__main__":
    main()
