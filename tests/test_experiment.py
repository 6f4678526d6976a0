import dataclasses
import itertools

import numpy as np
import pytest
import tf_keras as keras

from lth_keras import invariants, models, store, ticketfile
from lth_keras.config import Config
from lth_keras.data import Data
from lth_keras.errors import LotteryError
from lth_keras.experiment import check, Experiment, trainings
from lth_keras.fractions import count
from lth_keras.masks import kept
from lth_keras.store import Store, Training

CONFIG = Config(preset="test", network="tiny", dataset="blobs", steps=12, rounds=2, replicates=1,
                validation_every=4, validation_size=10, batch_size=8,
                fraction={"default": 0.3, "output": 0.1})


@pytest.fixture(scope="module", autouse=True)
def tiny_network():
    def tiny(input_shape, classes):
        layers = keras.layers
        return keras.Sequential([layers.Input(input_shape), layers.Dense(8, "relu", name="a"),
                                 layers.Dense(classes, name="b")])
    models.NETWORKS["tiny"] = tiny
    yield
    del models.NETWORKS["tiny"]


def blobs():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 6))

    def draw(size):
        y = rng.integers(0, 3, size).astype(np.int32)
        return (centres[y] + rng.normal(size=(size, 6))).astype(np.float32), y
    return Data(*draw(50), *draw(20), 3)


class Watch:
    """Notes what is trained; stops the run like Ctrl-C after some intervals."""

    def __init__(self, stop_after=None):
        self.begun, self.ended, self.left = [], [], stop_after

    def begin(self, training, density):
        self.begun.append(training)

    def steps(self, count):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    def end(self, training, result):
        self.ended.append(training)


def run(root, config=CONFIG, stop_after=None):
    watch = Watch(stop_after)
    Experiment(config, blobs(), Store(root, config), watch).run()
    return watch


def contents(root):
    """Every file's bytes, but for the seconds that trainings took."""
    results = store.results(root).drop(columns="seconds").to_csv()
    files = {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*"))
             if path.name in ("ticket.safetensors", "curve.csv")}
    return results, files


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return root, run(root)


def test_every_training_is_done_once_in_order(done):
    root, watch = done
    assert watch.begun == watch.ended == list(trainings(CONFIG)) == [
        Training(0, 0, "ticket"), Training(0, 1, "ticket"), Training(0, 1, "reinit"),
        Training(0, 2, "ticket"), Training(0, 2, "reinit")]
    assert (root / "results.csv").read_text().splitlines()[0] == ",".join(store.COLUMNS)
    assert len(store.results(root)) == 5


def test_tickets_are_nested_exact_and_share_theta_0(done):
    root, _ = done
    tickets = [ticketfile.read(Store(root, CONFIG).ticket(0, level)) for level in range(3)]
    remaining = {"a/kernel": 48, "b/kernel": 24}
    for level, ticket in enumerate(tickets):
        assert ticket.level == level
        assert {name: int(mask.sum()) for name, mask in ticket.masks.items()} == remaining
        remaining = {"a/kernel": remaining["a/kernel"] - count(0.3, remaining["a/kernel"]),
                     "b/kernel": remaining["b/kernel"] - count(0.1, remaining["b/kernel"])}
        assert all((ticket.weights[name] == tickets[0].weights[name]).all()
                   for name in ticket.weights)
    for before, after in itertools.pairwise(tickets):
        invariants.nested(after.masks, before.masks)
    table = store.results(root).set_index(["branch", "level"])
    assert table.loc[("reinit", 2), "density"] == table.loc[("ticket", 2), "density"] \
        == kept(tickets[2].masks) / 72


def test_pruned_are_the_smallest_trained_weights(done, tmp_path, monkeypatch):
    trained = []
    original = Experiment._train

    def spy(self, training, start):
        result = original(self, training, start)
        trained.append((training, result.weights))
        return result
    monkeypatch.setattr(Experiment, "_train", spy)
    run(tmp_path, CONFIG.replace(rounds=1, branches=("ticket",)))
    final = trained[0][1]
    masks = ticketfile.read(Store(tmp_path, CONFIG).ticket(0, 1)).masks
    for name, mask in masks.items():
        assert abs(final[name][mask == 0]).max() < abs(final[name][mask == 1]).min()


def test_the_control_has_the_tickets_mask_and_weights_of_its_own(tmp_path, monkeypatch):
    starts = {}
    original = Experiment._train

    def spy(self, training, start):
        starts[training] = start
        return original(self, training, start)
    monkeypatch.setattr(Experiment, "_train", spy)
    run(tmp_path)
    for level in (1, 2):
        ticket, control = (starts[Training(0, level, branch)] for branch in ("ticket", "reinit"))
        assert all((ticket.masks[name] == control.masks[name]).all() for name in ticket.masks)
        assert (ticket.weights["a/kernel"] != control.weights["a/kernel"]).all()
    assert (starts[Training(0, 1, "reinit")].weights["a/kernel"]
            != starts[Training(0, 2, "reinit")].weights["a/kernel"]).all()


def test_the_same_seed_gives_the_same_bits_and_another_does_not(done, tmp_path):
    run(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(done[0])
    run(tmp_path / "other", CONFIG.replace(seed=1))
    assert contents(tmp_path / "other")[0] != contents(done[0])[0]


@pytest.mark.parametrize("stop_after", [0, 4, 7, 13])
def test_an_interrupted_run_goes_on_to_the_same_bits(done, tmp_path, stop_after):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=stop_after)
    finished = set(store.results(tmp_path).apply(
        lambda row: Training(row.replicate, row.level, row.branch), axis=1)) \
        if stop_after >= 3 else set()
    rest = run(tmp_path)
    assert set(rest.begun) == set(trainings(CONFIG)) - finished
    assert contents(tmp_path) == contents(done[0])


def test_a_finished_run_trains_nothing(done):
    assert run(done[0]).begun == []


def test_more_rounds_and_replicates_continue_a_run(done, tmp_path):
    run(tmp_path, CONFIG.replace(rounds=1))
    more = run(tmp_path, CONFIG.replace(rounds=2, replicates=2))
    assert set(more.begun) == set(trainings(CONFIG.replace(replicates=2))) \
        - set(trainings(CONFIG.replace(rounds=1)))
    first = store.results(tmp_path).query("replicate == 0").drop(columns="seconds")
    assert first.equals(store.results(done[0]).drop(columns="seconds"))
    assert set(store.results(tmp_path).replicate) == {0, 1}


def test_replicates_differ_in_weights_and_split(tmp_path):
    experiment = Experiment(CONFIG, blobs(), Store(tmp_path, CONFIG), Watch())
    (train, held_out), (other, _) = experiment._split(0), experiment._split(1)
    assert sorted([*train, *held_out]) == list(range(50)) and len(held_out) == 10
    assert list(train) != list(other)
    assert (experiment._ticket(0, 0).weights["a/kernel"]
            != experiment._ticket(1, 0).weights["a/kernel"]).any()


@pytest.mark.parametrize("order, repeats", [("same", True), ("fresh", False)])
def test_data_order_is_repeated_at_every_level_if_asked(tmp_path, order, repeats):
    # With nothing pruned, levels differ in their data order alone.
    config = CONFIG.replace(data_order=order, fraction=0.0, rounds=1, branches=("ticket",))
    run(tmp_path, config)
    losses = store.results(tmp_path).val_loss_min
    assert (losses[0] == losses[1]) == repeats


def test_tickets_say_where_they_came_from(done):
    provenance = ticketfile.read(Store(done[0], CONFIG).ticket(0, 2)).provenance
    assert provenance["settings"] == CONFIG.identity
    assert provenance["fingerprint"] == CONFIG.fingerprint
    assert (provenance["seed"], provenance["replicate"], provenance["dataset"]) == (0, 0, "blobs")
    assert provenance["versions"]["tensorflow"]
    row = store.results(done[0]).query("branch == 'ticket' and level == 1").iloc[0]
    assert provenance["pruned_after"]["early_stop_step"] == row.early_stop_step
    assert "seconds" not in provenance["pruned_after"]


@pytest.mark.parametrize("settings", [{"validation_size": 50}, {"batch_size": 41}])
def test_data_too_small_for_the_settings_is_an_error(settings):
    config = dataclasses.replace(CONFIG, **settings)
    with pytest.raises(LotteryError, match="must leave examples.*blobs has 50"):
        check(config, blobs())


def test_a_fraction_for_a_layer_that_is_not_there_is_an_error_before_training():
    with pytest.raises(LotteryError, match="no prunable layer by \\['c'\\]"):
        check(CONFIG.replace(fraction="c:0.2,default:0.1"), blobs())


def test_fractions_that_leave_no_weight_are_an_error_before_training():
    with pytest.raises(LotteryError, match="keep none at level 2"):
        check(CONFIG.replace(fraction=0.95, rounds=2), blobs())
