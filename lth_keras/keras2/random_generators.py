"""The random generators in a model's layers: those that can be seeded and kept, and the others.

A layer draws from a `tf.random.Generator`, whose state is a variable, if it was made after
`tf_keras.backend.experimental.enable_tf_random_generator()`, or is one that always does, such
as RandomFlip.  Otherwise it draws by an operation that keeps its state to itself.
"""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tf_keras.src.backend import RandomGenerator

# What a layer calls the strength of what it draws; at zero it does not draw.
_STRENGTHS = ("rate", "stddev", "dropout", "recurrent_dropout")


def generators(model: Any) -> list[tf.random.Generator]:
    """The generators that a model's layers draw from, each once, in the order of the layers."""
    found = [getattr(value, "_generator", value) for _, value in _attributes(model)]
    return [*{id(value): value for value in found
              if isinstance(value, tf.random.Generator)}.values()]


def without_generator(model: Any) -> list[str]:
    """The names of the layers that draw from no generator, so that none can be seeded later."""
    return [layer.name for layer, source in _attributes(model)
            if isinstance(source, RandomGenerator) and source._generator is None]


def unkept(model: Any) -> list[str]:
    """The names of the layers whose draws cannot be kept."""
    return [layer.name for layer, source in _attributes(model)
            if isinstance(source, RandomGenerator) and _draws(layer)
            and source._rng_type == RandomGenerator.RNG_LEGACY_STATEFUL]


def _attributes(model: Any) -> Iterator[tuple[Any, Any]]:
    # The layers' own, each with its layer; Keras makes some generators only when they are used.
    for layer in model._flatten_layers():
        for value in [*vars(layer).values()]:
            if isinstance(value, RandomGenerator):
                value._maybe_init()
            yield layer, value


def _draws(layer: Any) -> bool:
    strengths = [getattr(layer, name) for name in _STRENGTHS if hasattr(layer, name)]
    return not strengths or any(strengths)
