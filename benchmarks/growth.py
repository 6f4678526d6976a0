"""The section `growth`: how time grows with what is asked."""

import itertools

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row
from benchmarks.search import lth, seconds
from benchmarks.task import BATCH

_REFERENCE = "proportional growth from {}"


def growth(options: Options) -> list[Row]:
    """Time by rounds, by replicates and by width, and its ratio to proportional growth."""
    return [*_rounds(options), *_replicates(options), *_width(options)]


def _rounds(options: Options) -> list[Row]:
    # r rounds train r + 1 networks.
    cases = {f"{rounds} round{'s'[:rounds > 1]}, {rounds + 1} networks":
             (rounds + 1, {"rounds": rounds}) for rounds in (1, 2, 4, 8)}
    return _searches("rounds", cases, options)


def _replicates(options: Options) -> list[Row]:
    cases = {f"{replicates} replicate{'s'[:replicates > 1]}, {2 * replicates} networks":
             (2 * replicates, {"rounds": 1, "replicates": replicates})
             for replicates in (1, 2, 4)}
    return _searches("replicates", cases, options)


def _searches(subject: str, cases: dict[str, tuple[int, dict[str, int]]],
              options: Options) -> list[Row]:
    steps = 100 if options.quick else 1000
    rows: list[Row] = []
    first: tuple[float, float] = (0, 0)
    for case, (networks, sizes) in cases.items():
        folder = options.folder / f"growth_{subject}_{networks}"
        whole = process.run(lth(folder, steps=steps, **sizes)).seconds
        trained = sum(sum(values) for values in seconds(folder).values())
        options.say(f"growth, {case}: {whole:.1f} s, trainings {trained:.1f} s")
        first = first if rows else (whole / networks, trained / networks)
        for name, value, each in zip(("whole command", "trainings"), (whole, trained), first,
                                     strict=True):
            rows.append(row("growth", f"{subject}, {steps} steps a network, --jobs 1", name,
                            [value], unit="s", against=[each * networks], setting=case,
                            reference=_REFERENCE.format(next(iter(cases)))))
    return rows


def _width(options: Options) -> list[Row]:
    file, kind = options.examples("lenet")
    widths, measured = (0.5, 1, 2, 4), {}
    for turn in range(options.repeats):
        for width in widths:
            figures = process.worker("loop_masked", {
                "task": "wide", "examples": file, "threads": 0, "width": width}, options.quick)
            measured.setdefault(width, []).append(figures["plain"])
            options.say(f"growth, width x {width}, round {turn + 1}: {figures['plain']:.2f} ms")
    works = {width: _multiply_adds(width) for width in widths}
    return [row("growth", "width of LeNet-300-100, loop_masked, all cores, without validation",
                f"hidden units x {width:g}", values, unit="ms a step",
                against=[one * works[width] / works[1] for one in measured[1]],
                setting=f"{works[width] / 1e6:,.1f} M multiply-adds a step",
                reference=_REFERENCE.format("x 1"), note=f"data: {kind}")
            for width, values in measured.items()]


def _multiply_adds(width: float) -> float:
    # Forward, and for the gradients of weights and of inputs; the pixels need none.
    sizes = (784, round(300 * width), round(100 * width), 10)
    layers = [a * b for a, b in itertools.pairwise(sizes)]
    return BATCH * (3 * sum(layers) - layers[0])
