"""The papers' networks: functions of an example's shape and the number of classes.

Kernels are drawn from a Glorot normal distribution, biases are zero, and normalisation is
Keras' own.  Every layer with weights has a name, by which fractions and tickets know it.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import tf_keras as keras

from lth_keras.arguments import meant
from lth_keras.errors import LotteryError

# (input_shape, classes) -> model of logits; one with hidden dense layers may take `dropout` too.
Network = Callable[..., Any]

NETWORKS: dict[str, Network] = {}


def register(name: str) -> Callable[[Network], Network]:
    """Makes a network known by name: a function (input_shape, classes) -> model of logits.

    A network with hidden dense layers may have a third argument, `dropout`: the share of their
    units that a training step drops, in [0, 1).  One without it is trained without dropout only.

    Raises:
      LotteryError: if the name is taken.
    """
    def add(network: Network) -> Network:
        if name in NETWORKS:
            raise LotteryError(f"A network's name is taken once. Received: {name!r} again.")
        NETWORKS[name] = network
        return network
    return add


def get(name: str) -> Network:
    """The network of a name: one that is registered, or a LeNet of other widths.

    Raises:
      LotteryError: if there is none of that name; the message lists those there are.

    Example:
      >>> [layer.units for layer in get("lenet_150_50")((28, 28), 10).layers[1:]]
      [150, 50, 10]
    """
    widths = re.fullmatch("lenet_([1-9][0-9]{0,4})_([1-9][0-9]{0,4})", name)
    if name in NETWORKS:
        return NETWORKS[name]
    if widths:
        return functools.partial(_lenet, name, (int(widths[1]), int(widths[2])))
    raise LotteryError(f"network must be one of {', '.join(NETWORKS)}, or lenet_WIDTH_WIDTH such "
                       f"as lenet_150_50. Received: {name!r}.{meant(name, NETWORKS)}")


def _dense(units: int, name: str, activation: "str | None" = "relu") -> Any:
    return keras.layers.Dense(units, activation, kernel_initializer="glorot_normal", name=name,
                              dtype=None if activation else "float32")


def _conv(filters: int, size: int, name: str, **options: Any) -> Any:
    return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer="glorot_normal",
                               name=name, **options)


def _classifier(units: tuple[int, ...], classes: int, dropout: float) -> list[Any]:
    # Flattened features through hidden dense layers fc1, fc2, ... to logits.
    layers = [keras.layers.Flatten()]
    for number, size in enumerate(units, start=1):
        layers.append(_dense(size, f"fc{number}"))
        if dropout:
            layers.append(keras.layers.Dropout(dropout, name=f"fc{number}_dropout"))
    return [*layers, _dense(classes, f"fc{len(units) + 1}", activation=None)]


@register("lenet_300_100")
def lenet_300_100(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0) -> Any:
    """LeNet-300-100: 266,200 prunable weights on 28x28 images of ten classes.

    Two hidden dense layers (Frankle & Carbin 2019, figure 2; LeCun et al. 1998).  Names such as
    lenet_150_50 stand for other widths (the same, appendix G).
    """
    return _lenet("lenet_300_100", (300, 100), input_shape, classes, dropout)


def _lenet(name: str, widths: tuple[int, ...], input_shape: tuple[int, ...], classes: int,
           dropout: float = 0.0) -> Any:
    return keras.Sequential([keras.layers.Input(input_shape),
                             *_classifier(widths, classes, dropout)], name=name)


@register("conv2")
def conv2(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0) -> Any:
    """Conv-2: 4,300,992 prunable weights on 32x32x3 images of ten classes.

    Two convolutions of 64 filters, a pooling, two dense layers of 256 (Frankle & Carbin
    2019, figure 2).
    """
    return _convolutional("conv2", (64,), input_shape, classes, dropout)


@register("conv4")
def conv4(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0) -> Any:
    """Conv-4: 2,425,024 prunable weights on 32x32x3 images of ten classes.

    Conv-2 with two convolutions of 128 filters and a pooling more (Frankle & Carbin 2019,
    figure 2).
    """
    return _convolutional("conv4", (64, 128), input_shape, classes, dropout)


@register("conv6")
def conv6(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0) -> Any:
    """Conv-6: 2,261,184 prunable weights on 32x32x3 images of ten classes.

    Conv-4 with two convolutions of 256 filters and a pooling more (Frankle & Carbin 2019,
    figure 2, which says 1.7 million weights; the layers that it lists have 2.3 million).
    """
    return _convolutional("conv6", (64, 128, 256), input_shape, classes, dropout)


def _convolutional(name: str, filters: tuple[int, ...], input_shape: tuple[int, ...],
                   classes: int, dropout: float) -> Any:
    layers = [keras.layers.Input(input_shape)]
    for pair, count in enumerate(filters):
        layers += [_conv(count, 3, f"conv{2 * pair + 1}", activation="relu"),
                   _conv(count, 3, f"conv{2 * pair + 2}", activation="relu"),
                   keras.layers.MaxPooling2D()]
    return keras.Sequential([*layers, *_classifier((256, 256), classes, dropout)], name=name)


@register("vgg16")
def vgg16(input_shape: tuple[int, ...], classes: int) -> Any:
    """VGG-16 for small images: 14,715,584 kernel weights on 32x32x3 images of ten classes.

    13 convolutions, each followed by batch normalisation, in place of the dense layers an
    average over the image (Liu et al. 2019, section 6; Simonyan & Zisserman 2015, column D).
    """
    return _vgg("vgg16", (2, 2, 3, 3, 3), input_shape, classes)


@register("vgg19")
def vgg19(input_shape: tuple[int, ...], classes: int) -> Any:
    """VGG-19 for small images: 20,024,000 kernel weights on 32x32x3 images of ten classes.

    16 convolutions, each followed by batch normalisation, in place of the dense layers an
    average over the image (Frankle & Carbin 2019, figure 2; Simonyan & Zisserman 2015,
    column E).
    """
    return _vgg("vgg19", (2, 2, 4, 4, 4), input_shape, classes)


def _vgg(name: str, convolutions: tuple[int, ...], input_shape: tuple[int, ...],
         classes: int) -> Any:
    # Stages of so many convolutions, a pooling between them.
    layers = [keras.layers.Input(input_shape)]
    for stage, count in enumerate(convolutions, start=1):
        if stage > 1:
            layers.append(keras.layers.MaxPooling2D())
        for number in range(1, count + 1):
            conv = f"stage{stage}_conv{number}"
            layers += [_conv(min(512, 32 * 2**stage), 3, conv, use_bias=False),
                       keras.layers.BatchNormalization(name=f"{conv}_norm"), keras.layers.ReLU()]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(),
                             _dense(classes, "fc", activation=None)], name=name)


@register("resnet18")
def resnet18(input_shape: tuple[int, ...], classes: int) -> Any:
    """The paper's Resnet-18: 20 layers and 270,896 kernel weights on 32x32x3 images.

    Three stages of three blocks with 16, 32 and 64 filters (Frankle & Carbin 2019, figure 2;
    He et al. 2016, section 4.2, with 1x1 convolutions as the shortcuts between stages).
    """
    return _resnet("resnet18", 3, input_shape, classes)


@register("resnet56")
def resnet56(input_shape: tuple[int, ...], classes: int) -> Any:
    """ResNet-56: 56 layers and 851,504 kernel weights on 32x32x3 images of ten classes.

    As resnet18, with nine blocks a stage (Liu et al. 2019; He et al. 2016, section 4.2).
    """
    return _resnet("resnet56", 9, input_shape, classes)


def _resnet(name: str, blocks: int, input_shape: tuple[int, ...], classes: int) -> Any:
    layers = keras.layers

    def normalised(x: Any, name: str) -> Any:
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    def block(x: Any, filters: int, strides: int, name: str) -> Any:
        y = _conv(filters, 3, f"{name}_conv1", strides=strides, use_bias=False)(x)
        y = layers.ReLU()(normalised(y, f"{name}_conv1"))
        y = normalised(_conv(filters, 3, f"{name}_conv2", use_bias=False)(y), f"{name}_conv2")
        if strides > 1:
            x = _conv(filters, 1, f"{name}_shortcut", strides=strides, use_bias=False)(x)
            x = normalised(x, f"{name}_shortcut")
        return layers.ReLU()(layers.Add()([x, y]))

    image = layers.Input(input_shape)
    x = layers.ReLU()(normalised(_conv(16, 3, "conv", use_bias=False)(image), "conv"))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for number in range(1, blocks + 1):
            x = block(x, filters, 2 if stage > 1 and number == 1 else 1,
                      f"stage{stage}_block{number}")
    logits = _dense(classes, "fc", activation=None)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, logits, name=name)
