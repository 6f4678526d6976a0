"""The counts of this folder on the other backends of Keras 3, in a process of their own."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_counts_do_not_depend_on_the_backend(backend):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(HERE),
         "--ignore", __file__, "-m", "not thorough", "-k", "keras3"], cwd=HERE.parent.parent,
        env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
