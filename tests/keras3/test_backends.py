"""The tests of this folder on the JAX backend, in a process of its own."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.thorough

HERE = pathlib.Path(__file__).parent


def on(backend, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(HERE),
         "--ignore", __file__, *arguments], cwd=HERE.parent.parent, capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": backend}, check=False)
    assert done.returncode == 0, done.stdout[-5000:]


def test_the_promises_hold_on_jax():
    pytest.importorskip("jax")
    on("jax", "-k", "zero_after_every_batch and (AdamW or Muon) or fresh_training or plain_one "
                    "or compiled_again or killed and 6 or scoring_data or stateless_loop "
                    "or past_the_optimizer or compiles_once and gan or reported_late "
                    "or other_models")


@pytest.mark.long
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_test_passes_on_another_backend(backend):
    pytest.importorskip(backend)
    on(backend, "-m", "not long")


NO_TENSORFLOW = """
import sys
sys.modules.update(dict.fromkeys(["tensorflow", "tf_keras", "tensorflow_model_optimization",
                                  "tensorflow_datasets"]))
import networks3 as networks
model, x, y = networks.compiled("convolutional")
search = networks.lottery(rounds=1)
networks.fit(model, x, y, search)
search.ticket.save(sys.argv[1])
"""


def test_a_search_runs_where_tensorflow_cannot_be_imported(tmp_path):
    pytest.importorskip("jax")
    import networks3 as networks

    import lth_keras as lth
    path = tmp_path / "found.ticket"
    subprocess.run([sys.executable, "-c", NO_TENSORFLOW, str(path)], check=True, env={
        **os.environ, "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "support"), str(HERE.parent.parent)])})
    model, _, _ = networks.compiled("convolutional")
    assert lth.Ticket.load(path).apply(model) is model
