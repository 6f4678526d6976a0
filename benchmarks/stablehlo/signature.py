"""What each parameter and output of a compiled program is."""

import re
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.experiments.training.datasets import Data
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import masked, named_weights


def describe(model: Any, data: Data, arguments: dict[str, Array], concrete: Any,
             text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What each parameter and output of the program is.

    XLA's parameters are the function's inputs in their order, arguments and then what it
    captures, but for those whose values it needs to compile.  A captured variable is known by
    its handle, a captured tensor by its content; outputs are what the function returns, and
    then the variables that it assigns, whose parameters the program names itself.

    Raises:
      ValueError: if the program's own types are not those.
    """
    known = _known_variables(model)
    arrays = {"x": data.x_train, "y": data.y_train}
    rows = [_row("argument", name, array.dtype, array.shape) for name, array in arguments.items()]
    variables = captured_variables(concrete)
    for number, captured in enumerate(concrete.captured_inputs, start=len(rows)):
        if number in variables:
            kind, name = known[id(captured)]
            rows.append(_row(kind, name, variables[number].dtype, variables[number].shape))
        else:
            name = next(name for name, array in arrays.items()
                        if array.shape == captured.shape and array.dtype == captured.dtype
                        and np.array_equal(captured.numpy(), array))
            rows.append(_row("data", name, captured.dtype, captured.shape))
    entry = next(line for line in text.splitlines() if "func.func @main(" in line)
    taken, given = (re.findall(r"tensor<([^>]*)>", part) for part in entry.split("->"))
    if taken != [_type(row) for row in rows]:
        raise ValueError(f"The program must take the function's inputs. Received: {taken} for "
                         f"{[(row['name'], _type(row)) for row in rows]}.")
    outputs = sorted(concrete.structured_outputs)
    alias = r"parameter_number = (\d+) : i64}, output_index = array<i64: (\d+)>"
    for parameter, output in re.findall(alias, text):
        rows[int(parameter)]["output"] = int(output)
    assigned = sorted(row["output"] for row in rows if "output" in row)
    if assigned != list(range(len(outputs), len(given))) or any(
            given[row["output"]] != _type(row) for row in rows if "output" in row):
        raise ValueError("The program must give what the function returns and the variables that "
                         f"it assigns. Received: {given} for {outputs} and {assigned}.")
    return rows, outputs


def _known_variables(model: Any) -> dict[int, tuple[str, str]]:
    trained = {id(variable) for variable in model.trainable_variables}
    found: dict[int, tuple[str, str]] = {}

    def add(variable: Any, kind: str, name: str) -> None:
        found.setdefault(id(variable.handle), (kind, name))

    names = {id(variable): name for name, variable in named_weights(model).items()}
    for name, variable in named_weights(model).items():
        add(variable, "weight" if id(variable) in trained else "statistic", name)
    for name, item in masked(model).items():
        add(item.mask, "mask", name)
    for weight in model.trainable_variables:
        for slot, variable in rewinding.slots_of(model.optimizer, weight).items():
            add(variable, "slot", f"{slot.strip('_')} of {names[id(weight)]}")
    for variable in rewinding.optimizer_variables(model):
        add(variable, "optimizer", variable.name.partition(":")[0])
    for metric in model.metrics:
        for variable in metric.variables:
            add(variable, "metric", f"{metric.name}/{variable.name.partition(':')[0]}")
    return found


def captured_variables(concrete: Any) -> dict[int, Any]:
    """The variables that a program captures: the parameter's number -> the variable."""
    first = len(concrete.inputs) - len(concrete.captured_inputs)
    handles = {id(variable.handle): variable for variable in concrete.graph.variables}
    return {number: handles[id(captured)]
            for number, captured in enumerate(concrete.captured_inputs, start=first)
            if id(captured) in handles}


def _row(kind: str, name: str, dtype: Any, shape: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, "dtype": dtype.name, "shape": list(shape)}


def _type(row: dict[str, Any]) -> str:
    # As StableHLO writes it: 60x10xf32.
    name = re.sub(r"^uint", "ui", row["dtype"])
    name = re.sub(r"^(float|int)", lambda match: match.group(1)[0], name)
    return "x".join([*map(str, row["shape"]), {"bool": "i1"}.get(name, name)])
