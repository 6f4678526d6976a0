"""The section `saves`: what it costs that a search in `fit` is kept after every epoch."""

from collections import defaultdict

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row
from benchmarks.task import TASKS

_CLOCKS = {"wall": "time that passed", "processors": "time of all processors"}


def saves(options: Options) -> list[Row]:
    """Seconds an epoch of LeNet-300-100 with `workdir=` and without, in pairs."""
    file, kind = options.examples("lenet")
    measured: dict[str, list[float]] = defaultdict(list)
    for turn in range(options.repeats):
        figures = process.worker("saved_fits", {"task": "epochs", "examples": file}, options.quick)
        for name, value in figures.items():
            measured[name.rpartition(" ")[0]].append(value)
        options.say(f"saves, round {turn + 1}: {min(measured['with wall']):.2f} and "
                    f"{min(measured['without wall']):.2f} s an epoch")
    steps = (TASKS["epochs"].quick() if options.quick else TASKS["epochs"]).epoch
    note = f"data: {kind}; a state of {figures['bytes'] / 2**20:.1f} MiB"
    return [row("saves", f"LeNet-300-100 on MNIST in fit, epochs of {steps} steps",
                f"{kind} a workdir", measured[f"{kind} {clock}"], unit="s an epoch", note=note,
                against=measured[f"without {clock}"], reference="without, same pair",
                setting=setting)
            for clock, setting in _CLOCKS.items() for kind in ("without", "with")]
