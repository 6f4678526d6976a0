"""The section `memory`: what a search holds at its peak."""

import contextlib
import os
import pathlib
import re
import subprocess
import time
from collections.abc import Iterator, Sequence

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row
from benchmarks.search import lth

_LOOK = 0.05  # Seconds between two looks.
# The names that lead to the rest: each is loaded when it is first used.
_IMPORT = ("import lth_keras, tensorflow_datasets; "
           "lth_keras.LotteryTicketCallback, lth_keras.export")


def memory(options: Options) -> list[Row]:
    """Peak resident memory of a search on MNIST, in one training process and in two."""
    rounds, steps = (1, 100) if options.quick else (1, 1000)
    bare = _peaks([*process.module("timeit", "-n1", "-r1", _IMPORT)])
    reference = "importing the package, largest process"
    rows = [_row("largest process", "importing the package", bare[0], bare[0], reference)]
    for jobs in (1, 2):
        folder = options.folder / f"memory_{jobs}"
        largest, reaped, together = _peaks(lth(folder, steps=steps, rounds=rounds, jobs=jobs,
                                               replicates=jobs))
        options.say(f"memory, {jobs} jobs: {largest / 2**20:.0f} MiB")
        setting = f"search, --jobs {jobs} --threads 1"
        rows += [_row("largest process", setting, largest, bare[0], reference),
                 _row("largest process, by the kernel's count at its end", setting, reaped,
                      bare[0], reference),
                 _row("all processes together", setting, together, bare[0], reference)]
    return rows


def _row(name: str, setting: str, value: float, against: float, reference: str) -> Row:
    return row("memory", "peak resident memory, LeNet-300-100 on MNIST", name, [value / 2**20],
               unit="MiB", against=[against / 2**20], reference=reference, setting=setting,
               note=f"resident memory seen every {_LOOK} s; pages that processes share count "
                    "in each")


def _peaks(command: Sequence[str]) -> tuple[float, float, float]:
    # In bytes: the greatest VmHWM of any process of the tree, the kernel's ru_maxrss of
    # the greatest that was waited for, and the greatest sum of all that lived at once.
    if not pathlib.Path("/proc/self/status").exists():
        raise process.ProcessError("memory is read from /proc, which this system has not")
    largest = together = 0
    with open(os.devnull, "w") as nowhere:
        started = subprocess.Popen(command, cwd=process.ROOT, env=process.ENVIRONMENT,
                                   stdout=nowhere, stderr=nowhere)
        while True:
            pid, status, usage = os.wait4(started.pid, os.WNOHANG)
            if pid:
                break
            seen = [_resident(process_id) for process_id in _tree(started.pid)]
            largest = max([largest, *(peak for peak, _ in seen)])
            together = max(together, sum(now for _, now in seen))
            time.sleep(_LOOK)
        started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise process.ProcessError(f"{' '.join(command[1:4])}: exit {started.returncode}")
    return largest, usage.ru_maxrss * 1024, together


def _tree(root: int) -> Iterator[int]:
    yield root
    with contextlib.suppress(OSError):  # It ended meanwhile.
        for task in pathlib.Path(f"/proc/{root}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))


def _resident(process_id: int) -> tuple[int, int]:
    # VmHWM, the most there has been, and VmRSS, what there is; in bytes.
    with contextlib.suppress(OSError):
        status = pathlib.Path(f"/proc/{process_id}/status").read_text()
        found = dict(re.findall(r"^(VmHWM|VmRSS):\s+(\d+) kB", status, re.MULTILINE))
        return 1024 * int(found.get("VmHWM", 0)), 1024 * int(found.get("VmRSS", 0))
    return 0, 0
