"""The model card: a README.md beside exported files, in the form that model hubs read.

A head of YAML that a hub shows as facts, then what a person needs to use the files: what they are,
where they come from, how good, how large and how fast they are, and what they are not good for.
(Mitchell et al., "Model Cards for Model Reporting", 2019.)
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from lth_keras.deployment.manifest import Deployment, SHIPPED, with_route

FILE = "README.md"
RUNTIMES = {"litert": "ai-edge-litert", "litert_builtin": "ai-edge-litert without its default "
             "delegates", "keras": "tf_keras", "tensorflow": "TensorFlow"}


def text(deployment: Deployment) -> str:
    """The card of a deployment, as Markdown.

    Args:
      deployment: whose facts have a name, the shapes of input and output, the reference's
        accuracy and number of examples, versions, and of networks from `lth run` where they come
        from.
    """
    return "\n".join([*_head(deployment), *_what(deployment), *_files(deployment),
                      *_refused(deployment), *_provenance(deployment.facts), *_use(deployment),
                      *_limits(deployment)])


def _head(deployment: Deployment) -> Iterator[str]:
    # Of YAML, JSON's strings, numbers and lists are a part.
    facts, reference = deployment.facts, deployment.facts["reference"]
    dataset = facts.get("dataset")
    yield "---"
    yield "library_name: tf-keras"
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
    kept = "A network" if density is None else \
        f"A sparse network: {density:.2%} of the prunable weights of its dense form are kept"
    level = facts.get("level")
    found = "" if level is None else f", found by pruning {level} times and rewinding (a winning " \
        "ticket, if its run says so: Frankle & Carbin, ICLR 2019)"
    yield f"{kept}{found}."
    yield ""
    yield f"- Input: {_shape(facts['input'])}. Output: {_shape(facts['output'])}."
    if facts.get("pixels"):
        yield "- Pixels are given divided by 255, in [0, 1]."
    if reference["accuracy"] is not None:
        yield (f"- Accuracy in Keras: {reference['accuracy']:.2%} on {reference['examples']:,} "
               "held-out examples, on which every file was checked.")
    if facts.get("trained_now"):
        yield "- It was trained for this export, from a ticket."
    if facts.get("takes_inputs"):
        yield ("- The .keras file has a layer of lth_keras: `import lth_keras` before it is "
               "loaded.")
    if facts.get("compaction"):
        first, *more = facts["compaction"].splitlines()
        yield f"- Compacted: {first}"
        yield from (f"  - {line.strip()}" for line in more)
    yield ""


def _shape(of: dict[str, Any]) -> str:
    return f"{of['dtype']} of shape ({', '.join(map(str, ['batch', *of['shape']]))})"


def _files(deployment: Deployment) -> Iterator[str]:
    yield "## Files"
    yield ""
    yield from table(deployment)
    yield ""
    threads = deployment.facts["threads"]
    yield ("Errors are largest absolute differences of an output from Keras'; memory is the "
           "growth of the process; latencies are medians [quartiles] of a call on "
           f"{threads} thread{'s'[:threads != 1]} of the machine named below.")
    yield ""


def table(deployment: Deployment) -> Iterator[str]:
    """The shipped files as a Markdown table, the dense network first if it was measured."""
    rows, dense = deployment.rows, deployment.facts.get("dense")
    shipped = [row for _, row in rows[rows.status == SHIPPED].iterrows()]
    yield ("| file | runtime | bytes | gzip | accuracy | largest error | memory (MiB) | "
           "batch 1 (us) | batch 32 (us) |")
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for row in [*([pd.Series(dense)] if dense else []), *shipped]:
        cells = [f"`{row.file}`" if row.file else "the dense network as float32",
                 RUNTIMES[row.runtime], f"{row.bytes:,.0f}", f"{row.gzip_bytes:,.0f}",
                 number(row.accuracy, ".2%"), number(row.max_error, ".1e"),
                 memory(row), latency(row, 1), latency(row, 32)]
        yield f"| {' | '.join(cells)} |"


def number(value: Any, form: str) -> str:
    """A number as text, or "-" if it is not there."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def memory(row: "pd.Series[Any]") -> str:
    """The growth of memory in MiB."""
    grown = row.peak_memory_bytes
    return number(None if grown is None else grown / 2**20, ".1f")


def latency(row: "pd.Series[Any]", batch: int) -> str:
    """A latency with its quartiles, in microseconds.

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
    """What was not shipped, for which runtime and why, as a Markdown list."""
    for _, row in deployment.rows[deployment.rows.status != SHIPPED].iterrows():
        where = f" in {RUNTIMES.get(row.runtime, row.runtime)}" if row.runtime else ""
        yield f"- {row['format']}{where}: {with_route(row)}"


def _refused(deployment: Deployment) -> Iterator[str]:
    lines = list(refusals(deployment))
    if lines:
        yield from ("Not shipped, since checks refused it:", "", *lines, "")


def _provenance(facts: dict[str, Any]) -> Iterator[str]:
    yield "## Where it comes from"
    yield ""
    if facts.get("preset"):
        settings = ", ".join(f"{name} {_said(value)}" for name, value in facts["settings"].items()
                             if name not in ("preset", "network", "dataset"))
        yield (f"- `lth run {facts['preset']}`, replicate {facts['replicate']}, level "
               f"{facts['level']}; {settings or 'its own settings'}; fingerprint "
               f"{facts['fingerprint']}.")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield f"- Exported with {versions}."
    yield f"- Measured on {facts['machine']}."
    yield ""


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{part}" for name, part in value.items())
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _use(deployment: Deployment) -> Iterator[str]:
    rows = deployment.rows
    files = rows[(rows.status == SHIPPED) & rows.runtime.str.startswith("litert")]
    if files.empty:
        return
    row = files.iloc[0]
    shape = ", ".join(map(str, [1, *deployment.facts["input"]["shape"]]))
    options = "" if row.runtime == "litert" else \
        ",\n    experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    names = "Interpreter" if row.runtime == "litert" else "Interpreter, OpResolverType"
    yield "## Use"
    yield ""
    yield "```python"
    yield "import numpy as np"
    yield f"from ai_edge_litert.interpreter import {names}"
    yield ""
    yield f"interpreter = Interpreter(\"{row.file}\"{options})"
    yield "interpreter.allocate_tensors()"
    yield "given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]"
    yield f"example = np.zeros(({shape}), np.float32)  # Yours."
    if row["format"].startswith("int8"):
        yield "scale, zero = given[\"quantization\"]"
        yield "example = np.clip(np.round(example / scale + zero), -128, 127).astype(np.int8)"
    yield "interpreter.set_tensor(given[\"index\"], example)"
    yield "interpreter.invoke()"
    yield "print(interpreter.get_tensor(result[\"index\"]))"
    yield "```"
    yield ""


def _limits(deployment: Deployment) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield ("- The accuracies are those of the held-out examples of one data set; nothing is known "
           "of others, and nothing of how errors are spread over groups of examples.")
    yield ("- Latency and memory are this machine's. Unstructured sparsity makes files smaller "
           "everywhere, and faster only where a runtime has kernels for it.")
    if (deployment.rows.runtime == "litert_builtin").any():
        yield ("- A file for \"without its default delegates\" must be loaded so; the default "
               "interpreter may refuse it, or compute something else.")
    yield ""
