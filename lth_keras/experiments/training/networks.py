"""The networks of the papers, as functions of an example's shape and the number of classes.

Kernels are initialised from a Glorot normal distribution (Frankle & Carbin 2019, figure 2), biases
with zeros; normalisation is Keras' default.  Every layer with weights has a name, since fractions
and tickets refer to layers by name.  The same function builds a network with tf_keras and with
Keras 3: it is told which.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from lth_keras.arguments import meant
from lth_keras.errors import LotteryError

# (input_shape, classes) -> model that outputs logits. A network with hidden dense layers may take
# `dropout` too, and one that either Keras can build takes `keras`.
Network = Callable[..., Any]

NETWORKS: dict[str, Network] = {}


def register(name: str) -> Callable[[Network], Network]:
    """Decorates a function (input_shape, classes) -> model, so that settings accept its name.

    The model outputs logits.  The function may have an argument `dropout`: the share of the units
    of hidden dense layers that a training step drops, in [0, 1).  Without it, the setting dropout
    must be 0.  It may have an argument `keras`: the package to build the model with, tf_keras or
    keras.  Without it, the model must be of the engine that the run uses.

    Raises:
      LotteryError: if a network with this name is already registered.

    Example:
      >>> import tf_keras
      >>> @register("perceptron")
      ... def perceptron(input_shape, classes, keras):
      ...     return keras.Sequential([keras.layers.Input(input_shape), keras.layers.Flatten(),
      ...                              keras.layers.Dense(classes, name="fc")])
      >>> get("perceptron")((28, 28), 10, keras=tf_keras).count_params()
      7850
      >>> del NETWORKS["perceptron"]
    """
    def add(network: Network) -> Network:
        if name in NETWORKS:
            raise LotteryError("A network must have a name that no other network has. Received: "
                               f"{name!r}, which is already registered.")
        NETWORKS[name] = network
        return network
    return add


def get(name: str) -> Network:
    """Returns a network by name: a registered one, or lenet_WIDTH_WIDTH for a LeNet of any widths.

    Raises:
      LotteryError: if no network has this name; the message lists all names.

    Example:
      >>> import tf_keras
      >>> [layer.units for layer in get("lenet_150_50")((28, 28), 10, keras=tf_keras).layers[1:]]
      [150, 50, 10]
    """
    widths = re.fullmatch("lenet_([1-9][0-9]{0,4})_([1-9][0-9]{0,4})", name)
    if name in NETWORKS:
        return NETWORKS[name]
    if widths:
        return functools.partial(_lenet, name=name, widths=(int(widths[1]), int(widths[2])))
    raise LotteryError(f"network must be one of {', '.join(NETWORKS)}, or lenet_WIDTH_WIDTH such "
                       f"as lenet_150_50. Received: {name!r}.{meant(name, NETWORKS)}")


def _dense(keras: Any, units: int, name: str, activation: "str | None" = "relu") -> Any:
    # Logits are float32 also under mixed precision: float16 loses too much of a softmax.
    return keras.layers.Dense(units, activation, kernel_initializer="glorot_normal", name=name,
                              dtype=None if activation else "float32")


def _conv(keras: Any, filters: int, size: int, name: str, **options: Any) -> Any:
    # Zero padding keeps the size of the image, as in all of the papers' networks.
    return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer="glorot_normal",
                               name=name, **options)


def _classifier(keras: Any, units: tuple[int, ...], classes: int,
                dropout: float) -> list[Any]:
    # Flattened features through hidden dense layers fc1, fc2, ... to logits.
    layers = [keras.layers.Flatten()]
    for number, size in enumerate(units, start=1):
        layers.append(_dense(keras, size, f"fc{number}"))
        if dropout:
            layers.append(keras.layers.Dropout(dropout, name=f"fc{number}_dropout"))
    return [*layers, _dense(keras, classes, f"fc{len(units) + 1}", activation=None)]


@register("lenet_300_100")
def lenet_300_100(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
                  keras: Any) -> Any:
    """LeNet-300-100: 266,200 prunable weights on 28x28 images of ten classes.

    Two hidden dense layers (Frankle & Carbin 2019, figure 2; LeCun et al. 1998).  Names such as
    lenet_150_50 give other widths (the same paper, appendix G).

    Example:
      >>> import tf_keras
      >>> lenet_300_100((28, 28), 10, keras=tf_keras).count_params()  # 410 biases are not pruned.
      266610
    """
    return _lenet(input_shape, classes, dropout, keras=keras, name="lenet_300_100",
                  widths=(300, 100))


def _lenet(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *, keras: Any,
           name: str, widths: tuple[int, int]) -> Any:
    return keras.Sequential([keras.layers.Input(input_shape),
                             *_classifier(keras, widths, classes, dropout)], name=name)


@register("conv2")
def conv2(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
          keras: Any) -> Any:
    """Conv-2: 4,300,992 prunable weights on 32x32x3 images of ten classes.

    Two convolutions of 64 filters, max pooling, two dense layers of 256 units (Frankle & Carbin
    2019, figure 2).

    Example:
      >>> import tf_keras
      >>> [layer.name for layer in conv2((32, 32, 3), 10, keras=tf_keras).layers if layer.weights]
      ['conv1', 'conv2', 'fc1', 'fc2', 'fc3']
    """
    return _convolutional(keras, (64,), input_shape, classes, dropout)


@register("conv4")
def conv4(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
          keras: Any) -> Any:
    """Conv-4: 2,425,024 prunable weights on 32x32x3 images of ten classes.

    Conv-2 with two more convolutions of 128 filters and max pooling (Frankle & Carbin 2019,
    figure 2).

    Example:
      >>> import tf_keras
      >>> conv4((32, 32, 3), 10, keras=tf_keras).get_layer("conv4").filters
      128
    """
    return _convolutional(keras, (64, 128), input_shape, classes, dropout)


# The paper gives Conv-6 1.7 million weights, which contradicts its own layers and densities.
@register("conv6")
def conv6(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
          keras: Any) -> Any:
    """Conv-6: 2,261,184 prunable weights on 32x32x3 images of ten classes.

    Conv-4 with two more convolutions of 256 filters and max pooling (Frankle & Carbin 2019,
    figure 2, which says 1.7 million weights; the layers that it lists have 2.3 million).

    Example:
      >>> import tf_keras
      >>> conv6((32, 32, 3), 10, keras=tf_keras).get_layer("conv6").filters
      256
    """
    return _convolutional(keras, (64, 128, 256), input_shape, classes, dropout)


def _convolutional(keras: Any, filters: tuple[int, ...], input_shape: tuple[int, ...],
                   classes: int, dropout: float) -> Any:
    layers = [keras.layers.Input(input_shape)]
    for pair, count in enumerate(filters):
        layers += [_conv(keras, count, 3, f"conv{2 * pair + 1}", activation="relu"),
                   _conv(keras, count, 3, f"conv{2 * pair + 2}", activation="relu"),
                   keras.layers.MaxPooling2D()]
    return keras.Sequential([*layers, *_classifier(keras, (256, 256), classes, dropout)],
                            name=f"conv{2 * len(filters)}")


@register("vgg16")
def vgg16(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """VGG-16 for small images: 14,715,584 kernel weights on 32x32x3 images of ten classes.

    13 convolutions, each followed by batch normalisation, then an average over the image instead
    of dense layers (Liu et al. 2019, section 6; Simonyan & Zisserman 2015, column D).

    Example:
      >>> import tf_keras
      >>> model = vgg16((32, 32, 3), 10, keras=tf_keras)
      >>> sum(layer.name.endswith("_norm") for layer in model.layers)
      13
    """
    return _vgg(keras, "vgg16", (2, 2, 3, 3, 3), input_shape, classes)


@register("vgg19")
def vgg19(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """VGG-19 for small images: 20,024,000 kernel weights on 32x32x3 images of ten classes.

    16 convolutions, each followed by batch normalisation, then an average over the image instead
    of dense layers (Frankle & Carbin 2019, figure 2; Simonyan & Zisserman 2015, column E).

    Example:
      >>> import tf_keras
      >>> model = vgg19((32, 32, 3), 10, keras=tf_keras)
      >>> sum(layer.name.endswith("_norm") for layer in model.layers)
      16
    """
    return _vgg(keras, "vgg19", (2, 2, 4, 4, 4), input_shape, classes)


def _vgg(keras: Any, name: str, convolutions: tuple[int, ...], input_shape: tuple[int, ...],
         classes: int) -> Any:
    # `convolutions` holds the number of convolutions of each stage; max pooling is between stages.
    layers = [keras.layers.Input(input_shape)]
    for stage, count in enumerate(convolutions, start=1):
        if stage > 1:
            layers.append(keras.layers.MaxPooling2D())
        for number in range(1, count + 1):
            conv = f"stage{stage}_conv{number}"
            # No bias: the normalisation after it would subtract it again.
            layers += [_conv(keras, min(512, 32 * 2**stage), 3, conv, use_bias=False),
                       keras.layers.BatchNormalization(name=f"{conv}_norm"), keras.layers.ReLU()]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(),
                             _dense(keras, classes, "fc", activation=None)], name=name)


# "Resnet-18" is the paper's name for the network that He et al. call ResNet-20.
@register("resnet18")
def resnet18(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """The paper's Resnet-18: 20 layers and 270,896 kernel weights on 32x32x3 images.

    Three stages of three blocks with 16, 32 and 64 filters (Frankle & Carbin 2019, figure 2;
    He et al. 2016, section 4.2, with 1x1 convolutions as the shortcuts between stages).

    Example:
      >>> import tf_keras
      >>> resnet18((32, 32, 3), 10, keras=tf_keras).output_shape
      (None, 10)
    """
    return _resnet(keras, "resnet18", 3, input_shape, classes)


@register("resnet56")
def resnet56(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """ResNet-56: 56 layers and 851,504 kernel weights on 32x32x3 images of ten classes.

    resnet18 with nine blocks in each stage (Liu et al. 2019; He et al. 2016, section 4.2).

    Example:
      >>> import tf_keras
      >>> names = [layer.name for layer in resnet56((32, 32, 3), 10, keras=tf_keras).layers]
      >>> sum(name.endswith(("_conv1", "_conv2")) for name in names)
      54
    """
    return _resnet(keras, "resnet56", 9, input_shape, classes)


def _resnet(keras: Any, name: str, blocks: int, input_shape: tuple[int, ...],
            classes: int) -> Any:
    layers = keras.layers

    def normalised(x: Any, name: str) -> Any:
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    def block(x: Any, filters: int, strides: int, name: str) -> Any:
        y = _conv(keras, filters, 3, f"{name}_conv1", strides=strides, use_bias=False)(x)
        y = layers.ReLU()(normalised(y, f"{name}_conv1"))
        y = _conv(keras, filters, 3, f"{name}_conv2", use_bias=False)(y)
        y = normalised(y, f"{name}_conv2")
        # Between stages, the shortcut is a 1x1 convolution that halves the image.
        if strides > 1:
            x = _conv(keras, filters, 1, f"{name}_shortcut", strides=strides, use_bias=False)(x)
            x = normalised(x, f"{name}_shortcut")
        return layers.ReLU()(layers.Add()([x, y]))

    image = layers.Input(input_shape)
    x = layers.ReLU()(normalised(_conv(keras, 16, 3, "conv", use_bias=False)(image), "conv"))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for number in range(1, blocks + 1):
            x = block(x, filters, 2 if stage > 1 and number == 1 else 1,
                      f"stage{stage}_block{number}")
    logits = _dense(keras, classes, "fc", activation=None)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, logits, name=name)
