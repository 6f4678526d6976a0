"""What the strategies and retrainings differ in: what is pruned by, and what is trained from."""

import dataclasses
import itertools

import numpy as np
import pandas
import pytest
import small
from small import CONFIG, contents, run, Spying
from tiers import short_and_long

from lth_keras.core.fractions import count
from lth_keras.core.masks import kept
from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.trainings import (
    stands_on,
    steps_of,
    takes_from,
    Training,
    trainings,
)
from lth_keras.experiments.results import store
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.results.store import Store
from lth_keras.files.ticket import Ticket

pytestmark = pytest.mark.usefixtures("tiny_network")
SETTINGS = {
    "iterative": {}, "one_shot": {"strategy": "one_shot"},
    "continued": {"strategy": "continued", "branches": ("ticket:2", "reinit", "noise_1")},
    "late": {"rewind_step": 4}, "rates": {"retraining": "learning_rate_rewinding"},
    "tuning": {"retraining": "fine_tuning", "rewind_step": 8},
    "one_shot_rates": {"strategy": "one_shot", "retraining": "learning_rate_rewinding"}}
# A schedule, so that where a training begins in it shows.
CHANGING = CONFIG.replace(learning_rate_drops=(8,), learning_rate=0.01, warmup_steps=2,
                          branches=("ticket:2@0-1", "reinit", "noise_1"))


def config(name):
    return CHANGING.replace(**SETTINGS[name])


@pytest.fixture(scope="module", params=SETTINGS)
def done(request, tmp_path_factory, tiny_network):
    root, settings = tmp_path_factory.mktemp("run"), config(request.param)
    spy = Spying(small.lab(settings))
    watch = run(root, settings, trains=spy)
    assert watch.ended == watch.begun == list(trainings(settings))
    return request.param, settings, root, spy


def same(one, other):
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def tickets(root, settings):
    return [Ticket.load(Store(root, settings).ticket(0, level)) for level in range(3)]


def test_every_strategy_has_the_same_ladder(done):
    _, settings, root, _ = done
    left = {"a/kernel": 48, "b/kernel": 24}
    for ticket in tickets(root, settings):
        assert {name: int(mask.sum()) for name, mask in ticket.masks.items()} == left
        left = {"a/kernel": left["a/kernel"] - count(0.3, left["a/kernel"]),
                "b/kernel": left["b/kernel"] - count(0.1, left["b/kernel"])}


def test_masks_are_pruned_by_the_weights_that_the_strategy_names(done):
    _, settings, root, spy = done
    found = tickets(root, settings)
    for level in (0, 1):
        by = {"one_shot": Training(0, 0), "continued": Training(0, level, settings.chain(level))
              }.get(settings.strategy, Training(0, level))
        final = spy.trained[by].weights
        for weight, mask in found[level + 1].masks.items():
            pruned = (found[level].masks[weight] != 0) & (mask == 0)
            assert pruned.any()
            assert abs(final[weight][pruned]).max() < abs(final[weight][mask != 0]).min()


def test_survivors_go_back_to_where_the_retraining_says(done):
    name, settings, root, spy = done
    found = tickets(root, settings)
    for level in (1, 2):
        below = Training(0, 0 if settings.strategy == "one_shot" else level - 1)
        expected = {"weight_rewinding": spy.plans[Training(0, 0)].weights}.get(
            settings.retraining, spy.trained[below].weights)
        if name == "late":
            expected = spy.trained[Training(0, 0)].rewound
            assert not same(expected, spy.plans[Training(0, 0)].weights)
        assert same(dict(found[level].weights), dict(expected))
        assert same(dict(spy.plans[Training(0, level)].weights), dict(expected))


@pytest.mark.parametrize("against", ["theta_k", "theta_0"])
def test_a_criterion_compares_with_the_initial_values_that_are_asked_for(against, tmp_path):
    settings = config("late").replace(criterion="movement", against=against, rounds=1,
                                      branches=("ticket",))
    spy = Spying(small.lab(settings, rounds=1))
    run(tmp_path, settings, trains=spy)
    start, end = spy.plans[Training(0, 0)].weights, spy.trained[Training(0, 0)]
    initial = start if against == "theta_0" else end.rewound
    found = Ticket.load(Store(tmp_path, settings).ticket(0, 1))
    for name, mask in found.masks.items():
        moved = abs(end.weights[name] - initial[name])
        assert moved[mask == 0].max() < moved[mask != 0].min()
    assert same(dict(found.weights), dict(end.rewound))


def test_theta_k_is_what_k_steps_of_training_give(tmp_path):
    late, short = config("late"), config("late").replace(
        rewind_step=0, branches=("ticket",), measured_steps=(4,))
    whole, stopped = Spying(small.lab(late)), Spying(small.lab(short))
    run(tmp_path / "late", late.replace(rounds=0, branches=("ticket",)), trains=whole)
    plan = whole.plans[Training(0, 0)]
    assert plan.rewind_step == 4
    # A training of four steps of the same schedule.
    start = stopped._lab._spec(Training(0, 0), plan.weights, plan.masks)
    four, = stopped._lab.trainer.train([dataclasses.replace(start, steps=4)], lambda *_: None)
    assert same(four.weights, whole.trained[Training(0, 0)].rewound)


def test_steps_and_the_place_in_the_schedule(done):
    name, settings, _, spy = done
    for training, plan in spy.plans.items():
        again = training.level == 0 and training.branch_index > 0 and name == "late"
        whole = training.branch in ("reinit", "continued") or (training.level == 0 and not again)
        first = 0 if whole else {"late": 4, "tuning": 8}.get(name, 0)
        assert (plan.first, plan.steps) == (first, 12)
        assert steps_of(settings, training) == 12 - first
        assert plan.rate_first == (11 if name == "tuning" and not whole else first)
        assert (plan.rate_stretch > 1e20) == (name == "tuning" and not whole)
        curve = spy.trained[training].curve
        assert curve.step.tolist() == list(range(first + 4, 13, 4))


def test_the_dense_network_is_repeated_with_another_order_from_the_same_start(done):
    name, _, _, spy = done
    one, other = Training(0, 0), Training(0, 0, branch_index=1)
    start = spy.trained[one].rewound if name == "late" else spy.plans[one].weights
    assert same(dict(spy.plans[other].weights), dict(start))
    assert all(mask.all() for mask in spy.plans[other].masks.values())
    assert not same(spy.trained[one].weights, spy.trained[other].weights)
    repeated = Training(0, 1, branch_index=1)
    assert same(dict(spy.plans[repeated].weights), dict(spy.plans[Training(0, 1)].weights))
    assert not same(spy.trained[repeated].weights, spy.trained[Training(0, 1)].weights)


def test_what_is_pruned_and_trained_on_begins_where_it_ended(done):
    name, settings, _, spy = done
    chain = [training for training in spy.plans if training.branch == "continued"]
    assert bool(chain) == (name == "continued")
    for training in chain:
        below = Training(0, training.level - 1, settings.chain(training.level - 1))
        assert same(dict(spy.plans[training].weights), dict(spy.trained[below].weights))
        assert same(dict(spy.plans[training].masks),
                    dict(spy.plans[Training(0, training.level)].masks))


def test_trained_weights_are_kept_of_tickets_and_sparse(done):
    _, settings, root, spy = done
    for training, trained in spy.trained.items():
        if training.branch in ("ticket", "continued"):
            found = Store(root, settings).read_trained(training)
            assert same(dict(found.weights), trained.weights) and found.level == training.level
            assert same(dict(found.masks), dict(spy.plans[training].masks))
            assert all(not found.weights[name][mask == 0].any()
                       for name, mask in found.masks.items())
        else:
            with pytest.raises(WorkdirError, match=f"Received: {training} in "):
                Store(root, settings).read_trained(training)


def test_densities_are_those_of_the_masks(done):
    _, _, root, spy = done
    table = store.results(root)
    for row in table.to_dict("records"):
        training = Training(row["replicate"], row["level"], row["branch"], row["branch_index"])
        masks = spy.plans[training].masks
        assert row["density"] == kept(masks) / 72
        for name, mask in masks.items():
            assert row[f"density_{name}"] == mask.mean()


@pytest.mark.thorough
@pytest.mark.parametrize("validations", short_and_long([2, 5, 9, 13], [9]))
def test_interrupted_anywhere_it_ends_in_the_same_bits(done, tmp_path, validations):
    _, settings, root, _ = done
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, settings, stop_after=validations)
    run(tmp_path, settings)
    assert contents(tmp_path) == contents(root)


def test_without_kept_weights_there_are_none(tmp_path):
    run(tmp_path, CONFIG.replace(keep_trained="none"))
    assert not [*tmp_path.rglob("trained.safetensors")]


def test_the_accuracy_at_chosen_steps_is_in_the_results(tmp_path):
    run(tmp_path, config("late").replace(measured_steps=(4, 12)))
    table = store.results(tmp_path).set_index(["branch", "level", "branch_index"])
    assert (table.test_accuracy_step_12 == table.test_accuracy_final).all()
    reached = table.test_accuracy_step_4.notna()
    assert reached["ticket", 0, 0] and not reached["ticket", 1, 0] and reached["reinit", 1, 0]


def test_what_a_training_needs_is_done_before_it():
    for settings in map(config, SETTINGS):
        done = set()
        for training in trainings(settings):
            needs = {stands_on(settings, training), *takes_from(settings, training)} - {None}
            assert needs <= done
            done.add(training)


def test_a_control_for_the_whole_budget_is_trained_longer(tmp_path):
    settings = CHANGING.replace(branches=("scratch",), rounds=1)
    spy = Spying(small.lab(settings))
    run(tmp_path, settings, trains=spy)
    plan = spy.plans[Training(0, 1, "scratch")]
    assert plan.steps == round(12 * 72 / kept(plan.masks)) > 12
    assert plan.rate_stretch == plan.steps / 12
    assert spy.trained[Training(0, 1, "scratch")].curve.step.iloc[-1] == plan.steps
    start = StartingPoint(Ticket.load(Store(tmp_path, settings).ticket(0, 1)))
    again = spy._lab.train(Training(0, 1, "scratch"), start)
    assert np.allclose(again.curve, spy.trained[Training(0, 1, "scratch")].curve, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["iterative", "one_shot", "continued", "rates"])
def test_a_control_with_trained_signs_has_those_of_the_network_that_made_its_mask(name, tmp_path):
    settings = config(name).replace(branches=("reinit_trained_signs:2@2",))
    spy = Spying(small.lab(settings))
    run(tmp_path, settings, trains=spy)
    below = {"one_shot": Training(0, 0), "continued": Training(0, 1, "continued")}.get(
        name, Training(0, 1))
    plans = [spy.plans[Training(0, 2, "reinit_trained_signs", index)] for index in (0, 1)]
    for weight, mask in plans[0].masks.items():
        signs = np.sign(spy.trained[below].weights[weight])[mask != 0]
        one, other = (plan.weights[weight][mask != 0] for plan in plans)
        assert (np.sign(one) == signs).all() and (np.sign(other) == signs).all()
        assert (one != other).all()


@pytest.mark.parametrize("settings", [{"criterion": "random"}, {"scope": "global"}])
def test_the_order_of_a_tickets_masks_means_nothing(settings):
    lab = small.lab(CONFIG.replace(**settings))
    ticket = lab.train(Training(0, 0), StartingPoint()).following
    turned = dataclasses.replace(ticket, masks=dict(reversed(ticket.masks.items())))
    one, other = (lab.train(Training(0, 1), StartingPoint(start)) for start in (ticket, turned))
    assert list(one.following.masks) == list(other.following.masks) == ["a/kernel", "b/kernel"]
    assert same(dict(one.following.masks), dict(other.following.masks))
    again = Ticket.from_bytes(turned.to_bytes())
    assert list(again.masks) == sorted(ticket.masks)
    assert list(again.weights) == sorted(ticket.weights)


def test_continued_trains_the_ticket_only_where_asked_to_the_same_numbers(tmp_path):
    whole = config("continued").replace(branches=("ticket",))
    some = whole.replace(branches=("ticket@2",), rounds=2)
    assert list(trainings(some)) == [
        Training(0, 0), Training(0, 1, "continued"), Training(0, 2, "continued"), Training(0, 2)]
    run(tmp_path / "whole", whole.replace(rounds=2))
    run(tmp_path / "some", some)
    rows = [store.results(tmp_path / name, whole.fingerprint).drop(columns="seconds")
            .set_index(["branch", "level"]) for name in ("whole", "some")]
    assert ("ticket", 1) in rows[0].index and ("ticket", 1) not in rows[1].index
    pandas.testing.assert_frame_equal(rows[1], rows[0].loc[rows[1].index])


@pytest.mark.parametrize("strategy", ["iterative", "one_shot"])
def test_elsewhere_a_ticket_is_trained_at_every_level_for_the_next_is_made_from_it(strategy):
    settings = CONFIG.replace(strategy=strategy, branches=("ticket:2@2", "reinit@1"), rounds=2)
    assert list(trainings(settings)) == [
        Training(0, 0), Training(0, 1), Training(0, 1, "reinit"), Training(0, 2),
        Training(0, 2, "ticket", 1)]


@pytest.mark.parametrize("retraining", ["weight_rewinding", "learning_rate_rewinding"])
def test_one_shot_compares_the_dense_network_with_what_it_began_as(retraining, tmp_path):
    settings = CHANGING.replace(strategy="one_shot", retraining=retraining, criterion="movement",
                                branches=("ticket",))
    spy = Spying(small.lab(settings))
    run(tmp_path / "run", settings, trains=spy)
    dense, found = Training(0, 0), tickets(tmp_path / "run", settings)
    began, ended = spy.plans[dense].weights, spy.trained[dense].weights
    for below, above in itertools.pairwise(found):
        for name, mask in above.masks.items():
            moved = abs(ended[name] - began[name])
            pruned = (below.masks[name] != 0) & (mask == 0)
            assert moved[pruned].max() <= moved[mask != 0].min()
