"""Tries every case of the catalogue and writes docs/compatibility.md.

    python studies/compatibility.py                      all that was not tried yet
    python studies/compatibility.py models --jobs 4      the cases of tests/support/compat_models.py
    python studies/compatibility.py keras3 --sides jax   Keras 3 models on one backend
    python studies/compatibility.py --again tied         those again whose name has "tied" in it

Each case runs with this package and with stock tfmot, or on each backend that is installed, in
processes apart, with a time limit.  compatibility.json keeps what came of each, so that a run that
was stopped goes on where it was, and the page can be written from a part of them.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from lth_keras.files import atomic

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "compatibility.md"
TESTS = HERE.parent / "tests" / "support"
PARTS = {"models": "Models", "fits": "Fits", "keras3": "Keras 3 models"}
BACKENDS = ("tensorflow", "jax", "torch")  # Of Keras 3: a process has one.
VERSIONS = ("tensorflow", "tf_keras", "tensorflow-model-optimization", "keras", "keras-hub", "jax",
            "torch", "numpy")
LENGTH = 160  # Of an error in the table.
WORKS, NOT_RUN, NO_CASE = "works", "not run", "-"  # Cells of the table.
CASES_A_PROCESS = 20  # TensorFlow takes long to start, and never gives memory back.


def main() -> None:
    """Runs what the command line asks for, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a case")
    parser.add_argument("--again", help="run cases again whose name has this in it")
    parser.add_argument("--only", default="", help="run only cases whose name has this in it")
    parser.add_argument("--sides", nargs="+", default=["ours", "stock", *BACKENDS],
                        help="ours, stock, tensorflow, jax, torch")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "compatibility.json")
    parser.add_argument("--output", type=pathlib.Path, default=PAGE)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work()
        return
    results = Results(options.results)
    run(load(options.parts or PARTS), options, results)
    options.output.write_text(page(load(), results))


class Results:
    """What came of the cases: of each and a side, its error or "", the day, and the versions.

    Args:
      path: the file that keeps them.
    """

    def __init__(self, path: pathlib.Path):
        self._path, self._lock = path, threading.Lock()
        self._found: dict[str, dict[str, str]] = \
            json.loads(path.read_text()) if path.exists() else {}

    def of(self, part: str, name: str, side: str) -> "dict[str, str] | None":
        """What came of a case; None if it was not run."""
        return self._found.get(f"{part}.{name}.{side}")

    def of_part(self, part: str) -> list[dict[str, str]]:
        """All of a part of the catalogue."""
        return [found for key, found in self._found.items() if key.startswith(f"{part}.")]

    def keep(self, part: str, name: str, side: str, said: str) -> None:
        """Keeps what came of a case today."""
        with self._lock:
            self._found[f"{part}.{name}.{side}"] = {
                "said": said, "day": str(datetime.date.today()), "versions": versions()}
            text = json.dumps(dict(sorted(self._found.items())), indent=0)
            atomic.write(self._path, text + "\n")


def load(parts: Iterable[str] = tuple(PARTS)) -> dict[str, dict[str, Any]]:
    """The catalogues that there are: part -> name -> case."""
    sys.path[:0] = [str(TESTS), str(HERE.parent)]
    found = {part: f"compat_{part}" for part in parts}
    return {part: importlib.import_module(module).CASES for part, module in found.items()
            if importlib.util.find_spec(module)}


def run(catalogue: dict[str, dict[str, Any]], options: argparse.Namespace,
        results: Results) -> None:
    """Runs the cases without a result, several at a time."""
    waiting = []
    for side in options.sides:  # One after another: a process has one backend.
        if side in BACKENDS and importlib.util.find_spec(side) is None:
            print(f"{side} is not installed: left out", flush=True)
            continue
        for part, cases in catalogue.items():
            for name, case in cases.items():
                again = options.again is not None and options.again in name
                if options.only in name and attempt_of(case, side) and _is_there(case) \
                        and (again or results.of(part, name, side) is None):
                    waiting.append((part, name, side))
    workers = threading.local()

    def attempt(*what: str) -> str:
        if not hasattr(workers, "mine"):
            workers.mine = Worker(options.limit)
        said = workers.mine.run(*what)
        results.keep(*what, said)
        return said
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        tasks = {pool.submit(attempt, *what): what for what in waiting}
        for count, task in enumerate(concurrent.futures.as_completed(tasks), 1):
            part, name, side = tasks[task]
            print(f"{count}/{len(tasks)} {part} {name} {side}: {task.result() or 'works'}",
                  flush=True)


def attempt_of(case: Any, side: str) -> Callable[[], None] | None:
    """What tries a case with one side; None if there is nothing to try."""
    run: Callable[[], None] | None
    run = getattr(case, "run" if side in BACKENDS else side, None)
    return run


def _is_there(case: Any) -> bool:
    # A catalogue has models of packages that not everyone has.
    needs = getattr(case, "needs", "")
    return not needs or importlib.util.find_spec(needs) is not None


class Worker:
    """A process that runs some cases, one after another, until one ends or outlasts it.

    Args:
      limit: seconds for a case.
    """

    def __init__(self, limit: float):
        self._limit = limit
        self._process: subprocess.Popen[str] | None = None
        self._left = 0
        self._backend = ""

    def run(self, part: str, name: str, side: str) -> str:
        """The first line of a case's error, or nothing if it works."""
        backend = side if side in BACKENDS else ""
        if self._process is None or self._left == 0 or backend != self._backend:
            self._start(backend)
        assert self._process and self._process.stdin and self._process.stdout
        self._left -= 1
        self._process.stdin.write(f"{json.dumps([part, name, side])}\n")
        self._process.stdin.flush()
        timer = threading.Timer(self._limit, self._process.kill)
        started = time.monotonic()
        timer.start()
        said = self._process.stdout.readline()
        timer.cancel()
        if said:
            return str(json.loads(said))
        code, self._process = self._process.wait(), None
        late = time.monotonic() - started > self._limit
        return f"not done in {self._limit:g} s" if late else f"the process ended with {code}"

    def _start(self, backend: str) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.close()  # It ends when there is nothing to read.
            self._process.wait()
        self._left, self._backend = CASES_A_PROCESS, backend
        chosen = {"KERAS_BACKEND": backend} if backend else {}
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **chosen, "TF_CPP_MIN_LOG_LEVEL": "3"})


def _work() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # A case may print.
    for line in sys.stdin:
        part, name, side = json.loads(line)
        try:
            attempt = attempt_of(load([part])[part][name], side)
            assert attempt is not None
            attempt()
            said = ""
        except Exception as error:
            said = first_line(error)
        print(json.dumps(said), file=answers, flush=True)
        gc.collect()


def first_line(error: BaseException) -> str:
    """What an error says in one line, without what differs from machine to machine."""
    lines = [line.strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line and "Traceback" not in line
                 and not line.startswith(("File ", "Detected at node", "in user code"))), "")
    raised = [line for line in lines if re.match(r"\w*(Error|Exception)\b", line)]
    if str(error).startswith(("in user code", "Exception encountered")) and raised:
        text = raised[-1]
    if text == "Graph execution error:":
        text = next((line for line in reversed(lines) if line and "[[" not in line), text)
    text = re.sub(r"0x[0-9a-f]+", "0x", re.sub(r"/\S+/(\S+\.\w+)", r"\1", text))
    text = f"{type(error).__name__}: {text}"
    return text if len(text) <= LENGTH else f"{text[:LENGTH - 4]} ..."


def page(catalogue: dict[str, dict[str, Any]], results: Results) -> str:
    """The page: a table a part, with a row for every case."""
    lines = ["# Compatibility", "",
             "What works with stock tfmot (`prune_low_magnitude`, `PolynomialDecay`, "
             "`UpdatePruningStep`) and with `lth_keras`.  Written by "
             "`python studies/compatibility.py` from runs of the cases in "
             "[tests/support/compat_models.py](../tests/support/compat_models.py) and its like.",
             ""]
    for part, cases in catalogue.items():
        on_backends = part == "keras3"
        columns = {side: side for side in BACKENDS} if on_backends else \
            {"stock": "stock tfmot", "ours": "lth_keras"}
        rows = [[case.title, *(_result(results, part, name, case, side) for side in columns)]
                for name, case in cases.items()]
        limits = {_limit(part, case, side) for case in cases.values() for side in columns} - {""}
        lines += [f"## {PARTS[part]}", "", _MEANING[part],
                  _counts_of_backends(rows, limits) if on_backends else _counts(rows, limits), "",
                  f"| model or feature | {' | '.join(columns.values())} |",
                  "|---|" + "---|" * len(columns),
                  *(f"| {' | '.join(map(_cell, row))} |" for row in rows
                    if not on_backends or {*row[1:]} != {NOT_RUN}), "",
                  *_when(results, part)]
    return "\n".join(lines).rstrip() + "\n"


def versions() -> str:
    """Of Python and of the packages that are tried."""
    found = [f"Python {platform.python_version()}"]
    for name in VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


_MEANING = {
    "models": "A model works with lth_keras if it is wrapped, searched for three rounds with and "
              "without jit_compile, every invariant checked at every batch, saved wrapped (.keras) "
              "and loaded with the same masks, optimizer and predictions, then stripped, saved "
              "(.keras and .weights.h5), and loaded with identical predictions; with stock tfmot, "
              "if it is pruned to half in four epochs with and without jit_compile, stripped, "
              "saved and loaded alike.  A network of tf_keras.applications works if it is built "
              "for ten classes, wrapped and takes a training step, after which, with lth_keras, "
              "pruned weights are exactly zero.\n",
    "fits": "A feature of training works if the search, or tfmot's pruning, runs with it and "
            "keeps what it promises.\n",
    "keras3": "A Keras 3 model works on a backend if it is searched for three rounds with every "
              "invariant checked, has no pruned weight that is not zero after any batch, begins "
              "each level with all weights, states and the optimizer bit for bit as at step 0, and "
              "if its .keras file knows nothing of lth_keras and loads with identical predictions. "
              " A network of keras.applications is searched for one round of one step.\n",
}


def _when(results: Results, part: str) -> list[str]:
    days: dict[str, list[str]] = {}
    for found in results.of_part(part):
        days.setdefault(found["versions"], []).append(found["day"])
    return [line for used, each in days.items() for line in (
        f"Run {' to '.join(dict.fromkeys((min(each), max(each))))}: {used}.", "")]


def _result(results: Results, part: str, name: str, case: Any, side: str) -> str:
    if attempt_of(case, side) is None:
        return NO_CASE
    found = results.of(part, name, side)
    if found is None:
        return NOT_RUN
    return found["said"] or _limit(part, case, side) or WORKS


def _counts(rows: list[list[str]], limits: set[str]) -> str:
    stock = [theirs for _, theirs, _ in rows if theirs != NO_CASE]
    ours = [cell for _, _, cell in rows]
    ran, stock_ran = (len(cells) - cells.count(NOT_RUN) for cells in (ours, stock))
    limited = sum(cell in limits for cell in ours)
    works, stock_works = ours.count(WORKS), stock.count(WORKS)
    return (f"With lth_keras {ran} of {len(ours)} cases were run: {works} work, {limited} have the "
            f"limit stated, {ran - works - limited} fail.  With stock tfmot {stock_ran} of "
            f"{len(stock)}: {stock_works} work, {stock_ran - stock_works} fail.")


def _counts_of_backends(rows: list[list[str]], limits: set[str]) -> str:
    lines = []
    for number, backend in enumerate(BACKENDS, 1):
        cells = [row[number] for row in rows]
        ran, works = len(cells) - cells.count(NOT_RUN), cells.count(WORKS)
        limited = sum(cell in limits for cell in cells)
        lines.append(f"On {backend} {ran} of {len(cells)} cases were run: {works} work, {limited} "
                     f"have the limit stated, {ran - works - limited} fail.")
    return "  ".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _limit(part: str, case: Any, side: str) -> str:
    """What the table says of a case that behaves as it is to; empty if it just works."""
    if side in BACKENDS:
        return str(case.limits.get(side, ""))
    if side == "stock" or not case.limit:
        return ""
    # A model's limit is of one form or another; a feature's is that it is refused.
    return f"works; {case.limit}" if part == "models" else str(case.limit)


if __name__ == "__main__":
    main()
