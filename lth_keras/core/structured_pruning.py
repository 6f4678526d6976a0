"""Masks in a structure: which blocks go, or which weights of every n; and masks drawn anew.

The arrays' side of `core.sparsity_types`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lth_keras.core import pruning as plain
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.pruning import Scope
from lth_keras.core.sparsity_types import check_rounds, check_scope, pruned_of, Structure
from lth_keras.errors import LotteryError


def prune(scores: Arrays, masks: Arrays, fraction: Mapping[str, float], scope: Scope,
          structures: Mapping[str, Structure], *, level: int = 1,
          rounds: int = 1) -> dict[str, Array]:
    """The masks of the next level, in each weight's structure.

    Blocks are counted, compared and pruned as `core.pruning` does with weights; those that
    keep a weight remain.  Of every n weights, those of lowest score go, equal ones by position,
    until m x level / rounds are pruned, and `fraction` says which weights have (m, n) sparsity:
    those whose fraction is above 0.

    Args:
      scores: weight name -> scores, of the weight's shape; the lowest are pruned.
      masks: weight name -> 0/1 array of the same shape.
      fraction: weight name -> share of the remaining weights, or blocks, to prune, in [0, 1).
      scope: see `core.pruning`; "layer" where a weight has (m, n) sparsity.
      structures: weight name -> structure.
      level: of the new masks, in [1, rounds] where a weight has (m, n) sparsity.
      rounds: of the whole search.

    Returns:
      Weight name -> uint8 mask, nested in the one given.

    Raises:
      LotteryError: as `core.pruning` does, or if a structure does not go with the rest.

    Example:
      >>> weight = np.array([[3.0, 1.0], [1.0, 1.0], [4.0, 5.0], [1.0, 9.0]])
      >>> masks = {"w": np.ones((4, 2), np.uint8)}
      >>> structures = {"w": Structure(sparsity_m_by_n=(2, 4))}
      >>> prune({"w": weight}, masks, {"w": 0.5}, "layer", structures)["w"]
      array([[1, 0],
             [0, 0],
             [1, 1],
             [0, 1]], dtype=uint8)
    """
    if all(structures[name].is_none for name in masks):
        return plain.prune(scores, masks, fraction, scope)
    plain.check_scores(scores, masks)
    grouped = [name for name in masks if structures[name].sparsity_m_by_n and fraction[name]]
    for name in grouped:
        check_rounds(structures[name], rounds)
    check_scope([structures[name] for name in grouped], scope)
    if grouped and level > rounds:
        raise LotteryError(f"{structures[grouped[0]]} sparsity is reached after rounds={rounds}, "
                           f"and nothing is pruned beyond it. Received: level {level}.")
    pruned = {name: _prune_groups(scores[name], masks[name],
                                  *pruned_of(structures[name], level, rounds))
              for name in grouped}
    rest = {name: structures[name] for name in masks if name not in pruned}
    if rest:
        cells = plain.prune({name: _pooled(scores[name], masks[name], structure)
                             for name, structure in rest.items()},
                            {name: _any_kept(masks[name], structure)
                             for name, structure in rest.items()},
                            {name: fraction[name] for name in rest}, scope)
        pruned.update({name: _expanded(cells[name], masks[name], structure)
                       for name, structure in rest.items()})
    return {name: pruned[name] for name in masks}


def obeys(mask: Array, structure: Structure, pruned: int | None = None) -> bool:
    """Whether a mask has a structure.

    Args:
      mask: 0/1 array of a shape that fits the structure.
      structure: the structure.
      pruned: how many of every n are pruned at least, by default m.

    Example:
      >>> obeys(np.array([[1], [0], [1], [0]]), Structure(sparsity_m_by_n=(2, 4)))
      True
      >>> obeys(np.array([[1], [0], [1], [0]]), Structure((2, 1)))
      False
    """
    if structure.sparsity_m_by_n:
        m, n = structure.sparsity_m_by_n
        kept = np.count_nonzero(_groups(mask != 0, n), axis=-1)
        return bool(np.all(kept <= n - (m if pruned is None else pruned)))
    whole = _expanded(_any_kept(mask, structure), np.ones_like(mask), structure)
    return bool(np.array_equal(whole != 0, mask != 0))


def shuffled(mask: Array, structure: Structure, rng: np.random.Generator) -> Array:
    """A mask of the same structure that keeps as many weights, anywhere that it allows.

    Blocks change places with those of their size, weights with those of their group.

    Example:
      >>> mask = np.array([[1, 1, 0, 0, 0, 0]], np.uint8)
      >>> shuffled(mask, Structure((1, 2)), np.random.default_rng(0))
      array([[0, 0, 1, 1, 0, 0]], dtype=uint8)
    """
    if structure.is_none:
        return rng.permutation(mask.ravel()).reshape(mask.shape)
    if np.all(mask):  # Of a weight that is left dense, which the structure need not fit.
        return mask
    if structure.sparsity_m_by_n:
        n = structure.sparsity_m_by_n[1]
        drawn = np.where(_groups(np.ones_like(mask), n, 0), rng.random(_groups(mask, n).shape), 2.0)
        # The lowest draws of a group are kept: as many as before, none of them padding.
        ranks = np.argsort(np.argsort(drawn, axis=-1), axis=-1)
        kept = np.count_nonzero(_groups(mask, n), axis=-1)[..., None]
        return _ungrouped((ranks < kept).astype(np.uint8), mask.shape)
    blocks = _any_kept(mask, structure).ravel()
    sizes = _sizes(structure, mask.shape).ravel()
    for size in np.unique(sizes):
        alike = np.flatnonzero(sizes == size)
        blocks[alike] = rng.permutation(blocks[alike])
    return _expanded(blocks, np.ones_like(mask), structure)


# Groups: (..., inputs, outputs) -> (..., outputs, groups, n), filled up at the end of the inputs.

def _groups(array: Array, n: int, fill: Any = 0) -> Array:
    rows = np.moveaxis(array, -2, -1)
    padding = [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % n)]
    return np.pad(rows, padding, constant_values=fill).reshape(*rows.shape[:-1], -1, n)


def _ungrouped(groups: Array, shape: tuple[int, ...]) -> Array:
    rows = groups.reshape(*groups.shape[:-2], -1)[..., :shape[-2]]
    return np.ascontiguousarray(np.moveaxis(rows, -1, -2))


def _prune_groups(scores: Array, mask: Array, pruned: int, n: int) -> Array:
    kept = _groups(mask != 0, n, False)
    # Those that are pruned already, and what fills up, first; the sort is stable.
    order = np.lexsort((_groups(scores, n), kept), axis=-1)
    kept = kept.astype(np.uint8)
    np.put_along_axis(kept, order[..., :pruned], 0, axis=-1)
    return _ungrouped(kept, np.shape(mask))


# Blocks: (1, ..., inputs, outputs) -> (rows of blocks, columns of blocks).

def _starts(structure: Structure, shape: tuple[int, ...]) -> list[npt.NDArray[np.intp]]:
    return [np.arange(0, length, step)
            for length, step in zip(shape[-2:], structure.block_size, strict=True)]


def _reduced(operation: np.ufunc, array: Array, structure: Structure) -> Array:
    array = array.reshape(array.shape[-2:])
    for axis, starts in enumerate(_starts(structure, array.shape)):
        array = operation.reduceat(array, starts, axis=axis)
    return array


def _sizes(structure: Structure, shape: tuple[int, ...]) -> Array:
    return _reduced(np.add, np.ones(shape, np.int64), structure)


def _any_kept(mask: Array, structure: Structure) -> Array:
    if structure.block_size == (1, 1):
        return mask
    return _reduced(np.maximum, (np.asarray(mask) != 0).astype(np.uint8), structure)


def _pooled(scores: Array, mask: Array, structure: Structure) -> Array:
    if structure.block_size == (1, 1):
        return scores
    if structure.block_pooling_type == "MAX":
        # The largest of those that are kept, which may be below 0.
        return _reduced(np.maximum, np.where(mask != 0, scores, np.min(scores)), structure)
    # In an average a pruned weight counts as the zero that it is.
    there = np.where(mask != 0, scores, 0).astype(np.float64)
    sums: Any = _reduced(np.add, there, structure)
    averages: Array = sums / _sizes(structure, there.shape)
    return averages


def _expanded(blocks: Array, mask: Array, structure: Structure) -> Array:
    if structure.block_size == (1, 1):
        return blocks
    whole = blocks.reshape(tuple(len(starts) for starts in _starts(structure, mask.shape)))
    for axis, (step, length) in enumerate(zip(structure.block_size, mask.shape[-2:], strict=True)):
        whole = np.repeat(whole, step, axis=axis).take(np.arange(length), axis=axis)
    return np.where(np.asarray(mask) != 0, whole.reshape(mask.shape), 0).astype(np.uint8)
