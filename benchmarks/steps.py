"""The sections `steps` and `fit`: milliseconds a step, contender beside contender."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row
from benchmarks.task import TASKS

_CORES = {0: "all cores", 1: "one core"}
_VALIDATED = {"validated": "with validation", "plain": "without validation"}

# A contender and its threads, 0 for all cores; what the first is named is the reference.
_Contender = tuple[str, int]
_LOOPS: tuple[_Contender, ...] = (
    ("loop_masked", 0), ("loop_dense", 0), ("loop_keras3", 0), ("jax_loop", 0), ("torch_loop", 0),
    ("loop_masked", 1), ("loop_dense", 1), ("loop_keras3", 1), ("jax_loop", 1))
_FITS: tuple[_Contender, ...] = (
    ("fit_callback", 0), ("fit_dense", 0), ("fit_dense_plain", 0), ("tfmot_guide", 0),
    ("tfmot_guide_xla", 0), ("tfmot_every_10", 0), ("loop_masked", 0))

# Contender -> what was measured -> milliseconds, a round after the other.
_Measured = dict[_Contender, dict[str, list[float]]]


def steps(options: Options) -> list[Row]:
    """The compiled loop beside loops by hand, with validation and without."""
    return [found for task in options.tasks
            for found in _compared("steps", task, _LOOPS, tuple(_VALIDATED), options)]


def fit(options: Options) -> list[Row]:
    """The callback beside dense `fit` and tfmot's own pruning, and the compiled loop."""
    return [found for task in options.tasks
            for found in _compared("fit", task, _FITS, ("plain",), options)]


def _compared(section: str, task: str, contenders: Sequence[_Contender], parts: Sequence[str],
              options: Options) -> Iterator[Row]:
    measured, note = _measure(task, contenders, options)
    reference = contenders[0][0]
    for threads, cores in _CORES.items():
        for part in parts:
            for (name, with_threads), figures in measured.items():
                if with_threads == threads:
                    yield row(section, TASKS[task].title, name, figures[part], unit="ms a step",
                              against=measured[reference, threads][part],
                              reference=f"{reference}, same setting",
                              setting=f"{cores}, {_VALIDATED[part]}", note=note)


def _measure(task: str, contenders: Sequence[_Contender],
             options: Options) -> tuple[_Measured, str]:
    # Round after round, so that what else the machine does meets all contenders alike.
    file, kind = options.examples(task)
    notes = [f"data: {kind}"]
    measured: _Measured = {contender: defaultdict(list) for contender in contenders
                           if contender[1] in TASKS[task].threads}
    for turn in range(options.repeats):
        for name, threads in list(measured):
            try:
                figures = process.worker(
                    name, {"task": task, "examples": file, "threads": threads}, options.quick)
            except process.ProcessError as error:  # An optional package that is not there.
                if name == contenders[0][0]:
                    raise
                del measured[name, threads]
                notes.append(f"{name} left out ({error})")
                continue
            options.say(f"{task} {name}, {_CORES[threads]}, round {turn + 1}: " + ", ".join(
                f"{part} {value:.2f} ms" for part, value in figures.items()))
            for part, value in figures.items():
                measured[name, threads][part].append(value)
    return measured, "; ".join(dict.fromkeys(notes))
