"""Models in which a careless search goes wrong without a word, and what fit takes for each."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

layers = keras.layers
_DRAW = np.random.default_rng(0)
X = _DRAW.normal(size=(64, 6)).astype(np.float32)
Y = (X @ _DRAW.normal(size=(6, 2))).astype(np.float32)
DATA = (X, Y)


def compiled(model, optimizer="adam", **options):
    model.compile(optimizer, "mse", **options)
    return model


def built(model, x=X[:2]):
    model(x)
    return model


def _mlp(name, outputs, inputs=6):
    return keras.Sequential([layers.Input((inputs,)), layers.Dense(8, "tanh"),
                             layers.Dense(outputs)], name=name)


class Gan(keras.Model):
    """Two networks with an optimizer each, as in Keras' own examples, that also have a call."""

    def __init__(self):
        super().__init__(name="gan")
        self.generator, self.discriminator = _mlp("generator", 6, 3), _mlp("discriminator", 1)

    def compile(self, d_opt=None, g_opt=None):
        super().compile()
        self.d_opt, self.g_opt = d_opt or keras.optimizers.Adam(), g_opt or keras.optimizers.Adam()
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    def call(self, x):
        return self.discriminator(x)

    def train_step(self, data):
        real, noise = data if isinstance(data, tuple) else (data, None)
        batch = tf.shape(real)[0]
        labels = tf.concat([tf.ones((batch, 1)), tf.zeros((batch, 1))], 0)
        if noise is None:
            noise = tf.random.normal((batch, 3))
        with tf.GradientTape() as tape:
            seen = tf.concat([real, self.generator(noise)], 0)
            d_loss = self.loss_fn(labels, self.discriminator(seen))
        weights = self.discriminator.trainable_weights
        self.d_opt.apply_gradients(zip(tape.gradient(d_loss, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            judged = self.discriminator(self.generator(noise))
            g_loss = self.loss_fn(tf.ones((batch, 1)), judged)
        weights = self.generator.trainable_weights
        self.g_opt.apply_gradients(zip(tape.gradient(g_loss, weights), weights, strict=True))
        return {"loss": d_loss + g_loss}


def gan():
    model = built(Gan())
    model.compile()
    return model


class Recomputed(layers.Layer):
    """A layer whose activations are computed anew in the backward pass."""

    def build(self, shape):
        self.dense = layers.Dense(8, "tanh")
        self.dense.build(shape)
        super().build(shape)

    def call(self, x):
        return tf.recompute_grad(self.dense)(x)


def recomputed():
    return compiled(keras.Sequential([layers.Input((6,)), Recomputed(), layers.Dense(2)]))


class Doubled(layers.Layer):
    """A product with a gradient of its own."""

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], 8))
        super().build(shape)

    def call(self, x):
        @tf.custom_gradient
        def product(y):
            kernel = tf.convert_to_tensor(self.kernel)

            def gradient(upstream, variables=None):
                back = upstream @ tf.transpose(kernel)
                return back if variables is None else \
                    (back, [tf.transpose(y) @ upstream for _ in variables])
            return y @ self.kernel, gradient
        return product(x)


def custom_gradient():
    return compiled(keras.Sequential([layers.Input((6,)), Doubled(), layers.Dense(2)]))


def added_loss_sequential():
    model = _mlp("added", 2)
    model.add_loss(lambda: 0.1 * tf.reduce_sum(model.layers[0].kernel ** 2))
    return compiled(model)


def added_loss_functional():
    inputs = layers.Input((6,))
    hidden = layers.Dense(8, "tanh")
    model = keras.Model(inputs, layers.Dense(2)(hidden(inputs)))
    model.add_loss(lambda: 0.1 * tf.reduce_sum(hidden.kernel ** 2))
    return compiled(model)


class Own(keras.Model):
    """A functional model of a class of its own."""


def added_loss_own_class():
    inputs = layers.Input((6,))
    hidden = layers.Dense(8, "tanh")
    model = Own(inputs, layers.Dense(2)(hidden(inputs)))
    model.add_loss(lambda: 0.1 * tf.reduce_sum(hidden.kernel ** 2))
    return compiled(model)


def stateful():
    return compiled(keras.Sequential([
        layers.Input((3, 2), batch_size=32), layers.SimpleRNN(4, stateful=True, name="recurrent"),
        layers.Dense(2)]))


class ByType(keras.Model):
    """Its call looks for layers of a type."""

    def __init__(self):
        super().__init__()
        self.all = [layers.Dense(8, "tanh"), layers.Dense(8, "tanh")]
        self.head = layers.Dense(2)

    def call(self, x):
        for layer in self.all:
            x = layer(x) + x[:, :1] if isinstance(layer, layers.Dense) else layer(x)
        return self.head(x)


def by_type():
    return compiled(built(ByType()))


class ByName(keras.Model):
    """Its call looks at its layers' names."""

    def __init__(self):
        super().__init__()
        self.one = layers.Dense(8, "tanh", name="wide")
        self.head = layers.Dense(2)

    def call(self, x):
        y = self.one(x)
        return self.head(2 * y if self.one.name.startswith("wide") else y)


def by_name():
    return compiled(built(ByName()))


class ByGetLayer(keras.Model):
    """Its call asks itself for a layer."""

    def __init__(self):
        super().__init__()
        self.one = layers.Dense(8, "tanh", name="enc")
        self.head = layers.Dense(2)

    def call(self, x):
        return self.head(self.get_layer("enc")(x))


def by_get_layer():
    return compiled(built(ByGetLayer()))


class Named(layers.Layer):
    """A kernel under a name that has a part of another's."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def build(self, shape):
        setattr(self, self.weight, self.add_weight(self.weight, (shape[-1], 8)))
        super().build(shape)

    def call(self, x):
        return x @ getattr(self, self.weight)


NAMES = ("alphabet_kernel", "alpha_proj", "debiased_kernel", "gamma_net_w",
         "moving_average_kernel", "beta_table")


def named(weight):
    return lambda: compiled(keras.Sequential([layers.Input((6,)), Named(weight), layers.Dense(2)]))


class FirstWeight(layers.Layer):
    """Reads its weight from the list that Keras keeps."""

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], 8))
        super().build(shape)

    def call(self, x):
        return x @ self.trainable_weights[0]


def first_weight():
    return compiled(keras.Sequential([layers.Input((6,)), FirstWeight(), layers.Dense(2)]))


SEQUENCES = (_DRAW.normal(size=(64, 3, 2)).astype(np.float32), Y)
# Name -> how the model is built, and its data.
FAULTS = {
    "two optimizers": (gan, X),
    "recompute_grad": (recomputed, DATA),
    "custom_gradient": (custom_gradient, DATA),
    "add_loss, Sequential": (added_loss_sequential, DATA),
    "add_loss, functional": (added_loss_functional, DATA),
    "add_loss, own class": (added_loss_own_class, DATA),
    "stateful": (stateful, SEQUENCES),
    "isinstance": (by_type, DATA),
    "name": (by_name, DATA),
    "get_layer": (by_get_layer, DATA),
    "trainable_weights[0]": (first_weight, DATA),
}


class ReadsInStep(keras.Model):
    """Its train_step reads the kernel of a layer, outside any call."""

    def __init__(self):
        super().__init__()
        self.dense, self.head = layers.Dense(8, "tanh", name="dense"), layers.Dense(2)

    def call(self, x):
        return self.head(self.dense(x))

    def kernel(self):
        """What the penalty is of."""
        return self.dense.kernel

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            kernel = self.kernel()
            apart = tf.matmul(kernel, kernel, transpose_a=True) - tf.eye(8)
            loss = self.compute_loss(x, y, self(x, training=True)) + tf.reduce_sum(apart ** 2)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


class ReadsListInStep(ReadsInStep):
    """It reads the kernel from Keras' list of weights."""

    def kernel(self):
        return self.dense.trainable_weights[0]


def reads_in_step():
    return compiled(built(ReadsInStep()))


def reads_list_in_step():
    return compiled(built(ReadsListInStep()))


FAULTS["a kernel read in train_step"] = (reads_in_step, DATA)


class DoubledTwice(Doubled):
    """It reads its kernel within the function with a gradient of its own, and outside too."""

    def call(self, x):
        return super().call(x) + x @ self.kernel


def half_custom_gradient():
    return compiled(keras.Sequential([layers.Input((6,)), DoubledTwice(), layers.Dense(2)]))
