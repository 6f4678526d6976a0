"""The registry: structures by their words, as in `--set structure=2:4`, or by arguments.

A word is what configurations, tickets and saved models hold of a structure.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from lth_keras.core.structures.blocks import Blocks
from lth_keras.core.structures.m_by_n import MByN
from lth_keras.core.structures.single_weights import NONE, SingleWeights
from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.tfmot_arguments import check_pair
from lth_keras.errors import LotteryError

KINDS: dict[str, type[Structure]] = {}  # By `word`.

Kind = TypeVar("Kind", bound=type[Structure])


def register(kind: Kind) -> Kind:
    """Makes a kind of structure known by its words.

    Raises:
      LotteryError: if the words are taken.

    Example:
      >>> import numpy as np
      >>> @register
      ... class Inputs(Structure):
      ...     word, needs = "inputs", "matrices"
      ...     def fits(self, shape):
      ...         return len(shape) == 2
      ...     def unit_of(self, shape):
      ...         return np.indices(shape)[0]
      >>> parse("inputs").unit_scores(np.array([[3.0, 1], [0, 1]]), np.ones((2, 2)))
      array([2. , 0.5])
      >>> KINDS.pop("inputs").needs
      'matrices'
    """
    if kind.word in KINDS:
        raise LotteryError("A structure's words are taken once. Received: "
                           f"{kind.word!r} again, of {kind.__name__}.")
    KINDS[kind.word] = kind
    return kind


for _kind in (SingleWeights, MByN, Blocks):
    register(_kind)


def parse(word: Any) -> Structure:
    """The structure of a word.

    Raises:
      LotteryError: if it is no structure's; the message says what words there are.

    Example:
      >>> parse("2:4"), parse("block_4x1_max").block_pooling_type, parse("none").is_none
      (MByN(m=2, n=4, block_pooling_type='AVG'), 'MAX', True)
    """
    for kind in KINDS.values() if isinstance(word, str) else ():
        structure = kind.from_word(word)
        if structure is not None:
            return structure
    raise LotteryError(f"structure must be {known()}. Received: {word!r:.100}.")


def known() -> str:
    """The words of all structures, for messages and help.

    Example:
      >>> known()[:64]
      'none; M:N, such as 2:4, for M pruned of every N inputs of an out'
    """
    *words, last = KINDS
    return f"{'; '.join(words)}; or {last}"


def of_arguments(block_size: Any = (1, 1), block_pooling_type: str = "AVG",
                 sparsity_m_by_n: Any = None, structure: "str | None" = None) -> Structure:
    """The structure that arguments of `lth.prune_low_magnitude` ask for: tfmot's, or a word.

    Args:
      block_size: inputs and outputs of a block, each >= 1.
      block_pooling_type: "AVG" or "MAX" of its weights' scores is that of a block.
      sparsity_m_by_n: (m, n) for m pruned of every n, 1 <= m < n; or None.
      structure: the word of a structure, in place of the others; or None.

    Raises:
      LotteryError: for other values, or if they ask for two structures.

    Example:
      >>> [str(of_arguments()), str(of_arguments((1, 4))), str(of_arguments(structure="2:4"))]
      ['none', 'block_1x4', '2:4']
      >>> of_arguments(**parse("block_4x1_max").options) == parse("block_4x1_max")
      True
    """
    blocks = Blocks.of(block_size, block_pooling_type)
    groups = None if sparsity_m_by_n is None else MByN(
        *check_pair("sparsity_m_by_n", sparsity_m_by_n, (2, 4)), block_pooling_type)
    if groups and not blocks.is_none:
        raise LotteryError("A weight has blocks or (m, n) sparsity, not both. Received: "
                           f"block_size={tuple(block_size)} and sparsity_m_by_n="
                           f"({groups.m}, {groups.n}).")
    asked = groups or blocks
    if structure is None:
        return asked
    if asked != NONE:
        raise LotteryError("A structure is asked for by structure= or by tfmot's arguments, not "
                           f"by both. Received: structure={structure!r:.100} and {asked.options}.")
    return parse(structure)


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
