"""The whole way on a small network with batch normalisation: export, run, compare, search.

    python -m pytest benchmarks/stablehlo

Needs TensorFlow, lth_keras and JAX.
"""
# ruff: noqa: D103

import csv
import itertools
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tf_keras as keras

from benchmarks.stablehlo import export, floor, runner
from benchmarks.stablehlo.runner import compare, program, search
from lth_keras.core.pruning import prune
from lth_keras.experiments.config import presets
from lth_keras.experiments.training import models
from lth_keras.experiments.training.datasets import Data

pytest.importorskip("jax")


def network(input_shape, classes):
    return keras.Sequential([
        keras.layers.Input(input_shape),
        keras.layers.Flatten(),
        keras.layers.Dense(8, "relu", name="first"),
        keras.layers.BatchNormalization(name="norm"),
        # Two of one shape: a mapping by shape would take one for the other.
        keras.layers.Dense(8, "relu", name="second"),
        keras.layers.Dense(8, "relu", name="third"),
        keras.layers.Dense(classes, name="last"),
    ])


@pytest.fixture(scope="module", params=["adam", "sgd"])
def folder(request, tmp_path_factory):
    name = f"small_{request.param}"
    models.NETWORKS[name] = network
    out = tmp_path_factory.mktemp("out") / name
    out.mkdir()
    config = presets.get("lenet_300_100").replace(
        network=name, steps=14, validation_every=7, validation_size=50, batch_size=10,
        optimizer=request.param, momentum=0.9 if request.param == "sgd" else 0.0,
        learning_rate=0.01)
    described = {"name": program.DRAWN, "shape": [400, 4, 4, 1], "classes": 10, "seed": 3,
                 "train": [0, 300], "test": [300, 400]}
    x, y = program.draw(described)
    described["sha256"] = program.digest(x, y)
    data = Data(x, y, x[300:], y[300:], classes=10)
    export.export(export.prepare(config, data, (0, 300)), described, 7, out)
    return out


@pytest.fixture
def interval(folder):
    return program.Interval(folder)


def test_the_same_numbers_as_tensorflow(interval, folder):
    for stage, row in compare.compare(interval, folder, 1e-3).items():
        assert row["passed"], (stage, row)


def test_every_variable_of_the_model_is_named_once(interval):
    assert len(set(interval.keys)) == len(interval.keys)
    kinds = {row["kind"] for row in interval.parameters}
    assert kinds == {"argument", "data", "weight", "statistic", "mask", "slot", "optimizer",
                     "metric"}


@pytest.mark.parametrize("kind", ["weight", "mask", "slot"])
def test_two_variables_of_one_shape_exchanged_do_not_pass(interval, folder, kind):
    numbers = [number for number, row in enumerate(interval.parameters)
               if row["kind"] == kind and row["shape"] == [8, 8]]
    first, last = numbers[0], numbers[-1]
    keys = interval.keys
    keys[first], keys[last] = keys[last], keys[first]
    assert not all(row["passed"] for row in compare.compare(interval, folder, 1e-3).values())


def test_a_restart_starts_over_and_initial_values_stay(interval):
    before = {key: value.copy() for key, value in interval.initial.items()}
    logs = []
    for _ in range(2):
        interval.restart(interval.masks)
        logs.append(interval.run(interval.exported_arguments(0)))
    assert logs[0] == logs[1]
    for key, value in before.items():
        np.testing.assert_array_equal(interval.initial[key], value)


def test_an_interval_of_no_steps_changes_no_weight(interval):
    interval.restart(interval.masks)
    interval.run({"count": 0})
    for name, mask in interval.masks.items():
        np.testing.assert_array_equal(
            interval.state[f"weight {name}"],
            np.where(mask != 0, interval.initial[f"weight {name}"], 0))


def test_a_search_prunes_and_rewinds(interval, monkeypatch):
    starts = []
    restart = interval.restart
    monkeypatch.setattr(interval, "restart", lambda masks: (starts.append(masks), restart(masks)))
    rows = list(search.search(interval, levels=3, steps=10, fraction=0.2, seed=0))
    assert [row["level"] for row in rows] == [0, 1, 2]
    sizes = [mask.size for mask in starts[0].values()]
    left = sum(size - round(size / 5) for size in sizes)
    assert [row["density"] for row in rows[:2]] == [1, left / sum(sizes)]
    for outer, inner in itertools.pairwise(starts):
        for name, mask in inner.items():
            assert not np.any((mask != 0) & (outer[name] == 0))
    for name, mask in starts[-1].items():  # Pruned weights were zero to the end.
        assert np.all(np.asarray(interval.state[f"weight {name}"])[mask == 0] == 0)
    assert all(row["early_stop_step"] in (7, 10) for row in rows)


@pytest.mark.parametrize("fraction", [0.0, 0.07, 0.1, 0.2, 0.5, 0.99])
def test_prune_is_that_of_lth_keras(fraction):
    rng = np.random.default_rng(0)
    for size in (1, 5, 15, 150, 1000):
        scores = rng.integers(0, 5, size).astype(np.float32)  # With ties.
        mask = rng.integers(0, 2, size).astype(np.float32)
        theirs = prune({"w": scores}, {"w": mask}, fraction)["w"]
        np.testing.assert_array_equal(search.prune(scores, mask, fraction), theirs)


def test_batches_are_those_of_lth_keras():
    from lth_keras.experiments.training.trainer import intervals, TrainingSpec
    train = np.arange(3, 40)
    plan = TrainingSpec({}, {}, train, train, np.random.default_rng(5), 25, 10, 6)
    ours = search.batches(train, 10, 6, 25, np.random.default_rng(5))
    for mine, theirs in zip(ours, intervals(plan), strict=True):
        assert mine[0] == theirs.count
        np.testing.assert_array_equal(mine[1], theirs.indices)


def test_work_of_lenet_by_hand():
    config = presets.get("lenet_300_100")
    model = export.prune_low_magnitude(models.build(config, (28, 28, 1), 10))
    first, rest = 784 * 300, 300 * 100 + 100 * 10
    assert floor.work(model, config) == {
        "flops": 2 * 60 * (2 * first + 3 * rest),
        "bytes_parameters": 32 * (first + rest + 410) + first + rest,
        "bytes_activations": 16 * 60 * 410}


def test_the_command_runs_as_a_lone_folder(folder, tmp_path):
    # Where neither TensorFlow nor lth_keras can be imported.
    shutil.copytree(pathlib.Path(runner.__file__).parent, tmp_path / "runner")
    arguments = ["runner", str(folder.parent), "--networks", folder.name, "--levels", "2",
                 "--steps", "8"]
    command = ("import runpy, sys; sys.modules['tensorflow'] = sys.modules['lth_keras'] = None; "
               f"sys.argv = {arguments!r}; runpy.run_module('runner', run_name='__main__')")
    subprocess.run([sys.executable, "-c", command], check=True, cwd=tmp_path)
    with (folder / "levels.csv").open() as file:
        assert [row["level"] for row in csv.DictReader(file)] == ["0", "1"]


def test_data_other_than_exported_are_refused(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    signature = json.loads((other / "signature.json").read_text())
    signature["data"]["seed"] += 1
    (other / "signature.json").write_text(json.dumps(signature))
    with pytest.raises(ValueError, match="data must be those of the export"):
        program.Interval(other)
