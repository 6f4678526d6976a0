import dataclasses
import io
import itertools

import numpy as np
import pandas as pd
import pytest
import searches
from rich.console import Console

from lth_keras.core import criteria
from lth_keras.core.fractions import Prunable
from lth_keras.core.next_masks import PruningRule
from lth_keras.core.structures.coupled import Member, UnitGroup
from lth_keras.core.structures.filters import Filters
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.reports.analyses import output
from lth_keras.reports.analyses.analysis import WorkdirReader
from lth_keras.reports.analyses.networks import sensitivity
from lth_keras.reports.analyses.networks.network import Network
from lth_keras.reports.plots import analysis_figures

WEIGHTS = (Prunable("conv/kernel", "conv", "Conv2D"), Prunable("fc/kernel", "fc", "Dense"))
SIZES = {name: int(np.prod(shape)) for name, shape in searches.SHAPES.items()}  # 144 and 400.


def kept(weights):
    """The accuracy of a network is the share of its weights that are not zero."""
    kernels = [weights[name] for name in searches.SHAPES]
    return {"accuracy": sum(map(np.count_nonzero, kernels)) / sum(SIZES.values())}


def network(structure="none", criterion="magnitude", fraction=0.2, **more):
    rule = PruningRule.of(
        WEIGHTS, searches.SHAPES, fraction=fraction, criterion=criterion, rounds=3,
        structures=dict.fromkeys(searches.SHAPES, parse(structure)),
        provided=("gradient", "initial_gradient"))
    return Network(rule, {weight.name: weight for weight in WEIGHTS}, kept, **more)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return WorkdirReader(searches.fill(tmp_path_factory.mktemp("made")))


def analyse(run, of=None, **more):
    return sensitivity.analyse(run, lambda: of or network(), **more)


def alone(of, layer, share, trained, theta=None, **more):
    """The masks of one layer, pruned alone."""
    found, _ = sensitivity.layers(of, {name: value.shape for name, value in trained.items()})
    one, = (each for each in found if each.name == layer)
    return one.masks(of.rule, share, theta=theta or trained, trained=trained,
                     rng=np.random.default_rng(0), **more)


# Single weights and blocks.

def test_a_row_is_one_layer_pruned_alone(run):
    rows = analyse(run, shares=[0.5, 0.25]).rows
    assert rows.columns.tolist() == ["replicate", "layer", "share", "weights_pruned",
                                     "test_accuracy", "accuracy_lost"]
    assert rows[["replicate", "layer", "share", "weights_pruned"]].to_numpy().tolist() == [
        [0, "conv", 0.25, 36], [0, "conv", 0.5, 72], [0, "fc", 0.25, 100], [0, "fc", 0.5, 200]]
    assert rows.accuracy_lost.tolist() == pytest.approx((rows.weights_pruned / 544).tolist())
    assert (rows.test_accuracy + rows.accuracy_lost).tolist() == [1.0] * 4


def test_the_lowest_of_the_trained_weights_are_pruned_and_no_others():
    trained = {"conv/kernel": np.ones(searches.SHAPES["conv/kernel"]),
               "fc/kernel": np.arange(1.0, 401).reshape(40, 10), "fc/bias": np.zeros(10)}
    masks = alone(network(), "fc", 0.3, trained)
    assert masks.keys() == {"fc/kernel"} and masks["fc/kernel"].dtype == np.uint8
    assert (masks["fc/kernel"].ravel() == (np.arange(400) >= 120)).all()


def test_all_weights_are_evaluated_and_only_one_layers_are_zero(run):
    seen = []

    def evaluate(weights):
        seen.append(weights)
        return {"accuracy": 0.5, "loss": 2.0}
    found = analyse(run, dataclasses.replace(network(), evaluate=evaluate), shares=[0.5])
    trained = run.trained(run.repeats(0, 0)[0]).weights
    whole, conv, fc = seen
    for name, value in trained.items():
        assert (whole[name] == value).all() and value.dtype == conv[name].dtype == np.float32
    assert (conv["fc/kernel"] == trained["fc/kernel"]).all()
    assert (fc["conv/kernel"] == trained["conv/kernel"]).all()
    for pruned, name in ((conv, "conv/kernel"), (fc, "fc/kernel")):
        zero = pruned[name] == 0
        assert zero.mean() == 0.5 and (pruned[name] == trained[name])[~zero].all()
        assert np.abs(trained[name][zero]).max() < np.abs(trained[name][~zero]).min()
    assert found.rows.test_loss.tolist() == [2.0, 2.0]


def test_what_a_smaller_share_prunes_stays_pruned_at_random_too(run):
    seen = []

    def evaluate(weights):
        seen.append(weights["fc/kernel"] != 0)
        return {"accuracy": 0.5}
    of = dataclasses.replace(network(criterion="random"), evaluate=evaluate)
    analyse(run, of, shares=[0.2, 0.5, 0.9])
    fc = [mask for mask in seen if not mask.all()]
    assert [int(mask.sum()) for mask in fc] == [320, 200, 40]
    assert all((denser >= sparser).all() for denser, sparser in itertools.pairwise(fc))


def test_blocks_are_pruned_as_wholes():
    trained = {name: np.random.default_rng(0).normal(size=shape)
               for name, shape in searches.SHAPES.items()}
    of = network("block_2x5", fraction={"conv": 0.0, "default": 0.2})
    mask = alone(of, "fc", 0.25, trained)["fc/kernel"]
    blocks = mask.reshape(20, 2, 2, 5).transpose(0, 2, 1, 3).reshape(40, 10)
    assert {*blocks.sum(1)} == {0, 10} and int(mask.sum()) == 300


def test_the_weights_of_a_layer_are_compared_by_the_runs_scope():
    names = ("rnn/kernel", "rnn/recurrent_kernel", "out/kernel")
    weights = [Prunable(name, name.partition("/")[0], "LSTM") for name in names]
    trained = {names[0]: np.full((2, 2), 1.0), names[1]: np.full((2, 2), 2.0),
               names[2]: np.full((2, 2), 0.1)}
    pruned = {}
    for scope in ("layer", "global"):
        rule = PruningRule.of(weights, dict.fromkeys(names, (2, 2)), fraction=0.5, scope=scope)
        of = Network(rule, {weight.name: weight for weight in weights}, kept)
        masks = alone(of, "rnn", 0.5, trained)
        assert [*masks] == [*names[:2]]
        pruned[scope] = [int((mask == 0).sum()) for mask in masks.values()]
    assert pruned == {"layer": [2, 2], "global": [4, 0]}


def test_layers_of_one_name_in_two_nested_models_are_two():
    weights = [Prunable(f"{path}/kernel", "proj", "Dense", path=path)
               for path in ("a/proj", "b/proj")]
    shapes = {weight.name: (2, 2) for weight in weights}
    of = Network(PruningRule.of(weights, shapes, fraction=0.5),
                 {weight.name: weight for weight in weights}, kept)
    assert [layer.name for layer in sensitivity.layers(of, shapes)[0]] == ["a/proj", "b/proj"]


def test_a_kernel_of_other_axes_that_the_run_keeps_dense_is_left_out_by_name():
    weights = {"up/kernel": Prunable("up/kernel", "up", "Conv2DTranspose", axes="outputs, inputs")}
    shapes = {"up/kernel": (1, 1, 4, 4)}
    rule = PruningRule.of([*weights.values()], shapes, fraction={"up": 0.0},
                          structures={"up/kernel": parse("block_1x2")})
    assert sensitivity.layers(Network(rule, weights, kept), shapes) == ([], {
        "up": "block_1x2 needs inputs and outputs, and it is outputs, inputs"})


def test_a_layer_that_the_run_keeps_dense_is_analysed(run):
    found = analyse(run, network(fraction={"conv": 0.0, "default": 0.2}), shares=[0.5])
    assert found.rows.layer.tolist() == ["conv", "fc"]


def test_a_layer_that_does_not_fit_the_structure_is_left_out_by_name(run):
    found = analyse(run, network("block_40x10", fraction={"conv": 0.0, "default": 0.2}),
                    shares=[0.5])
    assert {*found.rows.layer} == {"fc"}
    assert any(note.startswith("Left out: conv (block_40x10 needs ") for note in found.notes)


def test_multiply_adds_that_are_left_are_counted(run):
    # The convolution's weights are used at 100 places each: 14,400 of 14,800 multiply-adds.
    of = dataclasses.replace(network(), uses={"conv/kernel": 100.0, "fc/kernel": 1.0})
    rows = analyse(run, of, shares=[0.5]).rows
    assert rows.columns.tolist()[3:5] == ["weights_pruned", "macs_left"]
    assert rows.macs_left.tolist() == pytest.approx([7600 / 14800, 14600 / 14800])


# What criteria get.

def test_what_a_criterion_needs_is_computed_once(run):
    asked = []

    def provided(replicate, theta, masks, trained):
        def gradient():
            asked.append(replicate)
            return {"conv/kernel": np.ones(searches.SHAPES["conv/kernel"]),
                    "fc/kernel": 1 / np.abs(trained["fc/kernel"])**2}
        assert all(mask.all() for mask in masks.values()) and masks.keys() == {*searches.SHAPES}
        return {"gradient": gradient}
    seen = []

    def evaluate(weights):
        seen.append(weights["fc/kernel"])
        return {"accuracy": 0.5}
    of = dataclasses.replace(network(criterion="taylor", provided=provided), evaluate=evaluate)
    analyse(run, of, shares=[0.25, 0.5], replicates=[0, 1])
    assert asked == [0, 1]
    # |w / w^2| is least for the largest weights, so that these are pruned.
    trained = run.trained(run.repeats(0, 0)[0]).weights["fc/kernel"]
    half = next(weights for weights in seen if (weights == 0).sum() == 200)
    assert np.abs(trained[half == 0]).min() > np.abs(trained[half != 0]).max()


@pytest.mark.parametrize(("settings", "level"), [
    ({}, 0), ({"rewind_step": 40, "validation_every": 20}, 1),
    ({"rewind_step": 40, "validation_every": 20, "retraining": "learning_rate_rewinding"}, 0)])
def test_criteria_see_theta_k(settings, level, tmp_path, monkeypatch):
    run = WorkdirReader(searches.fill(tmp_path, searches.CONFIG.replace(
        rounds=1, replicates=1, **settings)))
    read = []
    ticket = run.ticket
    monkeypatch.setattr(run, "ticket", lambda replicate, level: (
        read.append(level), ticket(replicate, level))[1])
    initials = []
    of = network(criterion=criteria.Criterion(
        "moved", lambda initial, final, rng: (initials.append(initial), abs(final - initial))[1]))
    analyse(run, of, shares=[0.5])
    assert read == [level]
    assert (initials[0] == ticket(0, level).weights["conv/kernel"]).all()


# Filters.

GROUPS = (
    UnitGroup(("fc",), 2, (Member("fc/kernel", 1, np.array([0, 1]), "filter"),
                           Member("fc/bias", 0, np.array([0, 1])),
                           Member("out/kernel", 0, np.array([0, 1])))),
    UnitGroup(("stem", "skip"), 4, (
        Member("stem/kernel", 1, np.arange(4), "filter"),
        Member("skip/kernel", 1, np.arange(4), "filter"),
        Member("norm/gamma", 0, np.arange(4), "scale"),
        Member("norm/moving_mean", 0, np.arange(4), "statistic"),
        Member("fc/kernel", 0, np.arange(4)))))
FILTERED = {"stem/kernel": np.array([[1.0, 2, 3, 4]]), "skip/kernel": np.array([[4.0, 1, 1, 9]]),
            "norm/gamma": np.ones(4), "norm/moving_mean": np.ones(4),
            "fc/kernel": np.array([[1.0, 2]] * 4), "fc/bias": np.ones(2), "out/kernel": np.eye(2)}
MASKED = [name for name in FILTERED if name != "norm/moving_mean"]


def filtered(criterion="l1", fraction=0.5):
    weights = {name: Prunable(name, name.partition("/")[0], "Dense") for name in MASKED}
    rule = PruningRule.of(
        [*weights.values()], {name: FILTERED[name].shape for name in MASKED}, fraction=fraction,
        criterion=criterion, structures=dict.fromkeys(MASKED, Filters.of(GROUPS)))
    return Network(rule, weights, lambda weights: {"accuracy": 0.5})


def test_filters_are_pruned_with_all_that_hangs_on_them():
    found, left = sensitivity.layers(filtered(), {
        name: value.shape for name, value in FILTERED.items()})
    # In the order of the model, and not of the groups.
    assert [layer.name for layer in found] == ["stem +1", "fc"] and not left
    masks = alone(filtered(), "stem +1", 0.5, FILTERED)
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "stem/kernel": [[1, 0, 0, 1]], "skip/kernel": [[1, 0, 0, 1]], "norm/gamma": [1, 0, 0, 1],
        "fc/kernel": [[1, 1], [0, 0], [0, 0], [1, 1]]}
    masks = alone(filtered(), "fc", 0.9, FILTERED)  # A layer always keeps its best.
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "fc/kernel": [[0, 1]] * 4, "fc/bias": [0, 1], "out/kernel": [[0, 0], [1, 1]]}


def test_layers_pruned_together_are_one_row_and_named():
    class Run:
        title, config, replicates, root = "made", searches.CONFIG, [0], "made"

        def check_trained(self, what):
            pass

        def has_trained(self, training):
            return True

        def trained(self, training):
            return self.ticket(0, 0)

        def ticket(self, replicate, level):
            return type("Ticket", (), {"weights": FILTERED})
    found = sensitivity.analyse(Run(), lambda: dataclasses.replace(
        filtered(), uses={"stem/kernel": 1.0, "skip/kernel": 1.0, "fc/kernel": 1.0,
                          "out/kernel": 1.0}), shares=[0.5])
    assert found.rows.layer.tolist() == ["stem +1", "fc"]
    assert found.rows.weights_pruned.tolist() == [2 + 2 + 2 + 4, 4 + 1 + 2]
    # Of 4 + 4 + 8 + 4 multiply-adds: the norm and the bias have none.
    assert found.rows.macs_left.tolist() == pytest.approx([12 / 20, 14 / 20])
    assert "stem +1: pruned together are stem, skip." in found.notes
    assert "filters is pruned by l1" in found.notes[0]


def test_a_group_that_the_criterion_cannot_score_is_left_out_by_name():
    of = filtered("batch_norm_scale", {"fc": 0.0, "default": 0.5})
    found, left = sensitivity.layers(of, {name: value.shape for name, value in FILTERED.items()})
    assert [layer.name for layer in found] == ["stem +1"]
    assert left == {"fc": "batch_norm_scale cannot score it"}


def test_groups_that_begin_with_one_layer_have_different_names():
    of = filtered()
    twice = [dataclasses.replace(group, layers=("split",)) for group in GROUPS]
    rule = dataclasses.replace(of.rule, structures=dict.fromkeys(MASKED, Filters.of(twice)))
    found, _ = sensitivity.layers(dataclasses.replace(of, rule=rule), {
        name: value.shape for name, value in FILTERED.items()})
    assert [layer.name for layer in found] == ["split", "split (2)"]


# What is refused, before any network is built.

def never():
    raise AssertionError("built")


@pytest.mark.parametrize("settings", [{"keep_trained": "none"}, {}])
def test_without_the_dense_networks_weights_the_command_is_said(settings, tmp_path):
    run = WorkdirReader(searches.fill(tmp_path, searches.CONFIG.replace(**settings)))
    replicates = [0, 7] if not settings else None
    with pytest.raises(WorkdirError, match="without those of replicate "
                       f"{7 if replicates else 0}.* lth run made --rounds 0 "
                       "--set keep_trained=tickets") as error:
        sensitivity.analyse(run, never, replicates)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shares", [[], [0.0, 0.5], [1.0], [float("nan")]])
def test_shares_that_are_none_are_refused(shares, run):
    with pytest.raises(LotteryError, match=r"must lie in \(0, 1\), at least one. Received: "):
        sensitivity.analyse(run, never, shares=shares)


def test_a_structure_that_prunes_a_fixed_share_is_refused_by_name(run):
    shapes = {"fc/kernel": (40, 12)}
    rule = PruningRule.of(WEIGHTS[1:], shapes, fraction=0.5, rounds=1,
                          structures={"fc/kernel": parse("2:4")})
    with pytest.raises(LotteryError, match="Received: structure=2:4, which prunes a fixed share"):
        analyse(run, Network(rule, {"fc/kernel": WEIGHTS[1]}, kept))


# The table and the picture.

def test_the_table_has_a_column_for_each_share_and_means_over_replicates(run):
    answers = iter([0.9, 0.8, 0.6, 0.7, 0.5, 0.9, 0.6, 0.4, 0.6, 0.1])
    of = dataclasses.replace(network(), evaluate=lambda weights: {"accuracy": next(answers)})
    found = analyse(run, of, shares=[0.5, 0.25], replicates=[0, 1])
    console = Console(width=80, record=True, file=io.StringIO())
    output.show(found, True, console)
    text = console.export_text()
    lines = [line.split() for line in text.splitlines()]
    assert ["layer", "0.25", "0.5"] in lines
    assert "means over 2 replicates" in " ".join(text.split())
    assert lines.index(["conv", "70.0%", "50.0%"]) < lines.index(["fc", "65.0%", "30.0%"])
    assert "Of the whole network: 90.00%." in text
    # A table that lacks some is not one of means over as many.
    few = dataclasses.replace(found, rows=found.rows.drop(found.rows.index[-1]))
    assert "means over 1 to 2 replicates" in output.crossed_table(few).caption
    assert "With 25% pruned, fc loses most (25.00 points) and conv least (20.00)." in text


@pytest.mark.parametrize("many", [3, 8, 9, 55])
def test_the_picture_has_a_line_for_each_layer_and_names_few(many):
    rows = pd.DataFrame([{"replicate": 0, "layer": f"conv{number}", "share": share,
                          "test_accuracy": 0.9 - share * number / 100,
                          "accuracy_lost": share * number / 100}
                         for number in range(many) for share in (0.5, 0.25)])
    figure = analysis_figures.sensitivity_figure(rows, "made")
    axes = figure.axes[0]
    lines = {line.get_label(): line for line in axes.lines if len(line.get_xdata()) == 3}
    assert [*lines] == [f"conv{number}" for number in range(many)]
    assert [*lines["conv2"].get_xdata()] == [0, 0.25, 0.5]
    assert [*lines["conv2"].get_ydata()] == pytest.approx([0.9, 0.895, 0.89])
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    # All of few layers; of many those that lose most, the worst first.
    assert named == ([*lines] if many <= 8 else [*lines][:-9:-1])
    assert len(figure.axes) == (1 if many <= 8 else 2)
    assert len({line.get_marker() for name, line in lines.items() if name in named}) == len(named)
