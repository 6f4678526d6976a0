"""What the tests of structures share: words, scores, and masks that are pruned by them."""

import numpy as np

from lth_keras.core import masks
from lth_keras.core.pruning import prune
from lth_keras.core.structures.words import parse

BLOCKS = ("block_1x4", "block_4x1", "block_2x2", "block_3x2_max", "block_1x4_max")
GROUPS = ("2:4", "1:2", "3:4", "4:8")


def distinct(shape, seed=0):
    """Scores of which no two are equal, nor the averages or the greatest of two blocks."""
    return np.random.default_rng(seed).normal(size=shape)


def dense(*shapes):
    """Masks of ones of weights "0", "1" and so on."""
    return masks.ones({str(number): shape for number, shape in enumerate(shapes)})


def pruned(scores, structure, fraction=0.5, before=None, **options):
    """The mask of one weight, pruned in the structure of a word."""
    before = np.ones(np.shape(scores), np.uint8) if before is None else before
    return prune({"w": scores}, {"w": before}, {"w": fraction}, "layer",
                 {"w": parse(structure)}, **options)["w"]
