"""Describes and captures a compiled model, to recognise it in another process."""

import json
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.structures.words import named
from lth_keras.files.provenance import fingerprint
from lth_keras.files.state_file import State
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import masked, named_weights
from lth_keras.keras2.rewinding import Snapshot


def of(model: Any) -> dict[str, Any]:
    """Returns the properties of a compiled model that decide the bits of its training.

    Args:
      model: the model, wrapped and compiled.

    Returns:
      Name -> JSON value; equal for equal models.  The code of a user's layers and losses is not
      described.
    """
    shapes = {name: [list(variable.shape), str(variable.dtype)]
              for name, variable in named_weights(model).items()}
    weights = masked(model)
    network = {"weights": shapes, "prunable": sorted(weights),
               **named({name: item.structure for name, item in weights.items()})}
    settings = {"network": fingerprint(network),
                "loss": _described(model.loss), "jit_compile": bool(model._jit_compile)}
    optimizer = model.optimizer
    settings["optimizer"] = type(optimizer).__name__
    if optimizer not in _first:
        _first[optimizer] = _config(optimizer)
    return settings | _first[optimizer]


# Each optimizer's settings when it was first seen, because get_config returns the current learning
# rate, which a schedule or a user may have changed since.
_first: "weakref.WeakKeyDictionary[Any, dict[str, Any]]" = weakref.WeakKeyDictionary()


def _config(optimizer: Any) -> dict[str, Any]:
    try:
        config = optimizer.get_config()
    except Exception:  # An optimizer of the user's own need not have one.
        return {}
    return {f"optimizer.{name}": _described(value) for name, value in config.items()}


def _described(value: Any) -> Any:
    # As JSON without memory addresses, so that the same script gives the same description.
    def other(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        config = getattr(value, "get_config", None)
        return [getattr(value, "__name__", type(value).__name__), config() if config else None]
    return json.loads(json.dumps(value, default=other))


def captured(model: Any, beside: Sequence[Any]) -> dict[str, Any]:
    """Captures a model for a `State`.

    Args:
      model: the model, wrapped and compiled.
      beside: the variables to save besides weights and optimizers; see `State.draws`.

    Returns:
      Attribute of `State` -> value.
    """
    now = Snapshot.of(model, rewinds=False)
    thresholds = {name: rewinding.stored(item.threshold) for name, item in masked(model).items()}
    return {"weights": now.weights, "masks": rewinding.read_masks(model), "thresholds": thresholds,
            "optimizer": now.optimizer, "draws": [*map(rewinding.stored, beside)],
            "counters": now.counters}


def broken_rule(state: State, here: Mapping[str, Any]) -> str | None:
    """Returns the rule that a state breaks if it cannot be of this model; None if it can.

    Args:
      state: the state in a workdir.
      here: what `captured` returns for the model.
    """
    files: list[Any] = [state, *state.tickets, *([state.start] if state.start else [])]
    if not all(_shapes_and_types(vars(file)[name]) == _shapes_and_types(here[name])
               for file in files for name in here.keys() & vars(file)):
        return "its arrays must be those of the model and its optimizer"
    masks = state.tickets[-1].masks if state.tickets else here["masks"]
    if not all(np.array_equal(state.masks[name], mask) for name, mask in masks.items()) \
            or state.round["density"] != mask_arrays.density(masks):
        return "its masks must be those of its level"
    if state.first_epoch > state.epoch:
        return "its epoch must not be before its first"
    return None


def _shapes_and_types(part: Any) -> Any:
    # The names, shapes and types of arrays by name, arrays in order, or counters.
    if isinstance(part, Mapping):
        return {name: _shapes_and_types(item) for name, item in part.items()}
    if isinstance(part, list):
        return [*map(_shapes_and_types, part)]
    return (part.shape, part.dtype) if isinstance(part, np.ndarray) else type(part)
