"""Keras 3 models in which a careless search goes wrong without a word, on any backend."""

import types

import keras
import numpy as np

layers = keras.layers
_DRAW = np.random.default_rng(0)
X = _DRAW.normal(size=(64, 6)).astype(np.float32)
Y = (X @ _DRAW.normal(size=(6, 2))).astype(np.float32)
DATA = (X, Y)
SEQUENCES = (_DRAW.normal(size=(64, 3, 2)).astype(np.float32), Y)


def compiled(model, run_eagerly=True, **options):
    """Most of the time of a small model goes to its graphs: where they do not matter, eagerly."""
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "mse", run_eagerly=run_eagerly, **options)
    return model


def mlp(kind=keras.Sequential, *more):
    return kind([layers.Input((6,)), layers.Dense(8, "tanh", name="dense"), *more,
                 layers.Dense(2, name="head")])


class Drifts(keras.Sequential):
    """Its train_step moves a kernel past its optimizer."""

    def train_step(self, *given):
        kernel = self.get_layer("dense").kernel
        if keras.backend.backend() == "jax":
            logs, (trainable, *others) = super().train_step(*given)
            trainable = [value + 0.01 if variable is kernel else value for variable, value
                         in zip(self.trainable_variables, trainable, strict=True)]
            return logs, (trainable, *others)
        logs = super().train_step(*given)
        kernel.assign(kernel + 0.01)
        return logs


class TwoOptimizers(keras.Model):
    """It trains its head with a second optimizer, by a rule that every backend computes."""

    def __init__(self, second):
        super().__init__()
        self.dense, self.head = layers.Dense(8, "tanh", name="dense"), layers.Dense(2, name="head")
        second(self)

    def call(self, inputs):
        return self.head(self.dense(inputs))

    def train_step(self, *given):
        logs = super().train_step(*given)
        kernel = self.head.kernel
        self.second().apply([keras.ops.ones_like(kernel)], [kernel])
        return logs


ELSEWHERE = {}  # What no attribute of a model leads to.


def second_in_an_attribute(model):
    model.others = {"head": keras.optimizers.Adam(0.01)}
    model.second = lambda: model.others["head"]


def second_in_an_object(model):
    model.helper = types.SimpleNamespace(optimizer=keras.optimizers.Adam(0.01))
    model.second = lambda: model.helper.optimizer


def second_out_of_sight(model):
    ELSEWHERE[id(model)] = keras.optimizers.Adam(0.01)
    model.second = lambda: ELSEWHERE[id(model)]


def two_optimizers(second):
    def build():
        model = TwoOptimizers(second)
        model(X[:2])
        model.second().build([model.head.kernel])
        return compiled(model)
    return build


class Scaled(layers.Layer):
    """It scales its inputs by what `scale` returns, and draws or counts as that does."""

    def __init__(self, scale, **options):
        super().__init__(**options)
        self.scale = scale

    def call(self, inputs):
        return inputs * self.scale()


class Counter:
    """Counts in Python."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return 1 + 0.01 * self.count


class VariableCounter:
    """Counts in a variable that no layer tracks."""

    def __init__(self):
        self.count = keras.Variable(1.0)

    def __call__(self):
        self.count.assign(self.count + 0.01)
        return self.count.value


def scaled(scale):
    return lambda: compiled(mlp(keras.Sequential, Scaled(scale())))


def numpy_draws():
    draw = np.random.default_rng()  # Of the machine's own randomness.
    return lambda: np.float32(1 + 0.1 * draw.normal())


def keras_draws():
    return lambda: 1 + 0.1 * keras.random.normal(())


def seeded_draws():
    generator = keras.random.SeedGenerator(1)
    return lambda: 1 + 0.1 * keras.random.normal((), seed=generator)


def stateful():
    return compiled(keras.Sequential([
        layers.Input((3, 2), batch_size=32), layers.SimpleRNN(4, stateful=True, name="recurrent"),
        layers.Dense(2)]))
