"""The state file: a search in `fit` between two epochs, as one safetensors file.

Layout: tensors "weights/<name>", "masks/<name>", "thresholds/<name>", "optimizer/<number>",
"draws/<number>" and "callbacks/<number>"; the rest is JSON in the head.  A state is read as
untrusted: what is returned has the types that are stated here, or a `WorkdirError` is raised.
"""

import dataclasses
from typing import Any

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import WorkdirError
from lth_keras.files.json_checks import (
    ANYTHING,
    finite,
    is_of,
    is_whole,
    NUMBER,
    NUMBER_OR_NONE,
    numbers,
)
from lth_keras.files.tensor_file import Kind, SEARCH_STATE

STATE = SEARCH_STATE
START = Kind("start", "lth_keras_start", 1, WorkdirError)


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


def encode(state: State) -> bytes:
    """The bytes of a state file; equal states give equal bytes."""
    kept: list[Array] = []  # The callbacks' arrays, which the head names by number.
    head = {name: getattr(state, name) for name in _HEAD}
    head["callbacks"] = [{name: _shelve(value, kept) for name, value in attributes.items()}
                         for attributes in state.callbacks]
    tensors = {**_named("weights", state.weights), **_named("masks", state.masks),
               **_named("thresholds", state.thresholds),
               **_numbered("optimizer", state.optimizer), **_numbered("draws", state.draws),
               **_numbered("callbacks", kept)}
    return STATE.encode(finite(head), tensors)


def decode(data: bytes) -> State:
    """The state in a file's bytes, which may be anything.

    Raises:
      WorkdirError: if they are not a whole, unaltered state.
    """
    head, tensors = STATE.decode(data)
    try:
        head = numbers(head)
    except RecursionError:
        raise WorkdirError("not a state: its head is nested too deeply.") from None
    wrong = [name for name, shape in _HEAD.items() if not is_of(head.get(name), shape)]
    if wrong or head.keys() != _HEAD.keys():
        raise WorkdirError(f"a state's head must hold {', '.join(_HEAD)}. Received: wrong or "
                           f"missing {', '.join(wrong) or 'none'}, of {sorted(head)!r:.200}.")
    parts = _parts(tensors, ("weights", "masks", "thresholds", "optimizer", "draws", "callbacks"))
    kept = _in_order(parts["callbacks"])
    head["callbacks"] = [{name: _unshelve(value, kept) for name, value in attributes.items()}
                         for attributes in head["callbacks"]]
    return State(**head, weights=parts["weights"], masks=parts["masks"],
                 thresholds=parts["thresholds"], optimizer=_in_order(parts["optimizer"]),
                 draws=_in_order(parts["draws"]))


def encode_start(start: RewindPoint) -> bytes:
    """The bytes of a start file; equal starts give equal bytes."""
    return START.encode({"counters": start.counters}, {
        **_named("weights", start.weights), **_numbered("optimizer", start.optimizer)})


def decode_start(data: bytes) -> RewindPoint:
    """The start in a file's bytes, which may be anything.

    Raises:
      WorkdirError: if they are not a whole, unaltered start.
    """
    head, tensors = START.decode(data)
    if not is_of(head, {"counters": _COUNTERS}):
        raise WorkdirError("a start's head must hold the optimizer's counters alone. "
                           f"Received: {head!r:.60}.")
    parts = _parts(tensors, ("weights", "optimizer"))
    return RewindPoint(parts["weights"], _in_order(parts["optimizer"]), head["counters"])


# What the head holds, as `is_of` takes it.
_COUNTERS = [{str: int}]
_ROUND = {"level": is_whole, "density": NUMBER, "steps": is_whole, "epochs": is_whole,
          "over": bool, "loss": NUMBER_OR_NONE, "seconds": NUMBER, "logs": {str: NUMBER},
          "best": (type(None), lambda value: is_of(value, [NUMBER]) and len(value) == 2
                   and is_whole(value[1]))}
_HEAD: dict[str, Any] = {
    "settings": {str: ANYTHING}, "epoch": is_whole, "first_epoch": is_whole, "round": _ROUND,
    "rows": [{str: (str, bool, *NUMBER_OR_NONE)}],
    "restored": [{"weights": is_whole, "statistics": is_whole, "slots": is_whole,
                  "iterations": is_whole, "learning_rate": NUMBER_OR_NONE}],
    "history": {"epochs": [is_whole], "logs": {str: [ANYTHING]}},
    "counters": _COUNTERS, "callbacks": [{str: {str: ANYTHING}}], "files": {str: str}}


def _shelve(value: Any, kept: list[Array]) -> dict[str, Any]:
    if isinstance(value, np.ndarray):
        kept.append(value)
        return {"array": len(kept) - 1}
    if isinstance(value, list) and value and all(isinstance(item, np.ndarray) for item in value):
        kept += value
        return {"arrays": [len(kept) - len(value), len(kept)]}
    return {"plain": value}


def _unshelve(entry: dict[str, Any], kept: list[Array]) -> Any:
    if entry.keys() == {"plain"}:
        return entry["plain"]
    where: Any = entry.get("array")
    if entry.keys() == {"array"} and is_whole(where) and where < len(kept):
        return kept[where]
    ends: Any = entry.get("arrays")
    if entry.keys() == {"arrays"} and is_of(ends, [is_whole]) and len(ends) == 2 \
            and ends[0] < ends[1] <= len(kept):
        return kept[ends[0]:ends[1]]
    raise WorkdirError("a state's callbacks must be plain values and arrays that it has. "
                       f"Received: {entry!r:.60}.")


def _named(part: str, arrays: Arrays) -> dict[str, Array]:
    return {f"{part}/{name}": value for name, value in arrays.items()}


def _numbered(part: str, arrays: list[Array]) -> dict[str, Array]:
    return {f"{part}/{number}": value for number, value in enumerate(arrays)}


def _parts(tensors: Arrays, names: tuple[str, ...]) -> dict[str, dict[str, Array]]:
    parts: dict[str, dict[str, Array]] = {name: {} for name in names}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part not in parts or not name:
            raise WorkdirError(f"it may hold the tensors of {', '.join(names)} alone. "
                               f"Received: a tensor {key!r:.60}.")
        value.setflags(write=False)  # Tickets share theta_k, and criteria are handed it.
        parts[part][name] = value
    return parts


def _in_order(arrays: dict[str, Array]) -> list[Array]:
    names = [str(number) for number in range(len(arrays))]
    if set(names) != set(arrays):
        raise WorkdirError("its lists of tensors must be numbered from 0. "
                           f"Received: {sorted(arrays)!r:.60}.")
    return [arrays[name] for name in names]
