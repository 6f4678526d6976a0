"""The section `keras3`: what the callback costs in `fit` of a Keras 3 model, on each backend."""

from collections import defaultdict

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row

BACKENDS = ("tensorflow", "jax")


def keras3(options: Options) -> list[Row]:
    """Milliseconds a step of LeNet-300-100 with the callback and without, in pairs."""
    file, kind = options.examples("lenet")
    measured: dict[str, list[float]] = defaultdict(list)
    for turn in range(options.repeats):
        for backend in BACKENDS:
            figures = process.worker(f"fit_keras3_{backend}", {"examples": file}, options.quick)
            for name, value in figures.items():
                measured[f"{backend} {name.partition(' ')[0]}"].append(value)
            options.say(f"keras3, round {turn + 1}, {backend}: "
                        f"{min(measured[f'{backend} callback']):.2f} and "
                        f"{min(measured[f'{backend} dense']):.2f} ms a step")
    return [row("keras3", "LeNet-300-100 on MNIST, batch 60, in fit of Keras 3, jit_compile",
                f"fit_{name}", measured[f"{backend} {name}"], unit="ms a step",
                note=f"data: {kind}", against=measured[f"{backend} dense"],
                reference="fit_dense, same pair", setting=backend, spread="quartiles")
            for backend in BACKENDS for name in ("dense", "callback")]
