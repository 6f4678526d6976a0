"""A compacted model trains on as the masked one would: its optimizer keeps what is left of it."""

import filters
import keras as keras3
import numpy as np
import pytest
import tf_keras

import lth_keras as lth
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.errors import LotteryError
from lth_keras.files.ticket import Ticket

LIBRARIES = {"tf_keras": tf_keras, "keras3": keras3}
# Each with a state that says what is carried over: without it, steps would differ.
OPTIMIZERS = {
    "momentum": lambda keras: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda keras: keras.optimizers.Adam(0.01, amsgrad=True),
    "schedule": lambda keras: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.02, 2, 0.5), weight_decay=0.01),
    "averaged": lambda keras: keras.optimizers.RMSprop(0.01, use_ema=True, global_clipnorm=1.0),
    "scaled": lambda keras: (keras.mixed_precision if keras is tf_keras else keras.optimizers)
    .LossScaleOptimizer(keras.optimizers.Adam(0.01))}
# What rounding makes of float32 in some steps; without the state they are apart by a hundredfold.
CLOSE = {"rtol": 1e-3, "atol": 2e-5}


def network(keras):
    """Coupled convolutions, normalised and not, and dense layers."""
    layers = keras.layers
    inputs = layers.Input((6, 6, 3))
    # No bias before a normalisation: its gradient is rounding alone, of which Adam makes a step.
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = before = layers.ReLU()(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(6, 3, padding="same", activation="tanh", name="inner")(x)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="outer")(x)
    x = layers.Add()([before, layers.BatchNormalization(name="outer_norm")(x)])
    x = layers.Dense(10, "tanh", name="fc")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(4, name="out")(x))


def batches(count, seed):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(16, 6, 6, 3)).astype(np.float32),
             rng.normal(size=(16, 4)).astype(np.float32)) for _ in range(count)]


def trained(model, data):
    for x, y in data:
        model.train_on_batch(x, y)
    return model


def masked(keras, optimizer, structure="filters"):
    """A model under masks that has trained some steps, compiled."""
    keras.utils.set_random_seed(3)
    model = network(keras)
    if structure == "filters":
        found = filters.network(model)
        masks, weights = filters.pruned(found), found.weights()
    else:
        weights = {name: kind_of(model).array(variable)
                   for name, variable in kind_of(model).named_weights(model).items()}
        rng = np.random.default_rng(0)
        masks = {name: (rng.random(value.shape) < 0.5).astype(np.uint8)
                 for name, value in weights.items() if name.endswith("kernel")}
        masks["fc/kernel"][:, 3:] = 0
        if structure == "units":  # Otherwise they give their bias to the next layer.
            masks["out/kernel"][3:] = 0
    model = Ticket(weights, masks, level=1).apply(network(keras))
    compiled(model, optimizer)
    return trained(model, batches(3, 0))


def compiled(model, optimizer):
    keras = tf_keras if type(model).__module__.startswith("tf_keras") else keras3
    model.compile(optimizer if not isinstance(optimizer, str) else OPTIMIZERS[optimizer](keras),
                  "mse")
    return model


def state(model):
    """All weights of a model, and all that its optimizer keeps."""
    kind = kind_of(model)
    kept = kind.optimizer_state(model)
    return ({name: kind.array(each) for name, each in kind.named_weights(model).items()},
            {slot: {name: kind.array(each) for name, each in by_weight.items()}
             for slot, by_weight in kept.slots.items()},
            [kind.array(each) for each in kept.others])


def check_together(done, model, small, steps):
    """The same steps of both end in the same weights, slots and counters."""
    data = batches(steps, 1)
    trained(model, data)
    trained(small, data)
    weights, slots, others = state(model)
    own = state(small)
    for name, value in done.places.of(weights).items():
        np.testing.assert_allclose(own[0][name], value, err_msg=name, **CLOSE)
    for slot, by_weight in slots.items():
        for name, value in done.places.of(by_weight).items():
            np.testing.assert_allclose(own[1][slot][name], value, err_msg=slot + name, **CLOSE)
    for one, other in zip(own[2], others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("optimizer", [
    name if name in ("momentum", "adam") else pytest.param(name, marks=pytest.mark.thorough)
    for name in OPTIMIZERS])
@pytest.mark.parametrize("library", LIBRARIES)
def test_steps_of_the_smaller_model_are_those_of_the_masked_one(library, optimizer):
    model = masked(LIBRARIES[library], optimizer)
    done = lth.compact(model)
    small = compiled(done.model, optimizer)
    assert small.count_params() < 0.6 * network(LIBRARIES[library]).count_params()
    done.carry_optimizer(model)
    check_together(done, model, small, steps=5)


@pytest.mark.thorough
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_fresh_optimizer_would_step_elsewhere(library):
    model = masked(LIBRARIES[library], "adam")
    done = lth.compact(model)
    small = compiled(done.model, "adam")
    with pytest.raises(AssertionError):
        check_together(done, model, small, steps=5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_left_unpruned_trains_on_under_masks(library):
    model = masked(LIBRARIES[library], "momentum", structure="units")
    done = lth.compact(model)
    assert done.removed["fc"] == (10, 3)
    small = compiled(lth.keep_sparse(done.model), "momentum")
    done.carry_optimizer(model, to=small)
    check_together(done, model, small, steps=4)


@pytest.mark.parametrize("library", LIBRARIES)
def test_slots_of_biases_with_constants_in_them_are_kept_as_they_are(library):
    model = masked(LIBRARIES[library], "momentum", structure="single weights")
    done = lth.compact(model)
    small = compiled(done.model, "momentum")
    done.carry_optimizer(model)
    weights, slots, _ = state(model)
    own = state(small)
    assert (own[0]["out/bias"] != weights["out/bias"]).any()
    for slot, by_weight in slots.items():
        np.testing.assert_array_equal(own[1][slot]["out/bias"], by_weight["out/bias"])
        np.testing.assert_array_equal(own[1][slot]["fc/bias"], by_weight["fc/bias"][:3])
        assert by_weight["out/bias"].any()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_bias_that_is_made_by_the_compaction_has_a_fresh_slot(library):
    keras = LIBRARIES[library]
    layers = keras.layers
    model = keras.Sequential([layers.Input((2,)), layers.Dense(3, name="a"),
                              layers.Dense(1, use_bias=False, name="b")])
    compiled(model, keras.optimizers.SGD(1e-6, momentum=0.9))
    model.train_on_batch(np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32))
    model.set_weights([np.array([[1, 0, 1], [1, 0, 1]]), np.ones(3), np.ones((3, 1))])
    done = lth.compact(model)
    compiled(done.model, keras.optimizers.SGD(1e-6, momentum=0.9))
    done.carry_optimizer(model)
    weights, slots, _ = state(done.model)
    (by_weight,) = slots.values()
    assert weights["b/bias"] == 1
    assert by_weight["b/bias"] == 0 and by_weight["b/kernel"].all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_models_that_are_not_compiled_alike_are_refused(library):
    keras = LIBRARIES[library]
    model = network(keras)
    done = lth.compact(model)
    with pytest.raises(LotteryError, match="The model that was compacted must be compiled.*Receiv"):
        done.carry_optimizer(model)
    compiled(model, "momentum")
    with pytest.raises(LotteryError, match="The smaller model must be compiled.*Received"):
        done.carry_optimizer(model)
    compiled(done.model, "adam")
    with pytest.raises(LotteryError, match="same optimizer.*SGD with momentums and, of the smaller "
                       "model, Adam with momentums, velocit"):
        done.carry_optimizer(model)
    compiled(model, keras.optimizers.Adam())
    with pytest.raises(LotteryError, match="Adam with momentums, velocities and, of the"):
        done.carry_optimizer(model)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_state_of_other_weights_is_refused(library):
    keras = LIBRARIES[library]
    done = lth.compact(network(keras))
    compiled(done.model, "momentum")
    longer = network(keras)
    longer = keras.Model(longer.inputs, keras.layers.Dense(2, name="more")(longer.outputs[0]))
    for other in (keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3)]), longer):
        with pytest.raises(LotteryError, match="that of the model that was compacted. Received"):
            done.carry_optimizer(compiled(other, "momentum"))


@pytest.mark.parametrize(("library", "name"), [
    ("tf_keras", "Adafactor"), ("keras3", "Adafactor"), ("keras3", "Muon")])
def test_optimizers_that_mix_elements_are_refused(library, name):
    keras = LIBRARIES[library]
    model = compiled(network(keras), getattr(keras.optimizers, name)(0.01))
    done = lth.compact(model)
    compiled(done.model, getattr(keras.optimizers, name)(0.01))
    with pytest.raises(LotteryError, match=f"must step apart. Received: {name}"):
        done.carry_optimizer(model)


def test_a_model_that_is_left_as_it_is_has_its_own_state():
    class Own(keras3.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras3.layers.Dense(2)

        def call(self, x):
            return self.inner(x)
    model = Own()
    model(np.zeros((1, 3), np.float32))
    compiled(model, "adam")
    model.train_on_batch(np.ones((4, 3), np.float32), np.ones((4, 2), np.float32))
    done = lth.compact(model)
    done.carry_optimizer(model)
    assert done.model is model and int(model.optimizer.iterations) == 1
