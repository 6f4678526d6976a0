"""The registry of structures: finds them by word, as in `--set structure=2:4`, or by arguments.

Configurations, tickets and saved models store a structure as its word.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from lth_keras.core.structures.blocks import Blocks
from lth_keras.core.structures.filters import Filters
from lth_keras.core.structures.m_by_n import MByN
from lth_keras.core.structures.single_weights import NONE, SingleWeights
from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.tfmot_arguments import check_pair
from lth_keras.errors import LotteryError

KINDS: dict[str, type[Structure]] = {}  # By `word`.

Kind = TypeVar("Kind", bound=type[Structure])


def register(kind: Kind) -> Kind:
    """Registers a class of structures.

    Args:
      kind: a subclass of `Structure`.

    Returns:
      The class, so that this can be used as a decorator.

    Raises:
      LotteryError: if its word is taken.

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
        raise LotteryError("A structure's word must be new. Received: "
                           f"{kind.word!r} of {kind.__name__}, which is taken.")
    KINDS[kind.word] = kind
    return kind


for _kind in (SingleWeights, MByN, Blocks, Filters):
    register(_kind)


def parse(word: Any) -> Structure:
    """Returns the structure that a word names.

    Raises:
      LotteryError: if it names none; the message lists the words that exist.

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
    """Lists the words of all structures, for messages and help.

    Example:
      >>> known()[:64]
      'none; M:N, such as 2:4, for M pruned of every N inputs of an out'
    """
    *words, last = KINDS
    return f"{'; '.join(words)}; or {last}"


def of_arguments(block_size: Any = (1, 1), block_pooling_type: str = "AVG",
                 sparsity_m_by_n: Any = None, structure: "str | None" = None) -> Structure:
    """Returns the structure that the arguments of `lth.prune_low_magnitude` select.

    Args:
      block_size: inputs and outputs of a block, each >= 1.
      block_pooling_type: whether a block's score is the mean ("AVG") or the maximum ("MAX") of its
        weights' scores.
      sparsity_m_by_n: (m, n) to prune m of every n weights, 1 <= m < n; or None.
      structure: the word of a structure, instead of the other arguments; or None.

    Raises:
      LotteryError: if a value is not allowed, or the arguments select two structures.

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
        raise LotteryError("A structure is selected by structure= or by tfmot's arguments, not "
                           f"by both. Received: structure={structure!r:.100} and {asked.options}.")
    return parse(structure)


def named(structures: Mapping[str, Structure]) -> dict[str, Any]:
    """Describes structures for a ticket's provenance.

    Args:
      structures: weight name -> structure.

    Returns:
      {} if no weight has one; otherwise {"structure": WORD}, or weight name -> word if they differ.

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
