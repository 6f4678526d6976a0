"""Models that hold variables for their training alone: gradients that they gather, and counts."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

layers = keras.layers
_DRAW = np.random.default_rng(0)
X = _DRAW.normal(size=(48, 6)).astype(np.float32)
Y = (X @ _DRAW.normal(size=(6, 2))).astype(np.float32)
BATCH, EVERY = 8, 4  # Six batches an epoch, of which the last two leave gradients for the next.


class _Accumulates:
    """Steps once in so many batches, with the gradients of all of them."""

    def start_accumulating(self):
        self.passed = tf.Variable(0, trainable=False, dtype=tf.int32)
        self.gathered = [tf.Variable(tf.zeros_like(weight), trainable=False)
                         for weight in self.trainable_variables]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        for held, gradient in zip(self.gathered, tape.gradient(loss, self.trainable_variables),
                                  strict=True):
            held.assign_add(gradient)
        self.passed.assign_add(1)
        tf.cond(self.passed % EVERY == 0, self._step, lambda: None)
        return {"loss": loss}

    def _step(self):
        self.optimizer.apply_gradients(zip(self.gathered, self.trainable_variables, strict=True))
        for held in self.gathered:
            held.assign(tf.zeros_like(held))


class Functional(_Accumulates, keras.Model):
    """A functional model, as in the answers that most people copy."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.start_accumulating()


class Subclassed(_Accumulates, keras.Model):
    """A model with a call of its own, which reads one variable that is not trained."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(2.0, trainable=False)
        self.one, self.two = layers.Dense(8, "tanh", name="one"), layers.Dense(2, name="two")
        self.seen = keras.metrics.Mean("seen")

    def call(self, x):
        return self.scale * self.two(self.one(x))


def functional():
    inputs = layers.Input((6,))
    hidden = layers.Dense(8, "tanh", name="one")(inputs)
    model = Functional(inputs=inputs, outputs=layers.Dense(2, name="two")(hidden))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def subclassed():
    model = Subclassed()
    model(X[:2])
    model.start_accumulating()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


# How each is built, and what its tickets hold.
LAYERS = ["one/kernel", "one/bias", "two/kernel", "two/bias"]
MODELS = {"functional": (functional, LAYERS), "subclassed": (subclassed, ["scale", *LAYERS])}
