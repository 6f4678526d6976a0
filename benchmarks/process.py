"""Other processes: run, timed, and asked for their figures."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

ROOT = pathlib.Path(__file__).parents[1]
# Frameworks greet on stderr; what remains of it is shown where a process fails.
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


class ProcessError(Exception):
    """A process ended in an error; the message is the last thing it said."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """A process that ended well: its wall time in seconds, and what it printed."""

    seconds: float
    output: str


def module(*arguments: str) -> list[str]:
    """The command that runs a module in this interpreter."""
    return [sys.executable, "-m", *arguments]


def run(command: Sequence[str]) -> Finished:
    """Runs a command to its end.

    Raises:
      ProcessError: if it exits with an error.
    """
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False,
                          capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise ProcessError(last_line(done.stderr) or f"exit {done.returncode}")
    return Finished(seconds, done.stdout)


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def worker(name: str, options: Mapping[str, object], quick: bool) -> dict[str, float]:
    """The figures of one contender."""
    flags = [f"--{key}={value}" for key, value in options.items()]
    return figures(module("benchmarks.worker", name, *flags, *["--quick"][:quick]))


def figures(command: Sequence[str]) -> dict[str, float]:
    """The figures that a command prints, as JSON in its last line."""
    found: dict[str, float] = json.loads(last_line(run(command).output))
    return found
