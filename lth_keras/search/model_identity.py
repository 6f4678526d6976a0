"""Describes a compiled model, to recognise it in another process."""

import json
import re
import weakref
from typing import Any

import numpy as np

from lth_keras.core.structures.words import named
from lth_keras.files.provenance import fingerprint
from lth_keras.search.network import Network


def of(network: Network, compiled: bool) -> dict[str, Any]:
    """Returns the properties of a compiled model that decide the bits of its training.

    Args:
      network: the model.
      compiled: whether XLA compiles its training step.

    Returns:
      Name -> JSON value; equal for equal models.  The code of a user's layers and losses is not
      described.
    """
    model, optimizer = network.model, network.model.optimizer
    described = {"weights": {name: [list(shape), kind] for name, (shape, kind)
                             in network.weight_types().items()},
                 "prunable": sorted(network.prunable), **named(network.structures)}
    if optimizer not in _first:
        _first[optimizer] = _config(optimizer)
    return {"network": fingerprint(described), "loss": _described(model.loss),
            "jit_compile": compiled, "optimizer": type(optimizer).__name__, **_first[optimizer]}


# Each optimizer's settings when it was first seen, because get_config returns the current learning
# rate, which a schedule or a user may have changed since.
_first: "weakref.WeakKeyDictionary[Any, dict[str, Any]]" = weakref.WeakKeyDictionary()


def _config(optimizer: Any) -> dict[str, Any]:
    try:
        config = optimizer.get_config()
    except Exception:  # An optimizer of the user's own need not have one.
        return {}
    # Keras 3 numbers the names of optimizers over the whole process.
    return {f"optimizer.{name}": _described(value) for name, value in _unnumbered(config).items()}


def _unnumbered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: re.sub(r"_\d+$", "", item) if name == "name" and isinstance(item, str)
                else _unnumbered(item) for name, item in value.items()}
    return [*map(_unnumbered, value)] if isinstance(value, (list, tuple)) else value


def _described(value: Any) -> Any:
    # As JSON without memory addresses, so that the same script gives the same description.
    def other(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        config = getattr(value, "get_config", None)
        return [getattr(value, "__name__", type(value).__name__), config() if config else None]
    return json.loads(json.dumps(value, default=other))
