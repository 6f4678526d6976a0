"""Structures in models and experiments: wrapped, searched, saved, controlled; and policies."""

import networks
import numpy as np
import pytest
import small
import subclassed
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from networks import BATCH, compiled, fit, STEPS, X, Y
from small import blobs, CONFIG

import lth_keras as lth
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.training_keras2.engine import round_runner
from lth_keras.keras2.masking import weight_names
from lth_keras.keras2.masking.masked_layer import MaskedLayer

layers = keras.layers
sparsity = tfmot.sparsity.keras
pytestmark = pytest.mark.usefixtures("tiny_network")


def setup_function():
    keras.utils.set_random_seed(0)


def searched(rounds=1, model=None, **options):
    model = model or compiled(lth.prune_low_magnitude(networks.mlp(), **options))
    lottery = lth.LotteryTicketCallback(rounds=rounds, epochs_per_round=1, fraction=0.3,
                                        check=True, verbose=0)
    fit(model, lottery)
    return model, lottery


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_search_in_fit_ends_in_groups_of_four_of_which_two_are_zero(rounds):
    model, lottery = searched(rounds, sparsity_m_by_n=(2, 4))
    assert lottery.ticket.level == rounds
    assert lottery.ticket.provenance["settings"]["structure"] == "2:4"
    for name, mask in lottery.ticket.masks.items():
        assert parse("2:4").obeys(mask) and 0.5 <= mask.mean() < 0.7
        trained = weight_names.named_weights(model)[name].numpy()
        assert (trained[mask == 0] == 0).all() and np.count_nonzero(trained[mask != 0])
    steps = [ticket.masks for ticket in lottery.tickets]
    assert all((steps[-1][name] <= steps[0][name]).all() for name in steps[0])


def test_a_ticket_of_blocks_is_trained_elsewhere():
    _, lottery = searched(rounds=2, block_size=(1, 4))
    assert lottery.ticket.provenance["settings"]["structure"] == "block_1x4"
    fresh = compiled(lottery.ticket.apply(networks.mlp()))
    fresh.fit(X, Y, batch_size=BATCH, verbose=0)
    for name, mask in lottery.ticket.masks.items():
        assert parse("block_1x4").obeys(mask) and mask.mean() < 0.6
        trained = weight_names.named_weights(fresh)[name].numpy()
        assert (trained[mask == 0] == 0).all() and (trained[mask != 0] != 0).all()


def test_without_a_structure_a_ticket_does_not_speak_of_one():
    assert "structure" not in searched()[1].ticket.provenance["settings"]


def test_each_weight_has_the_structure_of_its_wrapper():
    model = keras.Sequential([
        layers.Input((6,)), lth.prune_low_magnitude(layers.Dense(8), block_size=(2, 2)),
        lth.prune_low_magnitude(layers.Dense(8), sparsity_m_by_n=(1, 4)),
        lth.prune_low_magnitude(layers.Dense(2))])
    _, lottery = searched(model=compiled(model))
    found = lottery.ticket.provenance["settings"]["structure"]
    assert list(found.values()) == ["block_2x2", "1:4", "none"]
    for name, text in found.items():
        assert parse(text).obeys(lottery.ticket.masks[name])
        assert not lottery.ticket.masks[name].all()


@pytest.mark.parametrize("options", [{"sparsity_m_by_n": (2, 4)}, {"block_size": (2, 1)}])
def test_models_that_tfmot_wrapped_are_pruned_in_the_same_structure(options):
    schedule = lth.LotteryTicketSchedule(rounds=1, steps_per_round=STEPS, fraction=0.3)
    keras.utils.set_random_seed(0)
    stock = compiled(sparsity.prune_low_magnitude(networks.mlp(), pruning_schedule=schedule,
                                                  **options))
    lottery = lth.LotteryTicketCallback(schedule, check=True, verbose=0)
    stock.fit(X, Y, batch_size=BATCH, epochs=2, callbacks=[lottery], verbose=0, shuffle=False)
    structure = next(iter(weight_names.masked(stock).values())).structure
    assert not structure.is_none
    for mask in lottery.ticket.masks.values():
        assert structure.obeys(mask) and mask.mean() < 0.8


@pytest.mark.parametrize(("options", "rounds", "said"), [
    ({"sparsity_m_by_n": (2, 4)}, 5, "rounds must be 1 or 2. Received: rounds=5"),
    ({"block_size": (1, 4), "exclude": "Dense"}, 1, "Nothing in the model is prunable")])
def test_a_search_that_cannot_end_in_the_structure_is_an_error_before_training(
        options, rounds, said):
    with pytest.raises(LotteryError, match=said):
        searched(rounds, **options)


def test_layers_that_a_structure_fits_not_are_an_error_where_they_are_wrapped():
    model = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(4, 3, name="c"),
                              layers.Flatten(), layers.Dense(2)])
    with pytest.raises(LotteryError, match=r"block_2x2 needs matrices.*exclude=.*Received: "
                                           r"c/kernel \(3, 3, 3, 4\)"):
        lth.prune_low_magnitude(model, block_size=(2, 2))
    wrapped = lth.prune_low_magnitude(model, block_size=(2, 2), exclude="c")
    assert list(weight_names.masked(wrapped)) == ["dense/kernel"]


def test_a_search_in_a_loop_of_ones_own_says_how_many_rounds_it_has():
    model = compiled(lth.prune_low_magnitude(networks.mlp(), sparsity_m_by_n=(2, 4)))
    search = lth.Search(model, rounds=2)
    search.prune_and_rewind()
    assert all(parse("1:4").obeys(mask) and not parse("2:4").obeys(mask)
               for mask in search.masks.values())
    search.prune_and_rewind()
    assert all(parse("2:4").obeys(mask) for mask in search.masks.values())
    with pytest.raises(LotteryError, match="nothing is pruned beyond it. Received: level 3"):
        search.prune_and_rewind()


# Saved and loaded.

@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("options", [
    {"sparsity_m_by_n": (2, 4)}, {"block_size": (2, 4), "block_pooling_type": "MAX"}])
def test_a_model_is_saved_and_loaded_with_its_structure(tmp_path, ending, options):
    model, _ = searched(**options)
    model.save(tmp_path / f"model.{ending}")
    loaded = keras.models.load_model(tmp_path / f"model.{ending}")
    clone = keras.models.clone_model(model)
    for one in (loaded, clone):
        found = [item.structure for item in weight_names.masked(one).values()]
        assert found == [item.structure for item in weight_names.masked(model).values()]
        assert found[0].options == {name: list(value) if isinstance(value, tuple) else value
                                    for name, value in options.items()}
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert all((before == after).all() for before, after in zip(
        networks.masks(model), networks.masks(loaded), strict=True))


def test_a_model_of_ones_own_class_is_loaded_with_its_structure(tmp_path):
    model = subclassed.Everywhere()
    model(X)
    model = lth.prune_low_magnitude(model, block_size=(2, 1))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = {name: str(item.structure) for name, item in weight_names.masked(loaded).items()}
    assert sorted(found) == sorted(subclassed.EVERYWHERE)
    assert set(found.values()) == {"block_2x1"}


# Policies.

def mobile():
    inputs = hidden = layers.Input((16, 16, 3))
    hidden = layers.Conv2D(8, 3, 2, name="first")(layers.ZeroPadding2D(1)(hidden))
    hidden = layers.DepthwiseConv2D(3, padding="same")(layers.ReLU()(hidden))
    hidden = layers.ReLU()(layers.Conv2D(8, 1, name="point")(hidden))
    hidden = layers.GlobalAveragePooling2D(keepdims=True)(hidden)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(hidden)))


def test_tfmots_policy_says_what_is_wrapped():
    policy = sparsity.PruneForLatencyOnXNNPack()
    wrapped = lth.prune_low_magnitude(mobile(), pruning_policy=policy, block_size=(1, 4))
    theirs = sparsity.prune_low_magnitude(mobile(), pruning_policy=policy)
    names = [list(weight_names.masked(model)) for model in (wrapped, theirs)]
    assert names == [["point/kernel"]] * 2
    assert lth.prune_low_magnitude(layers.Conv2D(4, 1), pruning_policy=policy)


def test_a_model_that_the_policy_does_not_support_is_an_error_that_says_why():
    policy = sparsity.PruneForLatencyOnXNNPack()
    with pytest.raises(LotteryError, match="must suit its PruneForLatencyOnXNNPack.*"
                                           "Could not find `Conv2D 3x3`"):
        lth.prune_low_magnitude(networks.mlp(), pruning_policy=policy)
    with pytest.raises(LotteryError, match="must suit.*Subclassed models are not supported"):
        model = subclassed.Inner()
        model(X)
        lth.prune_low_magnitude(model, pruning_policy=policy)
    layer = layers.Dense(2)
    assert lth.prune_low_magnitude(layer, pruning_policy=policy) is layer


@pytest.mark.parametrize("policy", [sparsity.PruneForLatencyOnXNNPack, "xnnpack"])
def test_what_is_no_policy_is_an_error(policy):
    with pytest.raises(LotteryError, match="must be a tfmot PruningPolicy"):
        lth.prune_low_magnitude(networks.mlp(), pruning_policy=policy)


# Experiments.

@pytest.mark.parametrize(("structure", "rounds"), [("2:4", 2), ("block_2x1", 2)])
def test_an_experiment_prunes_in_its_structure_and_so_do_its_controls(structure, rounds):
    config = CONFIG.replace(structure=structure, rounds=rounds,
                            branches=("ticket", "random_mask", "shuffled_mask"))
    lab = small.lab(config, rounds)
    first = lab.train(Training(0, 0), StartingPoint()).following
    last = lab.train(Training(0, 1), StartingPoint(first)).following
    assert all(parse(structure).obeys(mask) and not mask.all() for mask in last.masks.values())
    assert last.provenance["settings"]["structure"] == structure
    control = lab.train(Training(0, 2, "random_mask"), StartingPoint(last))
    ticket = lab.train(Training(0, 2), StartingPoint(last))
    assert control.result["density"] == ticket.result["density"] < 1
    assert (ticket.following is None) == (structure == "2:4")  # Its last level.


def test_a_fraction_of_0_leaves_what_a_structure_fits_not():
    config = CONFIG.replace(structure="2:4", rounds=1, fraction="a:0.5,b:0")
    ticket = small.lab(config, rounds=1).train(Training(0, 0), StartingPoint()).following
    assert parse("2:4").obeys(ticket.masks["a/kernel"]) and ticket.masks["b/kernel"].all()


def test_rounds_that_leave_no_block_are_an_error_before_training():
    with pytest.raises(LotteryError, match="prune all weights at level 2"):
        round_runner(CONFIG.replace(structure="block_3x4", fraction=0.75, rounds=2), blobs())


@pytest.mark.parametrize(("settings", "said"), [
    ({"structure": "2:4", "rounds": 16}, "rounds must be 1 or 2. Received: rounds=16"),
    ({"structure": "2:4", "rounds": 1, "scope": "global"}, "scope must be layer"),
    ({"structure": "4x4"}, "structure must be none; M:N, such as 2:4, .*; or filters"),
    ({"structure": 24}, "Received: 24"),
    ({"structure": "block_1x4", "branches": "random_mask_global,magnitude_at_init"},
     "branches must have masks of structure=block_1x4.*Received: random_mask_global, "
     "magnitude_at_init. Use random_mask or shuffled_mask instead")])
def test_settings_that_a_structure_does_not_go_with_are_an_error(settings, said):
    with pytest.raises(LotteryError, match=said):
        CONFIG.replace(**settings)


def test_rounds_are_of_the_identity_where_they_say_how_much_is_pruned():
    one, two = (CONFIG.replace(structure="2:4", rounds=rounds) for rounds in (1, 2))
    assert one.fingerprint != two.fingerprint
    one, two = (CONFIG.replace(structure="block_01x4", rounds=rounds) for rounds in (1, 2))
    assert one.fingerprint == two.fingerprint and one.structure == "block_1x4"


def test_a_wrapper_made_by_hand_has_a_structure():
    wrapper = MaskedLayer(layers.Dense(4), sparsity_m_by_n=(2, 4))
    assert str(MaskedLayer.from_config(wrapper.get_config()).structure) == "2:4"
    assert "block_size" not in MaskedLayer(layers.Dense(4)).get_config()


def test_a_file_has_tfmots_arguments_however_the_structure_was_asked_for():
    by_word, by_argument = (MaskedLayer(layers.Dense(4, name="d"), **options).get_config()
                            for options in ({"structure": "2:4"}, {"sparsity_m_by_n": (2, 4)}))
    assert by_word == by_argument and by_word["sparsity_m_by_n"] == [2, 4]
    assert "structure" not in by_word
    plain = MaskedLayer(layers.Dense(4), block_pooling_type="MAX")
    assert plain.structure.is_none and plain.get_config()["block_pooling_type"] == "MAX"
    with pytest.raises(LotteryError, match="not by both"):
        lth.prune_low_magnitude(layers.Dense(4), structure="2:4", block_size=(1, 4))


def test_a_search_of_another_structure_does_not_go_on(tmp_path):
    def begin(**options):
        model = compiled(lth.prune_low_magnitude(networks.mlp(), **options))
        lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, verbose=0,
                                            workdir=tmp_path / "search")
        model.fit(X, Y, epochs=2, callbacks=[lottery], verbose=0)
    begin(block_size=(1, 2))
    with pytest.raises(LotteryError, match="network"):
        begin(block_size=(2, 1))


def test_lth_run_keeps_what_it_was_asked_for(tmp_path):
    config = CONFIG.replace(structure="block_2x1", rounds=1)
    small.run(tmp_path, config, trains=small.lab(config, rounds=1))
    with pytest.raises(LotteryError, match="structure"):
        small.run(tmp_path, config.replace(structure="none"))
