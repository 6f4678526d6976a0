"""Builds and compiles the network of a configuration with tf_keras; draws its initial weights."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tf_keras as keras

from lth_keras.core.masks import Array
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.models import KerasPackage, stateful_draws, training_graph
from lth_keras.experiments.training_keras2 import optimizers
from lth_keras.keras2.masking.weight_names import slots


def build(config: Config, input_shape: tuple[int, ...], classes: int,
          change: Callable[[Any], Any] = lambda model: model) -> Any:
    """Builds the network of a configuration, without compiling it; see `KerasPackage.build`.

    Example:
      >>> from lth_keras.experiments.config import presets
      >>> model = build(presets.get("digits"), (8, 8), 10)
      >>> [layer.name for layer in model.layers if layer.weights]
      ['fc1', 'fc2', 'fc3']
    """
    return TF_KERAS.build(config, input_shape, classes, change)


@contextlib.contextmanager
def _settings(dtype_policy: str) -> Iterator[None]:
    # Layers read both settings when they are created.  Dropout must use generators whose state
    # can be set: otherwise XLA seeds it, and no run would repeat.
    policy = keras.mixed_precision.global_policy()
    random = keras.backend.experimental
    generators = random.is_tf_random_generator_enabled()
    keras.mixed_precision.set_global_policy(dtype_policy)
    random.enable_tf_random_generator()
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(policy)
        if not generators:
            random.disable_tf_random_generator()


TF_KERAS = KerasPackage(keras, lambda model: list(slots(model)), _settings, np.asarray,
                        keras.backend.reset_uids,
                        lambda model: stateful_draws(training_graph(model)))


def compile_model(model: Any, config: Config) -> None:
    """Compiles a model with the configuration's optimizer, cross-entropy and accuracy.

    Example:
      >>> from lth_keras.experiments.config import presets
      >>> config = presets.get("digits")
      >>> model = build(config, (8, 8), 10)
      >>> compile_model(model, config)
      >>> model.optimizer.name
      'Adam'
    """
    TF_KERAS.compile(model, optimizers.build_optimizer(config), jit_compile=True)


def initial_weights(model: Any, rng: np.random.Generator) -> dict[str, Array]:
    """Draws new values for every weight of a model; see `KerasPackage.initial_weights`.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3, name="fc")])
      >>> drawn = initial_weights(model, np.random.default_rng(0))
      >>> {name: value.shape for name, value in drawn.items()}
      {'fc/kernel': (2, 3), 'fc/bias': (3,)}
    """
    return TF_KERAS.initial_weights(model, rng)
