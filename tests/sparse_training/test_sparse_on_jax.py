"""The tests of this folder on the JAX backend, in a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


def on(backend, *arguments):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(HERE),
         "--ignore", __file__, *arguments], cwd=HERE.parent.parent, capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": backend}, check=False)
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.thorough
def test_every_step_is_the_references_on_jax():
    on("jax", "-k", "not tf_keras and (references or begun_again or saved)",
       "-m", "not long and not thorough")


@pytest.mark.long
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_test_passes_on_another_backend(backend):
    on(backend, "-m", "not long", "-k", "not tf_keras")
