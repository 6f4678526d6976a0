import numpy as np
import pandas as pd
import pytest
import searches

from lth_keras.core import mode_connectivity
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.trainings import Training
from lth_keras.reports.analyses.analysis import WorkdirReader
from lth_keras.reports.analyses.networks import instability

REPEATED = searches.CONFIG.replace(rounds=1, branches=("ticket:2@0",))
SPREAD = 0.4  # Between the networks that the two data orders lead to.


def wells(weights):
    """Error 0.1 in wells at 0 and 1, and 0.6 between them; half of the first is beyond."""
    return float(0.1 + 0.5 * (1 - abs(2 * np.clip(weights["w"], 0, 1) - 1)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs that rewind to steps 0, 20 and 40; the later, the nearer two data orders end."""
    folder, found = tmp_path_factory.mktemp("runs"), []
    for k in (0, 20, 40):
        def trained(initial, training, k=k):
            moved = SPREAD / (1 + k) * training.branch_index
            return {name: value + np.float32(moved) for name, value in initial.items()}
        config = REPEATED.replace(rewind_step=k, validation_every=20)
        found.append(WorkdirReader(searches.fill(folder / f"k{k}", config, trained)))
    return found


def bump(weights):
    """An error that is greatest between the networks of two data orders."""
    rng = np.random.default_rng([0, 0])
    start = rng.normal(size=searches.SHAPES["conv/kernel"]).astype(np.float32).flat[0]
    where = (weights["conv/kernel"].flat[0] - start) / SPREAD
    return float(np.clip(0.5 - 2 * (where - 0.5)**2, 0, 1)) if 0 <= where <= 1 else 0.0


def test_between_two_wells_lies_a_barrier():
    path = mode_connectivity.walk(wells, {"w": np.array(0.0)}, {"w": np.array(1.0)}, points=31)
    assert path.alphas[0] == 0 and path.alphas[-1] == 1 and len(path.alphas) == 31
    assert path.ends == pytest.approx(0.1) and path.highest == pytest.approx(0.6)
    assert path.instability == pytest.approx(0.5) and not path.stable


def test_within_a_well_is_none():
    path = mode_connectivity.walk(wells, {"w": np.array(0.0)}, {"w": np.array(0.01)})
    assert len(path.errors) == 30 and path.stable
    assert path.instability == pytest.approx(0.005)


@pytest.mark.parametrize(("errors", "barrier"), [
    ([0.1, 0.2, 0.3], 0.0),  # It only rises towards the worse network.
    ([0.1, 0.15, 0.3], 0.0),
    ([0.1, 0.35, 0.3], 0.15),
    ([0.3, 0.3, 0.3, 0.1], 2 / 15),
])
def test_a_barrier_rises_above_the_straight_line_between_the_errors(errors, barrier):
    path = mode_connectivity.Path(np.linspace(0, 1, len(errors)), np.array(errors))
    assert path.barrier == pytest.approx(barrier, abs=1e-12)


@pytest.mark.parametrize("highest, stable", [(0.2199, True), (0.2201, False)])
def test_stable_is_less_than_two_percent_of_error(highest, stable):
    path = mode_connectivity.Path(np.array([0, 0.5, 1]), np.array([0.19, highest, 0.21]))
    assert path.stable is stable


def test_the_ends_of_a_line_are_the_networks_bit_for_bit():
    rng = np.random.default_rng(0)
    first, second = ({"w": rng.normal(size=99).astype(np.float32),
                      "norm/moving_variance": rng.random(3, np.float32)} for _ in range(2))
    for alpha, end in ((0, first), (1, second)):
        for name, value in mode_connectivity.interpolate(first, second, alpha).items():
            assert value.dtype == np.float32 and (value == end[name]).all()
    for name, value in mode_connectivity.interpolate(first, second,
                                                     0.25).items():  # Statistics too.
        assert np.allclose(value, 0.75 * first[name] + 0.25 * second[name])


def test_what_is_no_float_is_the_firsts():
    found = mode_connectivity.interpolate({"count": np.array([3])}, {"count": np.array([8])}, 0.5)
    assert found["count"] == [3]


@pytest.mark.parametrize("first, second, said", [
    ({"w": np.ones(2)}, {"w": np.ones(3)}, r"differ in \['w'\]"),
    ({"w": np.ones(2)}, {"v": np.ones(2)}, r"differ in \['v', 'w'\]"),
])
def test_other_networks_are_refused(first, second, said):
    with pytest.raises(LotteryError, match=said):
        mode_connectivity.interpolate(first, second, 0.5)


@pytest.mark.parametrize("act, said", [
    (lambda one: mode_connectivity.interpolate(one, one, 1.5), "alpha must lie in"),
    (lambda one: mode_connectivity.walk(wells, one, one, points=1),
     "points must be a whole number >= 2.* Received: 1"),
])
def test_what_is_no_line_is_refused(act, said):
    with pytest.raises(LotteryError, match=said):
        act({"w": np.ones(1)})


def test_pairs_are_data_orders_and_parents(tmp_path):
    run = WorkdirReader(searches.fill(tmp_path, searches.CONFIG.replace(
        rounds=2, branches=("ticket:3@1",), replicates=1)))
    found = [(pair.between, pair.first, pair.second) for pair in instability.pairs(run)]
    first, second, third = (Training(0, 1, "ticket", index) for index in range(3))
    assert found == [
        ("data orders", first, second), ("data orders", first, third),
        ("data orders", second, third),
        ("parent and ticket", Training(0, 0), first), ("parent and ticket", first, Training(0, 2))]
    assert instability.pairs(run, [2]) == instability.pairs(run)[-1:]


def test_under_one_shot_the_parent_is_the_dense_network(tmp_path):
    run = WorkdirReader(searches.fill(tmp_path,
                                      searches.CONFIG.replace(strategy="one_shot", replicates=1)))
    assert [(pair.first.level, pair.second.level) for pair in instability.pairs(run)] == [
        (0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("settings", [{"strategy": "snip"}, {"source": "x"}])
def test_a_ticket_that_no_trained_weights_made_has_no_parent(settings, tmp_path):
    run = WorkdirReader(searches.fill(tmp_path, searches.CONFIG.replace(replicates=1, **settings)))
    assert instability.pairs(run) == [] and len(instability.successive(run)) == 3


def test_the_barriers_of_one_run(runs):
    found = instability.analyse(runs[:1], bump, points=21)
    rows = found.rows
    assert len(rows) == 2 + 2 and set(rows.between) == {"data orders", "parent and ticket"}
    orders = rows[(rows.between == "data orders") & (rows.replicate == 0)].iloc[0]
    assert orders.instability == pytest.approx(0.5, abs=1e-3) and not orders.stable
    assert orders["first"] == "replicate 0, level 0, ticket"
    assert orders.second == "replicate 0, level 0, ticket 1"
    paths = found.details["paths"]
    assert len(paths) == 4 * 21
    line = paths[(paths.between == "data orders") & (paths.replicate == 0)]
    assert line.error.max() - (line.error.iloc[0] + line.error.iloc[-1]) / 2 == pytest.approx(
        orders.instability)
    assert any("batch normalisation" in note for note in found.notes)


def test_k_is_chosen_over_several_runs(runs):
    found = instability.analyse(runs[::-1], bump, points=21)
    choice = found.details["rewinding"]
    assert choice.rewind_step.tolist() == [0, 20, 40] and (choice.pairs == 2).all()
    assert (found.rows.level == 0).all() and (found.rows.between == "data orders").all()
    assert choice["mean"].is_monotonic_decreasing
    assert not choice.stable[0]
    least = choice.rewind_step[choice.stable].min()
    assert any(f"The smallest stable rewind_step is {least}" in note for note in found.notes)


def test_networks_that_share_no_steps_count_for_k_0(tmp_path):
    config = REPEATED.replace(rewind_step=40, validation_every=20, rounds=2,
                              retraining="learning_rate_rewinding", replicates=1)
    rows = instability.analyse([WorkdirReader(searches.fill(tmp_path, config))],
                               lambda weights: 0.0).rows
    assert rows.set_index(["between", "level"]).rewind_step.to_dict() == {
        ("data orders", 0): 0, ("parent and ticket", 1): 40, ("parent and ticket", 2): 40}


@pytest.mark.parametrize("instabilities, k, stable", [
    ({0: [0.5], 100: [0.019], 500: [0.001]}, 100, [False, True, True]),
    ({0: [0.5], 100: [0.0, 0.039]}, 100, [False, True]),
    ({0: [0.5], 100: [0.0, 0.041]}, None, [False, False]),
    ({0: [0.001], 100: [0.3]}, 0, [True, False]),
])
def test_k_is_the_smallest_whose_mean_is_stable(instabilities, k, stable):
    rows = pd.DataFrame([{"rewind_step": step, "instability": value}
                         for step, values in reversed(instabilities.items()) for value in values])
    table, found = instability.choose(rows)
    assert found == k and table.stable.tolist() == stable
    assert table.rewind_step.tolist() == sorted(instabilities)


def test_no_k_is_stable_is_said():
    table, k = instability.choose(pd.DataFrame({"rewind_step": [10], "instability": [0.3]}))
    assert k is None and instability._sentence(table, k).startswith("No rewind_step is stable")


def test_runs_that_cannot_be_compared_are_refused_before_anything_is_evaluated(runs, tmp_path):
    other = WorkdirReader(searches.fill(tmp_path / "other", REPEATED.replace(seed=3)))
    once = WorkdirReader(searches.fill(tmp_path / "once", REPEATED.replace(
        branches=("ticket",), rewind_step=60, validation_every=20)))

    def never(weights):
        raise AssertionError("evaluated")
    with pytest.raises(WorkdirError, match="differ only in rewind_step.*seed, validation_every"):
        instability.analyse([runs[0], other], never)
    with pytest.raises(WorkdirError, match="without such a pair at level 0"):
        instability.analyse([runs[0], once], never)
    with pytest.raises(LotteryError, match="Received: none"):
        instability.analyse([], never)


def test_a_run_without_trained_pairs_is_refused(tmp_path):
    run = WorkdirReader(searches.fill(tmp_path, searches.CONFIG.replace(keep_trained="none")))
    with pytest.raises(WorkdirError, match="without such a pair"):
        instability.analyse([run], bump)


# Between successive levels.

LEVELS = searches.CONFIG.replace(rounds=3, replicates=2)


def apart(initial, training):
    """The networks of levels 2 and 3 end in another well than those of levels 0 and 1."""
    return {name: value + np.float32(4 * (training.level > 1)) for name, value in initial.items()}


def wall(weights):
    """An error by the first kept bias: 0.1 in wells at 0 and 4, up to 0.5 between them."""
    return float(0.1 + 0.4 * np.sin(np.pi * weights["fc/bias"][0] / 4))


def test_a_barrier_between_levels_is_where_networks_end_in_another_well(tmp_path):
    run = WorkdirReader(searches.fill(tmp_path, LEVELS, apart))
    found = instability.between_levels(run, wall, points=21)
    rows = found.rows.set_index(["level", "replicate"])
    assert [*rows.index] == [(level, replicate) for level in (1, 2, 3) for replicate in (0, 1)]
    assert rows.barrier.loc[2].tolist() == pytest.approx([0.4, 0.4])
    assert rows.barrier.loc[[1, 3]].tolist() == pytest.approx([0] * 4)
    assert rows.connected.tolist() == [True, True, False, False, True, True]
    assert rows["first"].loc[3, 1] == "replicate 1, level 2, ticket"
    assert len(found.details["paths"]) == 6 * 21
    assert any("below 2%): 1, 3; not connected: 2." in note for note in found.notes)


def test_pruned_weights_go_to_zero_along_the_line(tmp_path):
    run, seen = WorkdirReader(searches.fill(tmp_path, LEVELS)), []
    instability.between_levels(run, lambda weights: seen.append(weights) or 0.0, [2], points=3)
    for replicate in (0, 1):
        below, middle, level = seen[3 * replicate:3 * replicate + 3]
        for name in searches.SHAPES:
            before, after = (run.ticket(replicate, at).masks[name] for at in (1, 2))
            assert (below[name][before == 0] == 0).all() and (level[name][after == 0] == 0).all()
            gone = (before != 0) & (after == 0)
            assert gone.any() and (below[name][gone] != 0).all()
            assert np.allclose(middle[name][gone], below[name][gone] / 2)


def test_successive_levels_are_those_of_tickets_under_any_strategy(tmp_path):
    for config, expected in [
            (LEVELS.replace(strategy="one_shot", replicates=1), [(0, 1), (1, 2), (2, 3)]),
            (LEVELS.replace(strategy="continued", replicates=1), [(0, 1), (1, 2), (2, 3)]),
            (LEVELS.replace(strategy="continued", replicates=1, branches=("ticket@2/3",)),
             [(2, 3)])]:
        run = WorkdirReader(searches.fill(tmp_path / config.fingerprint / str(len(expected)),
                                          config))
        pairs = instability.successive(run)
        assert {pair.second.branch for pair in pairs} == {"ticket"}
        assert [(pair.first.level, pair.second.level) for pair in pairs] == expected
    assert [pair.second.level for pair in instability.successive(run, [3])] == [3]


def test_a_run_without_successive_networks_is_refused(tmp_path):
    for config, levels in [(LEVELS.replace(keep_trained="none"), None), (LEVELS, [0])]:
        run = WorkdirReader(searches.fill(tmp_path / config.keep_trained, config))
        with pytest.raises(WorkdirError, match="the trained weights of a level's ticket and of"):
            instability.between_levels(run, wall, levels)
