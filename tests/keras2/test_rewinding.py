import functools

import networks
import numpy as np
import pytest
import tf_keras as keras
from networks import BATCH, compiled, OPTIMIZERS, State, X, Y

import lth_keras as lth
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import named_weights

# Those whose slots are sums of gradients: a weight without gradients has slots of zero.
MOMENTS = ["adam", "amsgrad", "adamw", "nesterov", "rmsprop", "adadelta", "nadam", "adamax",
           "lion", "averaged", "legacy_adam", "legacy_sgd"]


def setup_function():
    keras.utils.set_random_seed(0)


def train(model, steps, first=0):
    for step in range(first, first + steps):
        batch = slice(step * BATCH % len(X), step * BATCH % len(X) + BATCH)
        model.train_on_batch(X[batch], Y[batch])


def half(model, seed=0):
    """Random masks for a model, not yet in it."""
    rng = np.random.default_rng(seed)
    return {name: (rng.random(mask.shape) < 0.5).astype(np.uint8)
            for name, mask in rewinding.read_masks(model).items()}


def restore(model, snapshot, masks):
    rewinding.assign_masks(model, masks)
    return snapshot.restore(model, masks)


def slots(optimizer, weight):
    """An optimizer's variables that are named after a weight and have its shape."""
    found = optimizer.variables
    return [variable for variable in (found() if callable(found) else found)
            if weight.name.split(":")[0] in variable.name and variable.shape == weight.shape]


def values(model):
    """Weights without masks, and the optimizer's variables, each with its value."""
    own = [weight for weight in model.weights if not any(
        part in weight.name for part in ("mask:", "threshold:", "pruning_step:"))]
    found = model.optimizer.variables
    return [(variable, variable.numpy())
            for variable in (*own, *(found() if callable(found) else found))]


@functools.cache
def rewound(name):
    """A model trained to step 3 and 6, then rewound to 3; with the values of both moments."""
    model = compiled(optimizer=OPTIMIZERS[name](), run_eagerly=True)
    train(model, 3)
    then, snapshot, masks = values(model), rewinding.Snapshot.of(model), half(model)
    train(model, 3, first=3)
    assert int(model.optimizer.iterations) == 6
    restore(model, snapshot, masks)
    kept = {}
    for (weight, _), mask in zip(networks.pruning_vars(model), masks.values(), strict=True):
        kept.update((id(variable), mask) for variable in (weight, *slots(model.optimizer, weight)))
    return model, then, values(model), kept


@pytest.mark.thorough
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_but_pruned_weights_and_their_slots_returns_to_step_k(name):
    _, then, now, kept = rewound(name)
    for (variable, before), (_, after) in zip(then, now, strict=True):
        survivors = kept.get(id(variable), np.ones_like(before)) != 0
        assert after[survivors].tobytes() == before[survivors].tobytes(), variable.name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_are_zero_and_so_are_their_moments(name):
    model, _, now, kept = rewound(name)
    weights = {id(weight) for weight in model.trainable_weights}
    zeroed = [value[kept[id(variable)] == 0] for variable, value in now if id(variable) in kept
              and (name in MOMENTS or id(variable) in weights)]
    assert len(zeroed) > 2 * (name in MOMENTS)
    assert not any(value.any() for value in zeroed)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_from_a_rewound_state_keeps_pruned_weights_at_zero(name):
    model = rewound(name)[0]
    for step in range(3):
        train(model, 1, first=step)
        assert networks.strays(model) == 0
        assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


def test_a_snapshot_is_a_copy_that_training_does_not_change():
    model = compiled()
    snapshot = rewinding.Snapshot.of(model)
    before = {name: value.copy() for name, value in snapshot.weights.items()}
    train(model, 2)
    for name, value in before.items():
        np.testing.assert_array_equal(snapshot.weights[name], value)
    assert any((named_weights(model)[name].numpy() != value).any()
               for name, value in before.items())


def test_statistics_come_back_however_often_the_state_is_restored():
    model = compiled(lth.prune_low_magnitude(networks.normalised()))
    train(model, 2)
    then, snapshot, masks = State.of(model), rewinding.Snapshot.of(model), half(model)
    for _ in range(2):
        train(model, 2)
        restore(model, snapshot, masks)
        now = State.of(model)
        for before, after in zip(then.weights, now.weights, strict=True):
            assert ((after == before) | ((after == 0) & (before.ndim == 2))).all()
        assert now.iterations == 2


@pytest.mark.parametrize("optimizer", [
    lambda: keras.optimizers.Adam(0.1), lambda: keras.optimizers.legacy.Adam(0.1)])
def test_a_learning_rate_changed_during_the_round_comes_back(optimizer):
    model = compiled(optimizer=optimizer())
    snapshot = rewinding.Snapshot.of(model)
    keras.backend.set_value(model.optimizer.learning_rate, 0.001)
    restored = restore(model, snapshot, half(model))
    assert float(model.optimizer.learning_rate) == np.float32(0.1)
    assert restored.learning_rate == np.float32(0.1)


def test_the_loss_scale_comes_back():
    inner = keras.optimizers.Adam(0.1)
    model = compiled(optimizer=keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=8))
    snapshot = rewinding.Snapshot.of(model)
    train(model, 2)
    for variable in (model.optimizer._loss_scale._weights).values():
        variable.assign(variable + 1)
    restore(model, snapshot, half(model))
    assert float(model.optimizer.loss_scale) == 8
    assert int(model.optimizer.dynamic_counter) == 0
    assert int(inner.iterations) == 0


def test_what_was_restored_is_counted_and_told():
    model = compiled(lth.prune_low_magnitude(networks.normalised()), keras.optimizers.Adam(0.25))
    restored = restore(model, rewinding.Snapshot.of(model), half(model))
    assert restored == rewinding.Restored(weights=6, statistics=2, slots=12, iterations=0,
                                       learning_rate=0.25)
    assert str(restored) == ("restored 6 weights, 2 statistics, 12 optimizer slots, iterations 0, "
                             "learning rate 0.25; data order goes on")


def test_masks_are_read_as_they_were_assigned_with_the_smallest_survivor_as_threshold():
    model = lth.prune_low_magnitude(networks.mlp())
    masks = half(model)
    rewinding.assign_masks(model, masks)
    read = rewinding.read_masks(model)
    for (weight, mask), (name, expected) in zip(networks.pruning_vars(model), masks.items(),
                                                strict=True):
        assert read[name].dtype == np.uint8
        np.testing.assert_array_equal(read[name], expected)
        np.testing.assert_array_equal(mask, expected)
        wrapper = next(layer for layer in model.layers if layer.pruning_vars[0][0] is weight)
        assert float(wrapper.pruning_vars[0][2]) == np.abs(weight.numpy()[expected == 1]).min()


def test_a_weight_may_lose_all_its_survivors():
    model = compiled()
    rewinding.assign_masks(model, {name: np.zeros_like(mask)
                                for name, mask in rewinding.read_masks(model).items()})
    assert all(float(layer.pruning_vars[0][2]) == 0 for layer in model.layers)
    assert not any(mask.any() for mask in networks.masks(model))
