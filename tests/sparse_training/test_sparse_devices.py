"""A sparse training refuses several devices, wherever a strategy's scope ends."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import contextlib, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import importlib
import lth_keras as lth
keras = importlib.import_module(sys.argv[1])
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def made(method, *within):
    def scope(part):
        return strategy.scope() if part in within else contextlib.nullcontext()
    with scope("model"):
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    with scope("inner"):
        inner = keras.optimizers.SGD(0.1)
    with scope("wrapper"):
        if method == "edge_popup":
            return lth.Supermask(model, inner, 0.5)
        return lth.SparseTraining(model, inner, method, density=0.5, until=100)

for method in ("static", "edge_popup"):
    for within in (("model",), ("inner",), ("wrapper",), ("model", "inner"),
                   ("inner", "wrapper"), ("model", "inner", "wrapper")):
        try:
            made(method, *within)
        except lth.LotteryError as error:
            assert "runs on one device. Received: " in str(error), error
        else:
            raise AssertionError((method, within))
    made(method)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("package", ["tf_keras", "keras"])
def test_several_devices_are_refused_wherever_the_scope_ends(package):
    done = subprocess.run([sys.executable, "-c", PROGRAM, package], capture_output=True, text=True,
                          env={**os.environ, "KERAS_BACKEND": "tensorflow"}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
