import math
import types

import numpy as np
import pytest
import tf_keras as keras

from lth_keras.core import masks
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.spec import intervals, TrainingSpec
from lth_keras.experiments.training_keras2 import trainer
from lth_keras.experiments.training_keras2.models import initial_weights
from lth_keras.experiments.training_keras2.trainer import Trainer
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import named_weights
from lth_keras.keras2.masking.wrap import prune_low_magnitude

CLASSES = 3


def make_data(seed=0, train=50, test=20):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, 6))

    def draw(count):
        y = rng.integers(0, CLASSES, count).astype(np.int32)
        return (centres[y] + rng.normal(size=(count, 6))).astype(np.float32), y
    return Data(*draw(train), *draw(test), CLASSES)


def make_model(learning_rate=1e-2):
    layers = keras.layers
    model = prune_low_magnitude(keras.Sequential([
        layers.Input((6,)), layers.Dense(8, "relu"), layers.BatchNormalization(),
        layers.Dense(CLASSES)]))
    model.compile(keras.optimizers.Adam(learning_rate),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"], jit_compile=True)
    return model


def make_masks(weights, density, seed=0):
    rng = np.random.default_rng(seed)
    return {name: (rng.random(weights[name].shape) < density).astype(np.uint8)
            for name in weights if name.endswith("kernel")}


def make_plan(weights, density=0.5, **changes):
    plan = {"weights": weights, "masks": make_masks(weights, density), "train": np.arange(40),
            "validation": np.arange(40, 50), "order": np.random.default_rng(1), "steps": 14,
            "validation_every": 4, "batch_size": 8, **changes}
    return TrainingSpec(**plan)


@pytest.fixture(scope="module")
def lab():
    model = make_model()
    data = make_data()
    weights = initial_weights(model, np.random.default_rng(0))
    return types.SimpleNamespace(model=model, data=data, weights=weights,
                                 trainer=Trainer(model, data))


def test_the_same_plan_gives_the_same_bits(lab):
    first, other, again = (lab.trainer.train(make_plan(lab.weights, density))
                           for density in (0.5, 0.9, 0.5))
    assert all(first.weights[name].tobytes() == again.weights[name].tobytes()
               for name in first.weights)
    assert first.curve.equals(again.curve)
    assert not first.curve.equals(other.curve)


def test_the_compiled_loop_does_what_train_on_batch_does(lab):
    plan = make_plan(lab.weights)
    trained = lab.trainer.train(plan)
    model = make_model()
    variables = named_weights(model)
    for name, value in masks.apply(plan.weights, plan.masks).items():
        variables[name].assign(value)
    rewinding.assign_masks(model, plan.masks)
    losses = []
    for interval in intervals(make_plan(lab.weights)):
        for row in interval.indices[:interval.count]:
            model.train_on_batch(lab.data.x_train[row], lab.data.y_train[row])
        held_out = plan.validation
        losses.append(model.evaluate(lab.data.x_train[held_out], lab.data.y_train[held_out],
                                     verbose=0)[0])
    assert trained.curve.step.tolist() == [4, 8, 12, 14]
    np.testing.assert_allclose(trained.curve.val_loss, losses, rtol=1e-4)
    for name, variable in variables.items():
        np.testing.assert_allclose(trained.weights[name], variable.numpy(), rtol=1e-3, atol=1e-5)


def test_results_are_those_of_the_early_stop_and_of_the_end(lab):
    trained = lab.trainer.train(make_plan(lab.weights, order=np.random.default_rng(5), steps=60))
    best = trained.curve.loc[trained.curve.val_loss.idxmin()]
    assert trained.result["early_stop_step"] == best.step
    assert trained.result["val_loss_min"] == best.val_loss
    # The trainer leaves the model as it was at the early stop.
    at_stop = lab.model.evaluate(lab.data.x_test, lab.data.y_test, verbose=0)[1]
    assert trained.result["test_accuracy_early_stop"] == pytest.approx(at_stop, abs=1e-6)
    for name, variable in named_weights(lab.model).items():
        variable.assign(trained.weights[name])
    final = [lab.model.evaluate(x, y, verbose=0)[1] for x, y in (
        (lab.data.x_test, lab.data.y_test), (lab.data.x_train[:40], lab.data.y_train[:40]))]
    assert [trained.result["test_accuracy_final"], trained.result["train_accuracy_final"]] == \
        pytest.approx(final, abs=1e-6)


def test_pruned_weights_stay_zero_and_survivors_move(lab):
    plan = make_plan(lab.weights)
    trained = lab.trainer.train(plan)
    for name, mask in plan.masks.items():
        assert (trained.weights[name][mask == 0] == 0).all()
        assert (trained.weights[name][mask == 1] != plan.weights[name][mask == 1]).any()


def test_one_compilation_serves_masks_weights_and_short_intervals(lab):
    lab.trainer.train(make_plan(lab.weights))
    for density in (1.0, 0.1):
        fresh = initial_weights(lab.model, np.random.default_rng(int(density * 10)))
        lab.trainer.train(make_plan(fresh, density, steps=15))
    assert lab.trainer.compilations == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_training_that_diverges_ends_there_and_says_where(lab, value):
    weights = {**lab.weights, "dense/kernel": np.full_like(lab.weights["dense/kernel"], value)}
    trained = lab.trainer.train(make_plan(weights))
    assert trained.diverged and trained.curve.step.tolist() == [4]
    assert set(trained.result) == {"diverged_at_step", "seconds"}
    assert trained.result["diverged_at_step"] == 4
    assert not lab.trainer.train(make_plan(lab.weights)).diverged


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_weight_that_no_loss_shows_diverges_at_the_last_step(lab, value, monkeypatch):
    read, calls = rewinding.read, []

    def spoiled(variables):
        calls.append(read(variables))
        if len(calls) == 5:  # The last: the four before were of the best.
            calls[-1]["dense/bias"] = calls[-1]["dense/bias"] * value
        return calls[-1]
    best = iter([4.0, 3.0, 2.0, 1.0])
    train = lab.trainer.feed.train
    monkeypatch.setattr(lab.trainer.feed, "train", lambda *arguments: (
        (interval, {**logs, "val_loss": next(best)}) for interval, logs in train(*arguments)))
    monkeypatch.setattr(rewinding, "read", spoiled)
    assert lab.trainer.train(make_plan(lab.weights)).result["diverged_at_step"] == 14


@pytest.mark.parametrize("steps, every, batch", [(14, 4, 8), (5, 5, 7), (100, 3, 50), (1, 1, 1)])
def test_every_epoch_takes_every_example_once(steps, every, batch):
    examples = np.arange(100, 140)
    plan = make_plan({}, masks={}, train=examples, steps=steps, validation_every=every,
                     batch_size=batch)
    taken = list(intervals(plan))
    assert [interval.first for interval in taken] == [*range(0, steps, every)]
    assert [interval.last for interval in taken] == [*range(every, steps, every), steps]
    assert sum(interval.count for interval in taken) == steps
    assert all(interval.indices.shape == (every, batch) for interval in taken)
    stream = np.concatenate([interval.indices.ravel() for interval in taken])
    epochs = [stream[start:start + 40] for start in range(0, len(stream) - 39, 40)]
    assert all(sorted(epoch) == sorted(examples) for epoch in epochs)
    if len(epochs) > 1:
        assert (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("pause", [0, 2, 3, 4])
@pytest.mark.parametrize(("step", "validation"), [
    (0.001, 0.02), (0.25, 4.0), (2.0, 30.0), (0.001, 0.0)])
def test_steps_are_told_from_a_validation_and_a_pause_that_take_longer(
        lab, monkeypatch, step, validation, pause):
    now, counts = [0.0], []

    class Feed:
        def train(self, intervals, held_out, seed):
            for interval in intervals:
                counts.append(interval.count)
                now[0] += interval.count * step + validation
                now[0] += {1: 5.0, pause: 3.0}.get(len(counts), 0.0)
                yield interval, {}
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(lab.trainer, "feed", Feed())
    speed = lab.trainer.stopwatch(
        make_plan(lab.weights, steps=600, validation_every=300)).measure(math.inf)
    assert (speed.compilation, speed.step, speed.validation) == pytest.approx(
        (5.0, step, validation), rel=1e-6, abs=1e-9)
    assert sum(counts) * step < 15
