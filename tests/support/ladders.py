"""How many weights a preset keeps at each level, counted as pruning counts them."""

import functools

import numpy as np

from lth_keras.core.fractions import count, resolve
from lth_keras.experiments.config import presets
from lth_keras.experiments.training_keras2 import models
from lth_keras.keras2.masking.weight_names import masked
from lth_keras.keras2.masking.wrap import prune_low_magnitude

SHAPES = {"digits": (8, 8), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


@functools.cache
def _masked(network, dataset):
    config = presets.get("digits").replace(network=network)
    return masked(prune_low_magnitude(models.build(config, SHAPES[dataset], 10)))


@functools.cache
def weights(network, dataset):
    """The prunable weights of a network, and their sizes by name."""
    found = _masked(network, dataset)
    return ([item.prunable for item in found.values()],
            {name: item.weight.shape.num_elements() for name, item in found.items()})


def ladder(config):
    """The remaining weights at each level, counted as pruning counts them."""
    found, sizes = weights(config.network, config.dataset)
    fractions = resolve(config.fraction, found)
    left = {}
    for name, size in sizes.items():
        group = name if config.scope == "layer" else fractions[name]
        fraction, together = left.get(group, (fractions[name], 0))
        left[group] = fraction, together + size
    levels = [sum(size for _, size in left.values())]
    for _ in range(config.rounds):
        left = {group: (fraction, size - count(fraction, size))
                for group, (fraction, size) in left.items()}
        levels.append(sum(size for _, size in left.values()))
    return levels


def filters(masks):
    """The filters and units that masks keep, by the name of the kernel."""
    return {name: int(np.any(mask.reshape(-1, mask.shape[-1]), axis=0).sum())
            for name, mask in masks.items() if name.endswith("/kernel")}


def left(config):
    """The filters and units that a preset keeps at level 1, as pruning counts them."""
    found = _masked(config.network, config.dataset)
    shares = resolve(config.fraction, [item.prunable for item in found.values()])
    sizes = {name: item.weight.shape[-1] for name, item in found.items()}
    return {name: sizes[name] - (0 if item.prunable.output else count(shares[name], sizes[name]))
            for name, item in found.items()}
