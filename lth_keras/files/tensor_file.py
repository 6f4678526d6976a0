"""Files of arrays: safetensors files with a JSON head and a SHA-256 checksum of all contents.

The head is the file's only metadata entry, so that equal contents give equal bytes.  A file is read
as untrusted: no pickle, no code, no more memory than its own size; and an error of the file's kind
if it is not whole and unaltered.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.files import atomic, checksums

LONGEST_HEADER = 16 * 2**20  # Bytes; a ticket of 1,000 weights needs about 0.2 MiB.


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
      what: its name in errors, such as "ticket".
      key: the name of its metadata entry.
      version: the number of the format that is written.
      error: the type of error that is raised if a file is not of this kind.
      parts: the groups that its arrays are divided into, by name: dict for a group of named arrays,
        list for arrays in order.
      ordered: whether mappings in the head keep their order. If not, they are sorted, so that equal
        heads give equal bytes.
      earlier: the numbers of other formats that can be read.

    Example:
      >>> kind = Kind("score file", "scores", 1, LotteryError, {"scores": dict})
      >>> data = kind.encode({"level": 2}, joined({"scores": {"w": np.ones(2)}}))
      >>> head, tensors = kind.decode(data)
      >>> head, kind.split(tensors)
      ({'level': 2}, {'scores': {'w': array([1., 1.])}})
    """

    what: str
    key: str
    version: int
    error: type[LotteryError]
    parts: Mapping[str, type] = dataclasses.field(default_factory=dict)
    ordered: bool = False
    earlier: tuple[int, ...] = ()

    def encode(self, head: dict[str, Any], tensors: Arrays) -> bytes:
        """Returns the bytes of a file.

        Args:
          head: JSON values by name; "format" and "sha256" are added.
          tensors: name -> array of a number type that safetensors supports.
        """
        # safetensors takes only arrays in C order and in this machine's byte order.
        plain = {name: np.asarray(value, value.dtype.newbyteorder("="), order="C")
                 for name, value in tensors.items()}
        head = checksums.signed({"format": self.version, **head}, plain)
        text = json.dumps(head, separators=(",", ":")) if self.ordered \
            else checksums.canonical_json(head)
        # Only one entry, since safetensors writes several in a random order.
        data: bytes = safetensors.numpy.save(plain, {self.key: text})
        return data

    def decode(self, data: bytes) -> tuple[dict[str, Any], Arrays]:
        """Reads the head and the arrays from a file's bytes, which may be anything.

        Raises:
          LotteryError: of the type `error`, if they are not a whole, unaltered file of this kind.
        """
        header = self._check_header(data[:8], len(data))
        try:
            metadata = json.loads(data[8:8 + header]).get("__metadata__", {})
            text = metadata.get(self.key)
            head = None if text is None else json.loads(text)
            tensors: Arrays = safetensors.numpy.load(data)
        except Exception as error:  # safetensors and json raise many types on bad bytes.
            raise self.error(f"not a {self.what}, or a damaged one: "
                             f"{str(error)!r:.200}") from None
        if text is None:
            raise self.error(f"a safetensors file, but not a {self.what}: its metadata has no "
                             f"{self.key!r} entry.")
        if not isinstance(head, dict):
            raise self.error(f"a {self.what}'s metadata must be a JSON object. "
                             f"Received: {text:.60}.")
        try:
            head = checksums.verified(head, tensors)
        except (ValueError, RecursionError):
            raise self.error(f"the {self.what} was altered or damaged: its contents do not match "
                             "its SHA-256. Fetch or make it again.") from None
        version = head.pop("format", None)
        if type(version) is not int or version not in (self.version, *self.earlier):
            raise self.error(f"this version reads {self.what} format {self.version}. Received: "
                             f"format {version!r:.60}; try a newer lth_keras.")
        return head, tensors

    def split(self, tensors: Arrays) -> dict[str, Any]:
        """Returns the parts that `joined` was given.

        Raises:
          LotteryError: of the type `error`, if a tensor belongs to no part or a list has gaps.
        """
        parts: dict[str, dict[str, Array]] = {part: {} for part in self.parts}
        for key, value in sorted(tensors.items()):  # safetensors gives them in any order.
            part, _, name = key.partition("/")
            if part not in parts or not name:
                raise self.error(f"a {self.what} holds the tensors of {', '.join(parts)} alone. "
                                 f"Received: a tensor {key!r:.100}.")
            parts[part][name] = value
        return {part: arrays if self.parts[part] is dict else self._in_order(arrays)
                for part, arrays in parts.items()}

    def _in_order(self, arrays: dict[str, Array]) -> list[Array]:
        names = [str(number) for number in range(len(arrays))]
        if arrays.keys() != {*names}:
            raise self.error(f"a {self.what}'s lists of tensors must be numbered from 0. "
                             f"Received: {sorted(arrays)!r:.60}.")
        return [arrays[name] for name in names]

    def load(self, path: "str | os.PathLike[str]") -> bytes:
        """Reads the bytes of a file of any size, if it begins like a safetensors file.

        Raises:
          LotteryError: of the type `error`, if it does not or cannot be read.
        """
        try:
            with atomic.opened(path) as (file, size):
                start = file.read(8)
                # Checked before the rest of the file, which may be huge, is read into memory.
                self._check_header(start, size)
                return start + file.read(size)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror or error}.") from None

    def _check_header(self, start: bytes, size: int) -> int:
        declared = int.from_bytes(start, "little")
        if declared > min(LONGEST_HEADER, size - 8):
            raise self.error(f"not a whole {self.what}: its header claims {declared:,} bytes, of "
                             f"{size:,} in the file and {LONGEST_HEADER:,} allowed.")
        return declared


def joined(parts: "Mapping[str, Arrays | Sequence[Array]]") -> dict[str, Array]:
    """Gives the arrays of all parts unique names, as they are stored in a file.

    Example:
      >>> [*joined({"weights": {"w": np.zeros(2)}, "draws": [np.ones(1), np.ones(2)]})]
      ['weights/w', 'draws/0', 'draws/1']
    """
    return {f"{part}/{name}": value for part, arrays in parts.items() for name, value
            in (arrays.items() if isinstance(arrays, Mapping) else enumerate(arrays))}
