"""The ticket file: one safetensors file, and what may be in it.

Layout: a tensor "weights/<name>" for each weight of theta_k, a uint8 tensor
"masks/<name>" for each prunable weight, and one metadata entry whose JSON holds the
level, the provenance and a SHA-256 of all of it.  Nothing in it depends on when or
where it was made, so equal tickets are equal files.

Every file is read as untrusted: no pickle, no code, sizes bounded by the file's own,
and a clear `TicketError` for anything that is not a whole, unaltered ticket.
"""

import dataclasses
import json
import os
from typing import Any

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import TicketError
from lth_keras.files import atomic
from lth_keras.files.tensor_file import Kind

TICKET = Kind("ticket", "lth_keras", 1, TicketError)
_NUMBERS = {np.dtype(name) for name in (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "bool")}  # Those that both NumPy and safetensors have.


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """What a ticket file holds.

    Attributes:
      weights: name -> array, theta_k of every weight of the network.
      masks: name -> uint8 array of 0/1 with its weight's shape.
      level: how many times the network has been pruned, >= 0.
      provenance: where it came from; anything that JSON can hold.
    """

    weights: Arrays
    masks: Arrays
    level: int
    provenance: dict[str, Any]


def check(contents: Contents) -> Contents:
    """Returns the contents if they make a ticket.

    Raises:
      TicketError: for a mask without its weight or of another shape, a mask value other
        than 0 or 1, a weight that is not finite, a level below 0, no mask at all.
    """
    weights, masks = contents.weights, contents.masks
    if isinstance(contents.level, bool) or not isinstance(contents.level, int) \
            or contents.level < 0:
        raise TicketError(f"A ticket's level must be a whole number >= 0. "
                          f"Received: {contents.level!r:.60}.")
    if not masks:
        raise TicketError("A ticket needs at least one mask. Received: none.")
    for name, mask in masks.items():
        if name not in weights:
            raise TicketError(f"Every mask needs its weight. Received: a mask for "
                              f"{name!r:.100}, weights {sorted(weights)!s:.500}.")
        if np.shape(mask) != np.shape(weights[name]):
            raise TicketError(f"A mask must have its weight's shape. Received: {name!r:.100} with "
                              f"mask {np.shape(mask)}, weight {np.shape(weights[name])}.")
        other = int(np.count_nonzero((mask != 0) & (mask != 1)))
        if other:
            raise TicketError(f"A mask holds 0 and 1 alone. Received: {other} other values "
                              f"in the mask of {name!r:.100}.")
    for name, weight in weights.items():
        if weight.dtype.newbyteorder("=") not in _NUMBERS:
            raise TicketError(f"A weight must be of a real number type of NumPy. "
                              f"Received: {name!r:.100} of {weight.dtype}.")
        bad = int(np.count_nonzero(~np.isfinite(weight)))
        if bad:
            raise TicketError(f"A ticket's weights must be finite. Received: {bad} NaN or "
                              f"infinite values in {name!r:.100}.")
    return contents


def write(path: "str | os.PathLike[str]", contents: Contents) -> None:
    """Writes a ticket file, atomically; equal contents give equal bytes.

    Raises:
      TicketError: if the contents make no ticket, or none that could be read again; nothing
        is written then.
    """
    atomic.write(path, encode(contents))


def read(path: "str | os.PathLike[str]") -> Contents:
    """Reads a ticket file.

    Raises:
      TicketError: if it is missing, truncated, altered, foreign or hostile; it names the file.
    """
    try:
        return decode(TICKET.load(path))
    except TicketError as error:
        raise TicketError(f"{path}: {error}") from None


def encode(contents: Contents) -> bytes:
    """The bytes of a ticket file.

    Raises:
      TicketError: if the contents make no ticket.
    """
    check(contents)
    tensors = {f"weights/{name}": value for name, value in contents.weights.items()}
    tensors |= {f"masks/{name}": np.asarray(value, np.uint8)
                for name, value in contents.masks.items()}
    try:
        provenance = json.loads(atomic.canonical_json(contents.provenance))
    except (TypeError, ValueError, RecursionError) as error:
        raise TicketError("A ticket's provenance must be what JSON can hold. "
                          f"Received: {contents.provenance!r:.60} ({error}).") from None
    data = TICKET.encode({"level": contents.level, "provenance": provenance}, tensors)
    decode(data)  # What could not be read again is not written.
    return data


def decode(data: bytes) -> Contents:
    """The ticket in a file's bytes, which may be anything.

    Raises:
      TicketError: if they are not a whole, unaltered ticket.
    """
    return check(_contents(*TICKET.decode(data)))


def _contents(head: dict[str, Any], tensors: Arrays) -> Contents:
    parts: dict[str, dict[str, Array]] = {"weights": {}, "masks": {}}
    for key, value in sorted(tensors.items()):  # safetensors gives them in any order.
        part, _, name = key.partition("/")
        if part not in parts or not name:
            raise TicketError("a ticket holds weights/<name> and masks/<name> alone. "
                              f"Received: a tensor {key!r:.100}.")
        if part == "masks" and value.dtype != np.uint8:
            raise TicketError(f"a mask must be of type uint8. Received: {name!r:.100} of "
                              f"{value.dtype}.")
        parts[part][name] = value
    if not isinstance(head.get("provenance"), dict):
        raise TicketError("a ticket's provenance must be a JSON object. "
                          f"Received: {head.get('provenance')!r:.60}.")
    return Contents(parts["weights"], parts["masks"], head.get("level", -1), head["provenance"])
