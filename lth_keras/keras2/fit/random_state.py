"""The random generators in a model's layers: those that can be kept, and the others.

A layer draws from a `tf.random.Generator`, whose state is a variable, if it was made after
`tf_keras.backend.experimental.enable_tf_random_generator()`, or is one that always does, such
as RandomFlip.  Otherwise it draws by an operation that keeps its state to itself.
"""

from typing import Any

import tensorflow as tf
from tf_keras.src.backend import RandomGenerator

# What a layer calls the strength of what it draws; at zero it does not draw.
_STRENGTHS = ("rate", "stddev", "dropout", "recurrent_dropout")


def states(model: Any) -> list[tf.Variable]:
    """The states of the generators in a model's layers, in the order of the layers."""
    found: dict[int, tf.Variable] = {}
    for layer in model._flatten_layers():
        for value in vars(layer).values():
            if isinstance(value, RandomGenerator):
                value._maybe_init()
            generator = getattr(value, "_generator", value)
            if isinstance(generator, tf.random.Generator):
                found.setdefault(id(generator), generator.state)
    return list(found.values())


def unkept(model: Any) -> list[str]:
    """The names of the layers whose draws cannot be kept."""
    return [layer.name for layer in model._flatten_layers()
            if _draws(layer) and any(
                isinstance(value, RandomGenerator)
                and value._rng_type == RandomGenerator.RNG_LEGACY_STATEFUL
                for value in vars(layer).values())]


def _draws(layer: Any) -> bool:
    strengths = [getattr(layer, name) for name in _STRENGTHS if hasattr(layer, name)]
    return not strengths or any(strengths)
