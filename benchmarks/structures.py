"""The section `structures`: latency and size of TF Lite files by what is pruned together."""

import csv
import importlib.metadata
import json
import pathlib

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row

# Structure, rounds, fraction; each round prunes the fraction, 2:4 prunes half at once.
_LENET = (("none", 1, "0.8"), ("none", 1, "0.9"), ("none", 15, None), ("2:4", 1, None),
          ("block_1x4", 1, "0.8"), ("block_1x4", 1, "0.9"), ("block_4x1", 1, "0.8"),
          ("block_4x1", 1, "0.9"), ("block_4x1", 15, None))
_MOBILE = (("none", "0.8"), ("none", "0.9"), ("2:4", "0.5"), ("block_1x4", "0.8"),
           ("block_1x4", "0.9"), ("block_4x1", "0.9"))
_DENSE = "dense"


def structures(options: Options) -> list[Row]:
    """LeNet-300-100, found and trained by `lth run`; and a small MobileNet of 1x1 convolutions."""
    version = importlib.metadata.version("ai-edge-litert")
    note = f"ai-edge-litert {version}, default delegates, batch 1; the time of the one thread"
    return [*_lenet(options, note), *_mobile(options, note)]


def _lenet(options: Options, note: str) -> list[Row]:
    steps, made = 100 if options.quick else 2000, {}
    for structure, rounds, fraction in _LENET[:2] if options.quick else _LENET:
        folder = options.folder / f"structures_{len(made)}"
        process.run(process.module(
            "lth_keras", "run", "lenet_300_100", f"--steps={steps}", f"--rounds={rounds}",
            "--branches=ticket", f"--set=structure={structure}", f"--workdir={folder}",
            *([f"--set=fraction={fraction}"] if fraction else [])))
        accuracy = _accuracy(folder)
        for level in (rounds,) if made else (0, rounds):  # All start from the same dense one.
            file = str(options.folder / f"lenet_{len(made)}")
            found = _converted("lenet", str(folder), str(level), file)
            name = f"{structure}, P_m {found['density']:.1%}" if level else _DENSE
            made[f"{name}, {accuracy[level]:.2%} right"] = file, found
            options.say(f"structures, LeNet-300-100, {name}: {accuracy[level]:.2%}")
    return _timed(f"LeNet-300-100 on MNIST, trained for {steps:,} steps", made, options, note)


def _accuracy(folder: pathlib.Path) -> dict[int, float]:
    with (folder / "results.csv").open(newline="") as file:
        return {int(line["level"]): float(line["test_accuracy_final"])
                for line in csv.DictReader(file)}


def _mobile(options: Options, note: str) -> list[Row]:
    made = {}
    for structure, fraction in (("none", "0"), *_MOBILE[:1 if options.quick else None]):
        file = str(options.folder / f"mobile_{len(made)}")
        found = _converted("mobile", structure, fraction, file)
        name = f"{structure}, P_m {found['density']:.1%}" if made else _DENSE
        made[name] = file, found
        options.say(f"structures, small MobileNet, {name}")
    return _timed("a small MobileNet, 96 x 96 pixels, its 1x1 convolutions pruned at "
                  "initialisation", made, options, note)


def _converted(*arguments: str) -> dict[str, float]:
    done = process.run(process.module("benchmarks.sparse_files", *arguments))
    found: dict[str, float] = json.loads(process.last_line(done.output))
    return found


def _timed(subject: str, made: dict[str, tuple[str, dict[str, float]]], options: Options,
           note: str) -> list[Row]:
    turns = 2 if options.quick else 30 * options.repeats
    files = [f"{file}_{kind}.tflite" for file, _ in made.values() for kind in ("plain", "sparse")]
    done = process.run(process.module("benchmarks.calls", str(turns), *files))
    times = json.loads(process.last_line(done.output))
    return [row("structures", subject, name, times[f"{file}_{kind}.tflite"],
                unit="µs a call", against=times[files[0]], reference=f"{_DENSE}, plain, same turn",
                setting=f"{kind}, {found[kind]:,.0f} bytes", note=note, spread="quartiles")
            for name, (file, found) in made.items() for kind in ("plain", "sparse")]
