import dataclasses

import numpy as np
import pandas as pd
import pytest
import searches

from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.experiments.config.trainings import Training
from lth_keras.files.ticket import Ticket
from lth_keras.reports.analyses import connections, movement, overlaps, signs, survivors
from lth_keras.reports.analyses.analysis import in_order, summarise, WorkdirReader
from lth_keras.reports.plots.drawing import shown_levels, shown_weights


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return WorkdirReader(searches.fill(tmp_path_factory.mktemp("made")))


# Survivors.

@pytest.mark.parametrize("draw, expected", [
    (lambda rng: rng.normal(size=200_000), 1 / 3),
    (lambda rng: rng.uniform(size=200_000), 5 / 9),
    (lambda rng: rng.choice([-2.0, 3.0], 200_000), 1),
])
def test_bimodality_of_known_distributions(draw, expected):
    assert survivors.bimodality(draw(np.random.default_rng(0))) == pytest.approx(expected, abs=0.01)


def test_bimodality_neither_shift_nor_scale_changes():
    values = np.random.default_rng(0).normal(size=50)
    assert survivors.bimodality(3 - 5 * values) == pytest.approx(survivors.bimodality(values))


def test_bimodality_of_small_samples_is_corrected():
    # Skewness 0; excess kurtosis 6.8 / 2^2 - 3 = -1.3, corrected 4 / 6 * (6 * -1.3 + 6) = -1.2;
    # and 3 * 4^2 / 6 = 8.
    assert survivors.bimodality(np.array([-2.0, -1, 0, 1, 2])) == pytest.approx(1 / (8 - 1.2))


@pytest.mark.parametrize("values", [[], [1.0, 2.0, 3.0], [4.0] * 9])
def test_bimodality_of_too_little_is_nan(values):
    assert np.isnan(survivors.bimodality(np.array(values)))


def test_survivors_of_a_random_mask_are_as_the_initial_weights():
    rng = np.random.default_rng(0)
    initial = rng.normal(size=(400, 300))
    found = survivors.measures(initial, rng.random((400, 300)) < 0.3)
    assert found["weight_density"] == pytest.approx(0.3, abs=0.01)
    assert found["std_ratio"] == pytest.approx(1, abs=0.02)
    assert found["central_share"] == pytest.approx(0.1, abs=0.01)
    assert found["bimodality"] == pytest.approx(1 / 3, abs=0.02)


def test_survivors_far_from_zero_are_bimodal():
    initial = np.random.default_rng(0).normal(size=100_000)
    found = survivors.measures(initial, np.abs(initial) > 1)
    assert found["central_share"] == 0 and found["std_ratio"] > 1.3
    assert found["bimodality"] > survivors.BIMODAL


def test_survivors_exactly():
    initial, mask = np.array([[-4.0, 1, 0], [2, 3, -1]]), np.array([[1, 0, 1], [1, 0, 0]])
    found = survivors.measures(initial, mask)
    assert found["survivors"] == 3 and found["weight_density"] == 0.5
    assert found["std_ratio"] == np.std([-4, 0, 2]) / np.std(initial)
    assert found["central_share"] == 1 / 3  # A tenth of the magnitudes lies below 0.5.


def test_survivors_where_none_are():
    found = survivors.measures(np.ones(3), np.zeros(3))
    assert found["survivors"] == 0
    assert np.isnan([found["std_ratio"], found["central_share"], found["bimodality"]]).all()
    assert survivors.histogram(np.ones(3), np.zeros(3), np.array([0.0, 1, 2])).tolist() == [0, 0]


def test_histogram_is_a_probability_density():
    initial = np.array([0.25, 0.5, 1.5, 3.5])
    edges = np.array([0.0, 1, 2, 4])
    found = survivors.histogram(initial, np.array([1, 1, 0, 1]), edges)
    assert found.tolist() == [2 / 3, 0, 1 / 6]


# Movement.

def test_movement_exactly():
    found = movement.measures(initial=np.array([1.0, -1, 2, -2, 7]),
                              trained=np.array([2.0, -4, 1, 2.5, 0]),
                              before=np.array([1, 1, 1, 1, 0]), after=np.array([1, 1, 0, 0, 0]))
    assert found == {"kept": 2, "pruned": 2, "moved_kept": 2.0, "moved_pruned": 2.75,
                     "away_kept": 1.0, "away_pruned": 0.5}


def test_movement_of_no_weights_is_nan():
    found = movement.measures(*[np.ones(2)] * 4)
    assert found["pruned"] == 0 and np.isnan(found["moved_pruned"])


def test_movement_refuses_a_ticket_that_was_not_trained():
    with pytest.raises(LotteryError, match="keeps only weights that were trained.* 1 others"):
        movement.measures(np.ones(2), np.ones(2), np.array([1, 0]), np.array([1, 1]))


# Connections.

def test_connections_of_a_mask_of_known_fan_in():
    mask = np.zeros((5, 4), np.uint8)
    for unit, fan_in in enumerate([1, 2, 3, 5]):
        mask[:fan_in, unit] = 1
    assert connections.counts(mask, "incoming").tolist() == [1, 2, 3, 5]
    assert connections.counts(mask, "outgoing").tolist() == [4, 3, 2, 1, 1]


def test_connections_of_a_convolution_are_those_of_its_channels():
    mask = np.zeros((3, 3, 2, 4), np.uint8)
    mask[:, :, 0, 1] = 1
    mask[0, 0, 1, 3] = 1
    assert connections.counts(mask, "incoming").tolist() == [0, 9, 0, 1]
    assert connections.counts(mask, "outgoing").tolist() == [9, 1]


@pytest.mark.parametrize("mask, direction, said", [
    (np.ones((2, 2)), "sideways", "must be one of incoming, outgoing. Received: 'sideways'"),
    (np.ones(3), "incoming", r"Received: shape \(3,\)"),
])
def test_connections_refuse_what_has_none(mask, direction, said):
    with pytest.raises(LotteryError, match=said):
        connections.counts(mask, direction)


@pytest.mark.parametrize("direction", connections.DIRECTIONS)
@pytest.mark.parametrize("shape", [(60, 30), (3, 3, 6, 8)])
@pytest.mark.parametrize("density", [0.05, 0.5])
def test_random_masks_are_as_uneven_as_chance_says(shape, density, direction):
    rng, size = np.random.default_rng(0), int(np.prod(shape))
    kept = int(density * size)
    squares = []
    for _ in range(400):
        mask = rng.permutation(np.arange(size) < kept).reshape(shape)
        squares.append(connections.unevenness(connections.counts(mask, direction))**2)
    units = connections.counts(np.ones(shape), direction).size
    assert np.sqrt(np.mean(squares)) == pytest.approx(
        connections.chance(size, units, kept), rel=0.06)


def test_even_and_uneven_masks():
    even = connections.measures(np.tile(np.eye(4), (5, 2)), "incoming")
    assert even["unevenness"] == even["ratio"] == 0 and even["without"] == 0
    uneven = np.zeros((20, 10))
    uneven[:, 0] = 1
    found = connections.measures(uneven, "incoming")
    assert found["without"] == 0.9 and found["connections"] == 2 and found["unevenness"] == 3
    assert found["ratio"] == pytest.approx(3 / np.sqrt(0.9 / 2 * 180 / 199))


# Overlaps.

def test_chance_is_the_overlap_of_random_masks():
    rng = np.random.default_rng(0)

    def draw():
        return {name: rng.permutation(np.arange(size) < kept).astype(np.uint8)
                for name, size, kept in (("a", 3000, 600), ("b", 1000, 900))}
    found = [overlaps.overlap(draw(), draw()) for _ in range(50)]
    assert np.mean(found) == pytest.approx(overlaps.chance(draw(), draw()), rel=0.01)


@pytest.mark.parametrize("kept, expected", [(0, 1), (4, 1), (2, 1 / 3)])
def test_chance_at_its_ends(kept, expected):
    mask = {"a": np.arange(4) < kept}
    assert overlaps.chance(mask, mask) == pytest.approx(expected)


# Of workdirs.

def test_survivors_of_a_workdir(made):
    found = survivors.analyse(made)
    assert len(found.rows) == 2 * 4 * 2
    # Half is pruned a round, by a magnitude that rises with the initial one.
    by_level = found.rows.groupby("level")
    assert by_level.weight_density.mean().tolist() == pytest.approx(
        [1, 0.5, 0.25, 0.125], rel=0.1)
    assert by_level.std_ratio.mean().is_monotonic_increasing
    assert by_level.central_share.max().tolist() == pytest.approx(
        [0.1, 0, 0, 0], abs=0.01)
    for _, part in found.details["histogram"].groupby(["level", "weight"]):
        step = np.diff(part.value)
        assert np.allclose(step, step[0])
        assert (part.probability_density * step[0]).sum() == pytest.approx(1)


def test_movement_of_a_workdir(made):
    found = movement.analyse(made)
    pairs = {*zip(found.rows.trained_level, found.rows.level, strict=True)}
    assert pairs == {(0, 1), (0, 2), (0, 3), (1, 2), (2, 3)}
    dense = found.rows[(found.rows.trained_level == 0) & (found.rows.level == 1)]
    assert (dense.away_kept == 1).all() and (dense.away_pruned == 0).all()
    assert set(found.rows.weight) == {"conv/kernel", "fc/kernel", "all"}
    kept = found.rows[found.rows.trained_level == 2]
    later = kept[kept.weight == "all"]
    assert (later.kept + later.pruned == round(0.25 * 544)).all()  # Of those that level 2 has.


def test_movement_under_one_shot_is_that_of_the_dense_network(tmp_path):
    run = WorkdirReader(searches.fill(tmp_path, searches.CONFIG.replace(strategy="one_shot")))
    found = movement.analyse(run)
    assert (found.rows.trained_level == 0).all() and {*found.rows.level} == {1, 2, 3}


@pytest.mark.parametrize("strategy, made_here", [("iterative", True), ("snip", False)])
def test_movement_says_whether_the_masks_were_made_from_the_trained_weights(
        strategy, made_here, tmp_path):
    run = WorkdirReader(searches.fill(tmp_path, searches.CONFIG.replace(strategy=strategy)))
    said = [note for note in movement.analyse(run).notes if f"strategy={strategy}" in note]
    assert len(said) == (0 if made_here else 1)


def test_movement_needs_trained_weights(tmp_path):
    root = searches.fill(tmp_path, searches.CONFIG.replace(keep_trained="none"))
    with pytest.raises(WorkdirError, match="Movement needs trained weights"):
        movement.analyse(WorkdirReader(root))
    assert len(survivors.analyse(WorkdirReader(root)).rows)


# Signs.

def test_signs_that_differ_are_counted_among_survivors_only():
    trained, before = np.array([1, -1, 2, 0, -3, 4.0]), np.array([1, 1, 0, -1, 3, -4.0])
    assert signs.flipped(trained, before, np.array([1, 1, 1, 1, 1, 0])) == 2 / 5
    assert signs.flipped(trained, before, np.array([1, 0, 1, 1, 0, 0])) == 0
    assert np.isnan(signs.flipped(trained, before, np.zeros(6)))
    assert signs.flipped(np.array([1e-30], np.float32), np.array([-1e-30], np.float32),
                         np.ones(1)) == 1


def test_signs_of_independent_weights_differ_by_half():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 100_000))
    assert signs.flipped(one, other, rng.random(100_000) < 0.3) == pytest.approx(0.5, abs=0.02)


def turned(initial, training):
    """Training turns every weight's sign at odd levels, and those of fc/kernel at level 2 too."""
    return {name: -value if training.level % 2 or (name == "fc/kernel" and training.level)
            else value for name, value in initial.items()}


def test_signs_of_a_workdir_by_level_and_weight(tmp_path):
    run = WorkdirReader(searches.fill(tmp_path, searches.CONFIG.replace(replicates=1), turned))
    rows = signs.analyse(run).rows.set_index(["level", "weight"])
    at = {level: rows.loc[level] for level in range(4)}
    for level, (conv, fc) in {0: (0, 0), 1: (1, 1), 2: (0, 1), 3: (1, 1)}.items():
        found = at[level].flipped_initial
        assert (found["conv/kernel"], found["fc/kernel"]) == (conv, fc)
        weights = at[level].survivors
        assert weights["all"] == weights["conv/kernel"] + weights["fc/kernel"] == 544 >> level
        assert found["all"] == pytest.approx(
            (conv * weights["conv/kernel"] + fc * weights["fc/kernel"]) / weights["all"])
        assert (at[level].flipped_start == found).all()  # Rewound to step 0.
    assert at[0].flipped_below.isna().all()
    assert [at[level].flipped_below["conv/kernel"] for level in (1, 2, 3)] == [1, 1, 1]
    assert [at[level].flipped_below["fc/kernel"] for level in (1, 2, 3)] == [1, 0, 0]


def test_signs_since_the_start_of_a_level_that_keeps_its_values(tmp_path):
    config = searches.CONFIG.replace(replicates=1, retraining="learning_rate_rewinding")
    rows = signs.analyse(WorkdirReader(searches.fill(tmp_path, config, turned))).rows
    rows = rows[rows.weight == "conv/kernel"].set_index("level")
    assert rows.flipped_initial.tolist() == [0, 1, 0, 1]
    # Each level's start is the trained network of the level below.
    assert rows.flipped_start[1:].tolist() == rows.flipped_below[1:].tolist() == [1, 1, 1]


def test_signs_need_trained_weights(tmp_path):
    root = searches.fill(tmp_path, searches.CONFIG.replace(keep_trained="none"))
    with pytest.raises(WorkdirError, match="Signs need the trained weights of a ticket"):
        signs.analyse(WorkdirReader(root))


def test_connections_of_a_workdir(made):
    found = connections.analyse(made, levels=[1])
    assert len(found.rows) == 2 * 2 * 2
    units = found.rows.set_index(["replicate", "weight", "direction"]).units
    assert units[0, "conv/kernel", "incoming"] == 8 and units[1, "fc/kernel", "outgoing"] == 40
    profile = found.details["units"]
    mean = profile.groupby(["weight", "direction"]).share.mean()
    assert mean.tolist() == pytest.approx([0.5] * 4, abs=0.01)
    assert (profile.groupby(["weight", "direction"]).share.diff().dropna() <= 0).all()
    # Which axes are meant is said of weights that have others.
    assert found.notes[1].startswith("conv/kernel: taken as kernels of convolutions")


def test_overlap_of_a_workdir(made):
    rows = overlaps.analyse(made).rows
    nested = rows[(rows.between == "levels") & (rows.weight == "all")]
    assert len(nested) == 2 * 3 and nested.overlap.tolist() == pytest.approx([0.5] * 6, rel=0.05)
    other = rows[(rows.between == "replicates") & (rows.level == 1)]
    assert other.ratio.mean() == pytest.approx(1, abs=0.1)  # Of independent draws.
    dense = rows[(rows.between == "replicates") & (rows.level == 0)]
    assert (dense.overlap == 1).all() and (dense.chance == 1).all()


def test_overlap_of_replicates_that_agree(tmp_path):
    config = searches.CONFIG.replace(rounds=1, replicates=3)
    weights = {name: np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
               for name, shape in searches.SHAPES.items()}
    root = searches.fill(tmp_path, config, lambda initial, training: {
        **initial, **weights})
    rows = overlaps.analyse(WorkdirReader(root), levels=[1]).rows
    assert (rows.between == "replicates").all() and (rows.overlap == 1).all()
    assert rows.chance.tolist() == pytest.approx([1 / 3] * 9)
    pairs = {*zip(rows["first"], rows.second, strict=True)}
    assert pairs == {(0, 1), (0, 2), (1, 2)}


def test_one_network_has_no_overlap(tmp_path):
    root = searches.fill(tmp_path, searches.CONFIG.replace(rounds=0, replicates=1))
    with pytest.raises(WorkdirError, match="with one of each"):
        overlaps.analyse(WorkdirReader(root), [0])


@pytest.mark.parametrize("of", [survivors, movement, connections, overlaps])
def test_every_analysis_names_its_columns_and_draws(made, of):
    found = of.analyse(made)
    assert {*found.keys, *found.measures, "level", "density"} <= {*found.rows}
    assert found.figure.axes and found.notes
    assert summarise(found.rows, found.keys, found.measures).notna().any().any()


@pytest.mark.parametrize("of", [survivors, movement, connections, overlaps])
def test_every_analysis_refuses_levels_that_are_not_there(made, of):
    with pytest.raises(WorkdirError, match="Received: levels 8, 9 of"):
        of.analyse(made, levels=[9, 8])


def test_a_run_that_goes_on_is_read_as_far_as_it_is(tmp_path):
    root = searches.fill(tmp_path, done=lambda training: training.level < 2 - training.replicate)
    # Replicate 1 has a ticket of level 1, which only replicate 0 has trained; level 2 nobody has.
    assert WorkdirReader(root).levels() == {0: [0, 1], 1: [0, 1]}
    assert set(movement.analyse(WorkdirReader(root)).rows.level) == {1}


@pytest.mark.parametrize("of", [survivors, movement, connections, overlaps])
def test_a_level_that_nobody_trained_is_shown_if_it_is_asked_for(made, of):
    assert of.analyse(made).rows.level.max() == 3
    # Pruning the last trained level has made its ticket.
    assert of.analyse(made, levels=[3, 4]).rows.level.max() == 4
    assert made.ticket(0, 4).level == 4


def test_a_training_that_diverged_is_left_out(tmp_path):
    config = searches.CONFIG.replace(rounds=1, branches=("ticket:2@0",))
    diverged = Training(1, 0, "ticket", 1)
    run = WorkdirReader(searches.fill(tmp_path, config, diverged=(diverged,)))
    assert run.repeats(0, 0) == [Training(0, 0), Training(0, 0, "ticket", 1)]
    assert run.repeats(1, 0) == [Training(1, 0)]
    assert run.levels() == {0: [0, 1], 1: [0, 1]}


def test_theta_0_is_that_of_level_0_also_where_tickets_start_from_trained_weights(tmp_path):
    config = searches.CONFIG.replace(rounds=1, retraining="learning_rate_rewinding")
    run = WorkdirReader(searches.fill(tmp_path, config))
    initial, later = run.initial(0), run.ticket(0, 1).weights
    assert not np.array_equal(initial["fc/kernel"], later["fc/kernel"])
    rows = survivors.analyse(run).rows.set_index(["replicate", "level", "weight"])
    found = survivors.measures(initial["fc/kernel"], run.ticket(0, 1).masks["fc/kernel"])
    assert rows.std_ratio[0, 1, "fc/kernel"] == found["std_ratio"]


def test_an_analysis_reads_what_was_written_and_nothing_else(made, tmp_path):
    root = searches.fill(tmp_path, searches.CONFIG.replace(rounds=1))
    path = root / "replicate_0" / "level_00" / "ticket_0" / "trained.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WorkdirError, match=r"trained\.safetensors"):
        movement.analyse(WorkdirReader(root))


def test_trained_weights_of_a_run(made):
    training = Training(0, 1)
    assert made.has_trained(training) and not made.has_trained(Training(0, 9))
    trained = made.trained(training)
    assert isinstance(trained, Ticket) and trained.level == 1
    assert made.trained(dataclasses.replace(training, branch_index=3)) is None


@pytest.mark.parametrize("make", [lambda root: None, lambda root: (root / "config.json").mkdir()])
def test_what_is_no_workdir_is_refused(tmp_path, make):
    make(tmp_path)
    with pytest.raises(WorkdirError):
        WorkdirReader(tmp_path)


def test_a_workdir_in_which_nothing_is_done_is_refused(tmp_path):
    searches.fill(tmp_path, done=lambda training: False)
    with pytest.raises(WorkdirError, match="needs a finished training"):
        WorkdirReader(tmp_path)


# Of pictures.

def test_levels_shown_are_those_of_the_papers_densities():
    rows = pd.DataFrame({"level": range(22), "density": 0.8 ** np.arange(22)})
    assert shown_levels(rows) == [0, 3, 7, 12, 15, 18, 21]
    assert shown_levels(rows[rows.level > 18]) == [19, 21]


def test_of_many_weights_some_have_panels():
    names = [f"layer{number}" for number in range(20)]
    assert shown_weights(names[:3]) == names[:3]
    assert len(shown_weights(names)) == 6
    assert shown_weights(names)[0] == names[0] and shown_weights(names)[-1] == names[-1]


def test_names_are_in_the_order_of_their_numbers():
    names = ["stage1_block10/kernel", "stage1_block2/kernel", "fc/kernel", "conv/kernel"]
    assert in_order(names) == ["conv/kernel", "fc/kernel", "stage1_block2/kernel",
                               "stage1_block10/kernel"]
