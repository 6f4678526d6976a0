"""The section `structures`: latency and size of TF Lite files by what is pruned together."""

import csv
import importlib.metadata
import json
import pathlib
from collections.abc import Sequence

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row

# Structure, rounds, fraction; each round prunes the fraction, 2:4 prunes half at once.
_LENET = (("none", 1, "0.9"), ("none", 15, None), ("2:4", 1, None), ("block_1x4", 1, "0.9"),
          ("block_4x1", 1, "0.8"), ("block_4x1", 1, "0.9"), ("block_4x1", 15, None))
_MOBILE = (("none", "0.8"), ("none", "0.9"), ("2:4", "0.5"), ("block_1x4", "0.8"),
           ("block_1x4", "0.9"), ("block_4x1", "0.9"))
_DENSE, _KINDS = "dense", ("plain", "sparse")


def structures(options: Options) -> list[Row]:
    """LeNet-300-100, found and trained by `lth run`; and a small MobileNet of 1x1 convolutions."""
    version = importlib.metadata.version("ai-edge-litert")
    note = f"ai-edge-litert {version}, default delegates, batch 1; the time of the one thread"
    return [*_lenet(options, note), *_mobile(options, note)]


def _lenet(options: Options, note: str) -> list[Row]:
    steps, asked = 100 if options.quick else 1000, []
    for structure, rounds, fraction in _LENET[:1 if options.quick else None]:
        folder = options.folder / f"structures_{len(asked)}"
        process.run(process.module(
            "lth_keras", "run", "lenet_300_100", f"--steps={steps}", f"--rounds={rounds}",
            "--branches=ticket", f"--set=structure={structure}", f"--workdir={folder}",
            *([f"--set=fraction={fraction}"] if fraction else [])))
        accuracy = _accuracy(folder)
        options.say(f"structures, LeNet-300-100, {structure}: {accuracy[rounds]:.2%}")
        for level in (rounds,) if asked else (0, rounds):  # All start from the same dense one.
            name = f"{structure if level else _DENSE}, {accuracy[level]:.2%} right"
            asked.append((name, f"lenet,{folder},{level}"))
    return _timed(f"LeNet-300-100 on MNIST, {steps:,} steps a training", asked, options, note)


def _accuracy(folder: pathlib.Path) -> dict[int, float]:
    with (folder / "results.csv").open(newline="") as file:
        return {int(line["level"]): float(line["test_accuracy_final"])
                for line in csv.DictReader(file)}


def _mobile(options: Options, note: str) -> list[Row]:
    asked = [(_DENSE, "mobile,none,0"), *(
        (structure, f"mobile,{structure},{fraction}")
        for structure, fraction in _MOBILE[:1 if options.quick else None])]
    return _timed("a small MobileNet, 96 x 96 pixels, its 1x1 convolutions pruned at "
                  "initialisation", asked, options, note)


def _timed(subject: str, asked: Sequence[tuple[str, str]], options: Options,
           note: str) -> list[Row]:
    kind_of = asked[0][1].partition(",")[0]
    files = [str(options.folder / f"{kind_of}_{number}") for number in range(len(asked))]
    made = process.run(process.module("benchmarks.sparse_files", *(
        f"{network},{file}" for (_, network), file in zip(asked, files, strict=True))))
    found = json.loads(process.last_line(made.output))
    turns = 2 if options.quick else 30 * options.repeats
    done = process.run(process.module("benchmarks.calls", str(turns), *(
        f"{file}_{kind}.tflite" for file in files for kind in _KINDS)))
    times = json.loads(process.last_line(done.output))
    options.say(f"structures: timed {subject}")
    return [row("structures", subject, f"{name}, P_m {of['density']:.1%}",
                times[f"{file}_{kind}.tflite"], unit="µs a call",
                against=times[f"{files[0]}_plain.tflite"], spread="quartiles", note=note,
                reference=f"{_DENSE}, plain, same turn", setting=f"{kind}, {of[kind]:,} bytes")
            for (name, _), file, of in zip(asked, files, found, strict=True) for kind in _KINDS]
