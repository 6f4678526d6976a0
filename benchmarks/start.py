"""The section `start`: how long until a search trains."""

import re
import time

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row
from benchmarks.search import lth

_IMPORTS = "import tensorflow, tf_keras, tensorflow_model_optimization, tensorflow_datasets"


def start(options: Options) -> list[Row]:
    """From the start of `lth run` on MNIST to its first finished step, and what is in it."""
    imports, first, whole, compiling = [], [], [], []
    for turn in range(options.repeats):
        imports.append(process.run(process.module("timeit", "-n1", "-r1", _IMPORTS)).seconds)
        folder = options.folder / f"start_{turn}"
        command = lth(folder, steps=1, rounds=1, every=1)
        arguments = command[command.index("lth_keras") + 1:]
        done = process.run(process.module("benchmarks.first_step", str(time.time()), *arguments))
        first.append(_seconds(r"first step after ([\d.]+) s", done.output))
        compiling.append(_seconds(r"compiled in ([\d.]+) s", done.output))
        whole.append(done.seconds)
        options.say(f"start, round {turn + 1}: {first[-1]:.1f} s")
    subject = "lth run lenet_300_100 --steps 1 --rounds 1 --branches ticket --jobs 1"
    return [row("start", subject, name, values, unit="s", against=imports,
                reference="importing TensorFlow and tfmot")
            for name, values in (("importing TensorFlow and tfmot", imports),
                                 ("compiling", compiling),
                                 ("start to first finished step and validation", first),
                                 ("start to end: two trainings of a step", whole))]


def _seconds(pattern: str, output: str) -> float:
    found = re.search(pattern, output)
    if not found:
        raise process.ProcessError(f"the command never said {pattern!r}")
    return float(found[1])
