"""Levels of a search for filters train the network that is left, and end where masks would end."""

import dataclasses
import importlib

import keras as keras3
import numpy as np
import pytest

from lth_keras.core.masks import density
from lth_keras.core.structures.coupled import kept_units
from lth_keras.costs.profile import profile
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.training import round_runner
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.networks import NETWORKS

pytestmark = pytest.mark.thorough

ENGINES = {"tf_keras": "training_keras2", "keras": "training_keras3"}


def residual(input_shape, classes, *, keras):
    layers = keras.layers
    inputs = layers.Input(input_shape)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = before = layers.ReLU()(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="inner")(x)
    # A bias before a normalisation has a gradient of rounding alone, which Adam makes a step of.
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="outer")(x)
    x = layers.Add()([before, layers.BatchNormalization(name="outer_norm")(x)])
    x = layers.Dense(8, "tanh", name="fc")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(classes, name="out")(x))


def both_ways(input_shape, classes, *, keras):
    """A network of which filters are pruned in one layer, and a layer that has no mask."""
    layers = keras.layers
    inputs = layers.Input(input_shape)
    x = layers.Reshape((4, 4))(inputs)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both")(x)
    x = layers.Dense(8, "tanh", name="fc")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(classes, name="out")(x))


def nested(input_shape, classes, *, keras):
    """A network within the network."""
    layers = keras.layers
    inner = keras.Sequential([layers.Input((16,)), layers.Dense(8, "tanh", name="fc")],
                             name="inner")
    return keras.Sequential([layers.Input(input_shape), layers.Flatten(), inner,
                             layers.Dense(classes, name="out")])


def images():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 4, 4, 1))

    def draw(size):
        y = rng.integers(0, 3, size).astype(np.int32)
        return (centres[y] + rng.normal(size=(size, 4, 4, 1))).astype(np.float32), y
    return Data(*draw(60), *draw(20), 3)


@pytest.fixture(scope="module", params=ENGINES)
def made(request):
    """A function that makes the runner of a configuration, of either engine."""
    engine = importlib.import_module(f"lth_keras.experiments.{ENGINES[request.param]}.engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "residual", residual)
        patch.setitem(NETWORKS, "both_ways", both_ways)
        patch.setitem(NETWORKS, "nested", nested)
        config = Config(
            preset="residual", network="residual", dataset="blobs", steps=8, batch_size=10,
            validation_size=20, validation_every=4, structure="filters", fraction=0.4, rounds=2,
            learning_rate=0.01, engine=request.param,
            branches=("ticket", "reinit", "random_mask"),
            **({"keras_backend": keras3.backend.backend()} if request.param == "keras" else {}))
        yield lambda **changes: engine.round_runner(config.replace(**changes), images())


def search(runner, levels=3):
    """The outcomes of a replicate's tickets, level by level."""
    start, outcomes = StartingPoint(), []
    for level in range(levels):
        outcomes.append(runner.train(Training(0, level), start))
        start = StartingPoint(outcomes[-1].following)
    return outcomes


def test_a_level_ends_where_masked_training_ends(made, monkeypatch):
    smaller = made()
    monkeypatch.setattr(round_runner, "SmallerTrainer", lambda whole: whole)
    masked = made()
    for one, other in zip(search(smaller), search(masked), strict=True):
        np.testing.assert_allclose(one.curve.to_numpy(float), other.curve.to_numpy(float),
                                   rtol=1e-4, atol=1e-5)
        for name, mask in one.following.masks.items():
            np.testing.assert_array_equal(mask, other.following.masks[name])
        assert one.result["density"] == other.result["density"]
    assert {name: value.shape for name, value in one.following.weights.items()} == {
        name: value.shape for name, value in other.following.weights.items()}


def test_a_smaller_network_is_what_is_trained_and_compiled_once_for_all_of_its_size(made):
    runner = made()
    start = StartingPoint(runner.train(Training(0, 0), StartingPoint()).following)
    trainer = runner.trainer
    for branch in ("ticket", "reinit", "random_mask"):
        runner.train(Training(0, 1, branch), start)
    counts, = trainer._smaller
    groups = next(iter(trainer.structures.values())).groups
    assert counts == tuple(int(kept.sum()) for kept in kept_units(groups, start.ticket.masks))
    small = trainer._smaller[counts].model
    whole = sum(int(np.prod(value.shape)) for value in start.ticket.weights.values())
    assert small.count_params() < whole * density(start.ticket.masks) * 1.2


def test_results_have_the_costs_of_the_network_that_is_trained(made):
    runner = made()
    dense = runner.train(Training(0, 0), StartingPoint())
    start = StartingPoint(dense.following)
    pruned = runner.train(Training(0, 1), start)
    small, = runner.trainer._smaller.values()
    for outcome, model in ((dense, runner.trainer.whole.model), (pruned, small.model)):
        costs = profile(model)
        assert outcome.result["parameters"] == costs.parameters
        assert outcome.result["macs"] == costs.macs
    assert pruned.result["macs_left"] == pruned.result["macs"] / dense.result["macs"]


def test_trained_weights_are_of_the_whole_network_with_zeros_where_it_is_pruned(made):
    runner = made(keep_trained="tickets")
    outcomes = search(runner, 2)
    trained, masks = outcomes[1].trained.weights, outcomes[0].following.masks
    for name, mask in masks.items():
        assert trained[name].shape == mask.shape
        assert not trained[name][mask == 0].any() and trained[name][mask != 0].any()
    # Statistics of filters that are gone are those of a fresh network.
    gone = masks["stem_norm/gamma"] == 0
    assert (trained["stem_norm/moving_variance"][gone] == 1).all()
    assert (trained["stem_norm/moving_variance"][~gone] != 1).all()


def test_masks_that_are_no_filters_are_trained_as_masks(made):
    runner = made()
    ticket = runner.train(Training(0, 0), StartingPoint()).following
    masks = {**ticket.masks, "fc/kernel": np.eye(*ticket.masks["fc/kernel"].shape, dtype=np.uint8)}
    outcome = runner.train(Training(0, 1), StartingPoint(dataclasses.replace(ticket, masks=masks)))
    assert not runner.trainer._smaller and outcome.result["density"] == density(masks)


def test_the_dense_networks_budget_is_one_of_multiply_adds(made):
    runner = made(branches=("ticket", "scratch"))
    start = StartingPoint(runner.train(Training(0, 0), StartingPoint()).following)
    masks = start.ticket.masks
    # A kernel of a convolution is used at each of 16 places, one of a dense layer once.
    macs = [sum((16 if name.split("/")[0] in ("stem", "inner", "outer") else 1) * int(count(mask))
                for name, mask in masks.items() if name.endswith("kernel"))
            for count in (np.size, np.count_nonzero)]
    outcome = runner.train(Training(0, 1, "scratch"), start)
    assert outcome.result["macs_left"] == macs[1] / macs[0]
    steps = outcome.curve.step.max()
    assert steps == min(16, round(8 * macs[0] / macs[1])) > 8


def test_what_has_no_mask_costs_as_much_in_shares_and_budgets(made):
    runner = made(network="both_ways", branches=("ticket", "scratch"))
    dense = runner.train(Training(0, 0), StartingPoint())
    start = StartingPoint(dense.following)
    assert not any(name.startswith("both/") for name in start.ticket.masks)
    pruned = runner.train(Training(0, 1), start)
    small, = runner.trainer._smaller.values()
    macs = [profile(model).macs for model in (runner.trainer.whole.model, small.model)]
    assert [dense.result["macs"], pruned.result["macs"]] == macs
    assert pruned.result["macs_left"] == macs[1] / macs[0] > 0.8
    longer = runner.train(Training(0, 1, "scratch"), start)
    assert longer.curve.step.max() == round(8 * macs[0] / macs[1]) < 11


def test_a_network_within_the_network_is_trained_under_its_masks(made):
    runner = made(network="nested", keep_trained="tickets")
    first, second = search(runner, 2)
    masks, trained = first.following.masks, second.trained.weights
    assert density(masks) < 0.7 and "inner/fc/kernel" in masks
    for name, mask in masks.items():
        assert not trained[name][mask == 0].any() and trained[name][mask != 0].any()
    assert second.result["macs_left"] < 0.7
