"""Models as people write them: zeros at every batch, one compilation, files that are plain."""

import os
import pathlib
import subprocess
import sys

import keras
import networks3 as networks
import numpy as np
import pytest
import real3

EPOCHS, STEPS, BATCH = 2, 4, 32


class Traced:
    """Counts how often a model's training step is traced; on torch, how often it runs."""

    def __init__(self, model):
        self.count, step = 0, model.train_step

        def train_step(*arguments):
            self.count += 1
            return step(*arguments)
        vars(model)["train_step"] = train_step  # In the instance alone, past Keras' tracking.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Gets the file of every model that was searched, and what it predicts."""
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", [
    name if name in ("convnet", "gan") else pytest.param(name, marks=pytest.mark.thorough)
    for name in real3.MODELS])
def test_a_search_keeps_zeros_compiles_once_and_saves_a_plain_model(name, folder):
    model, x, y = real3.compiled(name)
    traced = Traced(model)
    search = networks.lottery(epochs_per_round=EPOCHS)
    seen = networks.Violations(search)
    history = model.fit(x, y, batch_size=BATCH, epochs=search.epochs, verbose=0,
                        callbacks=[search, seen]).history
    steps = (search.schedule.rounds + 1) * EPOCHS * STEPS
    assert (seen.count, seen.batches) == (0, steps)
    assert traced.count == (steps if keras.backend.backend() == "torch" else 1)
    assert search.results.density.round(1).tolist() == [1.0, 0.6, 0.4]
    if "loss" in history:  # Each level learns, from theta_0 on.
        losses = np.array(history["loss"]).reshape(-1, EPOCHS)
        assert (losses[:, -1] < losses[:, 0]).all()
    model.save(folder / f"{name}.keras")
    np.savez(folder / f"{name}.npz", x=real3.probe(name),
             predicted=model.predict(real3.probe(name), verbose=0))


PLAIN = """
import pathlib, sys
import keras, numpy as np
import real3
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    model = keras.models.load_model(path, compile=path.stem != "gan")
    data = np.load(path.with_suffix(".npz"))
    assert np.array_equal(model.predict(data["x"], verbose=0), data["predicted"]), path
    kernels = [np.asarray(keras.ops.convert_to_numpy(w)) for w in model.trainable_weights]
    assert sum((k == 0).sum() for k in kernels if k.ndim > 1) > 0.4 * sum(k.size for k in kernels)
assert not [name for name in sys.modules if name.startswith("lth_keras")]
"""


@pytest.mark.thorough
def test_the_files_load_where_the_package_is_not(folder):
    for name in real3.MODELS:
        if not (folder / f"{name}.keras").exists():  # Only this test was asked for.
            test_a_search_keeps_zeros_compiles_once_and_saves_a_plain_model(name, folder)
    subprocess.run([sys.executable, "-c", PLAIN, str(folder)], check=True, env={
        **os.environ, "PYTHONPATH": os.pathsep.join(
            [str(pathlib.Path(real3.__file__).parent), os.environ.get("PYTHONPATH", "")])})
