"""Processes made from one that has imported TensorFlow and no more: each begins in a moment."""

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["killed", "devices"])  # Which import all that their tests need.


def started(function, *arguments):
    """A process that calls a function of a module, and ends with exit code 0 if that returns."""
    process = PROCESSES.Process(target=function, args=arguments)
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
