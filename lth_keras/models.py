"""The papers' networks, and their initial weights drawn from a given generator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tf_keras as keras

from lth_keras.config import Config
from lth_keras.errors import LotteryError
from lth_keras.masks import Array
from lth_keras.weights import slots

Network = Callable[[tuple[int, ...], int], Any]

NETWORKS: dict[str, Network] = {}


def register(name: str) -> Callable[[Network], Network]:
    """Makes a network known by name: a function (input_shape, classes) -> model of logits."""
    def add(network: Network) -> Network:
        if name in NETWORKS:
            raise LotteryError(f"A network's name is taken once. Received: {name!r} again.")
        NETWORKS[name] = network
        return network
    return add


def build(config: Config, input_shape: tuple[int, ...], classes: int) -> Any:
    """The network of a configuration, not compiled.

    Args:
      config: names the network.
      input_shape: shape of one example.
      classes: number of classes, >= 2.

    Returns:
      A functional or Sequential model that gives one logit a class.
    """
    if config.network not in NETWORKS:
        raise LotteryError(f"network must be one of {', '.join(NETWORKS)}. "
                           f"Received: {config.network!r}.")
    return NETWORKS[config.network](input_shape, classes)


def compile_model(model: Any, config: Config) -> None:
    """Compiles with the configuration's optimizer, cross-entropy and accuracy."""
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(config.learning_rate)
    else:
        optimizer = keras.optimizers.SGD(config.learning_rate, momentum=config.momentum)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"], jit_compile=True)


def initial_weights(model: Any, rng: np.random.Generator) -> dict[str, Array]:
    """Draws every weight of a model anew, from its own layer's initializer.

    Args:
      model: a built model, wrapped or not; it is not changed.
      rng: the generator that the draws depend on, and nothing else.

    Returns:
      Weight name -> array, in the order of the model's layers.

    Raises:
      LotteryError: for a weight whose layer names no initializer for it.
    """
    drawn = {}
    for slot in slots(model):
        initializer = _initializer(slot.owner, slot.attribute, slot.path)
        settings = initializer.get_config()
        if "seed" in settings:
            settings["seed"] = int(rng.integers(2**31))
        fresh = type(initializer).from_config(settings)
        dtype = getattr(slot.variable, "true_dtype", slot.variable.dtype)
        drawn[slot.path] = np.asarray(fresh(tuple(slot.variable.shape), dtype=dtype))
    return drawn


def _initializer(owner: Any, attribute: str, path: str) -> Any:
    # Keras names them so: kernel_initializer, depthwise_initializer, bias_initializer, ...
    for name in (f"{attribute}_initializer", f"{attribute.removesuffix('_kernel')}_initializer"):
        if hasattr(owner, name):
            return getattr(owner, name)
    raise LotteryError(f"A weight can be drawn anew if its layer has an attribute "
                       f"{attribute}_initializer. Received: {path!r} of {type(owner).__name__}.")


@register("lenet_300_100")
def lenet_300_100(input_shape: tuple[int, ...], classes: int) -> Any:
    """LeNet-300-100: 266,200 prunable weights on 28x28 images of ten classes.

    Glorot normal initialisation (Frankle & Carbin 2019, figure 2; LeCun et al. 1998).
    """
    layers = keras.layers
    return keras.Sequential([
        layers.Input(input_shape),
        layers.Flatten(),
        layers.Dense(300, "relu", kernel_initializer="glorot_normal", name="fc1"),
        layers.Dense(100, "relu", kernel_initializer="glorot_normal", name="fc2"),
        layers.Dense(classes, kernel_initializer="glorot_normal", name="fc3"),
    ], name="lenet_300_100")
