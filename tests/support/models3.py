"""Keras 3 models of every kind, of a few weights: what the catalogue is made of."""

import collections

import keras
import numpy as np

layers, ops = keras.layers, keras.ops
Pair = collections.namedtuple("Pair", "left right")
registered = keras.saving.register_keras_serializable(package="models3")


def draws(*shape):
    """A function that makes examples of a shape."""
    return lambda: np.random.default_rng(3).normal(size=shape).astype(np.float32)


def around(layer, shape, *before, head=True):
    """A Sequential model of one layer, given by a function, and a head."""
    def build():
        return keras.Sequential([layers.Input(shape), *(make() for make in (*before, layer)),
                                 *([layers.Flatten(), layers.Dense(2)] if head else [])])
    return build


def dense():
    return layers.Dense(6)


def mlp():
    return keras.Sequential([layers.Input((6,)), layers.Dense(8, "relu"), layers.Dense(2)])


def branches():
    inputs = layers.Input((6,))
    left, right = layers.Dense(5, "relu")(inputs), layers.Dense(5, "tanh")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([left, right])))


def many():
    left, right = layers.Input((4,), name="left"), layers.Input((3,), name="right")
    hidden = layers.Concatenate()([layers.Dense(5)(left), layers.Dense(5)(right)])
    return keras.Model({"left": left, "right": right},
                       {"a": layers.Dense(2, name="a")(hidden),
                        "b": layers.Dense(3, name="b")(hidden)})


def many_inputs():
    return {"left": draws(8, 4)(), "right": draws(8, 3)()}


def nested():
    inner = keras.Sequential([layers.Input((5,)), layers.Dense(5)])
    middle = keras.Sequential([layers.Input((6,)), layers.Dense(5), inner])
    return keras.Sequential([layers.Input((6,)), middle, layers.Dense(2)])


def shared():
    inputs, twice = layers.Input((6,)), layers.Dense(6)
    return keras.Model(inputs, layers.Dense(2)(twice(twice(inputs))))


def shared_model():
    inputs = layers.Input((6,))
    twice = keras.Sequential([layers.Input((6,)), layers.Dense(6)])
    return keras.Model(inputs, layers.Dense(2)(twice(twice(inputs))))


def called(kind, inputs):
    """A subclassed model, built by its first call."""
    def build():
        model = kind()
        model(inputs())
        return model
    return build


@registered
class Core(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.out = layers.Dense(3)

    def call(self, inputs):
        return self.out(inputs)


@registered
class Inner(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense, self.core = layers.Dense(5), Core()

    def call(self, inputs):
        return self.core(self.dense(inputs))


@registered
class Everywhere(keras.Model):
    """Layers in an attribute, a list, a tuple, a named tuple, dicts, and nested models."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first = layers.Dense(6, activation="relu")
        self.chain = [layers.Dense(5), [layers.BatchNormalization(), layers.Dense(5)]]
        self.pair = Pair(layers.Dense(4), layers.Dense(4))
        self.heads = {"a": layers.Dense(3), "deep": {"b": (layers.Dense(3), layers.ReLU())}}
        self.inner = Inner()
        self.net = keras.Sequential([layers.Dense(4), layers.Dense(3)])
        self.last = layers.Dense(2)
        self.also_last = self.last

    def call(self, inputs):
        hidden = self.chain[0](self.first(inputs))
        for layer in self.chain[1]:
            hidden = layer(hidden)
        hidden = self.pair.left(hidden) + self.pair.right(hidden)
        first, (second, act) = self.heads["a"], self.heads["deep"]["b"]
        return self.also_last(first(hidden) + act(second(hidden)) + self.inner(hidden)
                              + self.net(hidden))


@registered
class TiedByHand(keras.Model):
    """A language model whose output is its embedding's transpose."""

    def __init__(self, **options):
        super().__init__(**options)
        self.embed, self.mix = layers.Embedding(7, 4), layers.Dense(4)

    def call(self, inputs):
        hidden = ops.mean(self.mix(self.embed(inputs)), axis=1)
        return ops.matmul(hidden, ops.transpose(self.embed.embeddings))


@registered
class OwnLoss(keras.Model):
    """Its own compute_loss, with a penalty on its kernels."""

    def __init__(self, **options):
        super().__init__(**options)
        self.hidden, self.last = layers.Dense(6, activation="relu"), layers.Dense(2)

    def call(self, inputs, training=False):
        return self.last(self.hidden(inputs))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.square(y - y_pred)) + 1e-3 * ops.sum(ops.square(self.hidden.kernel))


@registered
class OwnStep(OwnLoss):
    """Its own train_step, as it is written on each backend."""

    def train_step(self, *arguments):
        return {"tensorflow": self._tensorflow, "torch": self._torch,
                "jax": self._jax}[keras.backend.backend()](*arguments)

    def _tensorflow(self, data):
        import tensorflow as tf
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}

    def _torch(self, data):
        import torch
        x, y = data
        self.zero_grad()
        loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        loss.backward()
        weights = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([weight.value.grad for weight in weights], weights)
        return {"loss": loss}

    def _jax(self, state, data):
        import jax
        trainable, others, slots, metrics = state
        x, y = data

        def loss(trainable):
            predicted, new = self.stateless_call(trainable, others, x, training=True)
            penalty = 1e-3 * ops.sum(ops.square(trainable[0]))
            return ops.mean(ops.square(y - predicted)) + penalty, new
        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(trainable)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return {"loss": value}, (trainable, others, slots, metrics)


@registered
class Arguments(keras.Model):
    """A functional model with arguments, attributes and a loss of its own."""

    def __init__(self, units):
        inputs = layers.Input((6,))
        hidden, last = layers.Dense(units, name="hidden"), layers.Dense(2, name="last")
        super().__init__(inputs, last(hidden(inputs)))
        self.units, self.stack, self.rate = units, [hidden, {"last": last}], 0.5

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.rate * ops.mean(ops.square(y - y_pred))

    def get_config(self):
        return {"units": self.units}


def subclassed_in_functional():
    inputs = layers.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(Inner()(inputs)))


@registered
class OwnDense(layers.Dense):
    pass


@registered
class Odd(layers.Layer):
    """Weights of rank 2 and more under any name, and layers in a list and a dict."""

    def build(self, shape):
        self.strange = self.add_weight(name="strange", shape=(shape[-1], 5))
        self.scale = self.add_weight(name="scale", shape=(5,), initializer="ones")
        self.chain = [self.add_weight(name=f"chain_{number}", shape=(5, 5)) for number in (0, 1)]
        self.heads = {"a": layers.Dense(4)}
        self.heads["a"].build((None, 5))

    def call(self, inputs):
        hidden = ops.matmul(inputs, self.strange) * self.scale
        for weight in self.chain:
            hidden = ops.matmul(hidden, weight)
        return self.heads["a"](hidden)


@registered
class Counting(layers.Layer):
    """A variable of its own that training changes."""

    def build(self, shape):
        self.calls = self.add_weight(name="calls", shape=(), dtype="int32", trainable=False,
                                     initializer="zeros")
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], 4))

    def call(self, inputs, training=False):
        if training:
            self.calls.assign(self.calls + 1)
        return ops.matmul(inputs, self.kernel)


@registered
class Drawing(layers.Layer):
    """Draws random numbers of a seed generator of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(7)

    def call(self, inputs, training=False):
        if not training:
            return inputs
        return inputs + 0.1 * keras.random.normal(ops.shape(inputs), seed=self.seeds)


def attention(kind):
    def build():
        inputs = layers.Input((5, 4))
        return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(kind()(inputs, inputs))))
    return build


def words(*inside, mask=True):
    def build():
        return keras.Sequential([layers.Input((5,), dtype="int32"),
                                 layers.Embedding(7, 6, mask_zero=mask),
                                 *(make() for make in inside), layers.Flatten(), layers.Dense(2)])
    return build


def word_numbers():
    return np.arange(40).reshape(8, 5) % 7


def stateful(kind):
    def build():
        return keras.Sequential([layers.Input(batch_shape=(4, 5, 3)), kind(), layers.Dense(2)])
    return build


def adapted():
    layer = layers.Normalization()
    layer.adapt(draws(8, 6)())
    return keras.Sequential([layers.Input((6,)), layers.Rescaling(0.5, 0.1), layer,
                             layers.Dense(5), layers.Dense(2)])


def flipped():
    return keras.Sequential([layers.Input((6, 6, 2)), layers.RandomFlip(seed=1),
                             layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)])


def frozen():
    return keras.Sequential([layers.Input((6,)), layers.Dense(5, trainable=False, name="still"),
                             layers.Dense(2)])


def frozen_nested():
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(5)])
    inner.trainable = False
    return keras.Sequential([layers.Input((6,)), inner, layers.Dense(2)])


def constrained():
    return keras.Sequential([
        layers.Input((6,)),
        layers.Dense(5, kernel_constraint="max_norm", kernel_regularizer=keras.regularizers.L1L2()),
        layers.Dense(4, kernel_constraint="non_neg", activity_regularizer="l2"), layers.Dense(2)])


def lora():
    model = mlp()
    model.layers[0].enable_lora(2)
    return model


def float32_head():
    return keras.Sequential([layers.Input((6,)), layers.Dense(8, "relu"),
                             layers.BatchNormalization(), layers.Dense(6),
                             layers.Dense(2, dtype="float32")])


def bfloat16():
    return keras.Sequential([layers.Input((6,)), layers.Dense(5, dtype="bfloat16"),
                             layers.Dense(2, dtype="bfloat16")])
