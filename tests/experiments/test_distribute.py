"""Training under tf.distribute: what several devices give is what one gives."""

import functools
import json
import os
import subprocess
import sys

import pytest
import small

pytestmark = pytest.mark.thorough

# Two logical CPUs can only be made before TensorFlow is used.
_PROGRAM = """
import dataclasses, json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import small
from lth_keras.errors import LotteryError
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.training.networks import NETWORKS
from lth_keras.experiments.training_keras2 import models
from lth_keras.experiments.training_keras2.engine import round_runner

NETWORKS["tiny"] = small.tiny
said = {}


def search(distribution, resident_mib, **changes):
    config = small.CONFIG.replace(**changes)
    lab = round_runner(config, small.blobs(), distribution, resident_mib)
    assert lab.trainer._trainer.feed._program.compiled == (distribution is None)
    final, train = [], lab.trainer._trainer.train

    def spy(plan, on_interval):
        final.append(train(plan, on_interval))
        return final[-1]
    lab.trainer._trainer.train = spy
    first = lab.train(Training(0, 0), StartingPoint())
    second = lab.train(Training(0, 1), StartingPoint(first.following))
    control = lab.train(Training(0, 1, "reinit"), StartingPoint(first.following))
    speed = lab.measure()
    assert min(speed.compilation, speed.step, speed.validation, speed.evaluation) >= 0
    return [first, second, control], final


def same(one, other):
    for before, after in zip(one[0], other[0]):
        if before.following:
            for name, mask in before.following.masks.items():
                np.testing.assert_array_equal(mask, after.following.masks[name])
        np.testing.assert_allclose(before.curve, after.curve, rtol=1e-3)
        assert before.result["early_stop_step"] == after.result["early_stop_step"]
        assert abs(before.result["test_accuracy_final"]
                   - after.result["test_accuracy_final"]) < 1e-5
    for before, after in zip(one[1], other[1]):
        for name in before.weights:
            np.testing.assert_allclose(before.weights[name], after.weights[name], rtol=1e-2,
                                       atol=1e-4)
    return True


mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert mirrored.num_replicas_in_sync == 2
DECAYED = {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1, "weight_decay": 0.1,
           "warmup_steps": 3, "learning_rate_drops": (9,)}
WAYS = {"resident": (2048, {}), "streamed": (0, {}), "decayed": (2048, DECAYED)}
for way in sys.argv[1:]:
    mib, changes = WAYS[way]
    said[way] = same(search(None, 2048, **changes), search(mirrored, mib, **changes))
for name, changes in (("validation", {"validation_size": 9}), ("batch", {"batch_size": 7})):
    for way, mib in (("resident", 2048), ("streamed", 0)):
        try:
            search(mirrored, mib, **changes)
            said[name, way] = "no error"
        except Exception as error:
            said[f"{name} {way}"] = [isinstance(error, LotteryError), str(error)]
print(json.dumps(said))
"""


@functools.cache
def said(*ways):
    """What a process says of these ways to train, and of sizes that do not divide."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, *ways], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.path.dirname(small.__file__)},
                          check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_two_replicas_find_the_masks_of_one_device():
    assert said("resident")["resident"]


@pytest.mark.long
@pytest.mark.parametrize("way", ["streamed", "decayed"])
def test_two_replicas_find_the_masks_of_one_device_in_other_ways(way):
    assert said("streamed", "decayed")[way]


@pytest.mark.parametrize("way", ["resident", "streamed"])
@pytest.mark.parametrize("part", ["validation", "batch"])
def test_sizes_that_do_not_divide_among_replicas_are_an_error(part, way):
    is_ours, message = said("resident")[f"{part} {way}"]
    assert is_ours and "must be multiples of the 2 replicas" in message and "\n" not in message
