"""The papers' networks, and their initial weights drawn from a given generator."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tf_keras as keras

from lth_keras import rates
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
      A functional or Sequential model that gives one logit a class, in float32.
    """
    if config.network not in NETWORKS:
        raise LotteryError(f"network must be one of {', '.join(NETWORKS)}. "
                           f"Received: {config.network!r}.")
    with _keras_settings(config.dtype_policy):
        return NETWORKS[config.network](input_shape, classes)


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
    """Compiles with the configuration's optimizer, cross-entropy and accuracy."""
    if config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rates.of(config))
    else:
        optimizer = keras.optimizers.SGD(rates.of(config), momentum=config.momentum)
    if config.dtype_policy == "mixed_float16":  # Whose gradients would underflow.
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
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


def _dense(units: int, name: str, activation: "str | None" = "relu") -> Any:
    return keras.layers.Dense(units, activation, kernel_initializer="glorot_normal", name=name,
                              dtype=None if activation else "float32")


def _conv(filters: int, size: int, name: str, **options: Any) -> Any:
    return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer="glorot_normal",
                               name=name, **options)


@register("lenet_300_100")
def lenet_300_100(input_shape: tuple[int, ...], classes: int) -> Any:
    """LeNet-300-100: 266,200 prunable weights on 28x28 images of ten classes.

    Glorot normal initialisation (Frankle & Carbin 2019, figure 2; LeCun et al. 1998).
    """
    return keras.Sequential([
        keras.layers.Input(input_shape),
        keras.layers.Flatten(),
        _dense(300, "fc1"),
        _dense(100, "fc2"),
        _dense(classes, "fc3", activation=None),
    ], name="lenet_300_100")


@register("conv2")
def conv2(input_shape: tuple[int, ...], classes: int) -> Any:
    """Conv-2: 4,300,992 prunable weights on 32x32x3 images of ten classes.

    Two convolutions of 64 filters, a pooling, two dense layers of 256 (Frankle & Carbin
    2019, figure 2).
    """
    return keras.Sequential([
        keras.layers.Input(input_shape),
        _conv(64, 3, "conv1", activation="relu"),
        _conv(64, 3, "conv2", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        _dense(256, "fc1"),
        _dense(256, "fc2"),
        _dense(classes, "fc3", activation=None),
    ], name="conv2")


@register("resnet18")
def resnet18(input_shape: tuple[int, ...], classes: int) -> Any:
    """The paper's Resnet-18: 20 layers and 270,896 kernel weights on 32x32x3 images.

    Three stages of three blocks with 16, 32 and 64 filters (Frankle & Carbin 2019, figure 2;
    He et al. 2016, section 4.2, with 1x1 convolutions as the shortcuts between stages).
    """
    layers = keras.layers

    def normalised(x: Any, name: str) -> Any:
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    image = layers.Input(input_shape)
    x = layers.ReLU()(normalised(_conv(16, 3, "conv", use_bias=False)(image), "conv"))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, 4):
            name, strides = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
            y = _conv(filters, 3, f"{name}_conv1", strides=strides, use_bias=False)(x)
            y = layers.ReLU()(normalised(y, f"{name}_conv1"))
            y = normalised(_conv(filters, 3, f"{name}_conv2", use_bias=False)(y), f"{name}_conv2")
            if strides == 2:
                x = _conv(filters, 1, f"{name}_shortcut", strides=2, use_bias=False)(x)
                x = normalised(x, f"{name}_shortcut")
            x = layers.ReLU()(layers.Add()([x, y]))
    logits = _dense(classes, "fc", activation=None)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, logits, name="resnet18")
