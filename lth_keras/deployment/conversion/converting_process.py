"""Converts a Keras 3 model with TensorFlow, in a process of its own.

    KERAS_BACKEND=tensorflow python -m lth_keras.deployment.conversion.converting_process FOLDER

Loads FOLDER/model.keras, of which FOLDER/model.json says which modules have its classes and what it
takes.  Then each line of standard input is a task: which converter to call, and where to write.
Each is answered by a line of standard output: {"error": ""}, or why there is no file.  The process
ends when its input does, so it never outlives the one that started it.
"""

import importlib
import json
import operator
import os
import pathlib
import sys
from typing import Any

import numpy as np

from lth_keras import quiet
from lth_keras.arguments import one_line
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError


def call(function: str, options: dict[str, Any], model: Any, path: pathlib.Path,
         representative: "Array | dict[str, Array] | None") -> None:
    """Calls a converter by its name.

    Args:
      function: "module:function" of the converter.
      options: arguments for it.
      model: the model.
      path: where to write.
      representative: training examples, or None.
    """
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)(model, path, representative, **options)


def load(folder: pathlib.Path) -> Any:
    """Loads the model that another process has left in a folder.

    Raises:
      LotteryError: if a class is not found, or the model does not load with TensorFlow.
    """
    described = json.loads((folder / "model.json").read_text())
    sys.path += [each for each in described["path"] if each not in sys.path]
    try:
        modules = {name: importlib.import_module(name) for name in described["modules"]}
        import keras
        own = [operator.attrgetter(name)(modules[module]) for module, name in described["classes"]]
        # The file was written a moment ago by this user's own process: a Lambda in it may run.
        model = keras.models.load_model(
            folder / "model.keras", compile=False, safe_mode=False,
            custom_objects={keras.saving.get_registered_name(each): each for each in own})
    except Exception as error:  # A user's code may raise anything.
        raise LotteryError(
            "A model of another backend must load with the TensorFlow backend to be converted. "
            f"Received: {type(error).__name__}: {one_line(error).rstrip('.')}. Let Keras find its "
            "classes, in modules that can be imported, and write them with keras.ops.") from None
    from lth_keras.deployment.models.keras3_models import KIND
    from lth_keras.deployment.models.model_kind import flatten, packed, Spec
    specs = {name: Spec(tuple(spec["shape"]), spec["dtype"], spec["name"])
             for name, spec in described["inputs"].items()}
    if not KIND.is_called(model):
        KIND.remember(model, packed(described["takes"],
                                    [specs[name] for name in flatten(described["takes"])]))
    return model


def convert(model: Any, task: dict[str, Any], folder: pathlib.Path) -> str:
    """Does a task; returns "", or the reason why it could not be done."""
    given, names = None, task["representative"]
    if names is not None:
        arrays = {name: np.load(folder / f"representative_{place}.npy", allow_pickle=False)
                  for place, name in enumerate(names)}
        given = arrays[""] if names == [""] else arrays
    try:
        call(task["function"], task["options"], model, pathlib.Path(task["path"]), given)
    except LotteryError as error:
        return str(error)
    except Exception as error:  # Keras, TensorFlow and the converter raise many types.
        return f"{task['function'].rpartition(':')[2]} could not be converted: {one_line(error)}"
    return ""


def main(arguments: list[str]) -> None:
    """Loads the folder's model and does the tasks on standard input, until it ends."""
    folder = pathlib.Path(arguments[0])
    # What TensorFlow prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    model, failed = None, ""
    for line in sys.stdin:
        with quiet.everything():
            if model is None and not failed:
                try:
                    model = load(folder)
                except LotteryError as error:
                    failed = str(error)
            said = failed or convert(model, json.loads(line), folder)
        answers.write(json.dumps({"error": said}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
