import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras.experiments.config import presets
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import CONSTANT
from lth_keras.experiments.training_keras2 import models
from lth_keras.experiments.training_keras2.optimizers import (
    begin_schedule_at,
    build_optimizer,
    CoupledSGD,
    learning_rate,
    Rate,
)
from lth_keras.keras2.masking.weight_names import masked, named_weights
from lth_keras.keras2.masking.wrap import prune_low_magnitude
from lth_keras.keras2.optimizer_state import fresh_slots
from lth_keras.keras2.rewinding import assign_masks

SGD = presets.get("digits").replace(optimizer="sgd", learning_rate=0.25, momentum=0.5,
                                    weight_decay=0.125)
X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
Y = np.arange(32) % 3


def by_hand(weight, gradients, learning_rates, momentum, decay):
    """SGD as the papers' frameworks have it, in NumPy."""
    velocity = np.zeros_like(weight)
    for gradient, rate in zip(gradients, learning_rates, strict=True):
        velocity = np.float32(momentum) * velocity - np.float32(rate) * (
            gradient + np.float32(decay) * weight)
        weight = weight + velocity
    return weight


def stepped(optimizer, weight, gradients, compiled):
    variable = tf.Variable(weight)
    optimizer.jit_compile = compiled
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
    return variable.numpy()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.125), (0.5, 0.125), (0.9, 1e-4), (0.9, 0)])
def test_five_steps_are_those_by_hand(momentum, decay, compiled):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, 4)).astype(np.float32)
    gradients = rng.normal(size=(5, 3, 4)).astype(np.float32)
    found = stepped(CoupledSGD(0.25, momentum, decay), weight, gradients, compiled)
    expected = by_hand(weight, gradients, [0.25] * 5, momentum, decay)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_without_decay_it_is_keras_own_and_with_it_is_not_keras_decay():
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, 4)).astype(np.float32)
    gradients = rng.normal(size=(5, 3, 4)).astype(np.float32)

    def run(optimizer):
        return stepped(optimizer, weight, gradients, False)
    plain = run(keras.optimizers.SGD(0.25, momentum=0.5))
    assert (run(CoupledSGD(0.25, 0.5)) == plain).all()
    coupled = run(CoupledSGD(0.25, 0.5, 0.125))
    assert abs(coupled - run(keras.optimizers.SGD(0.25, momentum=0.5, weight_decay=0.125))).max() \
        > 0.01


def test_a_schedule_and_decay_go_together():
    config = SGD.replace(warmup_steps=2, learning_rate_drops=(4,))
    optimizer = build_optimizer(config)
    weight, gradient = np.ones((2, 2), np.float32), np.full((2, 2), 0.5, np.float32)
    found = stepped(optimizer, weight, [gradient] * 6, False)
    expected = by_hand(weight, [gradient] * 6, [0, 0.125, 0.25, 0.25, 0.025, 0.025], 0.5, 0.125)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_sparse_gradient_decays_every_row():
    weight = tf.Variable(np.ones((3, 2), np.float32))
    gradient = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]), tf.constant([3, 2]))
    CoupledSGD(0.5, 0.0, 0.25).apply_gradients([(gradient, weight)])
    np.testing.assert_allclose(weight, [[0.875] * 2, [0.375] * 2, [0.875] * 2])


def test_weights_can_be_left_out_of_the_decay():
    one, other = tf.Variable([1.0], name="one"), tf.Variable([1.0], name="other")
    optimizer = CoupledSGD(0.5, 0.0, 0.25)
    optimizer.exclude_from_weight_decay([other])
    optimizer.apply_gradients([(tf.zeros(1), one), (tf.zeros(1), other)])
    assert (one.numpy(), other.numpy()) == (0.875, 1.0)


def test_it_is_read_back_from_its_config():
    optimizer = build_optimizer(SGD.replace(warmup_steps=2))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is CoupledSGD and again.get_config() == optimizer.get_config()
    assert (again.momentum, again.weight_decay) == (0.5, 0.125)
    assert isinstance(again._learning_rate, Rate)
    assert fresh_slots(optimizer) == {"momentums": 0.0}


def network():
    layers = keras.layers
    return prune_low_magnitude(keras.Sequential([
        layers.Input((4,)), layers.Dense(5, name="a"), layers.BatchNormalization(name="norm"),
        layers.ReLU(), layers.Dense(3, name="b")]))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_training_with_masks_is_the_steps_by_hand(policy):
    config = SGD.replace(dtype_policy=policy)
    with models._settings(policy):
        model, other = network(), network()
    models.compile_model(model, config)
    other.set_weights(model.get_weights())
    rng = np.random.default_rng(3)
    masks = {name: rng.integers(0, 2, item.weight.shape).astype(np.uint8)
             for name, item in masked(model).items()}
    weights = named_weights(model)
    twins = {name: variable for name, variable in named_weights(other).items()
             if variable.trainable}
    for twin, named in ((model, weights), (other, named_weights(other))):
        assign_masks(twin, masks)
        for name, mask in masks.items():
            named[name].assign(named[name] * mask)
    velocity = dict.fromkeys(twins, np.float32(0))
    for _ in range(4):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(
                Y, tf.cast(other(X, training=True), tf.float32), from_logits=True))
        for (name, twin), gradient in zip(twins.items(), tape.gradient(loss, [*twins.values()]),
                                          strict=True):
            velocity[name] = 0.5 * velocity[name] - 0.25 * (gradient + 0.125 * twin.numpy())
            twin.assign_add(velocity[name])
        logs = model.train_on_batch(X, Y, return_dict=True)
        # Nothing but cross-entropy.
        assert logs["loss"] == pytest.approx(float(loss), rel=1e-2 if "16" in policy else 1e-5)
    assert not model.losses
    tolerance = {"float32": 1e-5, "mixed_float16": 1e-2}[policy]
    for name, twin in twins.items():
        np.testing.assert_allclose(weights[name], twin, rtol=tolerance, atol=tolerance)
        assert not weights[name].numpy()[masks.get(name, np.ones(twin.shape)) == 0].any()
    slots = model.optimizer.variables
    assert all(np.isfinite(slot.numpy()).all() for slot in (slots() if callable(slots) else slots))


@pytest.mark.parametrize("settings, kind", [
    ({"optimizer": "adam"}, keras.optimizers.Adam), ({"optimizer": "sgd"}, keras.optimizers.SGD),
    ({"optimizer": "sgd", "momentum": 0.9}, keras.optimizers.SGD),
    ({"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4}, CoupledSGD)])
def test_the_optimizer_is_the_configurations(settings, kind):
    optimizer = build_optimizer(presets.get("digits").replace(learning_rate=0.25, **settings))
    assert type(optimizer) is kind
    assert float(optimizer.learning_rate) == 0.25
    assert getattr(optimizer, "momentum", 0.0) == settings.get("momentum", 0.0)
    assert (optimizer.weight_decay or 0.0) == settings.get("weight_decay", 0.0)


def test_float16_alone_needs_its_loss_scaled():
    for policy, scaled in (("float32", False), ("mixed_bfloat16", False), ("mixed_float16", True)):
        optimizer = build_optimizer(SGD.replace(dtype_policy=policy))
        assert isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer) == scaled
        assert type(getattr(optimizer, "inner_optimizer", optimizer)) is CoupledSGD
        assert float(optimizer.learning_rate) == 0.25


RATE = Config(preset="p", network="n", dataset="d", steps=100, learning_rate=0.4)


def rate_by_hand(step, warmup, drops):
    rate = 0.4 * (min(1, step / warmup) if warmup else 1)
    return rate / 10 ** sum(step >= drop for drop in drops)


@pytest.mark.thorough
@pytest.mark.parametrize("warmup", [0, 1, 30])
@pytest.mark.parametrize("drops", [(), (50,), (20, 25, 80)])
@pytest.mark.parametrize(("first", "stretch"), [(0, 1), (20, 1), (0, 2), (40, 0.5)])
def test_the_rate_of_every_step(warmup, drops, first, stretch):
    rate = Rate(0.4, warmup, drops)
    begin_schedule_at(keras.optimizers.SGD(rate), first, stretch)
    compiled = tf.function(rate, jit_compile=True)
    for step in range(0, 100, 7):
        place = first + step / stretch
        assert float(rate(step)) == pytest.approx(rate_by_hand(place, warmup, drops))
        assert float(compiled(tf.constant(step))) == pytest.approx(float(rate(step)))


def test_a_rate_that_is_still_stays_where_it_is():
    rate = Rate(0.4, 0, (50,))
    begin_schedule_at(keras.optimizers.SGD(rate), 100, CONSTANT)
    assert [float(rate(step)) for step in (0, 10, 10**6)] == pytest.approx([0.04] * 3)


def test_a_rate_that_never_changes_is_a_number():
    assert learning_rate(RATE) == 0.4
    assert isinstance(learning_rate(RATE.replace(warmup_steps=1)), Rate)
    assert isinstance(learning_rate(RATE.replace(learning_rate_drops=(5,))), Rate)
    begin_schedule_at(keras.optimizers.SGD(0.4), 50)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_optimizer_follows_where_it_is_placed_without_a_new_trace(scaled):
    optimizer = keras.optimizers.SGD(Rate(1.0, 0, (2,)))
    if scaled:
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer, dynamic=False,
                                                             initial_scale=1)
    weight = tf.Variable([0.0])
    optimizer.build([weight])

    @tf.function
    def step():
        optimizer.apply_gradients([(tf.constant([1.0]), weight)])
    for first, moved in ((0, 1.0), (2, 0.1), (0, 1.0)):
        begin_schedule_at(optimizer, first)
        optimizer.iterations.assign(0)
        before = weight.numpy()
        step()
        np.testing.assert_allclose(before - weight.numpy(), moved, rtol=1e-6)
    assert step.experimental_get_tracing_count() == 1


def test_an_optimizer_with_a_rate_knows_its_fresh_slots():
    optimizer = keras.optimizers.Adagrad(Rate(0.1, 5, (10,)), initial_accumulator_value=0.3)
    assert fresh_slots(optimizer) == {"_accumulators": pytest.approx(0.3)}
    again = Rate.from_config(Rate(0.1, 5, (10,)).get_config())
    assert float(again(3)) == pytest.approx(0.06)
