import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras import models, optimizers, presets, rates, rewind
from lth_keras.optimizers import CoupledSGD
from lth_keras.weights import masked, named_weights
from lth_keras.wrap import prune_low_magnitude

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
Y = np.arange(32) % 3
RATE = 0.25
SGD = presets.get("digits").replace(optimizer="sgd", learning_rate=RATE)


def network():
    layers = keras.layers
    return prune_low_magnitude(keras.Sequential([
        layers.Input((4,)), layers.Dense(5, name="a"), layers.BatchNormalization(name="norm"),
        layers.ReLU(), layers.Dense(3, name="b")]))


def gradients(model, x, y):
    """Of the plain loss, by weight."""
    variables = named_weights(model)
    with tf.GradientTape() as tape:
        loss = model.loss(y, model(x, training=True))
    return {name: tape.gradient(loss, variable).numpy() if variable.trainable else None
            for name, variable in variables.items()} if len(variables) == 1 else {
        name: gradient.numpy() for name, gradient in zip(
            [name for name, variable in variables.items() if variable.trainable],
            tape.gradient(loss, [variable for variable in variables.values()
                                 if variable.trainable]), strict=True)}
