"""Subclassed models, and functional ones of a class of their own, that the tests share."""

import collections

import tensorflow as tf
import tf_keras as keras

layers = keras.layers
Pair = collections.namedtuple("Pair", "left right")


@keras.utils.register_keras_serializable(package="tests")
class Everywhere(keras.Model):
    """Layers in an attribute, a list, a tuple, a named tuple, dicts, and a nested model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
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


EVERYWHERE = ["first/kernel", "chain/0/kernel", "chain/1/1/kernel", "pair/0/kernel",
              "pair/1/kernel", "heads/a/kernel", "heads/deep/b/0/kernel", "inner/dense/kernel",
              "inner/core/out/kernel", "net/dense/kernel", "net/dense_1/kernel", "last/kernel"]


@keras.utils.register_keras_serializable(package="tests")
class Core(keras.Model):
    """The innermost of three subclassed models."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.out = layers.Dense(3)

    def call(self, inputs):
        return self.out(inputs)


@keras.utils.register_keras_serializable(package="tests")
class Inner(keras.Model):
    """A subclassed model that holds one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(5)
        self.core = Core()

    def call(self, inputs):
        return self.core(self.dense(inputs))


@keras.utils.register_keras_serializable(package="tests")
class OwnStep(keras.Model):
    """Its own train_step, metric and @tf.function."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(6, activation="relu")
        self.last = layers.Dense(2)
        self.tracker = keras.metrics.Mean(name="loss")

    @tf.function
    def call(self, inputs):
        return self.last(self.hidden(inputs))

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x, training=True) - y))
            loss += 1e-3 * tf.reduce_sum(tf.square(self.hidden.kernel))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}

    @property
    def metrics(self):
        return [self.tracker]


@keras.utils.register_keras_serializable(package="tests")
class TiedByHand(keras.Model):
    """A language model whose output is its embedding's transpose."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed = layers.Embedding(7, 4)
        self.mix = layers.Dense(4)

    def call(self, inputs):
        hidden = tf.reduce_mean(self.mix(self.embed(inputs)), axis=1)
        return tf.matmul(hidden, self.embed.embeddings, transpose_b=True)


@keras.utils.register_keras_serializable(package="tests")
class Arguments(keras.Model):
    """A functional model with arguments, attributes and a train_step of its own."""

    def __init__(self, units):
        inputs = layers.Input((6,))
        hidden = layers.Dense(units, name="hidden")
        last = layers.Dense(2, name="last")
        super().__init__(inputs, last(hidden(inputs)))
        self.hidden, self.stack, self.rate = hidden, [hidden, {"last": last}], 0.5

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.rate * tf.reduce_mean(tf.square(self(x, training=True) - y))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, weights), weights, strict=True))
        return {"halved": loss}


class OwnSequential(keras.Sequential):
    """A Sequential model with a method and an argument of its own."""

    def __init__(self, width):
        super().__init__([layers.Input((6,)), layers.Dense(width), layers.Dense(2)])
        self.width = width

    def twice(self, inputs):
        return 2 * self(inputs)


@keras.utils.register_keras_serializable(package="tests")
class Decoder(layers.Layer):
    """Uses the kernel of another layer, the other way round."""

    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense

    def call(self, inputs):
        return keras.backend.dot(inputs, keras.backend.transpose(self.dense.kernel))

    def get_config(self):
        return {**super().get_config(), "dense": keras.layers.serialize(self.dense)}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(keras.layers.deserialize(config.pop("dense")), **config)


def tied():
    inputs, encoder = layers.Input((6,)), layers.Dense(8)
    return keras.Model(inputs, layers.Dense(2)(Decoder(encoder)(encoder(inputs))))


def decoder_first():
    """The user that comes first in the graph has another's kernel."""
    inputs, dense = layers.Input((6,)), layers.Dense(6)
    dense.build((None, 6))
    return keras.Model(inputs, layers.Dense(2)(dense(Decoder(dense)(inputs))))


def in_time_and_alone():
    inputs, twice = layers.Input((6,)), layers.Dense(6)
    hidden = layers.TimeDistributed(twice)(layers.Reshape((1, 6))(inputs))
    return keras.Model(inputs, layers.Dense(2)(twice(layers.Flatten()(hidden))))


TIED = {"tied": (tied, ["dense/kernel", "dense_1/kernel"]),
        "decoder_first": (decoder_first, ["decoder/dense/kernel", "dense_1/kernel"]),
        "in_time_and_alone": (in_time_and_alone, ["time_distributed/layer/kernel",
                                                  "dense_1/kernel"])}
