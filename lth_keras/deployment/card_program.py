"""The program on a model card that shows how to use the exported file."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from lth_keras.deployment.manifest import Deployment, SHIPPED


def program(deployment: Deployment) -> Iterator[str]:
    """Yields the lines of the card's section "How to use it"."""
    # A program for the first TF Lite file that was shipped, or else the ONNX file: what most
    # readers need, and complete.
    rows = deployment.rows[deployment.rows.status == SHIPPED]
    lite = rows[rows.runtime.str.startswith("litert")]
    files = rows[rows.runtime == "onnxruntime"] if lite.empty else lite
    if files.empty:
        return
    lines = _use_onnx if lite.empty else _use_lite
    yield "## How to use it"
    yield ""
    yield "```python"
    yield "import numpy as np"
    yield from lines(deployment.facts, files.iloc[0])
    yield "```"
    yield ""


def _use_lite(facts: dict[str, Any], row: "pd.Series[Any]") -> Iterator[str]:
    options = "" if row.runtime == "litert" else \
        ",\n    experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES"
    names = "Interpreter" if row.runtime == "litert" else "Interpreter, OpResolverType"
    yield f"from ai_edge_litert.interpreter import {names}"
    yield ""
    yield f"interpreter = Interpreter(\"{row.file}\"{options})"
    whole = row["format"].startswith("int8")
    yield from _use_named(facts["inputs"], whole) if "inputs" in facts else \
        _use_single(facts["input"], whole, row.batch == 1)


def _use_onnx(facts: dict[str, Any], row: "pd.Series[Any]") -> Iterator[str]:
    yield "import onnxruntime"
    yield ""
    yield f"session = onnxruntime.InferenceSession(\"{row.file}\")"
    yield "examples = {  # Replace by your own examples."
    if "inputs" in facts:
        yield from (f"    {name!r}: {_one(each)}," for name, each in facts["inputs"].items())
    else:
        yield f"    session.get_inputs()[0].name: {_one(facts['input'])},"
    yield "}"
    yield "for output, values in zip(session.get_outputs(), session.run(None, examples)):"
    yield "    print(output.name, values)"


def _use_single(input_: dict[str, Any], whole: bool, resets: bool) -> Iterator[str]:
    yield "interpreter.allocate_tensors()"
    yield "inputs = interpreter.get_input_details()[0]"
    yield "outputs = interpreter.get_output_details()[0]"
    yield f"example = {_one(input_)}  # Replace by your own example."
    if whole:
        yield "scale, zero = inputs[\"quantization\"]"
        yield "if scale:"
        yield "    example = np.clip(np.round(example / scale + zero), -128, 127)"
    yield "interpreter.set_tensor(inputs[\"index\"], example.astype(inputs[\"dtype\"]))"
    if resets:
        yield "interpreter.reset_all_variables()"
    yield "interpreter.invoke()"
    yield "print(interpreter.get_tensor(outputs[\"index\"]))"


def _use_named(inputs: dict[str, Any], whole: bool) -> Iterator[str]:
    # By name: the order of inputs and outputs in the file is not the model's.
    yield "run = interpreter.get_signature_runner()"
    yield "examples = {  # Replace by your own examples."
    for name, each in inputs.items():
        yield f"    {name!r}: {_one(each)},"
    yield "}"
    if whole:
        yield "for name, details in run.get_input_details().items():"
        yield "    scale, zero = details[\"quantization\"]"
        yield "    if scale:"
        yield "        examples[name] = np.clip(examples[name] / scale + zero, -128, 127).round()"
        yield "    examples[name] = examples[name].astype(details[\"dtype\"])"
    yield "for name, output in run(**examples).items():"
    yield "    print(name, output)"


def _one(of: dict[str, Any]) -> str:
    # One example; an axis of any length has length 1. Files take float32 for any other precision.
    shape = f"{', '.join(str(size or 1) for size in [1, *of['shape']])}{',' * (not of['shape'])}"
    dtype = "float32" if "float" in of["dtype"] else {"string": "str_"}.get(of["dtype"],
                                                                           of["dtype"])
    return f"np.zeros(({shape}), np.{dtype})"
