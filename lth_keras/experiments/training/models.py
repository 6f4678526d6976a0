"""Models: a configuration's network, built and compiled, and its initial weights drawn anew."""

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
    """The network of a configuration, not compiled.

    Args:
      config: names the network, its dropout, its initializer and its precision.
      input_shape: shape of one example.
      classes: number of classes, >= 2.

    Returns:
      A functional or Sequential model that gives one logit a class, in float32.  What it is
      trained from is drawn by `initial_weights`.

    Raises:
      LotteryError: if there is no network of that name, or it has no units to drop.
    """
    network = networks.get(config.network)
    if config.dropout and not _drops(network):
        able = [name for name, other in NETWORKS.items() if _drops(other)]
        raise LotteryError("dropout must be 0 for a network without hidden dense layers, which "
                           f"are all but {', '.join(able)}. Received: dropout={config.dropout} "
                           f"with {config.network}.")
    options = {"dropout": config.dropout} if config.dropout else {}
    with _keras_settings(config.dtype_policy):
        model = network(input_shape, classes, **options)
    if config.initializer != OWN:
        _set_initializer(model, config.initializer)
    return model


def _set_initializer(model: Any, name: str) -> None:
    # What `initial_weights` draws kernels from.
    kind, _, deviation = name.partition("normal_")
    for layer in model._flatten_layers():
        if hasattr(layer, "kernel_initializer"):
            layer.kernel_initializer = keras.initializers.get(name) if kind else \
                keras.initializers.RandomNormal(stddev=float(deviation))


def _drops(network: Network) -> bool:
    return "dropout" in inspect.signature(network).parameters


@contextlib.contextmanager
def _keras_settings(dtype_policy: str) -> Iterator[None]:
    # Layers take both when they are made.  Dropout must draw from generators whose state can
    # be set: what it draws otherwise, XLA seeds by itself.
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
    """Compiles with the configuration's optimizer, cross-entropy and accuracy.

    Weight decay is the optimizer's, so that the loss is cross-entropy alone.
    """
    model.compile(optimizers.build_optimizer(config),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
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
