"""Builds and compiles the network of a configuration, and draws its initial weights."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import tf_keras as keras

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.validation import OWN
from lth_keras.experiments.training import networks, optimizers
from lth_keras.experiments.training.networks import Network, NETWORKS
from lth_keras.keras2.masking.weight_names import slots


def build(config: Config, input_shape: tuple[int, ...], classes: int) -> Any:
    """Builds the network of a configuration, without compiling it.

    Args:
      config: the settings network, dropout, initializer and dtype_policy are used.
      input_shape: the shape of one example.
      classes: the number of classes, >= 2.

    Returns:
      A functional or Sequential model that outputs one float32 logit for each class.  Its weights
      are not those to train from: `initial_weights` draws them for each replicate.

    Raises:
      LotteryError: if no network has this name, or it has no dropout and `dropout` is not 0.

    Example:
      >>> from lth_keras.experiments.config import presets
      >>> model = build(presets.get("digits"), (8, 8), 10)
      >>> [layer.name for layer in model.layers if layer.weights]
      ['fc1', 'fc2', 'fc3']
    """
    network = networks.get(config.network)
    if config.dropout and not _drops(network):
        able = [name for name, other in NETWORKS.items() if _drops(other)]
        raise LotteryError("dropout must be 0 unless the network has hidden dense layers, as "
                           f"{', '.join(able)} have. Received: dropout={config.dropout} with "
                           f"{config.network}.")
    options = {"dropout": config.dropout} if config.dropout else {}
    with _keras_settings(config.dtype_policy):
        model = network(input_shape, classes, **options)
    if config.initializer != OWN:
        _set_initializer(model, config.initializer)
    return model


def _set_initializer(model: Any, name: str) -> None:
    # `initial_weights` reads the layers' initializers.
    kind, _, deviation = name.partition("normal_")
    # Kernels only: biases stay zero, and normalisation keeps its own initializers.
    for layer in model._flatten_layers():
        if hasattr(layer, "kernel_initializer"):
            layer.kernel_initializer = keras.initializers.get(name) if kind else \
                keras.initializers.RandomNormal(stddev=float(deviation))


def _drops(network: Network) -> bool:
    return "dropout" in inspect.signature(network).parameters


@contextlib.contextmanager
def _keras_settings(dtype_policy: str) -> Iterator[None]:
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
    # Weight decay is part of the optimizer: the validation loss, which decides early stopping, is
    # cross-entropy alone.
    model.compile(optimizers.build_optimizer(config),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"], jit_compile=True)


def initial_weights(model: Any, rng: np.random.Generator) -> dict[str, Array]:
    """Draws new values for every weight of a model, from the initializers of its layers.

    Args:
      model: a built model, with or without pruning wrappers; it is not changed.
      rng: the random generator; the values depend on nothing else.

    Returns:
      Weight name -> array, in the order of the model's layers.

    Raises:
      LotteryError: if a layer has no initializer for one of its weights.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3, name="fc")])
      >>> drawn = initial_weights(model, np.random.default_rng(0))
      >>> {name: value.shape for name, value in drawn.items()}
      {'fc/kernel': (2, 3), 'fc/bias': (3,)}
    """
    drawn = {}
    for slot in slots(model):
        initializer = _initializer(slot.owner, slot.attribute, slot.path)
        settings = initializer.get_config()
        # Keras' own initializers would draw from the global random state.
        if "seed" in settings:
            settings["seed"] = int(rng.integers(2**31))
        fresh = type(initializer).from_config(settings)
        dtype = getattr(slot.variable, "true_dtype", slot.variable.dtype)
        drawn[slot.path] = np.asarray(fresh(tuple(slot.variable.shape), dtype=dtype))
    return drawn


def _initializer(owner: Any, attribute: str, path: str) -> Any:
    # By Keras' naming: kernel -> kernel_initializer, depthwise_kernel -> depthwise_initializer.
    for name in (f"{attribute}_initializer", f"{attribute.removesuffix('_kernel')}_initializer"):
        if hasattr(owner, name):
            return getattr(owner, name)
    raise LotteryError("A layer must have an initializer for each of its weights, to draw new "
                       f"values. Received: {path!r} of {type(owner).__name__}, which has no "
                       f"attribute {attribute}_initializer.")
