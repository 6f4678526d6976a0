"""Every optimizer of tf_keras with every option, and every way to give `fit` its data."""

import functools

import networks
import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras as keras
from networks import BATCH, compiled, fit, lottery, STEPS, X, Y

import lth_keras as lth
from lth_keras.keras2 import optimizer_state

_all = keras.optimizers
_legacy = keras.optimizers.legacy
_loss_scale = keras.mixed_precision.LossScaleOptimizer


@keras.utils.register_keras_serializable(package="tests")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 to the peak in so many steps, and constant from there."""

    def __init__(self, peak, steps):
        super().__init__()
        self.peak, self.steps = peak, steps

    def __call__(self, step):
        share = (tf.cast(step, tf.float32) + 1) / self.steps
        return self.peak * tf.minimum(share, 1.0)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps}


# What is tried, by the words of the table of compatibility.
OPTIMIZERS = {
    "SGD": lambda **options: _all.SGD(0.05, **options),
    "SGD, momentum": lambda **options: _all.SGD(0.05, momentum=0.9, **options),
    "SGD, Nesterov": lambda **options: _all.SGD(0.05, momentum=0.9, nesterov=True, **options),
    "RMSprop": lambda **options: _all.RMSprop(0.01, **options),
    "RMSprop, centered": lambda **options: _all.RMSprop(0.01, momentum=0.9, centered=True,
                                                        **options),
    "Adam": lambda **options: _all.Adam(0.01, **options),
    "Adam, amsgrad": lambda **options: _all.Adam(0.01, amsgrad=True, **options),
    "AdamW": lambda **options: _all.AdamW(0.01, **{"weight_decay": 0.1, **options}),
    "Adamax": lambda **options: _all.Adamax(0.01, **options),
    "Nadam": lambda **options: _all.Nadam(0.01, **options),
    "Adadelta": lambda **options: _all.Adadelta(1.0, **options),
    "Adagrad": lambda **options: _all.Adagrad(0.05, **options),
    "Adafactor": lambda **options: _all.Adafactor(0.01, **options),
    "Ftrl": lambda **options: _all.Ftrl(0.05, **options),
    "Lion": lambda **options: _all.Lion(0.01, **options),
}
LEGACY_OPTIMIZERS = {
    "legacy SGD": lambda **options: _legacy.SGD(0.05, momentum=0.9, nesterov=True, **options),
    "legacy RMSprop": lambda **options: _legacy.RMSprop(0.01, momentum=0.9, centered=True,
                                                        **options),
    "legacy Adam": lambda **options: _legacy.Adam(0.01, amsgrad=True, **options),
    "legacy Adamax": lambda **options: _legacy.Adamax(0.01, **options),
    "legacy Nadam": lambda **options: _legacy.Nadam(0.01, **options),
    "legacy Adadelta": lambda **options: _legacy.Adadelta(1.0, **options),
    "legacy Adagrad": lambda **options: _legacy.Adagrad(0.05, **options),
    "legacy Ftrl": lambda **options: _legacy.Ftrl(0.05, **options),
}
# The thresholds are such that gradients of the tests' models are clipped.
CLIPPING = {"clipnorm": {"clipnorm": 0.1}, "clipvalue": {"clipvalue": 0.02},
            "global_clipnorm": {"global_clipnorm": 0.1}}
_sgd = OPTIMIZERS["SGD, momentum"]
_schedules = keras.optimizers.schedules
OPTIONS = {
    "average of weights (use_ema)": lambda: _sgd(use_ema=True, ema_momentum=0.5),
    "average of weights, written every 3 steps":
        lambda: _sgd(use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
    "weight decay": lambda: _sgd(weight_decay=0.1),
    **{name: functools.partial(_sgd, **options) for name, options in CLIPPING.items()},
    "learning-rate schedule": lambda: _all.Adam(_schedules.ExponentialDecay(0.05, 2, 0.5)),
    "warm-up of one's own": lambda: _all.Adam(WarmUp(0.05, 6)),
    "warm-up, then cosine": lambda: _all.Adam(_schedules.CosineDecay(
        0.0, 8, warmup_target=0.05, warmup_steps=4)),
    "legacy with a schedule": lambda: _legacy.Adam(_schedules.PiecewiseConstantDecay(
        [2, 3], [0.05, 0.02, 0.01])),
    "loss scaling, dynamic": lambda: _loss_scale(_all.Adam(0.01), dynamic_growth_steps=3),
    "loss scaling, fixed": lambda: _loss_scale(_all.Adam(0.01), dynamic=False,
                                               initial_scale=128.0),
    "loss scaling, legacy": lambda: _loss_scale(_legacy.Adam(0.01), dynamic_growth_steps=3),
    "loss scaling of averages": lambda: _loss_scale(_sgd(use_ema=True, ema_momentum=0.5)),
}
EVERY = {**OPTIMIZERS, **LEGACY_OPTIMIZERS, **OPTIONS}


def numbers(model):
    """The values of a model's weights, without masks and the wrappers' counters."""
    return [weight.numpy() for weight in model.weights if not any(
        part in weight.name for part in ("mask:", "threshold:", "pruning_step:"))]


def assert_same_bits(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


# Data: the batches of networks.X and Y in order, an epoch after another.


def batches(epochs=1):
    """The batches of so many epochs, one by one."""
    for _ in range(epochs):
        for start in range(0, len(X), BATCH):
            yield X[start:start + BATCH], Y[start:start + BATCH]


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH, drop_remainder=True)


class Batches(keras.utils.Sequence):
    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        part = slice(index * BATCH, (index + 1) * BATCH)
        return X[part], Y[part]


def _run(model, search, data, labels=None, **options):
    return model.fit(data, labels, epochs=search.epochs, verbose=0, callbacks=[search],
                     **options)


def _generator(model, search):
    return _run(model, search, batches(search.epochs), steps_per_epoch=STEPS)


def _from_generator(model, search):
    kinds = (tf.TensorSpec((None, 6)), tf.TensorSpec((None, 2)))
    return _run(model, search, tf.data.Dataset.from_generator(batches, output_signature=kinds))


# How a function of a model and a search fits the one with the other.
INPUTS = {
    "NumPy arrays": lambda model, search: _run(model, search, X, Y, batch_size=BATCH,
                                               shuffle=False),
    "tensors": lambda model, search: _run(model, search, tf.constant(X), tf.constant(Y),
                                          batch_size=BATCH, shuffle=False),
    "dict of inputs": lambda model, search: _run(model, search, {model.input_names[0]: X}, Y,
                                                 batch_size=BATCH, shuffle=False),
    "tf.data": lambda model, search: _run(model, search, dataset()),
    "tf.data of dicts": lambda model, search: _run(
        model, search, dataset().map(lambda x, y: ({model.input_names[0]: x}, y))),
    "tf.data of unknown length": lambda model, search: _run(
        model, search, dataset().filter(lambda *_: True)),
    "tf.data, repeated": lambda model, search: _run(model, search, dataset().repeat(),
                                                    steps_per_epoch=STEPS),
    "tf.data from a generator": _from_generator,
    "Python generator": _generator,
    "Sequence": lambda model, search: _run(model, search, Batches(), shuffle=False),
    "Sequence with workers": lambda model, search: _run(model, search, Batches(), shuffle=False,
                                                        workers=2),
    "DataFrame": lambda model, search: _run(model, search, pd.DataFrame(X), pd.DataFrame(Y),
                                            batch_size=BATCH, shuffle=False),
    "weights of examples": lambda model, search: _run(
        model, search, X, Y, sample_weight=np.ones(len(X)), batch_size=BATCH, shuffle=False),
}


# Promises, each a function that raises where it is not kept.


def searched_and_fresh(optimizer, build=networks.normalised, rewind_step=0, **options):
    """The last level of a search, and its ticket trained in a freshly built network."""
    model = compiled(lth.prune_low_magnitude(build()), optimizer(), **options)
    start = numbers(model)
    search = lottery(rounds=2, epochs_per_round=1, fraction=0.2, rewind_step=rewind_step)
    fit(model, search)
    fresh = compiled(search.ticket.apply(build()), optimizer(), **options)
    # As a search does, build the optimizer before the first step is traced: Keras' Nadam counts
    # how often it is traced, and the product of its momentums depends on it.
    optimizer_state.variables(fresh)
    fit(fresh, networks.Spy(), epochs=1)
    assert any((before != after).any() for before, after in zip(start, numbers(model),
                                                                strict=True))
    return model, fresh


def whole_units_pruned(optimizer, times_wrapped=1, wrap=lth.prune_low_magnitude,
                       fitted_with=(), **options):
    """A hidden layer of 8 units with 3 of them cut off, and the dense one of 5 that is left."""
    # The units cut off are not silent: without a mask their outgoing weights had gradients.
    options = {"bias_initializer": "ones", **options}
    wide, narrow = networks.mlp((8,), **options), networks.mlp((5,), **options)
    kernel, bias, out, out_bias = wide.get_weights()
    narrow.set_weights([kernel[:, :5], bias[:5], out[:5], out_bias])
    dense = wide
    for _ in range(times_wrapped):
        wide = wrap(dense)
    (weight, mask), (last, last_mask) = networks.pruning_vars(wide)
    mask.assign(np.repeat([[1.0] * 5 + [0.0] * 3], 6, axis=0))
    last_mask.assign(np.repeat([[1.0]] * 5 + [[0.0]] * 3, 2, axis=1))
    weight.assign(weight * mask)
    last.assign(last * last_mask)
    for model in (wide, narrow):
        compiled(model, optimizer(), run_eagerly=True)
        model.fit(X, Y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0,
                  callbacks=[*fitted_with] if model is wide else [])
    assert networks.strays(wide) == 0
    kernel, bias, out, out_bias = numbers(wide)
    return [kernel[:, :5], bias[:5], out[:5], out_bias], narrow.get_weights()


def survivors_train_alone(optimizer, **options):
    """What is left of a wide layer trains as the narrow layer of the same weights does."""
    for ours, alone in zip(*whole_units_pruned(optimizer, **options), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=2e-5, atol=1e-6)


WAYS = {"eager": lambda step: step, "graph": tf.function,
        "XLA": lambda step: tf.function(step, jit_compile=True)}


def loop(model, optimizer, way, before=lambda: None, after=None):
    """A function that trains an epoch, with something before each step and after it.

    Unless told otherwise it looks there at every gradient and every pruned weight.
    """
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return gradients
    step, after = WAYS[way](step), after or zero_where_pruned

    def epoch():
        for start in range(0, len(X), BATCH):
            before()
            after(model, step(X[start:start + BATCH], Y[start:start + BATCH]))
    return epoch


def zero_where_pruned(model, gradients):
    of = {id(weight): gradient.numpy() for weight, gradient
          in zip(model.trainable_variables, gradients, strict=True)}
    for weight, mask in networks.pruning_vars(model):
        assert not of[id(weight)][mask.numpy() == 0].any()
        assert of[id(weight)][mask.numpy() == 1].any()
    assert networks.strays(model) == 0
