"""Keras 3 models of classes that another process can import."""

import keras
import numpy as np

layers = keras.layers


@keras.saving.register_keras_serializable("tests")
class Words(keras.Model):
    """Whole numbers to sums of their vectors; its graph is its code."""

    def __init__(self, **options):
        super().__init__(**options)
        self.vectors = layers.Embedding(9, 4)

    def call(self, words):
        return keras.ops.sum(self.vectors(words), axis=1)


@keras.saving.register_keras_serializable("tests")
class Named(keras.Model):
    """Takes a dict of one array."""

    def __init__(self, **options):
        super().__init__(**options)
        self.out = layers.Dense(3)

    def call(self, given):
        return self.out(given["x"])


@keras.saving.register_keras_serializable("tests")
class Halved(layers.Layer):
    """Half of what it is given."""

    def call(self, inputs):
        return inputs / 2


def images():
    """A network of images in which a filter has no weights, and a layer is a user's."""
    model = keras.Sequential([
        keras.Input((6, 6, 2)), layers.Conv2D(4, 3, activation="relu", name="a"),
        layers.DepthwiseConv2D(2), layers.BatchNormalization(), layers.Flatten(),
        layers.Dense(3), Halved()])
    kernel = keras.ops.convert_to_numpy(model.get_layer("a").kernel)
    model.get_layer("a").kernel.assign(np.asarray(kernel) * [1, 1, 0, 1])
    return model
