"""What makes a compiled model the same in another process, as far as it can be told."""

import json
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array
from lth_keras.core.structures.words import named
from lth_keras.files.provenance import fingerprint
from lth_keras.keras2 import rewinding
from lth_keras.keras2.fit.search_workdir import Found
from lth_keras.keras2.masking.weight_names import masked, named_weights
from lth_keras.keras2.rewinding import Snapshot


def of(model: Any) -> dict[str, Any]:
    """What of a compiled model decides the bits of its training: JSON values by name."""
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


def broken_rule(found: Found, model: Any, beside: Sequence[Any]) -> str | None:
    """What a search that was found breaks, if it cannot be one of this model; or None.

    Args:
      found: what a workdir holds.
      model: the model, wrapped and compiled.
      beside: what is kept of it beside its weights: see `State.draws`; variables.
    """
    state, start, tickets = found.state, found.start, found.tickets
    here, masks = Snapshot.of(model, rewinds=False), rewinding.read_masks(model)
    pairs = [(state.weights, here.weights), (state.masks, masks),
             (state.thresholds, thresholds(model)),
             (_numbered(state.optimizer), _numbered(here.optimizer)),
             (_numbered(state.draws), _numbered([*map(rewinding.stored, beside)])),
             *((ticket.masks, masks) for ticket in tickets)]
    if start is not None:
        pairs += [(start.weights, here.weights),
                  (_numbered(start.optimizer), _numbered(here.optimizer))]
    if any(_shapes(one) != _shapes(other) for one, other in pairs) \
            or [*map(set, state.counters)] != [*map(set, here.counters)]:
        return "its arrays must be those of the model and its optimizer"
    masks = dict(tickets[-1].masks) if tickets else masks
    if not all(np.array_equal(state.masks[name], mask) for name, mask in masks.items()) \
            or state.round["density"] != mask_arrays.density(masks):
        return "its masks must be those of its level"
    if state.first_epoch > state.epoch:
        return "its epoch must not be before its first"
    return None


def thresholds(model: Any) -> dict[str, Array]:
    """What tfmot's summaries show for each masked weight, by name."""
    return {name: rewinding.stored(item.threshold) for name, item in masked(model).items()}


def _numbered(arrays: Sequence[Array]) -> dict[str, Array]:
    return {str(number): array for number, array in enumerate(arrays)}


def _shapes(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {name: (np.shape(array), array.dtype) for name, array in arrays.items()}
