"""Training loops of one's own: by hand, in a graph, by XLA; and a train_step of one's own."""

import itertools

import networks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from fits import assert_same_bits, loop, WAYS
from networks import BATCH, compiled, lottery, Spy, STEPS, X, Y
from tiers import short_and_long

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2 import rewinding

layers = keras.layers
def setup_function():
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize(("way", "optimizer"), short_and_long(
    itertools.product(WAYS, ["adam", "clipped", "averaged", "legacy_sgd"]),
    [("eager", "legacy_sgd"), ("graph", "averaged"), ("XLA", "clipped")]))
def test_a_loop_finds_the_tickets_of_fit(way, optimizer):
    model = lth.prune_low_magnitude(networks.mlp())
    by_fit = compiled(lth.prune_low_magnitude(networks.mlp()),
                      networks.OPTIMIZERS[optimizer](), jit=way == "XLA")
    by_fit.set_weights(model.get_weights())
    own = networks.OPTIMIZERS[optimizer]()
    model.compile(own)
    search = lth.Search(model, fraction=0.3, check=True)
    epoch = loop(model, own, way)
    for _ in range(3):
        epoch()
        rewinding.finalize(model)
        assert search.prune_and_rewind().iterations == int(own.iterations) == 0
    callback = lottery(rounds=3, epochs_per_round=1, fraction=0.3)
    networks.fit(by_fit, callback)
    for ours, theirs in zip(search.tickets, callback.tickets, strict=True):
        assert_same_bits([*ours.masks.values()], [*theirs.masks.values()])
        assert_same_bits([*ours.weights.values()], [*theirs.weights.values()])


@pytest.mark.thorough
def test_steps_between_rounds_are_not_traced_again():
    model = lth.prune_low_magnitude(networks.mlp())
    optimizer = keras.optimizers.Adam()
    model.compile(optimizer)
    traces = []

    @tf.function(jit_compile=True)
    def step(x, y):
        traces.append(1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables),
                                      model.trainable_variables, strict=True))
    search = lth.Search(model, fraction=0.3)
    for _ in range(3):
        step(X[:BATCH], Y[:BATCH])
        search.prune_and_rewind()
    step(X[:BATCH], Y[:BATCH])
    assert len(traces) == 1


def test_a_model_that_has_no_optimizer_is_refused_with_what_to_do():
    with pytest.raises(LotteryError, match=r"model\.compile\(optimizer\)"):
        lth.Search(lth.prune_low_magnitude(networks.mlp()))


class OwnStep(keras.Model):
    """A train_step of one's own: two losses, gradients clipped by hand, a metric."""

    def __init__(self):
        super().__init__()
        self.hidden = lth.prune_low_magnitude(layers.Dense(8, "relu"))
        self.out = lth.prune_low_magnitude(layers.Dense(2))
        self.mean = keras.metrics.Mean("loss")

    @property
    def metrics(self):
        return [self.mean]

    def call(self, inputs, training=None):
        return self.out(self.hidden(inputs))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            outputs = self(x, training=True)
            loss = tf.reduce_mean((outputs - y) ** 2) + 0.01 * tf.reduce_mean(outputs ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 0.5)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.mean.update_state(loss)
        return {"loss": self.mean.result()}


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True},
                                     {"steps_per_execution": 2}])
def test_a_train_step_of_ones_own(options):
    model = OwnStep()
    model.build((None, 6))
    model.compile("adam", **options)
    search = lottery(rounds=2, epochs_per_round=1, fraction=0.5)
    spy = Spy(search)
    networks.fit(model, search, spy)
    assert {state.strays for state in spy.after} == {0}
    assert search.results.steps.tolist() == [STEPS] * 3
    assert search.results.density.tolist() == [1.0, 0.5, 0.25]
    assert np.isfinite(search.results.loss).all()
