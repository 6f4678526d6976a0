"""The section `together`: several networks as one program, on Keras 3 and JAX."""

from benchmarks import process
from benchmarks.networks_together import COUNTS, NETWORKS
from benchmarks.options import Options
from benchmarks.rows import Row, row

_LONGEST = 1000.0  # Milliseconds of a step, after which more networks tell nothing new.
# On a CPU, several networks with convolutions at once take minutes a step.
_DENSE = "lenet_300_100"


def together(options: Options) -> list[Row]:
    """Milliseconds a step and network, with the floors of arithmetic and memory."""
    found = []
    for network, (title, *_) in list(NETWORKS.items())[:1 if options.quick else None]:
        alone: list[float] = []
        for count in COUNTS[:2 if options.quick else None]:
            turns = []
            for turn in range(options.repeats):
                try:
                    turns.append(process.figures(process.module(
                        "benchmarks.networks_together", network, str(count))))
                except process.ProcessError as error:
                    options.say(f"{network}, {count} together: left out: {error}")
                    break
                options.say(f"{network}, {count} together, round {turn + 1}: "
                            f"{turns[-1]['step']:.2f} ms a step")
            if len(turns) < options.repeats:
                break  # More would take more memory than there is.
            each = [turn["step"] / count for turn in turns]
            alone = alone or each
            floors = turns[-1]
            found.append(row(
                "together", title, f"{count} together", each, unit="ms a step and network",
                against=alone, reference="1 together", setting=str(floors["device"]),
                note=f"for {count} together, floors of {floors['arithmetic']:.3g} ms by "
                     f"arithmetic, {floors['memory']:.3g} ms by memory, of {each[-1] * count:.3g}"))
            if turns[-1]["step"] > _LONGEST or (floors["device"] == "cpu" and network != _DENSE):
                break
    return found
