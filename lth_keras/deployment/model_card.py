"""Writes the model card: a README.md beside the exported files, as model hubs show it.

It starts with YAML metadata, from which a hub fills its fields.  Then it says what a person needs
to use the files: what the network is, its accuracy, size and latency, where it comes from, how to
load it, and its limits (Mitchell et al., "Model Cards for Model Reporting", 2019).
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from lth_keras.deployment.card_program import program
from lth_keras.deployment.manifest import Deployment, SHIPPED, with_route

FILE = "README.md"
RUNTIMES = {"litert": "ai-edge-litert", "litert_builtin": "ai-edge-litert without its default "
             "delegates", "keras": "tf_keras", "keras3": "Keras 3", "tensorflow": "TensorFlow",
            "onnxruntime": "onnxruntime"}


def text(deployment: Deployment) -> str:
    """Returns the model card of a deployment, as Markdown.

    Args:
      deployment: the result of an export. Its `facts` must hold "name", "input" and "output" (or
        "inputs" and "outputs"), "reference", "threads", "versions" and "machine", as `lth.export`
        writes them.

    Example:
      >>> import pathlib
      >>> from lth_keras.deployment import manifest
      >>> tensor = {"shape": [4], "dtype": "float32"}
      >>> card = text(Deployment(pathlib.Path("deploy"), manifest.table([]), {
      ...     "name": "iris", "input": tensor, "output": tensor, "threads": 1,
      ...     "reference": {"accuracy": None, "examples": 30}, "versions": {}, "machine": "x"}))
      >>> [line for line in card.splitlines() if line.startswith("#")]
      ['# iris', '## Files', '## Where it comes from', '## Limits']
    """
    return "\n".join([*_head(deployment), *_what(deployment), *_files(deployment),
                      *_refused(deployment), *_provenance(deployment.facts), *program(deployment),
                      *_limits(deployment)])


def _head(deployment: Deployment) -> Iterator[str]:
    # The YAML metadata. Values are written as JSON, which is valid YAML and needs no quoting rules.
    facts, reference = deployment.facts, deployment.facts["reference"]
    dataset = facts.get("dataset")
    yield "---"
    yield f"library_name: {'keras' if facts.get('keras') == 'Keras 3' else 'tf-keras'}"
    yield f"tags: {json.dumps(['lottery-ticket-hypothesis', 'pruning', 'sparse', 'tflite'])}"
    if dataset:
        yield f"datasets: {json.dumps([dataset])}"
    if reference["accuracy"] is not None:
        result = {"task": {"type": "classification"}, "metrics": [
            {"type": "accuracy", "value": round(reference["accuracy"], 6)}]}
        if dataset:
            result["dataset"] = {"name": dataset, "type": dataset}
        yield "metrics: [\"accuracy\"]"
        yield f"model-index: {json.dumps([{'name': facts['name'], 'results': [result]}])}"
    yield "---"


def _what(deployment: Deployment) -> Iterator[str]:
    facts = deployment.facts
    density, reference = facts.get("density"), facts["reference"]
    yield f"# {facts['name']}"
    yield ""
    kept = "A network" if density in (None, 1) else \
        f"A sparse network that keeps {density:.2%} of the prunable weights of the dense network"
    yield f"{kept}{_found(facts)}."
    yield ""
    if "input" in facts:
        yield f"- Input: {_shape(facts['input'])}. Output: {_shape(facts['output'])}."
    else:
        for kind in ("input", "output"):
            for name, of in facts[f"{kind}s"].items():
                yield f"- {kind.capitalize()} `{name}`: {_shape(of)}."
    if facts.get("pixels"):
        yield "- Divide pixel values by 255, so that they lie in [0, 1]."
    if facts.get("verdict"):
        yield f"- Verdict of its run: {facts['verdict']['run']} This level: " \
            f"{facts['verdict']['level']}."
    yield from _measured_in_keras(reference)
    if facts.get("costs"):
        yield f"- One example takes {costs(facts)}."
        yield from (f"  - {note}" for note in facts["costs"]["notes"])
    if facts.get("trained_now"):
        yield "- The network was trained from a ticket when it was exported."
    if facts.get("float32_copy"):
        yield f"- {facts['float32_copy']['note']}"
    if facts.get("own_layers"):
        yield ("- The .keras file contains a layer of lth_keras: `import lth_keras` before you "
               "load it.")
    if facts.get("compaction"):
        first, *more = facts["compaction"].splitlines()
        yield f"- Compaction, which removes units without connections: {first}"
        yield from (f"  - {line.strip()}" for line in more)
    yield ""


_FOUND = {  # Setting of a ticket -> how the ticket was found; in braces is the setting's value.
    "at_init": "found by pruning it once, by {}, before it was trained",
    "sparse_training": "found while it was trained sparse, by the method {}",
    "supermask": "found by training masks of its initial weights, by the method {}",
    "strong": "found in random weights, which were pruned by the method {} to compute what a "
              "trained network does"}


def _found(facts: dict[str, Any]) -> str:
    level, settings = facts.get("level"), facts.get("settings")
    if not level:
        return ""
    settings = settings if isinstance(settings, dict) else {}
    for name, said in _FOUND.items():
        if name in settings:
            return f", {said.format(settings[name])}"
    # Settings of a run are without those that are the default.
    others = [f"{name}={settings[name]}" for name in ("strategy", "retraining")
              if settings.get(name)]
    if others:
        return f", of level {level} of a run with {' and '.join(others)}"
    times = "once" if level == 1 else f"{level} times"
    return f", found by pruning {times} and rewinding the remaining weights (Frankle & Carbin, " \
        "\"The Lottery Ticket Hypothesis\", ICLR 2019)"


def costs(facts: dict[str, Any]) -> str:
    """Returns what the exported network costs, beside the dense one; "" if it is not known.

    Args:
      facts: the facts of a deployment; those of earlier versions have no costs.

    Example:
      >>> print(costs({"costs": {"macs": 250, "parameters": 60,
      ...                        "dense": {"macs": 1000, "parameters": 120}}}))
      250 multiply-adds (25.0% of the dense network's 1,000) with 60 parameters (50.0% of 120)
    """
    own = facts.get("costs")
    if not own:
        return ""
    dense = own["dense"]

    def part(name: str, what: str, whose: str) -> str:
        said = f"{own[name]:,} {what}"
        if not dense or not dense[name]:
            return said
        return f"{said} ({own[name] / dense[name]:.1%} of {whose}{dense[name]:,})"
    macs = part("macs", "multiply-adds", "the dense network's ")
    return f"{macs} with {part('parameters', 'parameters', '')}"


def _measured_in_keras(reference: dict[str, Any]) -> Iterator[str]:
    examples = f"{reference['examples']:,} held-out examples"
    if reference["accuracy"] is not None:
        yield (f"- Accuracy in Keras: {reference['accuracy']:.2%} on {examples}. Every file was "
               "compared with Keras on these examples.")
        return
    outputs = reference.get("outputs", [])
    for each in outputs:
        whose = f"Output `{each['output']}`: " if len(outputs) > 1 else ""
        if each["measure"]:
            said = f"{each['measure']} in Keras: {value(each['measure'], each['value'])}"
            yield f"- {_sentence(whose, said)} on {examples}. Files may lose {each['unit']}."
        else:
            said = "files were compared with Keras' outputs alone"
            yield f"- {_sentence(whose, said)}, on {examples}: {each['note']}."


def _sentence(whose: str, said: str) -> str:
    # Not str.capitalize, which would make the other letters small.
    return whose + said if whose else said[0].upper() + said[1:]


def _shape(of: dict[str, Any]) -> str:
    # Such as "float32 of shape (batch, 28, 28)".
    return f"{of['dtype']} of shape ({', '.join(map(str, ['batch', *of['shape']]))})"


def _files(deployment: Deployment) -> Iterator[str]:
    yield "## Files"
    yield ""
    yield from table(deployment)
    yield ""
    if len(deployment.facts["reference"].get("outputs", [])) > 1:
        yield from outputs_table(deployment)
        yield ""
    single = dict.fromkeys(filter(None, deployment.rows[deployment.rows.batch == 1].file))
    if single:
        yield (f"One example at a time, in a batch of one: `{'`, `'.join(single)}`. Call "
               "`reset_all_variables()` before each: recurrent kernels keep their state.\n")
    threads = deployment.facts["threads"]
    yield ("The largest error is the largest absolute difference of an output from Keras'. Memory "
           "is by how much the process grew when it loaded and ran the file. Latencies are medians "
           f"[quartiles] of one call on {threads} thread{'s'[:threads != 1]} of the machine named "
           "below.")
    yield ""


def table(deployment: Deployment) -> Iterator[str]:
    """Yields the lines of a Markdown table: the dense network if measured, then shipped files.

    Example:
      >>> import pathlib
      >>> from lth_keras.deployment import manifest
      >>> rows = manifest.table([])
      >>> len(list(table(Deployment(pathlib.Path("deploy"), rows, {}))))  # The two head lines.
      2
    """
    rows, dense = deployment.rows, deployment.facts.get("dense")
    shipped = [row for _, row in rows[rows.status == SHIPPED].iterrows()]
    measure = only_measure(deployment)
    fits = [] if measure is None else [measure]
    yield (f"| file | runtime | bytes | gzip |{''.join(f' {name} |' for name in fits)} largest "
           "error | memory (MiB) | batch 1 (us) | batch 32 (us) |")
    yield f"|---|---|---:|---:|{'---:|' * len(fits)}---:|---:|---:|---:|"
    for row in [*([pd.Series(dense)] if dense else []), *shipped]:
        cells = [f"`{row.file}`" if row.file else "the dense network as float32",
                 RUNTIMES[row.runtime], f"{row.bytes:,.0f}", f"{row.gzip_bytes:,.0f}",
                 *(fit(deployment, row) for _ in fits), number(row.max_error, ".1e"),
                 memory(row), latency(row, 1), latency(row, 32)]
        yield f"| {' | '.join(cells)} |"


def outputs_table(deployment: Deployment) -> Iterator[str]:
    """Yields the lines of a Markdown table: how well each output of the shipped files is computed.

    Example:
      >>> import pathlib
      >>> from lth_keras.deployment import manifest
      >>> rows = manifest.table([])
      >>> len(list(outputs_table(Deployment(pathlib.Path("deploy"), rows, {}))))
      2
    """
    files = {(row["format"], row.runtime): row.file
             for _, row in deployment.rows[deployment.rows.status == SHIPPED].iterrows()}
    yield "| file | runtime | output | measure | Keras | file's | lost | largest error |"
    yield "|---|---|---|---|---:|---:|---:|---:|"
    for _, each in deployment.outputs.iterrows():
        file = files.get((each["format"], each.runtime))
        if file:
            cells = [f"`{file}`", RUNTIMES[each.runtime], f"`{each.output}`", each.measure or "-",
                     value(each.measure, each.keras), value(each.measure, each.value),
                     f"{each.lost:+.2f} {each.unit}" if known(each.lost) else "-",
                     number(each.max_error, ".1e")]
            yield f"| {' | '.join(cells)} |"


def only_measure(deployment: Deployment) -> "str | None":
    """Returns the measure of a network with one output, or None if there are several outputs.

    An output that was only compared with Keras' has the measure "accuracy", which is not known.
    """
    outputs = deployment.facts.get("reference", {}).get("outputs", [])
    if len(outputs) > 1:
        return None
    return outputs[0]["measure"] or "accuracy" if outputs else "accuracy"


def fit(deployment: Deployment, row: "pd.Series[Any]") -> str:
    """Returns the measure of the only output of a row as text: "98.00%", "0.1234" or "-"."""
    measure = only_measure(deployment)
    if measure == "accuracy":
        return value(measure, row.accuracy)
    found = outputs_of(deployment, row)
    return value(str(measure), found[0]["value"]) if found else "-"


def outputs_of(deployment: Deployment, row: "pd.Series[Any]") -> list[dict[str, Any]]:
    """Returns what was measured of each output of a row; the dense network's row has its own."""
    if "outputs" in row.index:
        return list(row.outputs)
    table_ = deployment.outputs
    own = table_[(table_["format"] == row["format"]) & (table_.runtime == row.runtime)]
    return [{str(name): each for name, each in record.items()}
            for record in own.to_dict("records")]


def value(measure: str, measured: Any) -> str:
    """Returns the value of a measure as text, or "-" if it is unknown.

    Example:
      >>> value("accuracy", 0.98), value("mean squared error", 0.12345), value("", None)
      ('98.00%', '0.1235', '-')
    """
    return number(measured, ".2%" if measure == "accuracy" else ".4g")


def known(number_: Any) -> bool:
    """Returns whether a number is neither None nor NaN."""
    return number_ is not None and not math.isnan(number_)


def number(value: Any, form: str) -> str:
    """Returns a number as text, or "-" if it is unknown.

    Example:
      >>> number(0.98, ".1%"), number(None, ".1%")
      ('98.0%', '-')
    """
    return format(value, form) if known(value) else "-"


def memory(row: "pd.Series[Any]") -> str:
    """Returns by how much memory grew, in MiB, as text.

    Example:
      >>> memory(pd.Series({"peak_memory_bytes": 3 * 2**20}))
      '3.0'
    """
    grown = row.peak_memory_bytes
    return number(None if grown is None else grown / 2**20, ".1f")


def latency(row: "pd.Series[Any]", batch: int) -> str:
    """Returns a latency and its quartiles in microseconds, as text.

    Example:
      >>> latency(pd.Series({"latency_1_us": 3.31, "latency_1_low_us": 3.3,
      ...                    "latency_1_high_us": 3.42}), 1)
      '3.3 [3.3, 3.4]'
    """
    median, low, high = (row[f"latency_{batch}_{part}us"] for part in ("", "low_", "high_"))
    if median is None or math.isnan(median):
        return "-"
    form = ",.1f" if median < 1000 else ",.0f"
    return f"{median:{form}} [{low:{form}}, {high:{form}}]"


def refusals(deployment: Deployment) -> Iterator[str]:
    """Yields a Markdown list of what was refused: the format, the runtime and the reason.

    Example:
      >>> import pathlib
      >>> from lth_keras.deployment import manifest
      >>> rows = manifest.table([manifest.Row(format="float16", runtime="litert",
      ...                        status="refused", reason="it computes NaN", route="use float32")])
      >>> list(refusals(Deployment(pathlib.Path("deploy"), rows, {})))
      ['- float16 in ai-edge-litert: it computes NaN. Instead: use float32.']
    """
    for _, row in deployment.rows[deployment.rows.status != SHIPPED].iterrows():
        where = f" in {RUNTIMES.get(row.runtime, row.runtime)}" if row.runtime else ""
        yield f"- {row['format']}{where}: {with_route(row)}"


def _refused(deployment: Deployment) -> Iterator[str]:
    lines = list(refusals(deployment))
    if lines:
        yield from ("These formats failed their checks and were not shipped:", "", *lines, "")


def _provenance(facts: dict[str, Any]) -> Iterator[str]:
    # Everything that is needed to train and measure the same network again.
    yield "## Where it comes from"
    yield ""
    if facts.get("preset"):
        settings = ", ".join(f"{name} {_said(value)}" for name, value in facts["settings"].items()
                             if name not in ("preset", "network", "dataset"))
        yield (f"- `lth run {facts['preset']}`, replicate {facts['replicate']}, level "
               f"{facts['level']}; {settings or 'the preset as it is'}; fingerprint "
               f"{facts['fingerprint']}.")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield f"- Exported with {versions}."
    yield f"- Measured on {facts['machine']}."
    yield ""


def _said(value: Any) -> str:
    # As `--set NAME=VALUE` takes it, so that a reader can repeat the run.
    if isinstance(value, dict):
        return ",".join(f"{name}:{part}" for name, part in value.items())
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _limits(deployment: Deployment) -> Iterator[str]:
    # What the measurements do not show: model cards should say what a model was not tested for.
    yield "## Limits"
    yield ""
    fits = "Accuracy" if only_measure(deployment) == "accuracy" else "How well outputs fit"
    again = "Accuracy" if fits == "Accuracy" else "It"
    yield (f"- {fits} was measured on held-out examples of one data set. {again} on other data, "
           "and on groups within the data, was not measured.")
    yield ("- Latency and memory were measured on one machine. Unstructured sparsity makes files "
           "smaller on every machine, but faster only with a runtime that has sparse kernels.")
    if (deployment.rows.runtime == "litert_builtin").any():
        yield ("- Load a file marked \"without its default delegates\" in that way: with default "
               "delegates the interpreter may refuse it or compute other outputs.")
    yield ""
