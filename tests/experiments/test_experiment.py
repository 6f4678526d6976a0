import dataclasses
import itertools
import os
import re

import pytest
import small
import workdirs
from small import CONFIG, contents, run

from lth_keras.core import invariants
from lth_keras.core.fractions import count
from lth_keras.core.masks import kept
from lth_keras.errors import DivergedError, LotteryError
from lth_keras.experiments import remaining, run_experiment
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.experiment import Experiment
from lth_keras.experiments.results import paths, repair, store
from lth_keras.experiments.results.store import Store
from lth_keras.experiments.training import datasets
from lth_keras.files import atomic
from lth_keras.files.ticket import Ticket

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_network):
    root = tmp_path_factory.mktemp("run")
    return root, run(root)


def test_every_training_is_done_once_in_order(done):
    root, watch = done
    assert watch.begun == watch.ended == list(trainings(CONFIG)) == [
        Training(0, 0, "ticket"), Training(0, 1, "ticket"), Training(0, 1, "reinit"),
        Training(0, 2, "ticket"), Training(0, 2, "reinit")]
    assert (root / "results.csv").read_text().splitlines()[0] == ",".join(
        (*store.COLUMNS, "density_a/kernel", "density_b/kernel"))
    assert len(store.results(root)) == 5


def test_tickets_are_nested_exact_and_share_theta_0(done):
    root, _ = done
    tickets = [Ticket.load(Store(root, CONFIG).ticket(0, level)) for level in range(3)]
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


def test_a_replicate_that_is_trained_alone_has_the_bits_of_the_whole_run(tmp_path):
    config = CONFIG.replace(rounds=1)
    assert [training.replicate for training in trainings(
        config.replace(first_replicate=5, replicates=2))] == [5, 6, 5, 5, 6, 6]
    run(tmp_path / "both", config.replace(replicates=2))
    run(tmp_path / "second", config.replace(first_replicate=1))
    both, second = (contents(tmp_path / name)[1] for name in ("both", "second"))
    assert second and second == {path: data for path, data in both.items()
                                 if path.parts[0] == "replicate_1"}


class Spying:
    """A lab that notes what starts each training and what it trains to."""

    def __init__(self, lab, monkeypatch):
        self._lab, self.starts, self.final = lab, {}, {}
        train = lab.trainer.train

        def spy(plans, on_interval):
            self.starts[self._now], = plans
            trained, = train(plans, on_interval)
            self.final[self._now] = trained.weights
            return [trained]
        monkeypatch.setattr(lab.trainer, "train", spy)

    def train_together(self, group, on_interval):
        (self._now, _), = group
        return self._lab.train_together(group, on_interval)


def test_pruned_are_the_smallest_trained_weights(tmp_path, monkeypatch):
    spy = Spying(small.lab(), monkeypatch)
    run(tmp_path, CONFIG.replace(rounds=1, branches=("ticket",)), trains=spy)
    final = spy.final[Training(0, 0)]
    masks = Ticket.load(Store(tmp_path, CONFIG).ticket(0, 1)).masks
    for name, mask in masks.items():
        assert abs(final[name][mask == 0]).max() < abs(final[name][mask == 1]).min()


def test_the_control_has_the_tickets_mask_and_weights_of_its_own(tmp_path, monkeypatch):
    spy = Spying(small.lab(), monkeypatch)
    run(tmp_path, trains=spy)
    starts = spy.starts
    for level in (1, 2):
        ticket, control = (starts[Training(0, level, branch)] for branch in ("ticket", "reinit"))
        assert all((ticket.masks[name] == control.masks[name]).all() for name in ticket.masks)
        assert (ticket.weights["a/kernel"] != control.weights["a/kernel"]).all()
    assert (starts[Training(0, 1, "reinit")].weights["a/kernel"]
            != starts[Training(0, 2, "reinit")].weights["a/kernel"]).all()


def test_every_training_draws_with_a_seed_of_its_own(tmp_path, monkeypatch):
    config = CONFIG.replace(replicates=2)
    with monkeypatch.context() as patch:
        fresh = Spying(small.lab(), patch)
        run(tmp_path / "fresh", config, trains=fresh)
    assert len({plan.seed for plan in fresh.starts.values()}) == 10
    same = Spying(small.lab(config.replace(data_order="same")), monkeypatch)
    run(tmp_path / "same", config.replace(data_order="same"), trains=same)
    assert {plan.seed for plan in same.starts.values()} \
        == {fresh.starts[Training(replicate, 0)].seed for replicate in range(2)}


def test_the_same_seed_gives_the_same_bits_and_another_does_not(done, tmp_path):
    run(tmp_path / "again")  # In a lab that has trained others before.
    assert contents(tmp_path / "again") == contents(done[0])
    run(tmp_path / "other", CONFIG.replace(seed=1))
    assert contents(tmp_path / "other")[0] != contents(done[0])[0]


@pytest.mark.parametrize("stop_after", [0, 4, 7, 13])
def test_an_interrupted_run_goes_on_to_the_same_bits(done, tmp_path, stop_after):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop_after=stop_after)
    finished = set(list(trainings(CONFIG))[:stop_after // 3])
    assert len(store.results(tmp_path)) == len(finished)
    rest = run(tmp_path)
    assert set(rest.begun) == set(trainings(CONFIG)) - finished
    assert contents(tmp_path) == contents(done[0])


@pytest.mark.parametrize("name", ["ticket.safetensors", "trained.safetensors", "curve.csv",
                                  "result.json"])
@pytest.mark.parametrize("number", [0, 2])
def test_a_run_killed_between_any_two_files_goes_on_to_the_same_bits(
        done, tmp_path, monkeypatch, name, number):
    write, left = atomic.write, [number]

    def stop(path, content):
        if path.name == name:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        write(path, content)
    monkeypatch.setattr(atomic, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    run(tmp_path)
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


# Of the 72 weights, 48 and 24, levels keep 56 and 42: 78% and 58%.
UNTIL = CONFIG.replace(rounds=5, until="weights:0.8")


def test_a_run_ends_at_the_first_level_that_costs_no_more(done, tmp_path):
    watch = run(tmp_path, UNTIL)
    assert watch.ended == [training for training in trainings(CONFIG) if training.level < 2]
    assert store.results(tmp_path).density.min() <= 0.8
    # It says how many trainings there are, not what they are.
    for level in range(2):
        assert Store(tmp_path, UNTIL).ticket(0, level).read_bytes() == \
            Store(done[0], CONFIG).ticket(0, level).read_bytes()


def test_a_run_that_has_reached_its_costs_trains_nothing_and_goes_on_without(tmp_path):
    run(tmp_path, UNTIL)
    assert run(tmp_path, UNTIL).begun == []
    assert {training.level for training in run(tmp_path, CONFIG).begun} == {2}


def test_each_replicate_ends_by_its_own_costs(tmp_path):
    config = UNTIL.replace(replicates=2)
    made = Store(tmp_path, config)
    made.begin()
    done = {Training(0, 0): 1.0, Training(1, 0): 1.0, Training(0, 1): 0.7, Training(1, 1): 0.81}
    for training, density in done.items():
        workdirs.finish(made, training, {**workdirs.RESULT, "density": density})
    assert remaining.last_levels(config, made, done) == {0: 1}
    left = remaining.unfinished(config, made)
    assert {training.level for training in left if training.replicate == 0} == {1}
    assert {training.level for training in left if training.replicate == 1} == {1, 2, 3, 4, 5}
    assert Training(0, 1, "reinit") in left and Training(0, 1) not in left


def test_a_run_that_does_not_reach_its_costs_says_so(tmp_path):
    said = []
    run(tmp_path, UNTIL.replace(rounds=1, until="weights:0.1"))
    config = UNTIL.replace(rounds=1, until="weights:0.1")
    run_experiment._say_not_reached(config, Store(tmp_path, config), said.append)
    assert said == ["until=weights:0.1 was not reached after 1 rounds by replicate 0. Give the run "
                    "more rounds, or a higher fraction."]
    run_experiment._say_not_reached(CONFIG, Store(tmp_path, config), said.append)
    run_experiment._say_not_reached(UNTIL, Store(tmp_path, UNTIL), said.append)
    assert len(said) == 1


@pytest.mark.parametrize("settings, said", [
    ({"until": "macs:0.5"}, "until=macs:... needs structure=filters"),
    ({"until": "parameters:0.5"}, "until can be of macs and weights here. Received: "
                                  "'parameters:0.5'"),
    ({"until": "half"}, "such as {\"macs\": 0.5}"), ({"until": 5}, "such as {\"macs\": 0.5}"),
    ({"until": "weights:0.5", "branches": ("ticket", "reinit@last")},
     "branches cannot be @last with until")])
def test_costs_that_a_run_cannot_end_at_are_refused(settings, said):
    with pytest.raises(LotteryError, match=re.escape(said)):
        dataclasses.replace(CONFIG, **settings)


def test_costs_may_be_a_mapping():
    config = dataclasses.replace(CONFIG, structure="filters", until={"macs": 0.5, "weights": 0.3})
    assert config.until == "macs:0.5,weights:0.3"
    assert config.fingerprint == config.replace(until="").fingerprint

def test_replicates_differ_in_weights_and_split():
    lab = small.lab()
    (train, held_out), (other, _) = lab._split(0), lab._split(1)
    assert sorted([*train, *held_out]) == list(range(50)) and len(held_out) == 10
    assert list(train) != list(other)
    one, two = (lab._first_ticket(Training(replicate, 0)).weights for replicate in range(2))
    assert (one["a/kernel"] != two["a/kernel"]).any()


@pytest.mark.parametrize("order, repeats", [("same", True), ("fresh", False)])
def test_data_order_is_repeated_at_every_level_if_asked(tmp_path, order, repeats):
    # With nothing pruned, levels differ in their data order alone.
    config = CONFIG.replace(data_order=order, fraction=0.0, rounds=1, branches=("ticket",))
    run(tmp_path, config)
    losses = store.results(tmp_path).val_loss_min
    assert (losses[0] == losses[1]) == repeats


def test_tickets_say_where_they_came_from(done):
    provenance = Ticket.load(Store(done[0], CONFIG).ticket(0, 2)).provenance
    assert provenance["settings"] == CONFIG.identity
    assert provenance["fingerprint"] == CONFIG.fingerprint
    assert (provenance["seed"], provenance["replicate"], provenance["dataset"]) == (0, 0, "blobs")
    assert provenance["versions"]["tensorflow"]
    row = store.results(done[0]).query("branch == 'ticket' and level == 1").iloc[0]
    assert provenance["pruned_after"]["early_stop_step"] == row.early_stop_step
    assert "seconds" not in provenance["pruned_after"]


TWO = CONFIG.replace(replicates=2)


def test_a_run_stops_at_a_training_that_diverged_and_keeps_what_is_done(tmp_path):
    trains = small.Diverging(small.lab(), [Training(0, 1)])
    with pytest.raises(DivergedError, match="Received: replicate 0, level 1, ticket, which "
                                            "diverged at step 8") as caught:
        run(tmp_path, TWO, trains=trains)
    assert "--on_divergence continue" in str(caught.value)
    assert list(paths.found(tmp_path)) == [Training(0, 0), Training(0, 1), Training(1, 0)]
    assert not Store(tmp_path, TWO).ticket(0, 2).exists()
    assert repair.check(tmp_path, TWO) == []


def test_a_run_goes_on_with_what_does_not_follow_from_what_diverged(tmp_path):
    trains = small.Diverging(small.lab(), [Training(0, 1), Training(1, 1, "reinit")])
    watch = run(tmp_path, TWO, trains=trains, on_divergence="continue")
    blocked = {Training(0, 2), Training(0, 2, "reinit")}
    assert set(watch.ended) == set(trainings(TWO)) - blocked
    table = store.results(tmp_path)
    ended = table[table.diverged_at_step == 8][["replicate", "branch", "level"]]
    assert ended.to_numpy().tolist() == [[0, "ticket", 1], [1, "reinit", 1]]
    assert repair.check(tmp_path, TWO) == []
    # Nothing of it is trained again, whatever the policy; more rounds change nothing for it.
    for policy in ("stop", "continue"):
        assert run(tmp_path, TWO, on_divergence=policy).begun == []
    more = run(tmp_path, TWO.replace(rounds=3), on_divergence="continue")
    assert set(more.begun) == {Training(1, 3), Training(1, 3, "reinit")}


def test_a_run_whose_dense_networks_all_diverge_ends(tmp_path):
    trains = small.Diverging(small.lab(), [Training(0, 0)])
    assert run(tmp_path, trains=trains, on_divergence="continue").ended == [Training(0, 0)]
    assert Ticket.load(Store(tmp_path, CONFIG).ticket(0, 0)).level == 0
    assert not Store(tmp_path, CONFIG).ticket(0, 1).exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="finds the file by /proc")
@pytest.mark.parametrize("name", ["ticket.safetensors", "trained.safetensors", "curve.csv",
                                  "result.json", "results.csv"])
def test_a_full_disk_ends_a_run_that_goes_on_later_to_the_same_bits(
        done, tmp_path, monkeypatch, name):
    fsync, left = os.fsync, [2]

    def full(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        if f".{name}." in path:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
        fsync(handle)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        run(tmp_path)
    assert caught.value.filename.endswith(name) and caught.value.errno == 28
    monkeypatch.undo()
    assert not list(tmp_path.rglob(".*.*")) and repair.check(tmp_path, CONFIG) == []
    run(tmp_path)
    assert contents(tmp_path) == contents(done[0])


def test_python_alone_runs_an_experiment(tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.DATASETS, "blobs", lambda data_dir: small.blobs())
    config = CONFIG.replace(rounds=1)
    Experiment(config, Store(tmp_path / "own", config)).run()
    run(tmp_path / "test", config)
    assert contents(tmp_path / "own") == contents(tmp_path / "test")


def test_an_experiment_stops_or_continues_at_a_divergence_and_nothing_else(tmp_path):
    with pytest.raises(LotteryError, match="on_divergence must be one of stop, continue"):
        Experiment(CONFIG, Store(tmp_path, CONFIG), on_divergence="ignore")
