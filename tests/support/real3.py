"""Keras 3 models as people write them, and data of the kinds that they are for.

Nothing here knows of lth_keras: the models are loaded where it is not imported.
"""

import keras
import numpy as np

layers, ops = keras.layers, keras.ops
COUNT, CLASSES, WORDS, NOISE = 128, 10, 60, 6
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
_draw = np.random.default_rng(0)


def strokes():
    """Images of 28 x 28 pixels in [0, 1]: of each class two strokes, moved and thickened."""
    lines = _draw.uniform(6, 22, (CLASSES, 2, 2, 2))
    images, classes = np.zeros((COUNT, 28, 28, 1), np.float32), np.arange(COUNT) % CLASSES
    place = np.stack(np.mgrid[:28, :28], axis=-1)
    for image, number in zip(images, classes, strict=True):
        for (start, end), thick in zip(lines[number], _draw.uniform(0.8, 2, 2), strict=True):
            points = start + np.linspace(0, 1, 20)[:, None] * (end - start) + _draw.normal(size=2)
            far = np.min(np.linalg.norm(place[:, :, None] - points, axis=-1), axis=-1)
            image[..., 0] = np.maximum(image[..., 0], np.clip(thick + 0.5 - far, 0, 1))
    return images, classes


def sentences():
    """Numbers of words, 0 where a sentence has ended: each class likes words of its own."""
    classes = np.arange(COUNT) % CLASSES
    words = np.where(_draw.random((COUNT, 14)) < 0.5, _draw.integers(1, WORDS, (COUNT, 14)),
                     1 + classes[:, None] * 5 + _draw.integers(0, 5, (COUNT, 14)))
    return np.where(np.arange(14) < _draw.integers(7, 15, (COUNT, 1)), words, 0), classes


IMAGES, NUMBERS = strokes()
SENTENCES, SUBJECTS = sentences()


def convnet():
    return keras.Sequential([
        layers.Input((28, 28, 1)), layers.Conv2D(8, 3, activation="relu"),
        layers.BatchNormalization(momentum=0.9), layers.MaxPooling2D(),
        layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(),
        layers.Dropout(0.25), layers.Dense(CLASSES)])


@keras.saving.register_keras_serializable(package="real")
class Places(layers.Layer):
    """Adds to each patch of an image what stands for its place."""

    def build(self, shape):
        self.places = self.add_weight(name="places", shape=shape[1:], initializer="normal")

    def call(self, patches):
        return patches + self.places


def transformer():
    """A vision transformer: patches of 7 x 7, two blocks of attention."""
    images = keras.Input((28, 28, 1))
    patches = layers.Reshape((16, 24))(layers.Conv2D(24, 7, strides=7)(images))
    hidden = layers.Dropout(0.1)(Places()(patches))
    for _ in range(2):
        normal = layers.LayerNormalization()(hidden)
        hidden = layers.Add()([hidden, layers.MultiHeadAttention(2, 12, dropout=0.1)(
            normal, normal)])
        wide = layers.Dense(48, "gelu")(layers.LayerNormalization()(hidden))
        hidden = layers.Add()([hidden, layers.Dense(24)(wide)])
    hidden = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(hidden))
    return keras.Model(images, layers.Dense(CLASSES)(hidden))


def lstm():
    return keras.Sequential([
        layers.Input((14,)), layers.Embedding(WORDS, 16, mask_zero=True), layers.LSTM(24),
        layers.Dense(CLASSES)])


@keras.saving.register_keras_serializable(package="real")
class Autoencoder(keras.Model):
    """A subclassed model, with convolutions down and up."""

    def __init__(self, **options):
        super().__init__(**options)
        self.down = [layers.Conv2D(8, 3, 2, "same", activation="relu"),
                     layers.Conv2D(8, 3, 2, "same", activation="relu")]
        self.code = keras.Sequential([layers.Flatten(), layers.Dense(12), layers.Dense(392, "relu"),
                                      layers.Reshape((7, 7, 8))])
        self.up = [layers.Conv2DTranspose(8, 3, 2, "same", activation="relu"),
                   layers.Conv2DTranspose(1, 3, 2, "same", activation="sigmoid")]

    def call(self, images):
        hidden = images
        for layer in self.down:
            hidden = layer(hidden)
        hidden = self.code(hidden)
        for layer in self.up:
            hidden = layer(hidden)
        return hidden


@keras.saving.register_keras_serializable(package="real")
class GAN(keras.Model):
    """Two networks with an optimizer each, trained by a step of its own on every backend.

    On JAX, whose steps get the variables of `model.optimizer` alone, that one holds the two.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.generator = keras.Sequential([
            layers.Input((NOISE,)), layers.Dense(7 * 7 * 8, "relu"), layers.Reshape((7, 7, 8)),
            layers.BatchNormalization(), layers.UpSampling2D(2),
            layers.Conv2D(8, 3, padding="same", activation="relu"), layers.UpSampling2D(2),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid")], name="generator")
        self.critic = keras.Sequential([
            layers.Input((28, 28, 1)), layers.Conv2D(8, 3, 2), layers.LeakyReLU(),
            layers.Conv2D(8, 3, 2), layers.LeakyReLU(), layers.Flatten(), layers.Dropout(0.2),
            layers.Dense(1)], name="critic")
        self.seed = keras.random.SeedGenerator(5)
        self.critic_optimizer = self.generator_optimizer = None

    def call(self, noise):
        return self.critic(self.generator(noise))

    def compile(self, critic_optimizer, generator_optimizer, **options):
        if keras.backend.backend() == "jax":
            both = keras.optimizers.MultiOptimizer(
                lambda variable: critic_optimizer if "critic" in variable.path
                else generator_optimizer)
            super().compile(both, **options)
        else:
            super().compile(**options)
            self.critic_optimizer = critic_optimizer
            self.generator_optimizer = generator_optimizer

    def losses(self, images):
        """What the critic and the generator each minimise."""
        noise = keras.random.normal((ops.shape(images)[0], NOISE), seed=self.seed)
        real = self.critic(images, training=True)
        made = self.critic(self.generator(noise, training=True), training=True)
        return (ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(made)),
                ops.mean(ops.softplus(-made)))

    def train_step(self, *arguments):
        return {"tensorflow": self._tensorflow, "torch": self._torch,
                "jax": self._jax}[keras.backend.backend()](*arguments)

    def _tensorflow(self, images):
        import tensorflow as tf
        with tf.GradientTape(persistent=True) as tape:
            losses = self.losses(images)
        for network, optimizer, loss in self._parts(losses):
            weights = network.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
        return dict(zip(("critic", "generator"), losses, strict=True))

    def _torch(self, images):
        import torch
        losses = self.losses(images)
        steps = [(optimizer, network.trainable_variables, torch.autograd.grad(
            loss, [variable.value for variable in network.trainable_variables],
            retain_graph=True)) for network, optimizer, loss in self._parts(losses)]
        with torch.no_grad():
            for optimizer, weights, gradients in steps:
                optimizer.apply(gradients, weights)
        return dict(zip(("critic", "generator"), losses, strict=True))

    def _parts(self, losses):
        return ((self.critic, self.critic_optimizer, losses[0]),
                (self.generator, self.generator_optimizer, losses[1]))

    def _jax(self, state, images):
        import jax
        trainable, others, slots, metrics = state

        def loss(trainable, number):
            with keras.StatelessScope(state_mapping=[
                    *zip(self.trainable_variables, trainable, strict=True),
                    *zip(self.non_trainable_variables, others, strict=True)]) as scope:
                losses = self.losses(images)
            return losses[number], (losses, [
                new if (new := scope.get_current_value(variable)) is not None else old
                for variable, old in zip(self.non_trainable_variables, others, strict=True)])
        (_, (losses, new)), first = jax.value_and_grad(loss, has_aux=True)(trainable, 0)
        second = jax.grad(loss, has_aux=True)(trainable, 1)[0]
        gradients = [one if "critic" in variable.path else other for variable, one, other
                     in zip(self.trainable_variables, first, second, strict=True)]
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return (dict(zip(("critic", "generator"), losses, strict=True)),
                (trainable, new, slots, metrics))


# Name -> model, inputs, targets or None, loss.
MODELS = {
    "convnet": (convnet, IMAGES, NUMBERS, LOGITS),
    "transformer": (transformer, IMAGES, NUMBERS, LOGITS),
    "lstm": (lstm, SENTENCES, SUBJECTS, LOGITS),
    "autoencoder": (Autoencoder, IMAGES, IMAGES, "mse"),
    "gan": (GAN, IMAGES, None, None),
}


def compiled(name):
    """A model, built and compiled, and the data to fit it to."""
    keras.utils.set_random_seed(3)
    make, x, y, loss = MODELS[name]
    model = make()
    model(probe(name))  # A subclassed model has no weights before.
    if name == "gan":
        model.compile(keras.optimizers.Adam(2e-3, 0.5), keras.optimizers.Adam(1e-3, 0.5))
    else:
        model.compile(keras.optimizers.AdamW(5e-3, global_clipnorm=1.0), loss)
    return model, x, y


def probe(name):
    """Some inputs of a model's `call`."""
    if name == "gan":
        return np.random.default_rng(1).normal(size=(8, NOISE)).astype(np.float32)
    return MODELS[name][1][:8]
