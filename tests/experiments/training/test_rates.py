import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training import rates
from lth_keras.keras2 import rewinding

CONFIG = Config(preset="p", network="n", dataset="d", steps=100, learning_rate=0.4)


def expected(step, warmup, drops):
    rate = 0.4 * (min(1, step / warmup) if warmup else 1)
    return rate / 10 ** sum(step >= drop for drop in drops)


@pytest.mark.parametrize("warmup", [0, 1, 30])
@pytest.mark.parametrize("drops", [(), (50,), (20, 25, 80)])
@pytest.mark.parametrize(("first", "stretch"), [(0, 1), (20, 1), (0, 2), (40, 0.5)])
def test_the_rate_of_every_step(warmup, drops, first, stretch):
    rate = rates.Rate(0.4, warmup, drops)
    rates.place(keras.optimizers.SGD(rate), first, stretch)
    compiled = tf.function(rate, jit_compile=True)
    for step in range(0, 100, 7):
        place = first + step / stretch
        assert float(rate(step)) == pytest.approx(expected(place, warmup, drops))
        assert float(compiled(tf.constant(step))) == pytest.approx(float(rate(step)))


def test_a_rate_that_is_still_stays_where_it_is():
    rate = rates.Rate(0.4, 0, (50,))
    rates.place(keras.optimizers.SGD(rate), 100, rates.STILL)
    assert [float(rate(step)) for step in (0, 10, 10**6)] == pytest.approx([0.04] * 3)


def test_a_rate_that_never_changes_is_a_number():
    assert rates.of(CONFIG) == 0.4
    assert isinstance(rates.of(CONFIG.replace(warmup_steps=1)), rates.Rate)
    assert isinstance(rates.of(CONFIG.replace(learning_rate_drops=(5,))), rates.Rate)
    rates.place(keras.optimizers.SGD(0.4), 50)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_optimizer_follows_where_it_is_placed_without_a_new_trace(scaled):
    optimizer = keras.optimizers.SGD(rates.Rate(1.0, 0, (2,)))
    if scaled:
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer, dynamic=False,
                                                             initial_scale=1)
    weight = tf.Variable([0.0])
    optimizer.build([weight])

    @tf.function
    def step():
        optimizer.apply_gradients([(tf.constant([1.0]), weight)])
    for first, moved in ((0, 1.0), (2, 0.1), (0, 1.0)):
        rates.place(optimizer, first)
        optimizer.iterations.assign(0)
        before = weight.numpy()
        step()
        np.testing.assert_allclose(before - weight.numpy(), moved, rtol=1e-6)
    assert step.experimental_get_tracing_count() == 1


def test_an_optimizer_with_a_rate_knows_its_fresh_slots():
    optimizer = keras.optimizers.Adagrad(rates.Rate(0.1, 5, (10,)), initial_accumulator_value=0.3)
    assert rewinding.fresh_slots(optimizer) == {"_accumulators": pytest.approx(0.3)}
    again = rates.Rate.from_config(rates.Rate(0.1, 5, (10,)).get_config())
    assert float(again(3)) == pytest.approx(0.06)
