"""Controls with other masks than the ticket's, of as many weights."""

import numpy as np

from lth_keras.controls.control import INVERTED, register
from lth_keras.core.masks import Arrays
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import Structure


@register("random_mask", "random mask", drawn=True, mask="structured")
def random_mask(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
                structure: Structure = NONE) -> tuple[Arrays, Arrays]:
    """Fresh weights, and a random mask that keeps as many in each layer (the same, figure 1).

    Example:
      >>> mask = {"a": np.array([1, 1, 0, 0]), "b": np.array([1, 0, 0, 0])}
      >>> drawn = random_mask({}, mask, {}, np.random.default_rng(0))[1]
      >>> {name: int(values.sum()) for name, values in drawn.items()}
      {'a': 2, 'b': 1}
    """
    return fresh, structure.shuffled_together(masks, rng)


@register("random_mask_global", "random mask, layers together", drawn=True, mask="free")
def random_mask_global(weights: Arrays, masks: Arrays, fresh: Arrays,
                       rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Fresh weights, and a random mask that keeps as many in total, over all layers.

    Layers from which nothing has been pruned stay dense.

    Example:
      >>> mask = {"a": np.array([1, 1, 0, 0]), "b": np.array([1, 0]), "c": np.array([1, 1])}
      >>> drawn = random_mask_global({}, mask, {}, np.random.default_rng(0))[1]
      >>> int(drawn["a"].sum() + drawn["b"].sum()), drawn["c"]
      (3, array([1, 1]))
    """
    touched = {name: mask for name, mask in masks.items() if not np.all(mask)}
    if not touched:
        return fresh, masks
    flat = rng.permutation(np.concatenate([np.ravel(mask) for mask in touched.values()]))
    parts = np.split(flat, np.cumsum([mask.size for mask in touched.values()])[:-1])
    drawn = {name: part.reshape(masks[name].shape)
             for name, part in zip(touched, parts, strict=True)}
    return fresh, {**masks, **drawn}


@register("shuffled_mask", "shuffled mask", drawn=False, mask="structured", initial=True)
def shuffled_mask(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
                  structure: Structure = NONE) -> tuple[Arrays, Arrays]:
    """The ticket's weights; its masks shuffled in each layer (Frankle et al., ICLR 2021)."""
    return weights, structure.shuffled_together(masks, rng)


@register("magnitude_at_init", "largest at initialisation", drawn=False, mask="free", initial=True)
def magnitude_at_init(weights: Arrays, masks: Arrays, fresh: Arrays,
                      rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The ticket's weights; a mask of the largest in each layer, as many as the ticket keeps.

    Frankle & Carbin 2019, appendix F.

    Example:
      >>> weights, mask = {"w": np.array([1.0, -3.0, 2.0])}, {"w": np.array([1, 0, 0])}
      >>> magnitude_at_init(weights, mask, {}, None)[1]
      {'w': array([0, 1, 0])}
    """
    largest = {}
    for name, mask in masks.items():
        order = np.argsort(-np.abs(weights[name]).ravel(), kind="stable")
        chosen = np.zeros(mask.size, mask.dtype)
        chosen[order[:np.count_nonzero(mask)]] = 1
        largest[name] = chosen.reshape(mask.shape)
    return weights, largest


@register("inverted", "scores inverted", drawn=False, mask="free", needs=(INVERTED,))
def inverted(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
             inverted: Arrays) -> tuple[Arrays, Arrays]:
    """The ticket's weights; a mask of those with the lowest scores at initialisation.

    If it trains as well as the ticket, the scores do not say what to prune (Frankle et al., ICLR
    2021, section 5).

    Example:
      >>> inverted({"w": np.ones(2)}, {"w": np.array([1, 0])}, {}, None, {"w": np.array([0, 1])})
      ({'w': array([1., 1.])}, {'w': array([0, 1])})
    """
    return weights, inverted
