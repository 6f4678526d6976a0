"""Structures: patterns that weights are pruned in, for hardware that can make use of them.

    none        any weight
    2:4         of every 4 consecutive inputs of an output, 2 are pruned
    block_1x4   blocks of 1 input by 4 outputs are kept or pruned as a whole

The names and meanings are tfmot's: `sparsity_m_by_n=(2, 4)`, `block_size=(1, 4)` and
`block_pooling_type`.  A kernel's last two axes are its inputs and outputs.

Blocks count from the first input and output, and those at the far edges may be smaller (tfmot
then scores other blocks than it prunes).  A kernel has them if it is a matrix: of rank 2, or a
1x1 convolution's.  Groups of n lie along the inputs of each output (and position), in kernels of
rank 2 and 4; a smaller group at the end keeps as many as a whole one, if it has them.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lth_keras.arguments import check_choice
from lth_keras.errors import LotteryError

POOLINGS = ("AVG", "MAX")
_MOST = 9999  # Far beyond any hardware's.
_TEXT = re.compile(r"none|([0-9]{1,4}):([0-9]{1,4})|block_([0-9]{1,4})x([0-9]{1,4})(_max)?")


def _pair(name: str, value: Any) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(type(item) is int and 1 <= item <= _MOST for item in pair):
        raise LotteryError(f"{name} must be two whole numbers in [1, {_MOST:,}], such as "
                           f"{(2, 4) if name == 'sparsity_m_by_n' else (1, 4)}. "
                           f"Received: {value!r:.100}.")
    return pair


@dataclasses.dataclass(frozen=True)
class Structure:
    """A pattern of pruned weights, in tfmot's words.

    Attributes:
      block_size: inputs and outputs of a block, each >= 1.
      block_pooling_type: "AVG" or "MAX" of its scores is that of a block.
      sparsity_m_by_n: (m, n) for m pruned of every n, 1 <= m < n; or None.

    Raises:
      LotteryError: for other values, or for blocks and (m, n) together.

    Example:
      >>> str(Structure(sparsity_m_by_n=(2, 4))), str(Structure((1, 4))), str(Structure())
      ('2:4', 'block_1x4', 'none')
    """

    block_size: tuple[int, int] = (1, 1)
    block_pooling_type: str = "AVG"
    sparsity_m_by_n: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_size", _pair("block_size", self.block_size))
        check_choice("block_pooling_type", self.block_pooling_type, POOLINGS)
        if self.sparsity_m_by_n is None:
            return
        m, n = _pair("sparsity_m_by_n", self.sparsity_m_by_n)
        if m >= n:
            raise LotteryError("sparsity_m_by_n must prune m of every n, 1 <= m < n. "
                               f"Received: ({m}, {n}).")
        if self.block_size != (1, 1):
            raise LotteryError("A weight has blocks or (m, n) sparsity, not both. Received: "
                               f"block_size={self.block_size} and sparsity_m_by_n=({m}, {n}).")
        object.__setattr__(self, "sparsity_m_by_n", (m, n))

    @property
    def is_none(self) -> bool:
        """Whether any weight may be pruned."""
        return self.block_size == (1, 1) and self.sparsity_m_by_n is None

    @property
    def options(self) -> dict[str, Any]:
        """Those of its attributes that are not at their defaults, as plain data."""
        return {field.name: list(value) if isinstance(value, tuple) else value
                for field in dataclasses.fields(self)
                if (value := getattr(self, field.name)) != field.default}

    def __str__(self) -> str:
        if self.sparsity_m_by_n:
            return "{}:{}".format(*self.sparsity_m_by_n)
        pooling = "_max" if self.block_pooling_type == "MAX" else ""
        return "none" if self.is_none else "block_{}x{}{}".format(*self.block_size, pooling)


NONE = Structure()


def parse(text: Any) -> Structure:
    """The structure of a word.

    Raises:
      LotteryError: if it is none.

    Example:
      >>> parse("2:4").sparsity_m_by_n, parse("block_4x1_max").block_pooling_type
      ((2, 4), 'MAX')
    """
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise LotteryError("structure must be none, M:N such as 2:4, or block_HxW such as "
                           "block_1x4, with _max for the greatest score of a block in place of "
                           f"the average. Received: {text!r:.100}.")
    m, n, height, width, most = match.groups()
    if n:
        return Structure(sparsity_m_by_n=(int(m), int(n)))
    return Structure((int(height), int(width)), "MAX" if most else "AVG") if width else NONE


def check(structures: Mapping[str, Structure], shapes: Mapping[str, tuple[int, ...]],
          fraction: Mapping[str, float], scope: str, rounds: int) -> None:
    """A search can prune every weight, of those whose fraction is above 0, in its structure.

    Args:
      structures: weight name -> structure.
      shapes: weight name -> shape.
      fraction: weight name -> share of the remaining weights that a round prunes.
      scope: where scores are compared, see `core.pruning`.
      rounds: how many times weights are pruned.

    Raises:
      LotteryError: if it cannot.
    """
    pruned = [name for name in structures if fraction[name]]
    check_scope((structures[name] for name in pruned), scope)
    for structure in dict.fromkeys(structures[name] for name in pruned):
        check_fits(structure, {name: shapes[name] for name in pruned
                               if structures[name] == structure})
        check_rounds(structure, rounds)


def check_fits(structure: Structure, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every weight can be pruned in the structure.

    Args:
      structure: the structure.
      shapes: weight name -> shape.

    Raises:
      LotteryError: if one cannot; it names them all.
    """
    if structure.sparsity_m_by_n:
        rule = f"{structure} sparsity needs weights of rank 2 or 4"
        wrong = {name for name, shape in shapes.items() if len(shape) not in (2, 4)}
    else:
        rule = f"{structure} needs matrices, of dense layers or 1x1 convolutions"
        wrong = {name for name, shape in shapes.items()
                 if len(shape) < 2 or set(shape[:-2]) - {1}} if not structure.is_none else set()
    if wrong:
        said = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items()
                         if name in wrong)
        raise LotteryError(f"{rule}; leave other layers out by exclude=, or by a fraction of 0. "
                           f"Received: {said}.")


def check_rounds(structure: Structure, rounds: int) -> None:
    """A search of so many rounds ends in the structure.

    Each round prunes as many weights of every n, so that the last has pruned m.

    Raises:
      LotteryError: if it cannot.

    Example:
      >>> check_rounds(parse("2:4"), 1)
      >>> check_rounds(parse("2:4"), 2)
    """
    if structure.sparsity_m_by_n and rounds:
        m, n = structure.sparsity_m_by_n
        if m % rounds:
            allowed = " or ".join(str(count) for count in range(1, m + 1) if m % count == 0)
            raise LotteryError(f"A search for {m}:{n} sparsity prunes {m} of every {n} weights in "
                               f"all and as many in each round, so rounds must be {allowed}. "
                               f"Received: rounds={rounds}.")


def check_scope(structures: Iterable[Structure], scope: str) -> None:
    """Scores are compared where the structures allow it.

    Raises:
      LotteryError: for (m, n) sparsity over several weights.
    """
    found = [structure for structure in structures if structure.sparsity_m_by_n]
    if found and scope != "layer":
        raise LotteryError(f"{found[0]} sparsity compares the scores of a group alone, so scope "
                           f"must be layer. Received: {scope!r}.")


def pruned_of(structure: Structure, level: int, rounds: int) -> tuple[int, int]:
    """How many of every so many weights are pruned at a level, in (m, n) sparsity.

    Example:
      >>> [pruned_of(parse("2:4"), level, rounds=2) for level in (0, 1, 2)]
      [(0, 4), (1, 4), (2, 4)]
    """
    assert structure.sparsity_m_by_n is not None
    m, n = structure.sparsity_m_by_n
    return m * level // max(rounds, 1), n


def block_count(structure: Structure, shape: tuple[int, ...]) -> int:
    """How many blocks a weight has: what a round's fraction is taken of.

    Example:
      >>> block_count(parse("block_1x4"), (300, 10)), block_count(NONE, (300, 10))
      (900, 3000)
    """
    if structure.block_size == (1, 1):
        return math.prod(shape)
    return math.prod(-(-length // step) for length, step
                     in zip(shape[-2:], structure.block_size, strict=True))


def named(structures: Mapping[str, Structure]) -> dict[str, Any]:
    """The structures as a ticket's provenance has them: one word, or one a weight; {} for none.

    Example:
      >>> named({"a": parse("2:4"), "b": parse("2:4")}), named({"a": NONE})
      ({'structure': '2:4'}, {})
      >>> named({"a": parse("2:4"), "b": NONE})
      {'structure': {'a': '2:4', 'b': 'none'}}
    """
    words = {name: str(structure) for name, structure in structures.items()}
    if set(words.values()) <= {str(NONE)}:
        return {}
    return {"structure": words if len({*words.values()}) > 1 else next(iter(words.values()))}
