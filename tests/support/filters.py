"""Models whose filters are pruned, built with either Keras, and what must hold of them."""

import numpy as np

import lth_keras as lth
from lth_keras.core.next_masks import PruningRule
from lth_keras.files.engines import engine_of


def residual(keras):
    layers = keras.layers
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = before = layers.ReLU()(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(6, 3, padding="same", activation="sigmoid", name="inner")(x)
    x = layers.Conv2D(8, 3, padding="same", name="outer")(x)
    x = layers.ReLU()(layers.Add()([before, layers.BatchNormalization(name="outer_norm")(x)]))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Dense(12, "tanh", name="fc")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(4, name="out")(x))


def unet(keras):
    layers = keras.layers

    def block(x, filters):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        return layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(x))
    inputs = layers.Input((16, 16, 3))
    one = block(inputs, 8)
    two = block(layers.MaxPooling2D()(one), 16)
    three = block(layers.MaxPooling2D()(two), 32)
    x = layers.Conv2DTranspose(16, 2, strides=2)(three)
    x = block(layers.Concatenate()([x, two]), 16)
    x = block(layers.Concatenate()([layers.UpSampling2D()(x), one]), 8)
    return keras.Model(inputs, layers.Conv2D(2, 1)(x))


def inception(keras):
    layers = keras.layers

    def conv(x, filters, size):
        x = layers.Conv2D(filters, size, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    x = inputs = layers.Input((9, 9, 3))
    for _ in range(2):
        x = layers.Concatenate()([
            conv(x, 4, 1), conv(conv(x, 4, 1), 6, 3),
            conv(layers.AveragePooling2D(3, 1, "same")(x), 4, 1),
            layers.MaxPooling2D(3, 1, "same")(x)])
    x = layers.SeparableConv2D(10, 3, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalMaxPooling2D()(x)))


def transformer(keras):
    layers = keras.layers
    x = inputs = layers.Input((16, 24))
    for _ in range(2):
        normal = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 6)(normal, normal)])
        hidden = layers.EinsumDense("abc,cd->abd", (None, 48), bias_axes="d", activation="gelu")(
            layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(24)(hidden)])
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling1D()(x)))


def sequences(keras):
    layers = keras.layers
    return keras.Sequential([
        layers.Input((20, 3)), layers.Conv1D(16, 5, padding="causal", activation="relu"),
        layers.Conv1D(16, 3, groups=4, activation="tanh"),
        layers.LSTM(12, return_sequences=True), layers.GRU(10), layers.Dense(3)])


def volumes(keras):
    layers = keras.layers
    return keras.Sequential([
        layers.Input((6, 6, 6, 1)), layers.Conv3D(8, 3, activation="elu"),
        layers.BatchNormalization(), layers.Conv3D(8, 3, padding="same"), layers.MaxPooling3D(),
        layers.Flatten(), layers.Dense(10, "relu"), layers.Dense(3)])


def generator(keras):
    layers = keras.layers
    return keras.Sequential([
        layers.Input((7,)), layers.Dense(4 * 4 * 8, "relu"), layers.Reshape((4, 4, 8)),
        layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(1, 3, padding="same")])


def shared(keras):
    layers = keras.layers
    inputs = layers.Input((6,))
    twice = layers.Dense(8, "tanh")
    x = layers.Add()([twice(layers.Dense(8, "sigmoid")(inputs)), twice(layers.Dense(8)(inputs))])
    return keras.Model(inputs, layers.Dense(2)(x))


def nested(keras):
    layers = keras.layers
    body = residual(keras)
    body = keras.Model(body.input, body.get_layer("fc").output, name="body")
    inputs = layers.Input((8, 8, 3))
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Dropout(0.1)(body(inputs))))


SMALL = {each.__name__: each for each in (
    residual, unet, inception, transformer, sequences, volumes, generator, shared, nested)}
# The smallest image that each takes.
APPLICATIONS = {"VGG16": 32, "ResNet50": 32, "MobileNetV2": 32, "MobileNetV3Small": 32,
                "EfficientNetB0": 32, "DenseNet121": 32, "InceptionV3": 75, "Xception": 71,
                "NASNetMobile": 32, "ConvNeXtTiny": 32}


def application(keras, name):
    size = APPLICATIONS[name]
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)


def disturb(model, seed=0):
    """Gives biases, shifts, scales and statistics random values, and zeros nothing."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        name, shape = getattr(variable, "path", variable.name), tuple(variable.shape)
        if "variance" in name or "gamma" in name:
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) == 1 or "bias" in name:
            variable.assign(rng.normal(0, 0.3, shape))
    return model


def network(model):
    """The network of a search that prunes filters."""
    if type(model).__module__.startswith("tf_keras"):
        return engine_of(model).network(lth.prune_low_magnitude(model, structure="filters"))
    return engine_of(model).network(model, structure="filters")


def pruned(found, criterion="l1", fraction=0.5, seed=0):
    """Prunes a network once; the masks."""
    rule = PruningRule.of([*found.prunable.values()], found.shapes, fraction=fraction,
                          criterion=criterion, structures=found.structures)
    weights, ones = found.weights(), {name: np.ones(shape, np.uint8)
                                      for name, shape in found.shapes.items()}
    _, masks = rule.next_start(weights, ones, weights, np.random.default_rng(seed))
    found.assign(weights, masks)
    return masks


def batch(model, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, *model.inputs[0].shape[1:])).astype(np.float32)


def compacted(found):
    """The smaller network of a network's model."""
    model = found.model
    return lth.compact(lth.strip_pruning(model) if hasattr(model, "_is_graph_network") and type(
        model).__module__.startswith("tf_keras") else model)
