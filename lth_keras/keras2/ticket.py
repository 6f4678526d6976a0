"""The ticket: theta_k, the mask, and where they came from."""

import dataclasses
import os
from typing import Any

import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Arrays
from lth_keras.errors import TicketError
from lth_keras.files import ticket_file
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import masked, named_weights, wrappers
from lth_keras.keras2.masking.wrap import wrap_named


@dataclasses.dataclass(frozen=True, eq=False)
class Ticket:
    """A sparse network before its training: what is needed to train it again elsewhere.

    Attributes:
      weights: name -> array, theta_k of every weight, biases and statistics included.
      masks: name -> uint8 array of 0/1 with its weight's shape, for the prunable weights.
      level: how many times the network has been pruned, >= 0.
      provenance: package versions, settings and their fingerprint, seed, metrics.

    Raises:
      TicketError: when made from parts that do not fit each other.

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
        ticket_file.check(self._contents())

    @property
    def density(self) -> float:
        """The fraction of prunable weights kept, in [0, 1]: the paper's P_m."""
        return mask_arrays.density(self.masks)

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Writes the ticket as one safetensors file; equal tickets give equal bytes."""
        ticket_file.write(path, self._contents())

    @classmethod
    def load(cls, path: "str | os.PathLike[str]") -> "Ticket":
        """Reads a ticket.

        Raises:
          TicketError: if the file is missing, truncated, altered, foreign or hostile.
        """
        contents = ticket_file.read(path)
        return cls(contents.weights, contents.masks, contents.level, contents.provenance)

    def apply(self, model: Any) -> Any:
        """Puts the ticket into a freshly built model of the same architecture.

        Args:
          model: a built model.  One that is wrapped already must prune the same weights; one
            that is not gets wrapped.  Compile it afterwards, so that its optimizer is fresh.

        Returns:
          The wrapped model (the one given, if it was wrapped), with survivors at theta_k,
          pruned weights at zero and masks enforced.

        Raises:
          TicketError: if weights differ in name, shape or in being prunable; the model is
            then unchanged.
        """
        if not model.built:
            raise TicketError("A ticket needs a model that is built: start it with "
                              "keras.layers.Input(shape), or call model.build(input_shape). "
                              f"Received: {model.name!r}, which has no weights yet.")
        self._check_fits(model)
        if not wrappers(model):
            model = wrap_named(model, self.masks.keys())
        prunable = set(masked(model))
        if prunable != set(self.masks):
            raise TicketError(
                "The model must prune the weights that the ticket does. Received: prunable in "
                f"the ticket alone {sorted(set(self.masks) - prunable)}, in the model alone "
                f"{sorted(prunable - set(self.masks))}.")
        variables = named_weights(model)
        for name, value in mask_arrays.apply(self.weights, self.masks).items():
            variables[name].assign(value)
        rewinding.assign_masks(model, self.masks)
        return model

    def _check_fits(self, model: Any) -> None:
        there = {name: tuple(variable.shape) for name, variable in named_weights(model).items()}
        here = {name: np.shape(value) for name, value in self.weights.items()}
        wrong = [f"{name!r}: ticket {here.get(name, 'has none')}, "
                 f"model {there.get(name, 'has none')}"
                 for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
        if wrong:
            raise TicketError("The model's weights must have the ticket's names and shapes. "
                              f"Received {len(wrong)} that differ: {'; '.join(wrong[:6])}.")

    def summary(self) -> str:
        """A table of the ticket's weights: name, shape, kept, density.

        Example:
          >>> print(Ticket({"w": np.ones((2, 2))}, {"w": np.eye(2)}, level=1).summary())
          ticket of level 1: 2 of 4 prunable weights kept, density 50.00%
          weight  shape      kept   density
          w       (2, 2)        2    50.00%
        """
        width = max(len("weight"), *(len(name) for name in self.weights))
        lines = [f"ticket of level {self.level}: {mask_arrays.kept(self.masks):,} of "
                 f"{mask_arrays.size(self.masks):,} prunable weights kept, "
                 f"density {self.density:.2%}",
                 f"{'weight':{width}}  {'shape':<8} {'kept':>6} {'density':>9}"]
        for name, weight in self.weights.items():
            mask = self.masks.get(name)
            kept = weight.size if mask is None else int(np.count_nonzero(mask))
            share = "not pruned" if mask is None else f"{kept / max(weight.size, 1):9.2%}"
            lines.append(f"{name:{width}}  {np.shape(weight)!s:<8} {kept:>6} {share:>9}")
        return "\n".join(lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ticket) and all(
            _same(mine, theirs) for mine, theirs in ((self.weights, other.weights),
                                                     (self.masks, other.masks))
        ) and (self.level, self.provenance) == (other.level, other.provenance)

    __hash__ = None  # type: ignore[assignment]

    def _contents(self) -> ticket_file.Contents:
        return ticket_file.Contents(self.weights, self.masks, self.level, self.provenance)


def _same(first: Arrays, second: Arrays) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name])
        for name in first)
