"""The ticket: theta_k, the masks and their provenance, and its file.

Layout of the file: safetensors with a tensor "weights/<name>" for each weight of theta_k, a uint8
tensor "masks/<name>" for each prunable weight, and one metadata entry of JSON with the level, the
provenance and a SHA-256 of all contents.  Nothing in the file depends on when or where it was
written, so equal tickets give equal files.  A file is read as untrusted: no pickle, no code, and a
`TicketError` if it is not a whole, unaltered ticket.
"""

import dataclasses
import json
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from lth_keras import notebook
from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import TicketError
from lth_keras.files import atomic, checksums
from lth_keras.files.engines import engine_of
from lth_keras.files.tensor_file import joined, Kind

MOST_BYTES = 2**32  # The largest ticket of unknown size that a report reads.
_FILE = Kind("ticket", "lth_keras", 1, TicketError, {"weights": dict, "masks": dict})
_NUMBERS = {np.dtype(name) for name in (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "bool")}  # The types that both NumPy and safetensors have.


@dataclasses.dataclass(frozen=True, eq=False)
class Ticket:
    """A sparse network before its training: everything that is needed to train it elsewhere.

    Trained networks are stored in the same form; `weights` are then those after training.

    Attributes:
      weights: theta_k: name -> array, for every weight, biases and statistics included.
      masks: name -> 0/1 array of the weight's shape, for the prunable weights.
      level: how many times the network has been pruned, >= 0.
      provenance: package versions, settings and their fingerprint, seed, metrics.

    Raises:
      TicketError: if there is no mask; if a mask has no weight, another shape than its weight, or
        values other than 0 and 1; if a weight is not finite; or if the level is below 0.

    Example:
      >>> import tempfile
      >>> import tf_keras as keras
      >>> ticket = Ticket({"dense/kernel": np.ones((4, 2), np.float32),
      ...                  "dense/bias": np.zeros(2, np.float32)},
      ...                 {"dense/kernel": np.eye(4, 2, dtype=np.uint8)}, level=3)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     ticket.save(folder + "/winner.ticket")
      ...     loaded = Ticket.load(folder + "/winner.ticket")
      >>> loaded.density
      0.25
      >>> model = loaded.apply(keras.Sequential([keras.layers.Input((4,)),
      ...                                        keras.layers.Dense(2)]))
      >>> int(np.count_nonzero(model.layers[0].layer.kernel))
      2

    Reference: Frankle & Carbin, ICLR 2019, section 1 ("winning tickets").
    """

    weights: Arrays
    masks: Arrays
    level: int
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.level, bool) or not isinstance(self.level, int) or self.level < 0:
            raise TicketError("A ticket's level must be a whole number >= 0. "
                              f"Received: {self.level!r:.60}.")
        if not self.masks:
            raise TicketError("A ticket needs at least one mask. Received: none.")
        for name, mask in self.masks.items():
            _check_mask(name, mask, self.weights)
        for name, weight in self.weights.items():
            _check_weight(name, weight)

    @property
    def density(self) -> float:
        """The fraction of prunable weights kept, in [0, 1]: the paper's P_m."""
        return mask_arrays.density(self.masks)

    @property
    def in_filters(self) -> bool:
        """Whether its search pruned whole filters, as its provenance says."""
        settings = self.provenance.get("settings")
        return isinstance(settings, Mapping) and settings.get("structure") == "filters"

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Writes the ticket as one safetensors file, atomically; equal tickets give equal bytes.

        Args:
          path: the file; missing folders are created.

        Raises:
          TicketError: if the file could not be loaded again; nothing is written then.
          OSError: if the file cannot be written.
        """
        atomic.write(path, self.to_bytes())

    @classmethod
    def load(cls, path: "str | os.PathLike[str]") -> "Ticket":
        """Reads a ticket from its file.

        Args:
          path: the file.

        Raises:
          TicketError: if the file is missing, truncated, altered, or not a ticket; the message
            names the file.
        """
        try:
            return cls.from_bytes(_FILE.load(path))
        except TicketError as error:
            raise TicketError(f"{path}: {error}") from None

    def to_bytes(self) -> bytes:
        """Returns the bytes of the ticket's file.

        Raises:
          TicketError: if a ticket could not be read from them again.
        """
        masks = {name: np.asarray(mask, np.uint8) for name, mask in self.masks.items()}
        try:
            provenance = json.loads(checksums.canonical_json(self.provenance))
        except (TypeError, ValueError, RecursionError) as error:
            raise TicketError("A ticket's provenance must be what JSON can hold. "
                              f"Received: {self.provenance!r:.60} ({error}).") from None
        data = _FILE.encode({"level": self.level, "provenance": provenance},
                            joined({"weights": self.weights, "masks": masks}))
        # Nobody should find out after a long training that a ticket cannot be loaded.
        type(self).from_bytes(data)
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "Ticket":
        """Reads a ticket from a file's bytes, which may be anything.

        Raises:
          TicketError: if they are not a whole, unaltered ticket.
        """
        head, tensors = _FILE.decode(data)
        parts = _FILE.split(tensors)
        for name, mask in parts["masks"].items():
            if mask.dtype != np.uint8:
                raise TicketError(f"a mask must be of type uint8. Received: {name!r:.100} of "
                                  f"{mask.dtype}.")
        if not isinstance(head.get("provenance"), dict):
            raise TicketError("a ticket's provenance must be a JSON object. "
                              f"Received: {head.get('provenance')!r:.60}.")
        return cls(**parts, level=head.get("level", -1), provenance=head["provenance"])

    def apply(self, model: Any) -> Any:
        """Puts the ticket into a freshly built model of the same architecture.

        Args:
          model: a built model.  If it is wrapped already, it must have the same prunable weights;
            otherwise it is wrapped.  Compile it afterwards, so that its optimizer is fresh.

        Returns:
          The wrapped model (the given one, if it was wrapped): survivors have their values of
          theta_k, pruned weights are zero, and training keeps them so.  In Keras 3, where nothing
          is wrapped, so does every optimizer of Keras that trains the layers, also in another
          model; `keras.models.clone_model` makes new weights, which train densely.

        Raises:
          TicketError: if the model's weights have other names or shapes, other weights are
            prunable, or there is no engine for its class; the model is not changed then.
        """
        return engine_of(model).apply_ticket(self, model)

    def carried_to(self, fresh: Arrays,
                   outputs: Collection[str]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Returns weights and masks for the same network with another output layer.

        A layer that makes outputs and has another shape, as for other classes, is drawn anew and
        dense (Morcos et al., NeurIPS 2019, arXiv:1906.02773).

        Args:
          fresh: name -> array, every weight of that network, as it is drawn.
          outputs: the layers that make its outputs, as their weights' names begin.

        Raises:
          TicketError: if other weights have other names or shapes.

        Example:
          >>> ticket = Ticket({"a/kernel": np.ones((2, 2)), "b/kernel": np.ones((2, 3))},
          ...                 {"a/kernel": np.eye(2), "b/kernel": np.zeros((2, 3))}, level=1)
          >>> weights, masks = ticket.carried_to(
          ...     {"a/kernel": np.zeros((2, 2)), "b/kernel": np.full((2, 1), 7.0)}, {"b"})
          >>> weights["b/kernel"].tolist(), masks["b/kernel"].tolist(), masks["a/kernel"].tolist()
          ([[7.0], [7.0]], [[1], [1]], [[1.0, 0.0], [0.0, 1.0]])
        """
        other = {name.rpartition("/")[0] for name, value in fresh.items()
                 if name in self.weights and np.shape(value) != np.shape(self.weights[name])}
        anew = [name for name in fresh if name.rpartition("/")[0] in other & {*outputs}]
        weights = {**self.weights, **{name: fresh[name] for name in anew}}
        masks = {**self.masks, **{name: np.ones(np.shape(fresh[name]), np.uint8)
                                  for name in anew if name in self.masks}}
        check_fits(dataclasses.replace(self, weights=weights, masks=masks),
                   {name: np.shape(value) for name, value in fresh.items()})
        return {name: weights[name] for name in fresh}, masks

    def summary(self) -> str:
        """Returns a table of the ticket's weights as text: name, shape, kept, density.

        Example:
          >>> print(Ticket({"w": np.ones((2, 2))}, {"w": np.eye(2)}, level=1).summary())
          ticket of level 1: 2 of 4 prunable weights kept, density 50.00%
          weight  shape      kept   density
          w       (2, 2)        2    50.00%
        """
        width = max(len("weight"), *(len(name) for name in self.weights))
        lines = [self._title, f"{'weight':{width}}  {'shape':<8} {'kept':>6} {'density':>9}"]
        lines += [f"{name:{width}}  {shape!s:<8} {kept:>6} {share:>9}"
                  for name, shape, kept, share in self._rows()]
        return "\n".join(lines)

    @property
    def _title(self) -> str:
        return (f"ticket of level {self.level}: {mask_arrays.kept(self.masks):,} of "
                f"{mask_arrays.size(self.masks):,} prunable weights kept, "
                f"density {self.density:.2%}")

    def _rows(self) -> Iterator[tuple[str, tuple[int, ...], int, str]]:
        # Of each weight: its name, shape, how many values are kept, and what share that is.
        for name, weight in self.weights.items():
            mask = self.masks.get(name)
            kept = weight.size if mask is None else int(np.count_nonzero(mask))
            yield (name, np.shape(weight), kept,
                   "not pruned" if mask is None else f"{kept / max(weight.size, 1):.2%}")

    def __repr__(self) -> str:
        # Without the arrays, which would fill screens in a notebook; `summary` says more.
        return (f"<Ticket of level {self.level}: {mask_arrays.kept(self.masks):,} of "
                f"{mask_arrays.size(self.masks):,} prunable weights kept>")

    def _repr_html_(self) -> str:
        return notebook.page(self._title, ("weight", "shape", "kept", "density"), (
            (name, shape, f"{kept:,}", share) for name, shape, kept, share in self._rows()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ticket) and all(
            _same(mine, theirs) for mine, theirs in ((self.weights, other.weights),
                                                     (self.masks, other.masks))
        ) and (self.level, self.provenance) == (other.level, other.provenance)

    __hash__ = None  # type: ignore[assignment]


def ticket_name(level: int) -> str:
    """Returns the path of a level's ticket, relative to the folder of its search or replicate.

    Example:
      >>> ticket_name(3)
      'level_03/ticket.safetensors'
    """
    return f"level_{level:02d}/ticket.safetensors"


def check_fits(ticket: Ticket, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that a ticket is of a model with weights of these names and shapes.

    Raises:
      TicketError: if it is not; it names those that differ.
    """
    here = {name: np.shape(value) for name, value in ticket.weights.items()}
    wrong = [f"{name!r}: ticket {here.get(name, 'has none')}, "
             f"model {shapes.get(name, 'has none')}"
             for name in sorted({*here, *shapes}) if here.get(name) != shapes.get(name)]
    if wrong:
        raise TicketError("The model's weights must have the ticket's names and shapes. "
                          f"Received {len(wrong)} that differ: {'; '.join(wrong[:6])}.")


def _check_mask(name: str, mask: Array, weights: Arrays) -> None:
    if name not in weights:
        raise TicketError(f"Every mask needs its weight. Received: a mask for "
                          f"{name!r:.100}, weights {sorted(weights)!s:.500}.")
    if np.shape(mask) != np.shape(weights[name]):
        raise TicketError(f"A mask must have its weight's shape. Received: {name!r:.100} with "
                          f"mask {np.shape(mask)}, weight {np.shape(weights[name])}.")
    other = int(np.count_nonzero((mask != 0) & (mask != 1)))
    if other:
        raise TicketError(f"A mask must contain only 0 and 1. Received: {other} other values "
                          f"in the mask of {name!r:.100}.")


def _check_weight(name: str, weight: Array) -> None:
    if weight.dtype.newbyteorder("=") not in _NUMBERS:
        raise TicketError(f"A weight must be of a real number type of NumPy. "
                          f"Received: {name!r:.100} of {weight.dtype}.")
    bad = int(np.count_nonzero(~np.isfinite(weight)))
    if bad:
        raise TicketError(f"A ticket's weights must be finite. Received: {bad} NaN or "
                          f"infinite values in {name!r:.100}.")


def _same(first: Arrays, second: Arrays) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name])
        for name in first)
