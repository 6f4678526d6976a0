"""How filters are chosen and what a search says of them, on both engines."""

import filters
import keras as keras3
import numpy as np
import pytest
import tf_keras

import lth_keras as lth
from lth_keras.experiments.config.config import Config

LIBRARIES = {"tf_keras": tf_keras, "keras3": keras3}
both = pytest.mark.parametrize("library", LIBRARIES)


def search(library, model, prunes=(), **options):
    prunes = {"structure": "filters", **dict(prunes)}
    if library == "tf_keras":
        model, prunes = lth.prune_low_magnitude(model, **prunes), {}
    model.compile("sgd", "mse")
    return lth.Search(model, criterion="l1", **options, **prunes)


def kept(found):
    """Layer name -> how many of its filters are kept."""
    found.prune_and_rewind()
    return {group.layers[0]: int(group.kept(found.masks).sum())
            for group in next(iter(found.network.structures.values())).groups}


@pytest.mark.filterwarnings("ignore:Nothing has trained the model")
@both
def test_fractions_by_pattern_and_by_stage(library):
    keras = LIBRARIES[library]
    # A residual stream of 8 filters, 6 within, 12 units.
    model = filters.SMALL["residual"](keras)
    assert kept(search(library, model, fraction={"*inner": 0.5, "Conv2D": 0.25, "fc": 0.0})) == {
        "stem": 6, "inner": 3, "fc": 12}
    model = filters.SMALL["residual"](keras)
    by_stage = search(library, model, fraction=[0.5, 0.0, 0.25])
    assert kept(by_stage) == {"stem": 4, "inner": 6, "fc": 9}
    assert by_stage.tickets[-1].provenance["settings"]["fraction"] == [0.5, 0.0, 0.25]
    model = filters.SMALL["residual"](keras)
    with pytest.raises(lth.LotteryError, match=r"for 3 stages \(8 filters: stem to outer; 6 filt"):
        search(library, model, fraction=[0.5, 0.5])


def residual(library, prunes=(), **options):
    return search(library, filters.SMALL["residual"](LIBRARIES[library]), prunes, **options)


@both
def test_a_search_says_what_it_prunes_and_what_stays(library):
    assert residual(library).note == (
        "filters: 26 of 4 layers are pruned; all are kept of out (it makes an output of the "
        "model)")
    keras = LIBRARIES[library]
    weights = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)])
    assert not engine_note(library, weights)


def engine_note(library, model):
    model = lth.prune_low_magnitude(model) if library == "tf_keras" else model
    model.compile("sgd", "mse")
    return lth.Search(model).note


@both
def test_what_is_added_stays_with_the_layer_that_is_excluded(library):
    said = residual(library, {"exclude": "outer"}).note
    assert "filters: 18 of 2 layers are pruned" in said
    assert "kept of stem, outer (outer is excluded, or not pruned by default)" in said


@both
def test_a_layer_whose_fraction_is_zero_stays(library):
    said = residual(library, fraction={"fc": 0.0, "default": 0.2}).note
    assert "14 of 3 layers" in said and "of fc (its fraction is 0)" in said


@pytest.mark.filterwarnings("ignore:Nothing has trained the model")
@both
def test_layers_that_are_too_small_to_lose_a_filter_are_told(library):
    def found(**options):  # 8 filters of the stream, 6 within, 12 units.
        made = residual(library, **options)
        return made.note, kept(made)
    said, left = found(fraction=0.07)
    assert left == {"stem": 7, "inner": 6, "fc": 11}
    assert "20 of 3 layers" in said and "of inner (0.07 of 6 is rounded to none)" in said
    said, left = found(fraction=0.2, multiple_of=8)
    assert left["inner"] == 6 and "of inner (it has fewer than multiple_of=8)" in said
    said, left = found(fraction=0.07, scope="global")
    assert sum(left.values()) == 24 and "26 of 4 layers" in said


@both
def test_layers_that_stay_for_the_same_reason_are_told_together(library):
    layers = LIBRARIES[library].layers
    x = inputs = layers.Input((4,))
    for number in range(6):
        x = layers.LayerNormalization()(layers.Dense(5, "relu", name=f"fc{number}")(x))
    x = layers.Dense(1, name="out")(layers.Dense(3, name="pruned")(x))
    said = search(library, LIBRARIES[library].Model(inputs, x)).note
    assert said == ("filters: 3 of 1 layer are pruned; all are kept of fc0, fc1, fc2 and 3 more "
                    "(what a LayerNormalization does to each channel is not known here); of out "
                    "(it makes an output of the model)")


@both
def test_a_fit_says_it_once_unless_it_is_to_be_silent(library, capsys):
    keras = LIBRARIES[library]
    for verbose in (1, 0):
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(6, name="fc"),
                                  keras.layers.Dense(1, name="out")])
        options = {"structure": "filters"}
        if library == "tf_keras":
            model, options = lth.prune_low_magnitude(model, **options), {}
        model.compile("sgd", "mse")
        lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, fraction=0.5,
                                            verbose=verbose, **options)
        model.fit(np.ones((8, 4)), np.ones(8), epochs=lottery.epochs, callbacks=[lottery],
                  verbose=0)
        said = capsys.readouterr().out
        assert said.count("filters: 6 of 1 layer are pruned; all are kept of out") == verbose
    assert "6 of 1 layer are pruned" in lottery._described().settings["filters"]


def test_a_loaded_model_says_it_from_its_wrappers(tmp_path):
    model = lth.prune_low_magnitude(filters.SMALL["residual"](tf_keras), exclude="outer",
                                    structure="filters")
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    said = lth.Search(loaded).note
    assert "18 of 2 layers" in said
    assert "stem, outer (stem and outer are excluded, or not pruned by default)" in said


@pytest.mark.filterwarnings("ignore:Nothing has trained the model")
@both
def test_a_criterion_that_cannot_score_a_layer_is_refused_at_once(library):
    keras = LIBRARIES[library]

    def batch_norm_scale(**options):
        model = filters.SMALL["residual"](keras)
        prunes = {"structure": "filters"}
        if library == "tf_keras":
            model, prunes = lth.prune_low_magnitude(model, **prunes), {}
        model.compile("sgd", "mse")
        return lth.Search(model, criterion="batch_norm_scale", **options, **prunes)
    with pytest.raises(lth.LotteryError, match="Received: none after inner. Leave that out by "
                                               "exclude=, or by a fraction of 0"):
        batch_norm_scale()
    # What the message says helps.
    found = batch_norm_scale(fraction={"inner": 0.0, "fc": 0.0, "default": 0.5})
    assert kept(found) == {"stem": 4, "inner": 6, "fc": 12}


@both
def test_a_subclassed_model_is_refused_with_the_way_out(library):
    keras = LIBRARIES[library]

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.fc = keras.layers.Dense(3)

        def call(self, inputs):
            return self.fc(inputs)
    model = Own()
    model(np.ones((1, 2), np.float32))
    said = "graph is its code. Build it of keras.Input and layers, or prune it in another structure"
    with pytest.raises(lth.LotteryError, match=said):
        if library == "tf_keras":
            lth.prune_low_magnitude(model, structure="filters")
        model.compile("sgd", "mse")
        lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, structure="filters")
        model.fit(np.ones((2, 2)), np.ones((2, 3)), epochs=2, callbacks=[lottery], verbose=0)
    assert not hasattr(model.fc, "layer")  # Nothing of it was wrapped.


def test_a_layer_alone_is_refused():
    for layer in (tf_keras.layers.Dense(3, name="fc"), [tf_keras.layers.Dense(3, name="fc")]):
        with pytest.raises(lth.LotteryError, match="Received: fc. Build the model first, and wrap"):
            lth.prune_low_magnitude(layer, structure="filters")


@both
def test_a_model_that_is_all_left_out_says_why_of_each_layer(library):
    with pytest.raises(lth.LotteryError, match=(
            "where nothing is:\n  stem: stem is excluded.*\n  outer: stem is excluded.*"
            "\n  inner: it is excluded.*\n  fc: it is.*\n  out: it makes an output")):
        residual(library, {"exclude": ["stem", "inner", "fc"]})


@pytest.mark.filterwarnings("ignore:Nothing has trained the model")
@both
def test_all_filters_are_compared_under_the_global_scope(library):
    found = residual(library, scope="global", fraction=0.5)
    units = kept(found)
    assert sum(units.values()) == 13 and min(units.values()) >= 1
    # Those with other fractions are compared apart.
    found = residual(library, scope="global", fraction={"fc": 0.25, "default": 0.5})
    assert kept(found)["fc"] == 9


def test_controls_with_masks_drawn_anywhere_are_refused():
    with pytest.raises(lth.LotteryError, match=r"structure=filters.*Received: random_mask_global. "
                                               "Use random_mask or shuffled_mask instead"):
        Config(preset="p", network="n", dataset="d", steps=100, structure="filters",
               branches=("ticket", "random_mask_global"))


@pytest.mark.thorough
def test_lth_run_says_it(tmp_path, capsys):
    lth.run("digits", structure="filters", rounds=0, scale=0.01, jobs=1, branches=("ticket",),
            workdir=tmp_path / "run", replicates=1)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("filters: 400 of 2 layers are pruned; all are kept of fc3 (it makes an") == 1
