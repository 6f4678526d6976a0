"""Blocks: rectangles of a matrix's inputs and outputs that are kept or pruned as a whole.

This is tfmot's `block_size` and `block_pooling_type`.  Blocks start at the first input and output;
those at the far edges may be smaller.  (There tfmot scores other blocks than it prunes.)
A kernel's last two axes must be its inputs and outputs, which those of transposed and depthwise
convolutions are not (`structure.check_axes`).  Only matrices can be pruned in blocks: kernels of
rank 2, and of 1x1 convolutions.
"""

import dataclasses
import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from lth_keras.core.structures.single_weights import SingleWeights
from lth_keras.core.structures.structure import Array, averaged, Structure
from lth_keras.core.structures.tfmot_arguments import check_pair, check_pooling, pooling_option

_WORD = re.compile(r"block_([0-9]{1,4})x([0-9]{1,4})(_max)?")


@dataclasses.dataclass(frozen=True)
class Blocks(Structure):
    """Blocks of inputs by outputs.

    Attributes:
      block_size: the inputs and outputs of a block, each >= 1.
      block_pooling_type: whether a block's score is the mean ("AVG") or the maximum ("MAX") of its
        weights' scores.

    Raises:
      LotteryError: if a value is not allowed.

    Example:
      >>> blocks = Blocks((1, 2))
      >>> str(blocks), blocks.units((300, 9))
      ('block_1x2', 1500)
      >>> blocks.unit_of((2, 3))
      array([[0, 0, 1],
             [2, 2, 3]])
      >>> blocks.unit_scores(np.array([[5.0, 1, 2, 2]]), np.ones((1, 4)))
      array([3., 2.])
    """

    block_size: tuple[int, int]
    block_pooling_type: str = "AVG"

    word = "block_HxW, such as block_1x4, for blocks of H inputs by W outputs, with _max for the " \
        "greatest score of a block in place of the average"
    needs = "matrices, of dense layers or 1x1 convolutions"
    by_axes = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_size", check_pair("block_size", self.block_size, (1, 4)))
        check_pooling(self.block_pooling_type)

    @classmethod
    def of(cls, block_size: tuple[int, int], block_pooling_type: str = "AVG") -> Structure:
        """Returns the structure of these blocks, which is "none" if a block is a single weight.

        Raises:
          LotteryError: if a value is not allowed.

        Example:
          >>> str(Blocks.of((1, 4))), str(Blocks.of((1, 1)))
          ('block_1x4', 'none')
        """
        blocks = cls(block_size, block_pooling_type)
        return SingleWeights(block_pooling_type) if blocks.block_size == (1, 1) else blocks

    @classmethod
    def from_word(cls, word: str) -> "Structure | None":
        match = _WORD.fullmatch(word)
        if match is None:
            return None
        height, width, most = match.groups()
        return cls.of((int(height), int(width)), "MAX" if most else "AVG")

    def __str__(self) -> str:
        pooling = "_max" if self.block_pooling_type == "MAX" else ""
        return "block_{}x{}{}".format(*self.block_size, pooling)

    @property
    def options(self) -> dict[str, Any]:
        return {"block_size": list(self.block_size), **pooling_option(self.block_pooling_type)}

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) >= 2 and set(shape[:-2]) <= {1}

    def unit_of(self, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
        row, column = (np.arange(length) // step for length, step
                       in zip(shape[-2:], self.block_size, strict=True))
        return (row[:, None] * self._counts(shape)[1] + column).reshape(shape)

    def units(self, shape: tuple[int, ...]) -> int:
        return math.prod(self._counts(shape))

    def unit_scores(self, scores: Array, mask: Array) -> Array:
        if self.block_pooling_type == "MAX":
            # The maximum over kept weights, whose scores may all be below 0.
            return self._reduced(np.maximum, np.where(mask != 0, scores, -np.inf))
        # Not the base class' sums: the order of additions decides the last bit, and a search that
        # an earlier version began must be resumed with the same bits.
        sums: Any = self._reduced(np.add, averaged(scores, mask))
        averages: Array = sums / self._reduced(np.add, np.ones(mask.shape))
        return averages

    def _counts(self, shape: tuple[int, ...]) -> list[int]:
        return [-(-length // step) for length, step
                in zip(shape[-2:], self.block_size, strict=True)]

    def _reduced(self, operation: np.ufunc, array: Array) -> Array:
        array = array.reshape(array.shape[-2:])
        for axis, step in enumerate(self.block_size):
            array = operation.reduceat(array, np.arange(0, array.shape[axis], step), axis=axis)
        return array.ravel()
