"""The tests of this folder on JAX and torch, in processes of their own; runs without TensorFlow."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.thorough

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]


def on(backend, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(HERE),
         "--ignore", __file__, *arguments], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": backend, **environment}, check=False)
    assert done.returncode == 0, done.stdout[-5000:]


def test_trainings_on_jax():
    pytest.importorskip("jax")
    on("jax")


@pytest.mark.long
def test_trainings_on_torch():
    pytest.importorskip("torch")
    on("torch")


def test_networks_are_shared_out_among_devices():
    pytest.importorskip("jax")
    on("jax", "-k", "trained_alone or place or own_results",
       XLA_FLAGS="--xla_force_host_platform_device_count=3")
