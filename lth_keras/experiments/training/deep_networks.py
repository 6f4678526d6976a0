"""VGGs and ResNets for small images, as functions of an example's shape and the number of classes.

Those of Liu et al. 2019, section 6, are as in their code, whose numbers of convolutions are in the
names of layers: conv1, the first of all, to conv13 of VGG-16, or stage3_conv55 of ResNet-56.  Their
weights are drawn as there too.  Three things are Keras': normalisation (a moving average of 0.99 in
place of 0.9, epsilon 1e-3 in place of 1e-5), and where a convolution of stride 2 pads.  One is a
mistake of their code and is not copied: no gradient goes through its shortcuts between stages.
"""

from typing import Any

from lth_keras.experiments.training.network_layers import conv, dense


def vgg16(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """VGG-16 for small images: 14,715,584 kernel weights on 32x32x3 images of ten classes.

    13 convolutions, each followed by batch normalisation, then an average over the image instead
    of dense layers (Simonyan & Zisserman 2015, column D; Liu et al. 2019 prune its single weights,
    and the filters of `vgg16_fc512`).

    Example:
      >>> import tf_keras
      >>> model = vgg16((32, 32, 3), 10, keras=tf_keras)
      >>> sum(layer.name.endswith("_norm") for layer in model.layers)
      13
    """
    return _vgg(keras, "vgg16", (2, 2, 3, 3, 3), input_shape, classes)


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
            named = f"stage{stage}_conv{number}"
            # No bias: the normalisation after it would subtract it again.
            layers += [conv(keras, min(512, 32 * 2**stage), 3, named, use_bias=False),
                       keras.layers.BatchNormalization(name=f"{named}_norm"), keras.layers.ReLU()]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(),
                             dense(keras, classes, "fc", activation=None)], name=name)


def vgg16_fc512(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """VGG-16 with a hidden dense layer: 14,977,728 kernel weights on 32x32x3 images of ten classes.

    13 convolutions, and a classifier of 512 units, all normalised: the network whose filters are
    pruned in Liu et al. 2019, section 6, and Li et al. 2017.

    Example:
      >>> import tf_keras
      >>> model = vgg16_fc512((32, 32, 3), 10, keras=tf_keras)
      >>> model.get_layer("conv13").filters, model.get_layer("fc1").units
      (512, 512)
    """
    def normalised(name: str) -> list[Any]:
        half = keras.initializers.Constant(0.5)
        return [keras.layers.BatchNormalization(gamma_initializer=half, name=f"{name}_norm"),
                keras.layers.ReLU()]

    def small() -> Any:
        return keras.initializers.RandomNormal(stddev=0.01)

    layers, number = [keras.layers.Input(input_shape)], 0
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
        if stage > 1:
            layers.append(keras.layers.MaxPooling2D())
        for _ in range(count):
            number += 1
            layers += [conv(keras, min(512, 32 * 2**stage), 3, f"conv{number}", use_bias=False,
                            kernel_initializer=_he(keras)), *normalised(f"conv{number}")]
    hidden = keras.layers.Dense(512, kernel_initializer=small(), name="fc1")
    return keras.Sequential([
        *layers, keras.layers.AveragePooling2D(2), keras.layers.Flatten(), hidden,
        *normalised("fc1"), dense(keras, classes, "fc2", None, kernel_initializer=small())],
        name="vgg16_fc512")


def _he(keras: Any) -> Any:
    # He initialisation as in Liu et al.: by a kernel's outputs, and not truncated.
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


# "Resnet-18" is the paper's name for the network that He et al. call ResNet-20.
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


def resnet56(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """ResNet-56: 56 layers and 851,504 kernel weights on 32x32x3 images of ten classes.

    resnet18 with nine blocks in each stage (He et al. 2016, section 4.2).

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
        y = conv(keras, filters, 3, f"{name}_conv1", strides=strides, use_bias=False)(x)
        y = layers.ReLU()(normalised(y, f"{name}_conv1"))
        y = conv(keras, filters, 3, f"{name}_conv2", use_bias=False)(y)
        y = normalised(y, f"{name}_conv2")
        # Between stages, the shortcut is a 1x1 convolution that halves the image.
        if strides > 1:
            x = conv(keras, filters, 1, f"{name}_shortcut", strides=strides, use_bias=False)(x)
            x = normalised(x, f"{name}_shortcut")
        return layers.ReLU()(layers.Add()([x, y]))

    image = layers.Input(input_shape)
    x = layers.ReLU()(normalised(conv(keras, 16, 3, "conv", use_bias=False)(image), "conv"))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for number in range(1, blocks + 1):
            x = block(x, filters, 2 if stage > 1 and number == 1 else 1,
                      f"stage{stage}_block{number}")
    logits = dense(keras, classes, "fc", activation=None)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, logits, name=name)


def resnet56_padded(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """ResNet-56 with shortcuts without weights: 848,944 kernel weights on 32x32x3 images.

    Between stages the shortcut is the average of 2x2 pixels, and channels of zeros in place of
    those that it lacks (Liu et al. 2019, section 6; Li et al. 2017).  The convolutions of block
    b, from 0 on, have the numbers 2 (b + 1) and 2 (b + 1) + 1.

    Example:
      >>> import tf_keras
      >>> model = resnet56_padded((32, 32, 3), 10, keras=tf_keras)
      >>> [layer.name for layer in model.layers if "conv20" in layer.name]
      ['stage2_conv20', 'stage2_conv20_norm']
    """
    return _padded_resnet(keras, "resnet56_padded", 9, input_shape, classes)


def resnet110_padded(input_shape: tuple[int, ...], classes: int, *, keras: Any) -> Any:
    """ResNet-110: 1,719,856 kernel weights on 32x32x3 images of ten classes.

    resnet56_padded with 18 blocks in each stage.

    Example:
      >>> import tf_keras
      >>> resnet110_padded((32, 32, 3), 10, keras=tf_keras).get_layer("stage3_conv109").filters
      64
    """
    return _padded_resnet(keras, "resnet110_padded", 18, input_shape, classes)


def _padded_resnet(keras: Any, name: str, blocks: int, input_shape: tuple[int, ...],
                   classes: int) -> Any:
    layers = keras.layers

    def convolved(x: Any, filters: int, name: str, strides: int = 1) -> Any:
        x = conv(keras, filters, 3, name, strides=strides, use_bias=False,
                 kernel_initializer=_he(keras))(x)
        return layers.BatchNormalization(name=f"{name}_norm")(x)

    def halved(x: Any) -> Any:
        x = layers.AveragePooling2D(2, padding="same")(x)
        # Zeros by layers that every Keras and every format has.
        return layers.Concatenate()([x, layers.Rescaling(0.0)(x)])

    image, number = layers.Input(input_shape), 2
    x = layers.ReLU()(convolved(image, 16, "conv1"))
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(blocks):
            between = stage > 1 and block == 0
            y = convolved(x, filters, f"stage{stage}_conv{number}", 2 if between else 1)
            y = convolved(layers.ReLU()(y), filters, f"stage{stage}_conv{number + 1}")
            x = layers.ReLU()(layers.Add()([halved(x) if between else x, y]))
            number += 2
    # As torch initialises a linear layer: evenly within 1 / sqrt(inputs), biases too.
    drawn = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    logits = dense(keras, classes, "fc", None, kernel_initializer=drawn,
                   bias_initializer=keras.initializers.RandomUniform(-1 / 8, 1 / 8))
    return keras.Model(image, logits(layers.GlobalAveragePooling2D()(x)), name=name)
