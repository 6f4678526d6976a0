"""Processes made from one that has imported TensorFlow and no more, or nothing at all."""

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tf_keras", "killed", "devices"])  # All that their tests need.
FRESH = multiprocessing.get_context("spawn")  # It takes seconds, and may choose Keras' backend.


def started(function, *arguments, fresh=False):
    """A process that calls a function of a module, and ends with exit code 0 if that returns."""
    process = (FRESH if fresh else PROCESSES).Process(target=function, args=arguments)
    process.start()
    return process


def finish(processes, limit):
    """Waits for processes to succeed, for so many seconds each; none is left behind."""
    try:
        for process in processes:
            process.join(limit)
            assert process.exitcode == 0, "what it said is on stderr"
    finally:
        for process in processes:
            process.kill()
