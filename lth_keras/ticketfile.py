"""The ticket file: one safetensors file, and what may be in it.

Layout: a tensor "weights/<name>" for each weight of theta_k, a uint8 tensor
"masks/<name>" for each prunable weight, and one metadata entry whose JSON holds the
level, the provenance and a SHA-256 of all of it.  Nothing in it depends on when or
where it was made, so equal tickets are equal files.

Every file is read as untrusted: no pickle, no code, sizes bounded by the file's own,
and a clear `TicketError` for anything that is not a whole, unaltered ticket.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from lth_keras import files
from lth_keras.errors import TicketError
from lth_keras.masks import Array, Arrays

FORMAT = 1
KEY = "lth_keras"
LONGEST_HEADER = 16 * 2**20  # Bytes; a ticket of 1,000 weights needs about 0.2 MiB.


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
                          f"Received: {contents.level!r}.")
    if not masks:
        raise TicketError("A ticket needs at least one mask. Received: none.")
    for name, mask in masks.items():
        if name not in weights:
            raise TicketError(f"Every mask needs its weight. Received: a mask for {name!r}, "
                              f"weights {sorted(weights)}.")
        if np.shape(mask) != np.shape(weights[name]):
            raise TicketError(f"A mask must have its weight's shape. Received: {name!r} with "
                              f"mask {np.shape(mask)}, weight {np.shape(weights[name])}.")
        other = int(np.count_nonzero((mask != 0) & (mask != 1)))
        if other:
            raise TicketError(f"A mask holds 0 and 1 alone. Received: {other} other values "
                              f"in the mask of {name!r}.")
    for name, weight in weights.items():
        if weight.dtype.kind not in "fiub":
            raise TicketError(f"A weight must be of a real number type that NumPy has. "
                              f"Received: {name!r} of {weight.dtype}.")
        bad = int(np.count_nonzero(~np.isfinite(weight)))
        if bad:
            raise TicketError(f"A ticket's weights must be finite. Received: {bad} NaN or "
                              f"infinite values in {name!r}.")
    return contents


def write(path: "str | os.PathLike[str]", contents: Contents) -> None:
    """Writes a ticket file, atomically; equal contents give equal bytes."""
    check(contents)
    masks = {name: np.asarray(mask, np.uint8) for name, mask in contents.masks.items()}
    tensors = {f"weights/{name}": np.ascontiguousarray(value)
               for name, value in contents.weights.items()}
    tensors |= {f"masks/{name}": np.ascontiguousarray(value) for name, value in masks.items()}
    head = {"format": FORMAT, "level": contents.level, "provenance": contents.provenance}
    head["sha256"] = _digest(head, tensors)
    # One entry only: safetensors writes several in no fixed order.
    metadata = {KEY: files.canonical_json(head)}
    files.write(path, safetensors.numpy.save(tensors, metadata))


def read(path: "str | os.PathLike[str]") -> Contents:
    """Reads a ticket file.

    Raises:
      TicketError: if it is missing, truncated, altered, foreign or hostile.
    """
    path = pathlib.Path(path)
    head, tensors = _open(path)
    parts: dict[str, dict[str, Array]] = {"weights": {}, "masks": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part not in parts or not name:
            raise TicketError(f"{path}: a ticket holds weights/<name> and masks/<name> alone. "
                              f"Received: a tensor {key!r}.")
        parts[part][name] = value
    for name, mask in parts["masks"].items():
        if mask.dtype != np.uint8:
            raise TicketError(f"{path}: a mask must be of type uint8. Received: {name!r} of "
                              f"{mask.dtype}.")
    if head.get("format") != FORMAT:
        raise TicketError(f"{path}: this version reads ticket format {FORMAT}. Received: "
                          f"format {head.get('format')!r}; try a newer lth_keras.")
    if not isinstance(head.get("provenance"), dict):
        raise TicketError(f"{path}: a ticket's provenance must be a JSON object. "
                          f"Received: {head.get('provenance')!r:.60}.")
    contents = Contents(parts["weights"], parts["masks"], head.get("level", -1),
                        head["provenance"])
    stated = head.pop("sha256", None)
    if stated != _digest(head, tensors):
        raise TicketError(f"{path}: the ticket was altered or damaged: its contents do not "
                          "match its SHA-256. Fetch or make it again.")
    try:
        return check(contents)
    except TicketError as error:
        raise TicketError(f"{path}: {error}") from None


def _open(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        with open(path, "rb") as file:
            declared = int.from_bytes(file.read(8), "little")
        if declared > min(LONGEST_HEADER, path.stat().st_size - 8):
            raise TicketError(f"{path}: not a whole safetensors file: its header claims "
                              f"{declared:,} bytes, the file has {path.stat().st_size:,}.")
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise TicketError(f"{path}: a safetensors file, but not a ticket: its metadata "
                                  f"has no {KEY!r} entry.")
            head = json.loads(metadata[KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except TicketError:
        raise
    except OSError as error:
        raise TicketError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except Exception as error:  # safetensors and json raise many types on bad bytes.
        raise TicketError(f"{path}: not a ticket, or a damaged one: {error}") from None
    if not isinstance(head, dict):
        raise TicketError(f"{path}: a ticket's metadata must be a JSON object. "
                          f"Received: {type(head).__name__}.")
    return head, tensors


def _digest(head: dict[str, Any], tensors: Arrays) -> str:
    digest = hashlib.sha256(files.canonical_json(head).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"\n{key} {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
