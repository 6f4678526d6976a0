"""The accuracy of tickets before training, where accuracy is a sum that the test can do too."""

import dataclasses

import numpy as np
import pytest
import searches

from lth_keras.core.fractions import Prunable
from lth_keras.core.next_masks import PruningRule
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.trainings import chain
from lth_keras.reports.analyses.analysis import WorkdirReader
from lth_keras.reports.analyses.networks import untrained
from lth_keras.reports.analyses.networks.network import Network

LAYERS = {"conv/kernel": "Conv2D", "fc/kernel": "Dense"}
SIZE = 544


def sizes(weights):
    """Not an accuracy, but a number that tells one network from another."""
    return {"accuracy": float(sum(np.abs(weights[name]).sum() for name in LAYERS)) / 1000}


def network(structure="none", rounds=3, **more):
    prunable = {name: Prunable(name, name.split("/")[0], kind) for name, kind in LAYERS.items()}
    rule = PruningRule.of([*prunable.values()], searches.SHAPES, fraction=0.5, rounds=rounds,
                          structures=dict.fromkeys(searches.SHAPES, parse(structure)))
    return Network(rule, prunable, sizes, **more)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return WorkdirReader(searches.fill(tmp_path_factory.mktemp("made")))


def analyse(run, *criteria, of=None, levels=None):
    return untrained.analyse(run, lambda: of or network(), levels, criteria)


def accuracy(rows, replicate, level, masks):
    row, = rows[(rows.replicate == replicate) & (rows.level == level)
                & (rows.masks == masks)].to_dict("records")
    return row["test_accuracy"]


def test_a_ticket_is_evaluated_with_its_initial_weights_under_its_masks(run):
    rows = analyse(run).rows
    assert {*rows.masks} == {"ticket", "random mask"} and {*rows.level} == {0, 1, 2, 3}
    for replicate in (0, 1):
        for level in range(4):
            ticket = run.ticket(replicate, level)
            expected = sum(np.abs(ticket.weights[name] * mask).sum()
                           for name, mask in ticket.masks.items()) / 1000
            assert accuracy(rows, replicate, level, "ticket") == pytest.approx(expected, rel=1e-6)


def test_weights_that_are_not_rewound_are_evaluated_as_they_were_before_training(tmp_path):
    config = searches.CONFIG.replace(retraining="learning_rate_rewinding", replicates=1)
    run = WorkdirReader(searches.fill(tmp_path, config))
    initial, ticket = run.ticket(0, 0).weights, run.ticket(0, 2)
    assert not np.array_equal(ticket.weights["fc/kernel"], initial["fc/kernel"])
    expected = sizes({name: initial[name] * mask for name, mask in ticket.masks.items()})
    for rows in (analyse(run).rows, analyse(run, "large_final").rows):
        assert accuracy(rows, 0, 2, "ticket") == pytest.approx(expected["accuracy"], rel=1e-6)
    # A random mask has no zeros of trained weights under it.
    random = accuracy(analyse(run).rows, 0, 2, "random mask")
    assert random > 0.7 * sizes(initial)["accuracy"] / 4


def test_a_random_mask_is_another_of_the_same_density(run):
    rows = analyse(run).rows
    kinds = rows.set_index(["replicate", "level", "masks"]).sort_index()
    for place in {*zip(rows.replicate, rows.level, strict=True)}:
        ticket, other = kinds.loc[(*place, "ticket")], kinds.loc[(*place, "random mask")]
        assert ticket.density == other.density
        # The tickets keep the largest of the initial weights.
        assert (ticket.test_accuracy > other.test_accuracy) == (place[1] > 0)
    assert analyse(run).rows.equals(rows)


def test_a_criterion_prunes_the_trained_dense_network_and_its_initial_weights_are_evaluated(run):
    rows = analyse(run, "large_final", "small_final", levels=[1, 3]).rows
    for level in (1, 3):
        trained = run.trained(chain(run.config, 0, 0)).weights
        initial, kept = run.ticket(0, 0).weights, {name: -(-np.size(trained[name]) // 2**level)
                                                   for name in LAYERS}
        for name, largest in (("large_final", -1), ("small_final", 1)):
            expected = 0.0
            for weight in LAYERS:
                order = np.argsort(largest * np.abs(trained[weight]).ravel())
                expected += np.abs(initial[weight]).ravel()[order[:kept[weight]]].sum() / 1000
            assert accuracy(rows, 0, level, name) == pytest.approx(expected, rel=1e-5)


def test_what_a_criterion_needs_is_computed_at_the_dense_networks_weights(run):
    asked = []

    def provided(replicate, theta, masks, trained):
        asked.append((replicate, all(mask.all() for mask in masks.values())))
        return {"initial_gradient": lambda: {name: np.ones(shape) for name, shape
                                             in searches.SHAPES.items()}}
    rows = analyse(run, "snip", of=network(provided=provided)).rows
    assert asked == [(0, True), (1, True)]
    # With a gradient of ones, SNIP keeps the largest initial weights: no mask has a larger sum.
    assert (rows[rows.masks == "snip"].set_index(["replicate", "level"]).test_accuracy
            >= rows[rows.masks == "random mask"].set_index(["replicate", "level"]).test_accuracy
            - 1e-6).all()


def test_the_note_names_the_best_masks(run):
    assert analyse(run, "small_final").notes[-1].startswith("Most accurate: ticket at level 1, ")


@pytest.mark.parametrize(("criteria", "of", "said"), [
    (("largest",), None, "Received: 'largest'"),
    (("taylor",), None, "lth analyse untrained must provide what its criterion needs"),
    (("large_final",), network("2:4", 2), "criteria large_final for a run with structure=none")])
def test_criteria_that_cannot_be_used_are_refused(run, criteria, of, said):
    with pytest.raises(LotteryError, match=said):
        analyse(run, *criteria, of=of)


def test_criteria_need_the_trained_dense_network(tmp_path):
    config = dataclasses.replace(searches.CONFIG, keep_trained="none")
    run = WorkdirReader(searches.fill(tmp_path, config))
    with pytest.raises(WorkdirError, match="A criterion needs the trained weights of the dense"):
        analyse(run, "large_final")
    assert len(analyse(run).rows) == 2 * 2 * 4
