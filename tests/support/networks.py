"""Small models, data and observers that the tests share."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

import lth_keras as lth

layers = keras.layers
STEPS = 4  # An epoch of X and Y, in batches of BATCH.
BATCH = 4

_draw = np.random.default_rng(0)
X = _draw.normal(size=(STEPS * BATCH, 6)).astype(np.float32)
Y = (X @ _draw.normal(size=(6, 2)) + 0.1 * _draw.normal(size=(len(X), 2))).astype(np.float32)


@keras.utils.register_keras_serializable(package="tests")
class Odd(layers.Layer):
    """A weight of rank 3 under a private name, and one of rank 1."""

    def build(self, input_shape):
        self._strange = self.add_weight("strange", (2, input_shape[-1], 5))
        self.shift = self.add_weight("shift", (5,))
        super().build(input_shape)

    def call(self, inputs):
        return tf.einsum("...i,kij->...j", inputs, self._strange) + self.shift


@keras.utils.register_keras_serializable(package="tests")
class Block(layers.Layer):
    """Layers within a layer: in a list and in a dict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stack = [layers.Dense(5), layers.Dense(4)]
        self.heads = {"a": layers.Dense(3)}

    def call(self, inputs):
        for layer in self.stack:
            inputs = layer(inputs)
        return self.heads["a"](inputs)


@keras.utils.register_keras_serializable(package="tests")
class Held(layers.Layer):
    """Weights in a list and in a dict."""

    def build(self, input_shape):
        width = input_shape[-1]
        self.chain = [self.add_weight(f"link{i}", (width, width)) for i in range(2)]
        self.last = {"out": self.add_weight("out", (width, 2)),
                     "offset": self.add_weight("offset", (2,))}
        super().build(input_shape)

    def call(self, inputs):
        for link in self.chain:
            inputs = inputs @ link
        return inputs @ self.last["out"] + self.last["offset"]


@keras.utils.register_keras_serializable(package="tests")
class OwnDense(layers.Dense):
    """A subclass of a layer that tfmot knows."""


def mlp(units=(8,), **options):
    hidden = [layers.Dense(n, activation="relu", **options) for n in units]
    return keras.Sequential([layers.Input((6,)), *hidden, layers.Dense(2)])


def normalised():
    return keras.Sequential([layers.Input((6,)), layers.Dense(8), layers.BatchNormalization(),
                             layers.ReLU(), layers.Dense(2)])


def functional():
    inputs = layers.Input((6,))
    left, right = layers.Dense(4, name="left")(inputs), layers.Dense(3, name="right")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.concatenate([left, right])))


def nested():
    innermost = keras.Sequential([layers.Input((5,)), layers.Dense(4), layers.ReLU()])
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(5), innermost])
    inputs = layers.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(inner(inputs)))


def shared():
    inputs, twice = layers.Input((6,)), layers.Dense(6)
    return keras.Model(inputs, layers.Dense(2)(twice(layers.ReLU()(twice(inputs)))))


def shared_with_nested():
    twice, inside = layers.Dense(6), layers.Input((6,))
    inner = keras.Model(inside, twice(layers.Dense(6)(inside)))
    inputs = layers.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(twice(inner(inputs))))


def shared_model():
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(6)])
    inputs = layers.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(inner(inner(inputs))))


def convolutional():
    return keras.Sequential([
        layers.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.BatchNormalization(),
        layers.PReLU(), layers.DepthwiseConv2D(2), layers.SeparableConv2D(4, 2),
        layers.GlobalAveragePooling2D(), layers.Dense(2)])


def recurrent():
    words = layers.Input((5,), dtype="int32")
    states = layers.Embedding(7, 4, mask_zero=True)(words)
    states = layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True))(states)
    states = layers.TimeDistributed(layers.Dense(4))(states)
    return keras.Model(words, layers.Dense(2)(layers.GRU(3)(states)))


def translation():
    source, target = layers.Input((3, 4)), layers.Input((3, 4))
    _, hidden, carry = layers.LSTM(3, return_state=True)(source)
    states = layers.LSTM(3, return_sequences=True)(target, initial_state=[hidden, carry])
    return keras.Model([source, target], layers.Dense(2)(states))


def attention():
    inputs = layers.Input((5, 4))
    seen = layers.MultiHeadAttention(2, 3)(query=inputs, value=inputs, key=inputs)
    seen = layers.LayerNormalization()(layers.add([inputs, seen]))
    seen = layers.EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d")(seen)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(seen)))


def custom():
    return keras.Sequential([layers.Input((6,)), Odd(), OwnDense(4), Block(), Held(),
                             layers.Dense(2)])


def frozen():
    return keras.Sequential([layers.Input((6,)), layers.Dense(5, trainable=False, name="still"),
                             layers.Dense(2)])


# What is built, and the names of what is prunable in it.
ARCHITECTURES = {
    "mlp": (mlp, ["dense/kernel", "dense_1/kernel"]),
    "normalised": (normalised, ["dense/kernel", "dense_1/kernel"]),
    "functional": (functional, ["left/kernel", "right/kernel", "dense/kernel"]),
    "nested": (nested, ["sequential/dense/kernel", "sequential/sequential/dense/kernel",
                        "dense/kernel"]),
    "shared": (shared, ["dense/kernel", "dense_1/kernel"]),
    "shared_with_nested": (shared_with_nested, ["model/dense/kernel", "model/dense_1/kernel",
                                                "dense_1/kernel"]),
    "shared_model": (shared_model, ["sequential/dense/kernel", "dense/kernel"]),
    "convolutional": (convolutional, [
        "conv2d/kernel", "depthwise_conv2d/depthwise_kernel",
        "separable_conv2d/depthwise_kernel", "separable_conv2d/pointwise_kernel",
        "dense/kernel"]),
    "recurrent": (recurrent, [
        *(f"bidirectional/{way}_layer/cell/{kernel}" for way in ("forward", "backward")
          for kernel in ("kernel", "recurrent_kernel")),
        "time_distributed/layer/kernel", "gru/cell/kernel", "gru/cell/recurrent_kernel",
        "dense/kernel"]),
    "translation": (translation, [
        "lstm/cell/kernel", "lstm/cell/recurrent_kernel", "lstm_1/cell/kernel",
        "lstm_1/cell/recurrent_kernel", "dense/kernel"]),
    "attention": (attention, [
        *(f"multi_head_attention/{part}_dense/kernel"
          for part in ("query", "key", "value", "output")),
        "einsum_dense/kernel", "dense/kernel"]),
    "custom": (custom, ["odd/strange", "own_dense/kernel", "block/stack/0/kernel",
                        "block/stack/1/kernel", "block/heads/a/kernel", "held/chain/0",
                        "held/chain/1", "held/last/out", "dense/kernel"]),
    "frozen": (frozen, ["dense/kernel"]),
}

_optimizers = keras.optimizers
OPTIMIZERS = {
    "adam": lambda: _optimizers.Adam(0.01),
    "amsgrad": lambda: _optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: _optimizers.AdamW(0.01, weight_decay=0.1),
    "nesterov": lambda: _optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "clipped": lambda: _optimizers.SGD(0.1, global_clipnorm=0.5),
    "rmsprop": lambda: _optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adagrad": lambda: _optimizers.Adagrad(0.01),
    "adadelta": lambda: _optimizers.Adadelta(0.01),
    "nadam": lambda: _optimizers.Nadam(0.01),
    "adamax": lambda: _optimizers.Adamax(0.01),
    "ftrl": lambda: _optimizers.Ftrl(0.01),
    "lion": lambda: _optimizers.Lion(0.01),
    "adafactor": lambda: _optimizers.Adafactor(0.01),
    "averaged": lambda: _optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
    "legacy_adam": lambda: _optimizers.legacy.Adam(0.01),
    "legacy_sgd": lambda: _optimizers.legacy.SGD(0.01, momentum=0.9, nesterov=True),
    "legacy_ftrl": lambda: _optimizers.legacy.Ftrl(0.01),
}


@functools.cache
def untouched(name):
    """A model of ARCHITECTURES and its wrapped twin, for tests that change neither."""
    model = ARCHITECTURES[name][0]()
    return model, lth.prune_low_magnitude(model)


def inputs_for(model, count=8):
    """Random inputs of the shapes and types that a model takes."""
    rng = np.random.default_rng(1)

    def values(tensor):
        shape = (count, *tensor.shape[1:])
        return rng.integers(0, 7, shape) if tensor.dtype.is_integer \
            else rng.normal(size=shape).astype(np.float32)
    drawn = [values(tensor) for tensor in model.inputs]
    return drawn if len(drawn) > 1 else drawn[0]


def pruning_vars(model):
    """Weight and mask variables, as tfmot finds them."""
    found = pruning_wrapper.collect_prunable_layers(model)
    unique = {id(layer): layer for layer in found}.values()
    return [(weight, mask) for layer in unique for weight, mask, _ in layer.pruning_vars]


def masks(model):
    return [mask.numpy() for _, mask in pruning_vars(model)]


def draw_masks(model, density=0.5, seed=0, zero=True):
    """Gives a wrapped model random masks, and zeros where they are zero."""
    rng = np.random.default_rng(seed)
    for weight, mask in pruning_vars(model):
        mask.assign(rng.random(mask.shape) < density)
        if zero:
            weight.assign(np.where(mask.numpy() != 0, weight.numpy(), 0))
    return model


def strays(model):
    """How many pruned weights are not exactly zero."""
    return sum(int(np.count_nonzero(weight.numpy()[mask.numpy() == 0]))
               for weight, mask in pruning_vars(model))


@dataclasses.dataclass
class State:
    """A model and its optimizer at one moment, read with nothing of the library."""

    level: int
    weights: list
    kept: list
    optimizer: list
    iterations: int
    strays: int
    rate: float

    @classmethod
    def of(cls, model, level=0):
        optimizer = model.optimizer
        found = optimizer.variables
        found = found() if callable(found) else found
        rate = optimizer.learning_rate
        if callable(rate):  # A schedule of an optimizer of before Keras 2.11.
            rate = rate(optimizer.iterations)
        own = [weight for weight in model.weights if not any(
            part in weight.name for part in ("mask:", "threshold:", "pruning_step:"))]
        return cls(level, [weight.numpy() for weight in own], masks(model),
                   [variable.numpy() for variable in found], int(optimizer.iterations.numpy()),
                   strays(model), float(rate))


class Spy(keras.callbacks.Callback):
    """Takes down each batch's beginning and end; list it after the lottery it watches."""

    def __init__(self, lottery=None):
        super().__init__()
        self.lottery = lottery
        self.before = []
        self.after = []

    def _now(self):
        return State.of(self.model, len(self.lottery.restored) if self.lottery else 0)

    def on_train_batch_begin(self, batch, logs=None):
        self.before.append(self._now())

    def on_train_batch_end(self, batch, logs=None):
        self.after.append(self._now())

    def starts(self):
        """The state before the first batch of each level."""
        levels = [state.level for state in self.before]
        return [self.before[levels.index(level)] for level in sorted(set(levels))]

    def ends(self):
        """The state after the last batch of each level."""
        return list({state.level: state for state in self.after}.values())


class Batches(keras.callbacks.Callback):
    """Counts batches that begin; list it before the lottery."""

    count = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.count += 1


def compiled(model=None, optimizer="adam", jit=False, **options):
    """A wrapped model, ready to train; by default a small one."""
    model = lth.prune_low_magnitude(mlp()) if model is None else model
    model.compile(optimizer, options.pop("loss", "mse"), jit_compile=jit, **options)
    return model


def fit(model, lottery, *others, epochs=None, validate=False, **options):
    """Fits X and Y in order, with the lottery first among the callbacks."""
    epochs = lottery.epochs_for(STEPS) if epochs is None else epochs
    return model.fit(X, Y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0,
                     callbacks=[lottery, *others],
                     validation_data=(X[:8], Y[:8]) if validate else None, **options)


def lottery(**options):
    """A checked, silent search of two rounds of two epochs, unless told otherwise."""
    if not {"schedule", "epochs_per_round", "steps_per_round"} & set(options):
        options["epochs_per_round"] = 2
    if "schedule" not in options:
        options = {"rounds": 2, **options}
    return lth.LotteryTicketCallback(**{"check": True, "verbose": 0, **options})


def record_summaries(monkeypatch):
    """What is written with tf.summary.scalar from now on, by tag, TensorBoard or not."""
    written = {}

    def scalar(name, data, step=None, description=None):
        written.setdefault(name, []).append(float(data))
    for module in (tf.summary, tf.compat.v2.summary):
        monkeypatch.setattr(module, "scalar", scalar)
    return written
