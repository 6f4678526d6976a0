"""The order in which an experiment's trainings are done, by workers that a test controls."""

import concurrent.futures
import dataclasses

import numpy as np
import pandas as pd
import pytest
from small import Watch

from lth_keras.errors import DivergedError, LotteryError
from lth_keras.experiments import experiment
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import span, Training, trainings
from lth_keras.experiments.experiment import Experiment, WorkerDiedError
from lth_keras.experiments.remaining import unfinished
from lth_keras.experiments.results import paths, store
from lth_keras.experiments.results.outcome import Outcome
from lth_keras.experiments.results.paths import DamagedError
from lth_keras.experiments.results.store import Store
from lth_keras.files.ticket import Ticket

CONFIG = Config(preset="p", network="n", dataset="d", steps=100, rounds=3, replicates=2)
RESULT = {"density": 0.8, "early_stop_step": 60, "val_loss_min": 0.5,
          "test_accuracy_early_stop": 0.97, "test_accuracy_final": 0.96,
          "train_accuracy_final": 1.0, "seconds": 1.25}


def ticket(training, level):
    weights = {"a/kernel": np.full((2, 2), training.replicate, np.float32)}
    mask = (np.arange(4).reshape(2, 2) >= level).astype(np.uint8)
    return Ticket(weights, {"a/kernel": mask}, level, {})


def diverged(training):
    """What a training that diverged leaves behind, made up."""
    result = {"density": 0.8, "seconds": 1.25, "diverged_at_step": 60}
    return dataclasses.replace(outcome(training), result=result, following=None)


def outcome(training):
    """What a training leaves behind, made up."""
    chain = training.branch == "ticket"
    return Outcome(RESULT, pd.DataFrame({"step": [100], "val_loss": [0.5]}),
                   drawn=ticket(training, 0) if training.level == 0 else None,
                   following=ticket(training, training.level + 1) if chain else None)


class Workers:
    """Does nothing by itself: `choose` says which of the running trainings ends, and how.

    Args:
      slots: how many run at once.
      choose: a function (running trainings) -> {training: outcome or error} of those that end.
    """

    together = 1

    def __init__(self, slots, choose):
        self.slots, self._choose = slots, choose
        self.submitted, self.tickets, self.at_once, self._running = [], [], [], {}

    def submit(self, group):
        (training, start), = group
        self.submitted.append(training)
        self.tickets.append(start.ticket)
        self._running[training] = concurrent.futures.Future()
        self.at_once.append(list(self._running))
        assert len(self._running) <= self.slots
        return self._running[training]

    def wait(self, futures, *_):
        """In place of concurrent.futures.wait: time passes, and some training ends."""
        assert set(futures) == set(self._running.values())
        ended = self._choose(list(self._running))
        done = []
        for training, result in ended.items():
            done.append(self._running.pop(training))
            if isinstance(result, Exception):
                done[-1].set_exception(result)
            else:
                done[-1].set_result([result])
        return done, None

    def steps(self):
        return 7 * len(self.submitted)


def first(running):
    return {running[0]: outcome(running[0])}


def last(running):
    return {running[-1]: outcome(running[-1])}


def everything(running):
    return {training: outcome(training) for training in running}


def at_random(seed):
    rng = np.random.default_rng(seed)

    def choose(running):
        chosen = rng.permutation(len(running))[:rng.integers(len(running) + 1)]
        return {running[i]: outcome(running[i]) for i in chosen}
    return choose


@pytest.fixture
def run(tmp_path, monkeypatch):
    def start(slots=1, choose=first, config=CONFIG):
        workers, watch = Workers(slots, choose), Watch()
        monkeypatch.setattr(experiment.concurrent.futures, "wait", workers.wait)
        workers.watch, workers.store = watch, Store(tmp_path, config)
        try:
            Experiment(config, workers.store, watch, workers).run()
        except LotteryError as error:
            return workers, error
        return workers, None
    return start


def test_one_slot_trains_level_by_level(run):
    workers, error = run()
    assert error is None
    assert workers.submitted == workers.watch.begun == workers.watch.ended \
        == list(trainings(CONFIG)) == [
            Training(0, 0), Training(1, 0),
            *(Training(replicate, level, branch) for level in (1, 2, 3)
              for replicate in (0, 1) for branch in ("ticket", "reinit"))]


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("choose", [first, last, everything, at_random(0), at_random(1)])
def test_every_training_is_done_once_whatever_ends_first(run, slots, choose):
    workers, error = run(slots, choose)
    assert error is None
    assert sorted(map(str, workers.submitted)) == sorted(map(str, trainings(CONFIG)))
    assert max(map(len, workers.at_once)) <= slots
    assert len(store.results(workers.store.root)) == len(workers.submitted) == 14
    assert set(workers.watch.ended) == set(trainings(CONFIG))
    for training, given in zip(workers.submitted, workers.tickets, strict=True):
        assert (given is None) == (training.level == 0)
        if given:
            assert given.level == training.level
            assert (given.weights["a/kernel"] == training.replicate).all()


@pytest.mark.parametrize("choose", [first, last, at_random(2)])
def test_nothing_starts_before_its_ticket_is_made(run, choose):
    made = set()

    def watched(running):
        ended = choose(running)
        made.update((training.replicate, training.level + 1) for training in ended
                    if training.branch == "ticket")
        return ended

    workers, _ = run(50, watched)
    begun = set()
    for training, now in zip(workers.submitted, workers.at_once, strict=True):
        begun.add(training)
        assert training.level == 0 or Training(training.replicate, training.level - 1) not in now
    assert made == {(replicate, level) for replicate in (0, 1) for level in (1, 2, 3, 4)}


def test_a_levels_ticket_and_control_run_side_by_side(run):
    workers, _ = run(2, first, CONFIG.replace(replicates=1))
    assert [Training(0, 1), Training(0, 1, "reinit")] in workers.at_once


def test_no_slot_is_idle_while_something_can_be_trained(run):
    workers, _ = run(4, everything)
    assert [len(now) for now in workers.at_once] == [1, 2, *[1, 2, 3, 4] * 3]


def test_steps_are_told_as_a_total(run):
    workers, _ = run(2)
    assert workers.watch.done == sorted(workers.watch.done)
    assert workers.watch.done[-1] == workers.steps()


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_training_whose_worker_died_is_tried_again_first(run, deaths):
    victim, at = Training(1, 1), []

    def choose(running):
        if victim in running and len(at) < deaths:
            at.append(running)
            return {victim: WorkerDiedError("killed")}
        return first(running)

    workers, error = run(2, choose)
    assert error is None and len(at) == deaths
    assert workers.submitted.count(victim) == deaths + 1
    assert all(workers.submitted.count(other) == 1 for other in trainings(CONFIG)
               if other != victim)
    tried = [place for place, training in enumerate(workers.submitted) if training == victim]
    for place, running in zip(tried[1:], at, strict=True):
        assert workers.at_once[place - 1] == running  # Nothing was begun since it died.
    assert len(store.results(workers.store.root)) == 14


def test_three_deaths_of_one_training_end_the_run_and_what_is_finished_is_kept(run):
    victim = Training(0, 1)

    def choose(running):
        if victim in running and len(running) == 1:
            return {victim: WorkerDiedError("SIGKILL")}
        return first([training for training in running if training != victim] or running)

    workers, error = run(3, choose)
    message = str(error)
    assert "3 attempts at replicate 0, level 1, ticket in which one ended (SIGKILL)" in message
    assert "--jobs" in message and "\n" not in message
    assert workers.submitted.count(victim) == 3
    others = set(trainings(CONFIG)) - {victim} - {
        training for training in trainings(CONFIG) if training.replicate == 0
        and training.level > 1}
    assert set(workers.watch.ended) == others
    assert len(store.results(workers.store.root)) == len(others)
    rest, error = run(1)
    assert error is None and set(rest.submitted) == set(trainings(CONFIG)) - others


def test_deaths_of_different_trainings_do_not_add_up(run):
    died = set()

    def choose(running):
        for training in running:
            if training not in died:
                died.add(training)
                return {training: WorkerDiedError("killed")}
        return first(running)

    workers, error = run(2, choose)
    assert error is None and len(workers.submitted) == 28


def test_what_ends_together_with_a_failure_is_kept(run):
    def choose(running):
        return {Training(0, 0): LotteryError("diverged"), **everything(running[1:])}

    workers, error = run(2, choose)
    assert str(error) == "diverged"
    assert workers.watch.ended == [Training(1, 0)]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_ends_together_with_one_that_diverged_is_kept(run, place):
    def choose(running):
        return {training: (diverged if at == place else outcome)(training)
                for at, training in enumerate(running)}

    config = CONFIG.replace(replicates=3)
    workers, error = run(3, choose, config)
    assert isinstance(error, DivergedError)
    assert f"Received: replicate {place}, level 0, ticket, which diverged" in str(error)
    assert workers.watch.ended == [Training(replicate, 0) for replicate in range(3)]
    assert len(store.results(workers.store.root)) == 3


def test_a_ticket_changed_while_it_is_trained_gets_no_record_and_what_ends_with_it_one(
        run, tmp_path):
    victim, others = Training(0, 1), [Training(1, 1)]
    path = Store(tmp_path, CONFIG).ticket(0, 1)

    def choose(running):
        if victim in running:
            ticket(Training(9, 0), 1).save(path)  # Whole, but another's.
        return everything(running)

    workers, error = run(4, choose, CONFIG.replace(branches=("ticket",)))
    assert isinstance(error, DamagedError) and error.path == path
    assert workers.watch.ended == [Training(0, 0), Training(1, 0), *others]
    assert set(store.results(tmp_path).level) == {0, 1} and not workers.store.is_done(victim)
    assert not workers.store.ticket(0, 2).exists()


def test_an_error_of_a_training_ends_the_run_with_its_text(run):
    def choose(running):
        return {running[0]: LotteryError("A training must stay finite.")
                if running[0].level else outcome(running[0])}

    workers, error = run(1, choose)
    assert str(error) == "A training must stay finite."
    assert workers.watch.ended == [Training(0, 0), Training(1, 0)]


def test_a_run_with_nothing_to_do_submits_nothing(run):
    run(1)
    workers, _ = run(4, pytest.fail)
    assert workers.submitted == workers.watch.begun == []
    assert unfinished(CONFIG, workers.store) == []


def test_a_training_whose_record_is_lost_is_trained_again(run):
    workers, _ = run(1)
    for training in (Training(1, 3), Training(0, 2, "reinit")):
        (paths.folder(workers.store.root, training) / "result.json").unlink()
    again, _ = run(2)
    assert again.submitted == [Training(0, 2, "reinit"), Training(1, 3)]


def test_more_rounds_go_on_from_the_last_ticket(run):
    run(1, config=CONFIG.replace(rounds=1))
    workers, _ = run(1)
    assert {training.level for training in workers.submitted} == {2, 3}


class Grouping(Workers):
    """Trains groups, one at a time; all of a group end together."""

    def __init__(self, together):
        super().__init__(1, None)
        self.together, self.groups = together, []

    def submit(self, group):
        self.groups.append([training for training, _ in group])
        future = concurrent.futures.Future()
        future.set_result([outcome(training) for training, _ in group])
        return future

    def steps(self):
        return 0


@pytest.mark.parametrize("together", [1, 2, 3, 4, 100])
def test_groups_are_filled_level_by_level_with_trainings_of_as_many_steps(tmp_path, together):
    config = CONFIG.replace(replicates=3, rounds=2, branches=("ticket", "reinit", "scratch"))
    workers = Grouping(together)
    Experiment(config, Store(tmp_path, config), Watch(), workers).run()
    trained = [training for group in workers.groups for training in group]
    assert sorted(trained, key=str) == sorted(trainings(config), key=str)
    for group in workers.groups:
        assert 0 < len(group) <= together
        assert len({span(config, training) for training in group}) == 1
    if together == 3:  # Every program is full: no replicate runs ahead.
        assert [len(group) for group in workers.groups] == [3] * 7
        assert [{training.branch for training in group} for group in workers.groups][:3] == [
            {"ticket"}, {"ticket"}, {"reinit"}]


def test_a_group_whose_process_died_is_trained_again(tmp_path):
    class Dying(Grouping):
        def submit(self, group):
            future = super().submit(group)
            if len(self.groups) == 2:
                future = concurrent.futures.Future()
                future.set_exception(WorkerDiedError("killed"))
            return future
    config = CONFIG.replace(replicates=2, rounds=1, branches=("ticket",))
    workers = Dying(2)
    Experiment(config, Store(tmp_path, config), Watch(), workers).run()
    assert workers.groups[1] == workers.groups[2] and len(workers.groups) == 3
