"""What makes a compiled model the same in another process, as far as it can be told."""

import json
import weakref
from typing import Any

import numpy as np

from lth_keras.provenance import fingerprint
from lth_keras.weights import masked, named_weights


def of(model: Any) -> dict[str, Any]:
    """What of a compiled model decides the bits of its training: JSON values by name."""
    shapes = {name: [list(variable.shape), str(variable.dtype)]
              for name, variable in named_weights(model).items()}
    settings = {"network": fingerprint({"weights": shapes, "prunable": sorted(masked(model))}),
                "loss": _described(model.loss), "jit_compile": bool(model._jit_compile)}
    optimizer = model.optimizer
    settings["optimizer"] = type(optimizer).__name__
    if optimizer not in _first:
        _first[optimizer] = _config(optimizer)
    return settings | _first[optimizer]


# Each optimizer's settings when it was first seen: a config tells the learning rate of now.
_first: "weakref.WeakKeyDictionary[Any, dict[str, Any]]" = weakref.WeakKeyDictionary()


def _config(optimizer: Any) -> dict[str, Any]:
    try:
        config = optimizer.get_config()
    except Exception:  # An optimizer of the user's own need not have one.
        return {}
    return {f"optimizer.{name}": _described(value) for name, value in config.items()}


def _described(value: Any) -> Any:
    # Without addresses, so that the same script gives the same description.
    def other(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        config = getattr(value, "get_config", None)
        return [getattr(value, "__name__", type(value).__name__), config() if config else None]
    return json.loads(json.dumps(value, default=other))
