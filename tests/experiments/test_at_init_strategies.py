"""Strategies that score the weights before training: their masks are those of lth.prune_at_init."""

import itertools

import numpy as np
import pytest
import small
from small import CONFIG, run

import lth_keras as lth
from lth_keras.core.masks import kept, ones
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.strategies import STRATEGIES
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.results.store import Store
from lth_keras.files.ticket import Ticket
from lth_keras.keras2 import rewinding

pytestmark = pytest.mark.usefixtures("tiny_network")
METHODS = {name: each.at_init for name, each in STRATEGIES.items() if each.at_init}
GLOBAL = {"scope": "global", "fraction": 0.3}


def tickets(root, config):
    return [Ticket.load(Store(root, config).ticket(0, level)) for level in range(4)]


def by_hand(lab, theta, method, number, distribution="global"):
    """The masks that a user gets of the same model and examples."""
    model = lab.trainer.model
    rewinding.assign(model, theta, ones(lab.trainer.shapes))
    data = lab._at_init._scoring_data(0) if method in ("snip", "grasp") else None
    return lth.prune_at_init(model, method, density=number / 72, data=data,
                             distribution=distribution).masks


@pytest.fixture(scope="module", params=METHODS)
def done(request, tmp_path_factory, tiny_network):
    config = CONFIG.replace(strategy=request.param, rounds=3, **GLOBAL,
                            branches=("ticket", "reinit", "shuffled_mask", "inverted@2"))
    root, lab = tmp_path_factory.mktemp("run"), small.lab(config, rounds=3)
    assert run(root, config, trains=lab).ended == list(trainings(config))
    return METHODS[request.param], config, lab, tickets(root, config)


def test_a_level_has_as_many_weights_as_with_any_other_strategy(done):
    _, _, _, found = done
    assert [kept(ticket.masks) for ticket in found] == [72, 50, 35, 25]


def test_masks_are_those_of_prune_at_init_and_weights_are_theta_0(done):
    method, _, lab, found = done
    theta = found[0].weights
    for ticket in found[1:]:
        assert all((ticket.weights[name] == theta[name]).all() for name in theta)
        if method != "random":  # Its seed is the run's.
            expected = by_hand(lab, theta, method, kept(ticket.masks))
            assert all((ticket.masks[name] == expected[name]).all() for name in expected)


def test_random_masks_of_a_replicate_are_nested_and_another_replicate_has_others(done):
    method, _, lab, found = done
    if method != "random":
        pytest.skip("the others are the same for every seed")
    for outer, inner in itertools.pairwise(found):
        assert all((inner.masks[name] <= outer.masks[name]).all() for name in inner.masks)
    other = lab._at_init.masks(1, 1, found[0].weights)
    assert any((other[name] != found[1].masks[name]).any() for name in other)


def test_inverted_masks_keep_what_has_the_lowest_scores(done):
    method, _, lab, found = done
    training, ticket = Training(0, 2, "inverted"), found[2]
    _, spec = lab._begun(training, StartingPoint(ticket))
    assert kept(spec.masks) == kept(ticket.masks) == 35
    assert all((spec.weights[name] == ticket.weights[name]).all() for name in ticket.masks)
    if method == "magnitude":
        sizes = np.concatenate([np.abs(ticket.weights[name]).ravel() for name in ticket.masks])
        chosen = np.concatenate([spec.masks[name].ravel() for name in ticket.masks]) != 0
        assert sizes[chosen].max() < sizes[~chosen].min()
    if method != "synflow":  # Of 72, 35 are the lowest and 35 the highest of one ranking.
        both = sum(int((spec.masks[name] * lab._at_init.masks(0, 2, ticket.weights)[name]).sum())
                   for name in ticket.masks)
        assert both == 0


def test_fractions_by_layer_and_distributions_decide_how_many_each_layer_keeps(tmp_path):
    layers = CONFIG.replace(strategy="snip", rounds=1)
    run(tmp_path / "layers", layers, trains=small.lab(layers, rounds=1))
    masks = Ticket.load(Store(tmp_path / "layers", layers).ticket(0, 1)).masks
    assert [int(mask.sum()) for mask in masks.values()] == [48 - 14, 24 - 2]
    balanced = layers.replace(strategy="random_at_init", distribution="balanced")
    run(tmp_path / "balanced", balanced, trains=small.lab(balanced, rounds=1))
    masks = Ticket.load(Store(tmp_path / "balanced", balanced).ticket(0, 1)).masks
    assert [int(mask.sum()) for mask in masks.values()] == [56 - 24, 24]


@pytest.mark.parametrize(("settings", "said"), [
    ({"strategy": "snip", "retraining": "learning_rate_rewinding"}, "weight_rewinding"),
    ({"strategy": "snip", "structure": "block_1x4_max"}, "single weights"),
    ({"strategy": "snip", "criterion": "random"}, "criterion=random too"),
    ({"branches": ("ticket", "inverted")}, "such as snip"),
    ({"strategy": "snip", "branches": ("reinit_trained_signs",)}, "such as iterative"),
    ({"strategy": "synflow", "scoring_per_class": 5}, "snip and grasp. Received: 5"),
    ({"distribution": "erk"}, "such as random_at_init"),
    ({"strategy": "snip", "scoring_per_class": 0}, "scoring_per_class"),
    ({"strategy": "snip", "distribution": "pyramid"}, "uniform, erk, balanced")])
def test_settings_that_do_not_go_together_are_refused(settings, said):
    with pytest.raises(LotteryError, match=said):
        CONFIG.replace(**settings)


def test_so_many_examples_of_each_class_are_drawn_from_those_that_are_trained_on():
    lab = small.lab(CONFIG.replace(strategy="snip", scoring_per_class=4))
    x, y = lab._at_init._scoring_data(0)
    assert np.bincount(y).tolist() == [4, 4, 4]
    train = small.blobs().x_train[lab._split(0)[0]]
    assert all((train == example).all(1).any() for example in x)
    again, other = (lab._at_init._scoring_data(replicate)[0] for replicate in (0, 1))
    assert (again == x).all() and (other != x).any()
