"""What filters give to the next layers: on cases by hand, in searches, and without a trace."""

import dataclasses
import random

import filters
import keras as keras3
import numpy as np
import pytest
import tf_keras
from tiers import short_and_long

import lth_keras as lth
from lth_keras.core import criteria, unit_criteria
from lth_keras.errors import LotteryError
from lth_keras.search import search as searches

LIBRARIES = {"tf_keras": tf_keras, "keras3": keras3}
both = pytest.mark.parametrize("library", LIBRARIES)


def activations(found, *inputs):
    """The mean over batches of examples, through the engine's own way to read scoring data."""
    x = np.concatenate(inputs)
    return found.activations((x, np.zeros(len(x))))()


@both
def test_it_is_what_the_next_layer_reads(library):
    keras = LIBRARIES[library]
    layers = keras.layers
    inputs = layers.Input((2,))
    x = layers.Dense(2, use_bias=False, name="a")(inputs)
    x = layers.BatchNormalization(epsilon=0.0, name="norm")(x)
    x = layers.ReLU()(x)
    model = keras.Model(inputs, layers.Dense(1, name="b")(x))
    model.get_layer("a").set_weights([np.eye(2)])
    # gamma, beta, mean, variance: the units give relu(2 x) and relu(x - 3).
    model.get_layer("norm").set_weights([
        np.array([2.0, 1.0]), np.array([0.0, -3.0]), np.zeros(2), np.ones(2)])
    found = filters.network(model)
    x = np.array([[1.0, 5.0], [-1.0, 1.0]], np.float32)
    np.testing.assert_allclose(activations(found, x)["a/kernel"], [1.0, 1.0])


@both
def test_it_is_the_mean_over_all_layers_that_read_and_over_positions(library):
    keras = LIBRARIES[library]
    layers = keras.layers
    inputs = layers.Input((2, 2, 1))
    x = layers.Conv2D(2, 1, use_bias=False, name="conv")(inputs)
    by_place = layers.Dense(1, name="by_place")(layers.Flatten()(x))
    of_mean = layers.Dense(1, name="of_mean")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Add()([by_place, of_mean]))
    model.get_layer("conv").set_weights([np.array([[[[1.0, -2.0]]]])])
    found = filters.network(model)
    x = np.array([[1.0, -1.0], [3.0, -1.0]], np.float32).reshape(1, 2, 2, 1)
    # |a| is 1.5 where the places are read, and 0.5 where their mean is.
    np.testing.assert_allclose(activations(found, x)["conv/kernel"], [1.0, 2.0])


@pytest.mark.parametrize("name", short_and_long(
    ["residual", "inception", "sequences", "shared", "nested"], ["residual", "shared"],
    pytest.mark.thorough))
@both
def test_nothing_changes_and_batches_do_not_matter(library, name):
    keras = LIBRARIES[library]
    keras.utils.set_random_seed(1)
    model = filters.disturb(filters.SMALL[name](keras))
    found = filters.network(model)
    found.model.compile("sgd", "mse", metrics=["mae"])
    x = filters.batch(model)
    y = np.zeros((len(x), *model.outputs[0].shape[1:]))
    found.model.train_on_batch(x, y)
    before = [np.array(each) for each in (
        *found.model.variables, *[each for metric in found.model.metrics
                                  for each in metric.variables])]
    one, two = activations(found, x, x), activations(found, x)
    after = [np.array(each) for each in (
        *found.model.variables, *[each for metric in found.model.metrics
                                  for each in metric.variables])]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    groups = next(iter(found.structures.values())).groups
    assert one.keys() == {member.weight for group in groups for member in group.filters}
    for weight, values in one.items():
        assert values.dtype == np.float64 and values.max() > 0
        np.testing.assert_allclose(values, two[weight], rtol=1e-6)


@both
def test_a_model_within_a_model_gives_what_it_gives_alone(library):
    keras = LIBRARIES[library]
    keras.utils.set_random_seed(1)
    whole = filters.disturb(filters.SMALL["nested"](keras))
    alone = filters.disturb(filters.SMALL["residual"](keras))
    alone.set_weights([*whole.get_layer("body").get_weights(), *alone.get_weights()[-2:]])
    x = filters.batch(whole)
    inside = {name.removeprefix("body/"): values for name, values
              in activations(filters.network(whole), x).items()}
    for name, values in activations(filters.network(alone), x).items():
        np.testing.assert_allclose(inside[name], values, rtol=1e-6, err_msg=name)


@pytest.mark.thorough
@pytest.mark.parametrize("causal", [False, True])
@both
def test_what_a_head_gives_is_what_it_adds_to_the_output(library, causal):
    keras = LIBRARIES[library]
    layers = keras.layers
    keras.utils.set_random_seed(1)
    inputs = layers.Input((5, 6))
    x = layers.LayerNormalization()(inputs)
    heads = layers.MultiHeadAttention(3, 2, name="heads")(
        x, x, use_causal_mask=causal)
    model = filters.disturb(keras.Model(inputs, layers.Dense(2)(heads)))
    found = filters.network(model)
    x = np.random.default_rng(0).normal(size=(7, 5, 6)).astype(np.float32)
    name, = (name for name in activations(found, x) if "value" in name)
    state = np.random.get_state()[1].tolist(), random.getstate()
    given = activations(found, x)[name]
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state
    # With the output's kernel one for the numbers of one head, the layer gives their sum.
    layer = next(each for each in model.layers if each.name in ("heads", "masked_heads"))
    layer = getattr(layer, "layer", layer)
    reads = keras.Model(model.inputs, [heads])
    for head in range(3):
        size = 0.0
        for number in range(2):
            kernel = np.zeros((3, 2, 6))
            kernel[head, number, 0] = 1
            layer._output_dense.set_weights([kernel, np.zeros(6)])
            size += np.abs(np.asarray(reads.predict(x, verbose=0))[..., 0]).mean() / 2
        np.testing.assert_allclose(given[head], size, rtol=1e-4)
    # The weights of now count, not those of when the search began.
    again = found.activations((x, np.zeros(len(x))))
    before = again()[name]
    layer._value_dense.set_weights([2 * value for value in layer._value_dense.get_weights()])
    np.testing.assert_allclose(again()[name], 2 * before, rtol=1e-4)


@both
def test_a_transformers_heads_and_units_are_scored(library):
    keras = LIBRARIES[library]
    found = filters.network(filters.disturb(filters.SMALL["transformer"](keras)))
    given = activations(found, filters.batch(found.model))
    groups = next(iter(found.structures.values())).groups
    assert given.keys() == {member.weight for group in groups for member in group.filters}
    assert all(values.min() >= 0 and values.max() > 0 for values in given.values())


def compiled(library, **options):
    keras = LIBRARIES[library]
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.layers.Input((4,)), keras.layers.Dense(8, "relu", name="fc"),
        keras.layers.Dense(2, name="out")])
    if library == "tf_keras":
        model, options = lth.prune_low_magnitude(model, **options), {}
    model.compile("sgd")  # Without a loss: only a gradient needs one.
    return model, options


DATA = (np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32), np.zeros(600))


@pytest.mark.filterwarnings("ignore:Nothing has trained the model")
@both
def test_a_search_prunes_the_units_that_give_the_least(library):
    model, options = compiled(library, structure="filters")
    search = lth.Search(model, fraction=0.5, criterion="activation", scoring_data=DATA, **options)
    weights = search.network.weights()
    given = np.abs(np.maximum(DATA[0] @ weights["fc/kernel"] + weights["fc/bias"], 0)).mean(axis=0)
    search.prune_and_rewind()
    least = np.argsort(given)[:4]
    assert sorted(np.flatnonzero(search.masks["fc/bias"] == 0)) == sorted(least)
    # The units that are pruned give nothing in the next round.
    search.prune_and_rewind()
    assert search.masks["fc/bias"].sum() == 2


@both
def test_a_callback_does_too(library):
    model, options = compiled(library, structure="filters")
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, fraction=0.5, verbose=0,
                                        criterion="activation", scoring_data=DATA, **options)
    model.compile("sgd", "mse")
    model.fit(DATA[0], np.zeros((600, 2)), epochs=lottery.epochs, callbacks=[lottery], verbose=0)
    assert lottery.ticket.masks["fc/bias"].sum() == 4


@both
def test_without_data_or_filters_it_is_refused_before_training(library):
    model, options = compiled(library, structure="filters")
    with pytest.raises(LotteryError, match="needs activation.*scoring_data"):
        lth.Search(model, criterion="activation", **options)
    model, _ = compiled(library)
    with pytest.raises(LotteryError, match='needs structure="filters"'):
        lth.Search(model, criterion="activation", scoring_data=DATA)
    own = criteria.Criterion("own", lambda initial, final, rng, activation: final, ("activation",))
    with pytest.raises(LotteryError, match="a criterion that needs it needs structure="):
        lth.Search(model, criterion=own, scoring_data=DATA)


def test_a_criterion_may_need_both_gradient_and_activation():
    @unit_criteria.register("both", needs=("gradient", "activation"))
    def needing(units, rng, gradient, activation):
        assert gradient.filters[0].shape == (4,) and activation.shape == (units.size,)
        return activation
    try:
        model, options = compiled("keras3", structure="filters")
        model.compile("sgd", "mse")
        data = DATA[0], np.zeros((600, 2))
        search = searches.Search(model, criterion="both", scoring_data=data, fraction=0.5,
                                 **options)
        search.prune_and_rewind()
        assert search.masks["fc/bias"].sum() == 4
    finally:
        del criteria.CRITERIA["both"]


@both
def test_lth_run_scores_by_it(library):
    from lth_keras.core.masks import ones
    from lth_keras.experiments.config.config import Config
    from lth_keras.experiments.training.datasets import load
    from lth_keras.experiments.worker import engine_of as trains
    config = Config(preset="p", network="lenet_300_100", dataset="digits", steps=20, rounds=1,
                    validation_every=10, validation_size=200, structure="filters",
                    criterion="activation", fraction=0.5,
                    engine="tf_keras" if library == "tf_keras" else "keras",
                    **({} if library == "tf_keras" else {"keras_backend": "tensorflow"}))
    digits = load("digits")
    pixels, data = (digits.x_train * 255).astype(np.uint8), {}
    for field in ("x_train", "x_test"):  # As bytes, which a training divides by 255.
        data[field] = (getattr(digits, field) * 255).astype(np.uint8)
    trainer = trains(config).round_runner(config, dataclasses.replace(digits, **data)).trainer
    weights, masks = trainer.initial_weights(np.random.default_rng(0)), ones(trainer.shapes)
    found = trainer.activations(weights, masks, np.arange(500))
    first, second = (name for name in weights if weights[name].shape in ((64, 300), (300, 100)))
    assert found.keys() == {first, second}
    x = pixels[:500].reshape(500, -1) / np.float32(255)
    given = np.maximum(x @ weights[first] + weights[first.replace("kernel", "bias")], 0)
    np.testing.assert_allclose(found[first], given.mean(axis=0), rtol=1e-4, atol=1e-6)
    # A gradient is of the same inputs: that of the first kernel is of the size of pixels in [0, 1].
    gradient = trainer.loss_gradient(weights, masks, np.arange(500))[first]
    assert 0 < np.abs(gradient).max() < 1


def test_the_engines_agree():
    results = {}
    for library, keras in LIBRARIES.items():
        keras.utils.set_random_seed(1)
        model = filters.SMALL["residual"](keras)
        rng = np.random.default_rng(3)
        model.set_weights([np.abs(rng.normal(0, 0.3, np.shape(value))) + 0.1
                           for value in model.get_weights()])
        results[library] = activations(filters.network(model), filters.batch(model))
    for name, values in results["tf_keras"].items():
        np.testing.assert_allclose(values, results["keras3"][name], rtol=1e-4, err_msg=name)
