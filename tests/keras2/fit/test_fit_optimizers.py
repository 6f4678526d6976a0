"""Every optimizer, in a search: rewound to the bits of a fresh one, clipped by survivors alone."""

import itertools

import networks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from fits import (
    assert_same_bits,
    CLIPPING,
    EVERY,
    LEGACY_OPTIMIZERS,
    numbers,
    OPTIMIZERS,
    searched_and_fresh,
    survivors_train_alone,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import compiled, fit, lottery, STEPS
from tiers import short_and_long

import lth_keras as lth

layers = keras.layers


def setup_function():
    keras.utils.set_random_seed(0)


@pytest.mark.thorough
@pytest.mark.parametrize("name", short_and_long(
    EVERY, ["Adam, amsgrad", "Nadam", "Adafactor", "Ftrl", "legacy Nadam", "clipvalue",
            "average of weights (use_ema)", "warm-up of one's own", "loss scaling, legacy",
            "legacy with a schedule"]))
def test_a_round_is_what_a_fresh_training_of_its_ticket_is(name):
    model, fresh = searched_and_fresh(EVERY[name], run_eagerly=True)
    assert_same_bits(numbers(model), numbers(fresh))
    assert networks.strays(model) == 0


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "jit"), short_and_long(
    itertools.product(EVERY, [False, True]),
    [("Nadam", False), ("average of weights, written every 3 steps", False),
     ("loss scaling, dynamic", True)]))
def test_a_compiled_round_is_what_a_fresh_training_of_its_ticket_is(name, jit):
    model, fresh = searched_and_fresh(EVERY[name], jit=jit)
    assert_same_bits(numbers(model), numbers(fresh))
    assert networks.strays(model) == 0


# Clipping, decay and moments: those of the network that the survivors are.


# Adafactor's steps are divided by means over a whole weight, in which pruned places count.
@pytest.mark.parametrize("name", short_and_long(
    [name for name in EVERY if name != "Adafactor"],
    ["AdamW", "Lion", "Nadam", "Ftrl", "legacy RMSprop", "average of weights (use_ema)",
     "loss scaling, dynamic"]))
def test_survivors_train_as_if_the_others_were_not_there(name):
    survivors_train_alone(EVERY[name])


@pytest.mark.parametrize(("name", "clipping"), short_and_long(
    [*itertools.product([*OPTIMIZERS, *LEGACY_OPTIMIZERS], CLIPPING)],
    [("Adam", "clipnorm"), ("AdamW", "global_clipnorm"), ("legacy SGD", "clipvalue"),
     ("legacy Adam", "global_clipnorm")]))
def test_clipping_sees_the_gradients_of_survivors_alone(name, clipping):
    survivors_train_alone(lambda: EVERY[name](**CLIPPING[clipping]))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**16), density=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
       option=st.sampled_from([*CLIPPING]), limit=st.sampled_from([1e-3, 0.1, 0.5, 100.0]))
def test_a_clipped_step_is_that_of_numpy_on_the_survivors(seed, density, option, limit):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(5, 4)).astype("float32"), rng.normal(size=(5, 3)).astype("float32")
    model = networks.draw_masks(_LINEAR, density, seed)
    weight, mask = networks.pruning_vars(model)[0]
    weight.assign(rng.normal(size=(4, 3)) * mask)
    bias = model.layers[0].layer.bias
    bias.assign(rng.normal(size=3))
    kernel, kept, shift = weight.numpy(), mask.numpy(), bias.numpy()

    residual = x @ kernel + shift - y
    gradients = [2 / residual.size * x.T @ residual * kept, 2 / residual.size * residual.sum(0)]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
    optimizer = keras.optimizers.SGD(1.0, **{option: limit})
    optimizer.apply_gradients(zip(tape.gradient(loss, [weight, bias]), [weight, bias],
                                  strict=True))
    expected = clipped(gradients, option, limit)
    np.testing.assert_allclose(kernel - weight.numpy(), expected[0], atol=2e-6)
    np.testing.assert_allclose(shift - bias.numpy(), expected[1], atol=2e-6)
    assert not weight.numpy()[kept == 0].any()


_LINEAR = lth.prune_low_magnitude(keras.Sequential([layers.Input((4,)), layers.Dense(3)]))


def clipped(gradients, option, limit):
    if option == "clipvalue":
        return [np.clip(gradient, -limit, limit) for gradient in gradients]
    norms = [np.linalg.norm(gradient) for gradient in gradients]
    if option == "global_clipnorm":
        norms = [np.linalg.norm(norms)] * 2
    return [gradient * limit / max(norm, limit)
            for gradient, norm in zip(gradients, norms, strict=True)]


@keras.utils.register_keras_serializable(package="tests")
class TowardsOne(keras.regularizers.Regularizer):
    """A penalty whose gradient is not zero where a weight is."""

    def __call__(self, weight):
        return 3.0 * tf.reduce_sum((weight - 1.0) ** 2)

    def get_config(self):
        return {}


@pytest.mark.parametrize("clipping", CLIPPING)
def test_clipping_does_not_see_a_regularizers_gradients_of_pruned_weights(clipping):
    survivors_train_alone(lambda: OPTIMIZERS["Adam"](**CLIPPING[clipping]), times_wrapped=2,
                          kernel_regularizer=TowardsOne())


# Averages of weights.


def test_a_rounds_averages_are_what_is_scored():
    scored = []

    def criterion(initial, final, rng):
        scored.append(final)
        return np.abs(final)

    optimizer = EVERY["average of weights (use_ema)"]
    model = compiled(optimizer=optimizer())
    twin = compiled(optimizer=optimizer())
    twin.set_weights(model.get_weights())
    fit(model, lottery(rounds=1, epochs_per_round=1, criterion=criterion))
    fit(twin, networks.Spy(), epochs=1)  # `fit` ends by writing the averages.
    assert_same_bits(scored, [weight.numpy() for weight, _ in networks.pruning_vars(twin)])


@pytest.mark.parametrize("name", [name for name in EVERY if "average" in name])
def test_averages_of_pruned_weights_are_zero(name):
    model = compiled(optimizer=EVERY[name](), run_eagerly=True)
    search = lottery(rounds=2, epochs_per_round=1, fraction=0.5)
    spy = networks.Spy(search)
    fit(model, search, spy)
    assert {state.strays for state in spy.after} == {0}
    assert networks.strays(model) == 0  # After the averages were written for good, too.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    averages = optimizer._model_variables_moving_average
    for weight, mask in networks.pruning_vars(model):
        average = averages[optimizer._index_dict[optimizer._var_key(weight)]]
        assert not average.numpy()[mask.numpy() == 0].any() and average.numpy().any()


def test_schedules_and_warm_up_start_over_in_every_round():
    model = compiled(optimizer=EVERY["warm-up of one's own"]())
    search = lottery(rounds=2, epochs_per_round=1)
    spy = networks.Spy(search)
    fit(model, search, spy)
    one = [0.05 * (step + 1) / 6 for step in range(STEPS)]
    assert [state.rate for state in spy.after] == pytest.approx(one * 3)


def test_every_optimizer_of_keras_is_tried():
    def kinds(home):
        base = keras.optimizers.legacy.Optimizer if home is keras.optimizers.legacy \
            else keras.optimizers.Optimizer
        return {kind for kind in vars(home).values() if isinstance(kind, type)
                and issubclass(kind, base) and kind is not base}
    tried = {type(make()) for make in (*OPTIMIZERS.values(), *LEGACY_OPTIMIZERS.values())}
    assert kinds(keras.optimizers) | kinds(keras.optimizers.legacy) <= tried
