"""The state file: one safetensors file with the state of a search in `fit` between two epochs.

Layout: tensors "weights/<name>", "masks/<name>", "thresholds/<name>", "optimizer/<number>",
"draws/<number>" and "callbacks/<number>"; everything else is JSON in the head.  A file is read as
untrusted: either every value has the type that is stated here, or a `WorkdirError` is raised.
"""

import dataclasses
import functools
import itertools
import operator
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

# Ordered, so that the columns of results and of Keras' History keep their order.
STATE = Kind("state", "lth_keras_state", 2, WorkdirError, {
    "weights": dict, "masks": dict, "thresholds": dict, "optimizer": list, "draws": list,
    "callbacks": list}, ordered=True, earlier=(1,))
START = Kind("start", "lth_keras_start", 1, WorkdirError, {"weights": dict, "optimizer": list})

# The shapes of the heads, see `json_checks.is_of`.
_START_HEAD = {"counters": [{str: int}]}
_ROUND = {"level": is_whole, "density": NUMBER, "steps": is_whole, "epochs": is_whole,
          "over": bool, "loss": NUMBER_OR_NONE, "seconds": NUMBER, "logs": {str: NUMBER},
          "best": (None, [NUMBER, is_whole])}
_SOME_ROUNDS: tuple[dict[str, Any], ...] = (
    {"left": {str: NUMBER}},  # Of a search that ends by what is left.
    {"costs": {str: NUMBER}},  # Of a search for filters.
    {"rates": (None, [[is_whole, NUMBER]])},
    {"validated": is_whole})
_OF_CALLBACK = ({"plain": ANYTHING}, {"array": is_whole}, {"arrays": [is_whole, is_whole]})
_HEAD: dict[str, Any] = {
    "settings": {str: ANYTHING}, "epoch": is_whole, "first_epoch": is_whole,
    "round": tuple(functools.reduce(operator.or_, some, _ROUND)
                   for number in range(len(_SOME_ROUNDS) + 1)
                   for some in itertools.combinations(_SOME_ROUNDS, number)),
    "rows": [{str: (str, bool, *NUMBER_OR_NONE)}],
    "restored": [{"weights": is_whole, "statistics": is_whole, "slots": is_whole,
                  "iterations": is_whole, "learning_rate": NUMBER_OR_NONE}],
    "history": {"epochs": [is_whole], "logs": {str: [ANYTHING]}},
    **_START_HEAD, "callbacks": [{str: _OF_CALLBACK}], "files": {str: str}}


@dataclasses.dataclass(frozen=True, eq=False)
class RewindPoint:
    """The model and its optimizer at step k, from which every round starts.

    Attributes:
      weights: theta_k: name -> array, for every weight.
      optimizer: the optimizers' variables, in their own order.
      counters: the numbers that optimizers count in Python, one mapping for each optimizer.
    """

    weights: dict[str, Array]
    optimizer: list[Array]
    counters: list[dict[str, int]]


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """The state of a search between two epochs.

    Attributes:
      settings: the settings of the search, as JSON values by name.
      epoch: the next epoch to train, in the numbering of `fit`.
      first_epoch: the first epoch that the search trained.
      round: the current round; see `search.fit.round_record.Round.to_dict`.
      rows: the rows of the finished levels.
      restored: what each rewinding restored.
      history: Keras' History: "epochs", and "logs" by name.
      counters: the numbers that optimizers count in Python, one mapping for each optimizer.
      callbacks: the attributes of each round callback, by name: JSON values, arrays, or lists of
        arrays.
      weights: name -> array, for every weight.
      masks: weight name -> uint8 mask.
      thresholds: weight name -> the threshold that tfmot's summaries show.
      optimizer: the optimizers' variables, in their own order.
      draws: the states of the layers' random generators.  Under a distribution strategy, they are
        followed by the replicas' own values of the weights of which `weights` has the mean.
      files: the marks of the workdir's other files, by name (see `files.checksums.mark`).  A state
        of format 1 has only their SHA-256.
      start: the model and the optimizer at step k, once it is reached; stored in its own file.
      tickets: the tickets of levels 0, 1, ... up to the current one, once step k is reached; each
        is stored in its own file.
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
    """Returns the bytes of a state file; equal states give equal bytes."""
    kept: list[Array] = []  # The callbacks' arrays; the head refers to them by number.
    head = {name: getattr(state, name) for name in _HEAD}
    head["callbacks"] = [{name: _pack(value, kept) for name, value in attributes.items()}
                         for attributes in state.callbacks]
    return STATE.encode(finite(head), joined({
        part: kept if part == "callbacks" else getattr(state, part) for part in STATE.parts}))


def decode(data: bytes) -> State:
    """Reads a state from a file's bytes, which may be anything.

    Raises:
      WorkdirError: if they are not a whole, unaltered state.
    """
    head, parts = _decode(STATE, data, _HEAD)
    kept = parts.pop("callbacks")
    head["callbacks"] = [{name: _unpack(entry, kept) for name, entry in attributes.items()}
                         for attributes in head["callbacks"]]
    return State(**head, **parts)


def encode_start(start: RewindPoint) -> bytes:
    """Returns the bytes of a start file; equal starts give equal bytes."""
    return START.encode({"counters": start.counters}, joined(
        {"weights": start.weights, "optimizer": start.optimizer}))


def decode_start(data: bytes) -> RewindPoint:
    """Reads a rewind point from a file's bytes, which may be anything.

    Raises:
      WorkdirError: if they are not a whole, unaltered start.
    """
    head, parts = _decode(START, data, _START_HEAD)
    return RewindPoint(**head, **parts)



def _decode(kind: Kind, data: bytes, shape: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    head, tensors = kind.decode(data)
    # Read-only: all tickets of a search share theta_k, which is also passed to users' criteria.
    for array in tensors.values():
        array.setflags(write=False)
    try:
        head = numbers(head)
    except RecursionError:
        raise WorkdirError(f"not a {kind.what}: its head is nested too deeply.") from None
    if wrong := misfits(head, shape):
        raise WorkdirError(f"a {kind.what}'s head must hold {', '.join(shape)}. Received: wrong "
                           f"or missing {', '.join(wrong)!r:.200}.")
    return head, kind.split(tensors)


def _pack(value: Any, kept: list[Array]) -> dict[str, Any]:
    first = len(kept)
    if isinstance(value, np.ndarray):
        kept.append(value)
        return {"array": first}
    if isinstance(value, list) and value and all(isinstance(item, np.ndarray) for item in value):
        kept += value
        return {"arrays": [first, len(kept)]}
    return {"plain": value}


def _unpack(entry: dict[str, Any], kept: list[Array]) -> Any:
    (kind, value), = entry.items()
    if kind == "plain":
        return value
    first, end = value if kind == "arrays" else (value, value + 1)
    if not first < end <= len(kept):
        raise WorkdirError("a state's callbacks must be plain values and arrays that it has. "
                           f"Received: {entry!r:.60}.")
    return kept[first:end] if kind == "arrays" else kept[first]
