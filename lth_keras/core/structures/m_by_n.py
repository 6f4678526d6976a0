"""N:M sparsity: of every n consecutive inputs of an output, m are pruned.

This is tfmot's `sparsity_m_by_n=(m, n)`; sparse tensor cores accelerate (2, 4) (Mishra et al.
2021, arXiv:2104.08378).  A kernel's last two axes must be its inputs and outputs, which those of
transposed and depthwise convolutions are not (`structure.check_axes`).  In kernels of rank 2
and 4, the inputs of each output and position are divided into groups of n.  A smaller group at the
end keeps as many weights as a whole group, if it has that many.
"""

import dataclasses
import re
from typing import Any

import numpy as np

from lth_keras.core.structures.structure import Array, Structure
from lth_keras.core.structures.tfmot_arguments import check_pair, check_pooling, pooling_option
from lth_keras.errors import LotteryError

_WORD = re.compile(r"([0-9]{1,4}):([0-9]{1,4})")


@dataclasses.dataclass(frozen=True)
class MByN(Structure):
    """Prunes m of every n weights, the same number in each round.

    Attributes:
      m: how many weights of a group are pruned in the end, in [1, n).
      n: how many weights a group has.
      block_pooling_type: has no effect; it is kept so that saved models keep their arguments.

    Raises:
      LotteryError: if a value is not allowed.

    Example:
      >>> weight = np.array([[3.0, 1.0], [1.0, 1.0], [4.0, 5.0], [1.0, 9.0]])
      >>> MByN(2, 4).prune(weight, np.ones((4, 2)), level=1, rounds=1)
      array([[1, 0],
             [0, 0],
             [1, 1],
             [0, 1]], dtype=uint8)
    """

    m: int
    n: int
    block_pooling_type: str = "AVG"

    word = "M:N, such as 2:4, for M pruned of every N inputs of an output"
    needs = "weights of rank 2 or 4"
    by_rounds = by_axes = True

    def __post_init__(self) -> None:
        m, n = check_pair("sparsity_m_by_n", (self.m, self.n), (2, 4))
        if m >= n:
            raise LotteryError("sparsity_m_by_n must prune m of every n, 1 <= m < n. "
                               f"Received: ({m}, {n}).")
        check_pooling(self.block_pooling_type)

    @classmethod
    def from_word(cls, word: str) -> "Structure | None":
        match = _WORD.fullmatch(word)
        return cls(int(match[1]), int(match[2])) if match else None

    def __str__(self) -> str:
        return f"{self.m}:{self.n}"

    @property
    def options(self) -> dict[str, Any]:
        return {**pooling_option(self.block_pooling_type), "sparsity_m_by_n": [self.m, self.n]}

    def fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) in (2, 4)

    def check_rounds(self, rounds: int) -> None:
        """Raises LotteryError if m cannot be divided equally among the rounds.

        Example:
          >>> MByN(2, 4).check_rounds(2)
        """
        if rounds and self.m % rounds:
            allowed = " or ".join(str(count) for count in range(1, self.m + 1)
                                  if self.m % count == 0)
            raise LotteryError(f"A search for {self} sparsity prunes {self.m} of every {self.n} "
                               "weights in total, the same number in each round, so rounds must be "
                               f"{allowed}. Received: rounds={rounds}.")

    def check_scope(self, scope: str) -> None:
        if scope != "layer":
            raise LotteryError(f"{self} sparsity compares the scores of a group alone, so scope "
                               f"must be layer. Received: {scope!r}.")

    def prune(self, scores: Array, mask: Array, level: int, rounds: int) -> Array:
        """Prunes the lowest of every n until m x level / rounds are pruned; ties by position.

        Raises:
          LotteryError: if all rounds have been pruned already.
        """
        if level > rounds:
            raise LotteryError(f"{self} sparsity is reached after rounds={rounds}, and nothing is "
                               f"pruned beyond it. Received: level {level}.")
        kept = self._groups(mask != 0, False)
        # Pruned weights and padding come first, so that they are counted as pruned. lexsort is
        # stable: equal scores are pruned in order of position.
        order = np.lexsort((self._groups(scores), kept), axis=-1)
        kept = kept.astype(np.uint8)
        np.put_along_axis(kept, order[..., :self.m * level // max(rounds, 1)], 0, axis=-1)
        return _ungrouped(kept, np.shape(mask))

    def obeys(self, mask: Array) -> bool:
        kept = np.count_nonzero(self._groups(mask != 0), axis=-1)
        return bool(np.all(kept <= self.n - self.m))

    def shuffled(self, mask: Array, rng: np.random.Generator) -> Array:
        """Permutes the mask within each group."""
        if np.all(mask):  # A weight that stays dense need not fit.
            return mask
        groups = self._groups(mask)
        drawn = np.where(self._groups(np.ones_like(mask)), rng.random(groups.shape), 2.0)
        # Each group keeps its lowest draws, as many as before; padding has a draw above all others.
        ranks = np.argsort(np.argsort(drawn, axis=-1), axis=-1)
        kept = np.count_nonzero(groups, axis=-1)[..., None]
        return _ungrouped((ranks < kept).astype(np.uint8), mask.shape)

    # Reshapes (..., inputs, outputs) to (..., outputs, groups, n), padded at the end of the inputs.

    def _groups(self, array: Array, fill: Any = 0) -> Array:
        rows = np.moveaxis(array, -2, -1)
        padding = [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % self.n)]
        return np.pad(rows, padding, constant_values=fill).reshape(*rows.shape[:-1], -1, self.n)


def _ungrouped(groups: Array, shape: tuple[int, ...]) -> Array:
    rows = groups.reshape(*groups.shape[:-2], -1)[..., :shape[-2]]
    return np.ascontiguousarray(np.moveaxis(rows, -1, -2))
