"""The section `structures`: latency and size of TF Lite files by what is pruned together."""

import importlib.metadata
import json
from collections.abc import Sequence

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row

# Structure, fraction, rounds.  Of 2:4 a round prunes half, whatever the fraction above 0.
_PAPERS = "default:0.2/output:0.1"
_LENET = (("none", "0", "0"), ("none", "0.9", "1"), ("none", _PAPERS, "15"), ("2:4", "0.5", "1"),
          ("block_1x4", "0.9", "1"), ("block_4x1", "0.8", "1"), ("block_4x1", "0.9", "1"),
          ("block_4x1", _PAPERS, "15"))
_MOBILE = (("none", "0"), ("none", "0.8"), ("none", "0.9"), ("2:4", "0.5"), ("block_1x4", "0.8"),
           ("block_1x4", "0.9"), ("block_4x1", "0.9"))
_KINDS = ("plain", "sparse")


def structures(options: Options) -> list[Row]:
    """LeNet-300-100, searched and trained; and a small MobileNet of 1x1 convolutions."""
    steps, few = (100, 2) if options.quick else (1000, None)
    version = importlib.metadata.version("ai-edge-litert")
    note = f"ai-edge-litert {version}, default delegates, batch 1; the time of the one thread"
    networks = {
        f"LeNet-300-100 on MNIST, {steps:,} steps a training":
            ["lenet", *(",".join((*case, str(steps))) for case in _LENET[:few])],
        "a small MobileNet, 96 x 96 pixels, its 1x1 convolutions pruned at initialisation":
            ["mobile", *(",".join(case) for case in _MOBILE[:few])]}
    return [found for subject, (kind, *cases) in networks.items()
            for found in _timed(subject, kind, cases, options, note)]


def _timed(subject: str, kind: str, cases: Sequence[str], options: Options,
           note: str) -> list[Row]:
    files = [str(options.folder / f"{kind}_{number}") for number in range(len(cases))]
    made = process.run(process.module("benchmarks.sparse_files", *(
        f"{kind},{case},{file}" for case, file in zip(cases, files, strict=True))))
    known = json.loads(process.last_line(made.output))
    options.say(f"structures: made the files of {subject}")
    turns = 2 if options.quick else 30 * options.repeats
    done = process.run(process.module("benchmarks.calls", str(turns), *(
        f"{file}_{way}.tflite" for file in files for way in _KINDS)))
    times = json.loads(process.last_line(done.output))
    return [row("structures", subject, _name(case, of), times[f"{file}_{way}.tflite"],
                unit="µs a call", against=times[f"{files[0]}_plain.tflite"], spread="quartiles",
                note=note, reference="dense, plain, same turn", setting=f"{way}, {of[way]:,} bytes")
            for case, file, of in zip(cases, files, known, strict=True) for way in _KINDS]


def _name(case: str, known: dict[str, float]) -> str:
    structure = case.partition(",")[0] if known["density"] < 1 else "dense"
    right = f", {known['accuracy']:.2%} right" if "accuracy" in known else ""
    return f"{structure}, P_m {known['density']:.1%}{right}"
