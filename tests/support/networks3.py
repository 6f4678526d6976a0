"""Small Keras 3 models and data, on whatever backend Keras has."""

import keras
import numpy as np

import lth_keras as lth

layers = keras.layers
BATCH, STEPS = 16, 4

_draw = np.random.default_rng(0)
IMAGES = _draw.random((BATCH * STEPS, 8, 8, 1), dtype=np.float32)
TOKENS = _draw.integers(0, 20, (BATCH * STEPS, 12))
CLASSES = _draw.integers(0, 10, BATCH * STEPS)


def convnet():
    return keras.Sequential([
        layers.Input((8, 8, 1)), layers.Conv2D(8, 3, activation="relu"),
        layers.BatchNormalization(), layers.DepthwiseConv2D(3, activation="relu"),
        layers.Flatten(), layers.Dense(16, "relu"), layers.Dropout(0.2), layers.Dense(10)])


def transformer():
    inputs = keras.Input((8, 8, 1))
    tokens = layers.Dense(12)(layers.Reshape((8, 8))(inputs))
    normal = layers.LayerNormalization()(tokens)
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, 6)(normal, normal)])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(tokens)))


def recurrent():
    return keras.Sequential([
        layers.Input((12,)), layers.Embedding(20, 8), layers.Bidirectional(layers.LSTM(6)),
        layers.Dense(10)])


@keras.saving.register_keras_serializable(package="tests")
class Autoencoder(keras.Model):
    """A subclassed model, with layers in an attribute and in a list."""

    def __init__(self, **options):
        super().__init__(**options)
        self.encoder = keras.Sequential([layers.Flatten(), layers.Dense(8, "relu")])
        self.decoder = [layers.Dense(32, "relu"), layers.Dense(64)]
        self.shaped = layers.Reshape((8, 8, 1))

    def call(self, inputs):
        hidden = self.encoder(inputs)
        for layer in self.decoder:
            hidden = layer(hidden)
        return self.shaped(hidden)


# Name -> model, inputs, targets, loss.
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
MODELS = {
    "convolutional": (convnet, IMAGES, CLASSES, LOGITS),
    "transformer": (transformer, IMAGES, CLASSES, LOGITS),
    "recurrent": (recurrent, TOKENS, CLASSES, LOGITS),
    "subclassed": (Autoencoder, IMAGES, IMAGES, "mse"),
}
OPTIMIZERS = {
    "AdamW": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.01, global_clipnorm=1.0),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "Muon": lambda: keras.optimizers.Muon(0.01),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "average": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=3),
    "several": lambda: keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(
        keras.optimizers.Adam(0.01), {".*bias": keras.optimizers.SGD(0.1)})),
}


def compiled(name, optimizer="AdamW"):
    """A model and the data to fit it to."""
    keras.utils.set_random_seed(3)
    make, x, y, loss = MODELS[name]
    model = make()
    model(x[:1])  # A subclassed model has no weights before.
    model.compile(OPTIMIZERS[optimizer](), loss, metrics=["mae"] if loss == "mse" else ["accuracy"])
    return model, x, y


def lottery(**options):
    return lth.LotteryTicketCallback(**{
        "rounds": 2, "epochs_per_round": 2, "fraction": 0.4, "check": True, "verbose": 0,
        **options})


def fit(model, x, y, search, *others, **options):
    return model.fit(x, y, batch_size=BATCH, epochs=search.epochs, verbose=0, shuffle=False,
                     callbacks=[search, *others], **options)


class Violations(keras.callbacks.Callback):
    """Counts, after every batch, pruned weights that are not zero."""

    def __init__(self, search):
        super().__init__()
        self.search, self.count, self.batches = search, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        search = self.search._fit_search.search
        values = search.network.prunable_weights()
        self.batches += 1
        self.count += sum(int(np.count_nonzero(values[name][mask == 0]))
                          for name, mask in search.masks.items())
