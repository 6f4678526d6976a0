"""Tickets of one run that are trained in another: `lth run --set source=WORKDIR`."""

import shutil

import numpy as np
import pytest
import small
from small import CONFIG, contents, run, Spying

from lth_keras.cli import main
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments import clusters
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.experiment import Experiment
from lth_keras.experiments.pools import InProcess
from lth_keras.experiments.results import store
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.results.paths import DamagedError
from lth_keras.experiments.results.store import Store
from lth_keras.experiments.source import resolved, SourceRun
from lth_keras.experiments.training import datasets
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras2 import engine
from lth_keras.files.ticket import Ticket

pytestmark = pytest.mark.usefixtures("tiny_network")
FOUND = CONFIG.replace(rounds=3, replicates=2, branches=("ticket",), seed=5)


def target(root, **changes):
    return resolved(CONFIG.replace(**{"source": root, "rounds": 2, "replicates": 2, "branches": (
        "ticket", "reinit@2"), **changes}))


def four_classes():
    """A data set of examples of the same shape, in other classes."""
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(70, 6)).astype(np.float32), rng.integers(0, 4, 70).astype(np.int32)
    return Data(x[:50], y[:50], x[50:], y[50:], 4)


def tickets(root, config, replicate=0, levels=(0, 1, 2, 3)):
    return [Ticket.load(Store(root, config).ticket(replicate, level)) for level in levels]


def same(one, other):
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


@pytest.fixture(scope="module")
def source(tmp_path_factory, tiny_network):
    root = tmp_path_factory.mktemp("source")
    run(root, FOUND, trains=small.lab(FOUND, rounds=3))
    return root


@pytest.fixture(scope="module")
def done(source, tmp_path_factory):
    root, config = tmp_path_factory.mktemp("target"), target(source)
    spy = Spying(small.lab(config))
    assert run(root, config, trains=spy).ended == list(trainings(config))
    return root, config, spy


def test_every_level_has_the_masks_and_weights_of_the_source(source, done):
    root, config, spy = done
    for replicate in (0, 1):
        ours, theirs = tickets(root, config, replicate), tickets(source, FOUND, replicate)
        for level, (mine, found) in enumerate(zip(ours, theirs, strict=True)):
            assert mine.level == level and mine.density == found.density
            assert same(dict(mine.masks), dict(found.masks))
            assert same(dict(mine.weights), dict(found.weights))
            if level < 3:
                plan = spy.plans[Training(replicate, level)]
                assert same(dict(plan.weights), dict(found.weights))
                assert same(dict(plan.masks), dict(found.masks))
                assert (plan.steps, plan.first) == (12, 0)
    rows = store.results(root).set_index(["branch", "replicate", "level"])
    theirs = store.results(source).set_index(["branch", "replicate", "level"])
    assert (rows.density["ticket"] == theirs.density["ticket"].loc[[0, 1], :2]).all()


def test_a_ticket_says_where_it_is_from_and_not_in_which_folder(source, done):
    root, config, _ = done
    provenance = tickets(root, config)[2].provenance
    assert provenance["source"] == {"dataset": "blobs", "seed": "5",
                                    "fingerprint": FOUND.fingerprint}
    assert provenance["settings"]["source_fingerprint"] == FOUND.fingerprint
    assert provenance["settings"]["strategy"] == "transfer"
    for ticket in tickets(root, config):
        assert str(source).encode() not in ticket.to_bytes()


def test_it_is_a_run_of_its_own_seed_beside_the_source(done, source):
    _, config, spy = done
    assert target(source, seed=1).fingerprint != config.fingerprint
    lab = small.lab(config)
    for replicate in (0, 1):  # Its own validation examples, not those of the source's seed.
        assert (spy.plans[Training(replicate, 0)].train == lab._split(replicate)[0]).all()
        assert (lab._split(replicate)[0] != small.lab(FOUND)._split(replicate)[0]).any()


def test_an_output_layer_for_other_classes_is_drawn_once_and_never_pruned(source, tmp_path):
    config = target(source)
    lab = engine.round_runner(config, four_classes())
    Experiment(config, Store(tmp_path, config), workers=InProcess(lab)).run()
    for replicate in (0, 1):
        drawn = lab.trainer.initial_weights(lab._rng(Training(replicate, 0), "init"))
        for mine, found in zip(tickets(tmp_path, config, replicate),
                               tickets(source, FOUND, replicate), strict=True):
            assert mine.weights["b/kernel"].shape == (8, 4)
            for name in ("b/kernel", "b/bias"):
                assert (mine.weights[name] == drawn[name]).all()
            assert mine.masks["b/kernel"].all()
            for name in ("a/kernel", "a/bias"):
                assert (mine.weights[name] == found.weights[name]).all()
            assert (mine.masks["a/kernel"] == found.masks["a/kernel"]).all()


def test_random_masks_keep_the_layers_proportions_or_do_not(source, tmp_path):
    config = target(source, branches=("random_mask", "random_mask_global"), replicates=1)
    spy = Spying(small.lab(config))
    run(tmp_path, config, trains=spy)
    for level in (1, 2):
        kept = {branch: [int(mask.sum()) for mask in spy.plans[
            Training(0, level, branch)].masks.values()]
            for branch in ("ticket", "random_mask", "random_mask_global")}
        assert kept["random_mask"] == kept["ticket"] != kept["random_mask_global"]
        assert sum(kept["random_mask_global"]) == sum(kept["ticket"])


@pytest.mark.parametrize("validations", [1, 4, 7, 10])
def test_a_run_that_was_killed_ends_in_the_same_bits(validations, source, done, tmp_path):
    root, config, _ = done
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, stop_after=validations)
    run(tmp_path, config)
    assert contents(tmp_path) == contents(root)


def test_more_rounds_go_on_from_where_it_ended(source, tmp_path):
    less, more = (target(source, rounds=rounds, branches=("ticket",)) for rounds in (1, 2))
    run(tmp_path, less, trains=small.lab(less, rounds=1))
    run(tmp_path, more)
    for mine, found in zip(tickets(tmp_path, more), tickets(source, FOUND), strict=True):
        assert same(dict(mine.masks), dict(found.masks))


def test_a_source_may_move_but_not_be_another(source, done, tmp_path):
    root, config, _ = done
    shutil.copytree(source, tmp_path / "moved")
    moved = target(tmp_path / "moved")
    assert moved.fingerprint == config.fingerprint and moved != config
    assert run(root, moved).begun == []  # All is done.
    other = FOUND.replace(seed=6)
    run(tmp_path / "other", other, trains=small.lab(other, rounds=3))
    with pytest.raises(WorkdirError, match="source_fingerprint"):
        run(root, target(tmp_path / "other"))
    # Also if it is another by the time that it is read.
    (tmp_path / "moved" / "config.json").write_bytes(
        (tmp_path / "other" / "config.json").read_bytes())
    with pytest.raises(WorkdirError, match=f"goes on with the tickets of one source.*not "
                                           f"{FOUND.fingerprint}"):
        SourceRun(moved)


@pytest.mark.parametrize(("changes", "said"), [
    ({"rounds": 4}, r"levels 0 to 5 .*replicate 0 has none of level 5.*\(--rounds 3\)"),
    ({"first_replicate": 1}, r"replicate 2 has none of level 1.*\(other replicates\)"),
    ({"structure": "block_1x2"}, "structure=none. Run with --set structure=none")])
def test_what_the_source_lacks_is_said_before_any_training(changes, said, source, tmp_path):
    config = target(source, **changes)
    with pytest.raises(WorkdirError, match=said):
        run(tmp_path / "run", config, trains=small.lab(CONFIG))
    assert not (tmp_path / "run").exists()


def test_a_source_whose_tickets_hold_trained_weights_is_refused(tmp_path):
    Store(tmp_path, FOUND.replace(retraining="learning_rate_rewinding")).begin()
    with pytest.raises(WorkdirError, match="from before training. Received: .*learning_rate"):
        SourceRun(target(tmp_path))


def test_a_source_that_is_none_or_was_changed_is_refused(source, tmp_path):
    with pytest.raises(WorkdirError, match="A workdir is a folder that `lth run` made"):
        target(tmp_path)
    shutil.copytree(source, tmp_path / "changed")
    config = target(tmp_path / "changed", replicates=1)
    path = Store(tmp_path / "changed", FOUND).ticket(0, 2)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match="level_02"):
        run(tmp_path / "run", config)
    assert Store(tmp_path / "run", config).is_done(Training(0, 0))
    (tmp_path / "changed" / "config.json").write_text("{}")
    with pytest.raises(WorkdirError):
        target(tmp_path / "changed")


def test_a_network_that_differs_in_more_than_its_output_is_refused_untrained(
        source, tmp_path, monkeypatch):
    config = target(source)
    wide = datasets.Data(np.zeros((50, 7), np.float32), np.zeros(50, np.int32),
                         np.zeros((20, 7), np.float32), np.zeros(20, np.int32), 3)
    lab = engine.round_runner(config, wide)
    with pytest.raises(LotteryError, match=r"'a/kernel': ticket \(6, 8\), model \(7, 8\)"):
        Experiment(config, Store(tmp_path, config), workers=InProcess(lab)).run()
    assert store.results(tmp_path).empty


@pytest.mark.thorough
def test_filters_are_transferred_with_all_that_hangs_on_them(tmp_path):
    found = CONFIG.replace(structure="filters", fraction=0.5, rounds=1, branches=("ticket",))
    run(tmp_path / "source", found, trains=engine.round_runner(found, small.blobs()))
    config = target(tmp_path / "source", structure="filters", fraction=0.5, rounds=0,
                    replicates=1, branches=("ticket",))
    lab = engine.round_runner(config, four_classes())
    Experiment(config, Store(tmp_path / "run", config), workers=InProcess(lab)).run()
    theirs, = tickets(tmp_path / "source", found, levels=[1])
    mine, = tickets(tmp_path / "run", config, levels=[1])
    kept = theirs.masks["a/kernel"].any(0)
    assert kept.sum() == 4 and (mine.masks["a/kernel"].any(0) == kept).all()
    assert (mine.masks["b/kernel"] == np.repeat(kept[:, None], 4, 1)).all()


def test_a_single_ticket_file_is_trained_without_its_source(source, done):
    root, config, _ = done
    ticket, = tickets(root, config, levels=[2])
    outcome = small.lab(config).train(Training(0, 2), StartingPoint(ticket))
    assert outcome.following is None
    assert outcome.result["test_accuracy_final"] == store.results(root).set_index(
        ["replicate", "level", "branch"]).test_accuracy_final[0, 2, "ticket"]


@pytest.mark.parametrize(("settings", "said"), [
    ({"strategy": "transfer"}, "needs the workdir of the run .*--set source=WORKDIR"),
    ({"source": "x", "strategy": "one_shot"}, "needs strategy=transfer. Received: source=x with"),
    ({"source": "x", "rewind_step": 4}, "rewind_step=0; which step k is, the source says"),
    ({"source": "x", "retraining": "learning_rate_rewinding"}, "weight_rewinding"),
    ({"source": "x", "branches": ("reinit_trained_signs",)}, "scores trained weights"),
    ({"source": "x", "branches": ("inverted",)}, "such as snip"),
    ({"source": "x", "source_fingerprint": "y"}, "Received: 'source_fingerprint'")])
def test_settings_that_do_not_go_together_are_refused(settings, said):
    with pytest.raises(LotteryError, match=said):
        CONFIG.replace(**settings)


@pytest.mark.parametrize("changes", [{"source": 3}, {"source_fingerprint": "../x"},
                                     {"source_fingerprint": None}])
def test_a_configuration_from_a_file_is_checked(changes):
    with pytest.raises(LotteryError, match=f"{next(iter(changes))} must be"):
        Config.from_plain({**CONFIG.replace(source="x").to_dict(), **changes})


# By the command.

def lth(*arguments):
    return main._main(main._parse(["lth", *map(str, arguments)]))


@pytest.fixture
def halves(monkeypatch):
    """The digits in five classes instead of ten."""
    def load(data_dir=None):
        digits = datasets.load("digits")
        return Data(digits.x_train, digits.y_train % 5, digits.x_test, digits.y_test % 5, 5)
    monkeypatch.setitem(datasets.DATASETS, "halves", load)
    monkeypatch.setattr(clusters, "BACKENDS", {**clusters.BACKENDS, "loky": small.Inline})


@pytest.mark.thorough
def test_a_run_of_the_command_trains_the_tickets_of_another(halves, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = ("--steps", 40, "--rounds", 1, "--replicates", 1, "--set", "validation_every=20")
    assert lth("run", "digits", *short, "--branches", "ticket", "--workdir", "found") == 0
    asked = ("run", "digits", *short, "--set", "dataset=halves", "--set", "source=found",
             "--branches", "ticket,reinit,random_mask_global")
    assert lth(*asked) == 0
    root, = (tmp_path / "runs").iterdir()  # Named by its fingerprint.
    rows = store.results(root).set_index(["branch", "level"])
    assert {*rows.index} == {("ticket", 0), ("ticket", 1), ("reinit", 1), ("random_mask_global", 1)}
    assert rows["density_fc3/kernel"]["ticket", 1] == 1 and rows["density_fc1/kernel"][
        "ticket", 1] == pytest.approx(0.8)
    assert lth(*asked) == 0 and "0 networks to train" in capsys.readouterr().out
    assert lth(*asked, "--set", "source=nowhere") == 2
    assert "Received: nowhere." in capsys.readouterr().err
