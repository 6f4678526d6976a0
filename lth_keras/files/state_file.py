"""The state file: a search in `fit` between two epochs, as one safetensors file.

Layout: tensors "weights/<name>", "masks/<name>", "thresholds/<name>", "optimizer/<number>",
"draws/<number>" and "callbacks/<number>"; the rest is JSON in the head.  A state is read as
untrusted: what is returned has the types that are stated here, or a `WorkdirError` is raised.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import WorkdirError
from lth_keras.files.json_checks import (
    ANYTHING,
    finite,
    is_whole,
    misfits,
    NUMBER,
    NUMBER_OR_NONE,
    numbers,
)
from lth_keras.files.tensor_file import joined, Kind
from lth_keras.files.ticket import Ticket

# In order, so that the columns of results and of Keras' History keep theirs.
STATE = Kind("state", "lth_keras_state", 2, WorkdirError, {
    "weights": dict, "masks": dict, "thresholds": dict, "optimizer": list, "draws": list,
    "callbacks": list}, ordered=True, earlier=(1,))
START = Kind("start", "lth_keras_start", 1, WorkdirError, {"weights": dict, "optimizer": list})

# What the heads hold, as `json_checks.is_of` takes it.
_START_HEAD = {"counters": [{str: int}]}
_ROUND = {"level": is_whole, "density": NUMBER, "steps": is_whole, "epochs": is_whole,
          "over": bool, "loss": NUMBER_OR_NONE, "seconds": NUMBER, "logs": {str: NUMBER},
          "best": (None, [NUMBER, is_whole])}
_OF_CALLBACK = ({"plain": ANYTHING}, {"array": is_whole}, {"arrays": [is_whole, is_whole]})
_HEAD: dict[str, Any] = {
    "settings": {str: ANYTHING}, "epoch": is_whole, "first_epoch": is_whole, "round": _ROUND,
    "rows": [{str: (str, bool, *NUMBER_OR_NONE)}],
    "restored": [{"weights": is_whole, "statistics": is_whole, "slots": is_whole,
                  "iterations": is_whole, "learning_rate": NUMBER_OR_NONE}],
    "history": {"epochs": [is_whole], "logs": {str: [ANYTHING]}},
    **_START_HEAD, "callbacks": [{str: _OF_CALLBACK}], "files": {str: str}}


@dataclasses.dataclass(frozen=True, eq=False)
class RewindPoint:
    """The model and its optimizer at step k, where every round starts.

    Attributes:
      weights: every weight by name: theta_k.
      optimizer: the optimizer's variables in its own order.
      counters: what the optimizer counts in Python; a mapping an optimizer.
    """

    weights: dict[str, Array]
    optimizer: list[Array]
    counters: list[dict[str, int]]


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """A search between two epochs.

    Attributes:
      settings: what the search was asked for; name -> what JSON can hold.
      epoch: the next epoch to train, as `fit` counts them.
      first_epoch: the first that the search trained.
      round: the record of the round; see `keras2.fit.round_record.Round.to_dict`.
      rows: those of the levels that are finished.
      restored: what each rewinding restored.
      history: Keras' History: "epochs", and "logs" by name.
      counters: what the optimizer counts in Python; a mapping an optimizer.
      callbacks: a mapping of attributes for each round callback; values are what JSON can
        hold, arrays, or lists of arrays.
      weights: every weight by name.
      masks: weight name -> uint8 mask.
      thresholds: weight name -> what tfmot's summaries show for it.
      optimizer: the optimizer's variables in its own order.
      draws: the states of the layers' random generators; under a strategy of several replicas
        then what each has for itself of a weight, of which `weights` has the mean.
      files: the mark of each other file of the workdir (see `files.checksums.mark`), by its name
        there; from a state of format 1 the SHA-256 alone.
      start: the model and the optimizer at step k, once that is reached; a file of its own.
      tickets: those of level 0, 1, ... up to the round's; none before step k.  Files too.
    """

    settings: dict[str, Any]
    epoch: int
    first_epoch: int
    round: dict[str, Any]
    rows: list[dict[str, Any]]
    restored: list[dict[str, Any]]
    history: dict[str, Any]
    counters: list[dict[str, int]]
    callbacks: list[dict[str, Any]]
    weights: dict[str, Array]
    masks: dict[str, Array]
    thresholds: Arrays
    optimizer: list[Array]
    draws: list[Array]
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    start: RewindPoint | None = None
    tickets: Sequence[Ticket] = ()


def encode(state: State) -> bytes:
    """The bytes of a state file; equal states give equal bytes."""
    kept: list[Array] = []  # The callbacks' arrays, which the head names by number.
    head = {name: getattr(state, name) for name in _HEAD}
    head["callbacks"] = [{name: _shelve(value, kept) for name, value in attributes.items()}
                         for attributes in state.callbacks]
    return STATE.encode(finite(head), joined({
        part: kept if part == "callbacks" else getattr(state, part) for part in STATE.parts}))


def decode(data: bytes) -> State:
    """The state in a file's bytes, which may be anything.

    Raises:
      WorkdirError: if they are not a whole, unaltered state.
    """
    head, parts = _decode(STATE, data, _HEAD)
    kept = parts.pop("callbacks")
    head["callbacks"] = [{name: _unshelve(entry, kept) for name, entry in attributes.items()}
                         for attributes in head["callbacks"]]
    return State(**head, **parts)


def encode_start(start: RewindPoint) -> bytes:
    """The bytes of a start file; equal starts give equal bytes."""
    return START.encode({"counters": start.counters}, joined(
        {"weights": start.weights, "optimizer": start.optimizer}))


def decode_start(data: bytes) -> RewindPoint:
    """The start in a file's bytes, which may be anything.

    Raises:
      WorkdirError: if they are not a whole, unaltered start.
    """
    head, parts = _decode(START, data, _START_HEAD)
    return RewindPoint(**head, **parts)


def ticket_name(level: int) -> str:
    """Where the ticket of a level lies in the workdir."""
    return f"level_{level:02d}/ticket.safetensors"


def _decode(kind: Kind, data: bytes, shape: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    head, tensors = kind.decode(data)
    for array in tensors.values():  # Tickets share theta_k, and criteria are handed it.
        array.setflags(write=False)
    try:
        head = numbers(head)
    except RecursionError:
        raise WorkdirError(f"not a {kind.what}: its head is nested too deeply.") from None
    if wrong := misfits(head, shape):
        raise WorkdirError(f"a {kind.what}'s head must hold {', '.join(shape)}. Received: wrong "
                           f"or missing {', '.join(wrong)!r:.200}.")
    return head, kind.split(tensors)


def _shelve(value: Any, kept: list[Array]) -> dict[str, Any]:
    first = len(kept)
    if isinstance(value, np.ndarray):
        kept.append(value)
        return {"array": first}
    if isinstance(value, list) and value and all(isinstance(item, np.ndarray) for item in value):
        kept += value
        return {"arrays": [first, len(kept)]}
    return {"plain": value}


def _unshelve(entry: dict[str, Any], kept: list[Array]) -> Any:
    (kind, value), = entry.items()
    if kind == "plain":
        return value
    first, end = value if kind == "arrays" else (value, value + 1)
    if not first < end <= len(kept):
        raise WorkdirError("a state's callbacks must be plain values and arrays that it has. "
                           f"Received: {entry!r:.60}.")
    return kept[first:end] if kind == "arrays" else kept[first]
