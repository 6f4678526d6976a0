"""What Keras writes into files of models by class stays loadable, wherever its module lies."""

import doctest
import gzip
import importlib
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tf_keras as keras

import lth_keras
from lth_keras import saved_names
from lth_keras.deployment.models.gather_layer import GatherFeatures
from lth_keras.experiments.training_keras2.optimizers import CoupledSGD, Rate

pytestmark = pytest.mark.thorough

SAVED = saved_names.HOMES
# Files that version 0.1.0 wrote (.h5 in gzip), and what their models predict for X.
FILES = pathlib.Path(__file__).parent / "data" / "version_0_1_0"
X = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
PREDICTED = {
    "layers.keras": [[-0.119482286, 0.138209105], [-0.348181933, 0.798188210]],
    "layers.h5": [[-0.140952602, -0.597697437], [-0.445685834, -1.908538818]],
    "subclassed.keras": [[-0.071896546, -0.214283407, 0.222805321],
                         [0.231905594, -0.504320443, 0.302343011]],
}


class Mine(keras.Model):
    """A model of a user's class."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        return {"name": self.name}


def model():
    made = lth_keras.prune_low_magnitude(keras.Sequential([
        keras.layers.Input((4,)), keras.layers.Dense(6), GatherFeatures([0, 2]),
        keras.layers.Dense(2)]))
    made.compile(CoupledSGD(Rate(0.5, warmup_steps=2), 0.5, 0.25), "mse")
    return made


def modules(config):
    """Every module that a file's config names."""
    if isinstance(config, dict):
        own = {config["module"]} if "class_name" in config and config.get("module") else set()
        return own.union(*map(modules, config.values()))
    return set().union(*map(modules, config)) if isinstance(config, list) else set()


@pytest.mark.parametrize("name", SAVED)
def test_each_is_of_the_package_itself(name):
    home = importlib.import_module(f"lth_keras.{SAVED[name]}")
    assert name == "WrappedModel" or getattr(home, name).__module__ == "lth_keras"
    assert getattr(lth_keras, name) is getattr(home, name)


def test_a_file_names_the_package_and_none_of_its_modules(tmp_path):
    model().save(tmp_path / "model.keras")
    mine = Mine()
    mine(np.ones((1, 4)))
    lth_keras.prune_low_magnitude(mine).save(tmp_path / "mine.keras")
    for name in ("model", "mine"):
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as file:
            named = modules(json.loads(file.read("config.json")))
        assert "lth_keras" in named
        assert not [module for module in named if module.startswith("lth_keras.")]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of version 0.1.0, as they were written."""
    folder = tmp_path_factory.mktemp("files")
    for path in FILES.iterdir():
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        (folder / path.name.removesuffix(".gz")).write_bytes(content)
    return folder


# Loads a layer, then the files; of a class of the user's, registered with Keras, as in the files.
LOADING = """
import json, sys
import numpy as np, tf_keras as keras

@keras.saving.register_keras_serializable("mine")
class Mine(keras.Model):
    def __init__(self, units=3, **options):
        super().__init__(**options)
        self.units = units
        self.dense = keras.layers.Dense(units)
    def call(self, inputs):
        return self.dense(inputs)
    def get_config(self):
        return {"units": self.units}

assert type(keras.saving.deserialize_keras_object(gather)).__name__ == "GatherFeatures"
predicted = {}
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    x = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    predicted[path] = model.predict(x, verbose=0).tolist()
    wrapper = next(layer for layer in model._flatten_layers()
                   if type(layer).__name__ == "MaskedLayer")
    kernel, mask = wrapper.pruning_vars[0][0], wrapper.pruning_vars[0][1].numpy()
    before = kernel.numpy()
    model.fit(x, np.ones_like(predicted[path]), epochs=2, verbose=0)
    assert 0 < mask.mean() < 1 and not kernel.numpy()[mask == 0].any(), path
    assert (kernel.numpy()[mask == 1] != before[mask == 1]).any(), path
print(json.dumps(predicted))
"""


# That Keras knows the classes whichever is imported first is also tried without TensorFlow, below.
LATER = "import lth_keras, tensorflow_model_optimization"


@pytest.mark.parametrize("imports, names", [
    # Keras itself imports a package for the class of a whole model, not for its layers'.
    ("", ["subclassed.keras"]),
    (LATER, list(PREDICTED)),
    pytest.param("import lth_keras, tf_keras", list(PREDICTED), marks=pytest.mark.long),
    pytest.param("import tf_keras, lth_keras", list(PREDICTED), marks=pytest.mark.long),
])
def test_layers_load_and_files_of_version_0_1_0_go_on_training_sparse(imports, names, files):
    gather = keras.saving.serialize_keras_object(GatherFeatures([0, 2]))
    program = f"{imports}\ngather = {gather}\n{LOADING}"
    ran = subprocess.run([sys.executable, "-c", program, *names], cwd=files,
                         env={**os.environ, "PYTHONPATH": str(FILES.parents[2])},
                         check=True, capture_output=True)
    predicted = json.loads(ran.stdout)
    assert list(predicted) == names
    for name in names:
        np.testing.assert_allclose(predicted[name], PREDICTED[name], rtol=1e-5)


def test_a_layer_of_an_earlier_name_is_known():
    kept = {"class_name": "Take", "registered_name": "lth_keras>Take",
            "module": "lth_keras.deployment.models.gather_layer",
            "config": {"positions": [0, 2]}}
    assert isinstance(keras.saving.deserialize_keras_object(kept), GatherFeatures)


@pytest.mark.parametrize("name", SAVED)
def test_its_example_runs(name):
    # pytest seeks examples of classes by their __module__.
    home = importlib.import_module(f"lth_keras.{SAVED[name]}")
    for test in doctest.DocTestFinder().find(getattr(home, name), name, globs=vars(home)):
        assert not doctest.DocTestRunner().run(test).failed


@pytest.fixture
def run(tmp_path):
    """Runs a program beside a tf_keras that does nothing, and fails to load once, if told to."""
    (tmp_path / "tf_keras.py").write_text(
        "import builtins, types\n"
        "if vars(builtins).pop('failing', False): raise ImportError('as told')\n"
        "known = {}\n"
        "saving = types.SimpleNamespace(get_custom_objects=lambda: known)\n")

    def run(program):
        paths = os.pathsep.join([str(tmp_path), str(pathlib.Path(lth_keras.__file__).parents[1])])
        ran = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True,
                             env={**os.environ, "PYTHONPATH": paths}, text=True)
        assert not ran.returncode, ran.stderr
        return ran.stdout.strip()
    return run


@pytest.mark.parametrize("imports", ["lth_keras, tf_keras", "tf_keras, lth_keras"])
def test_keras_knows_every_saved_class_whichever_is_imported_first(imports, run):
    known = run(f"import {imports}, sys; print(*tf_keras.known); "
                "assert 'tensorflow' not in sys.modules")
    assert known.split() == [f"lth_keras>{name}" for name in (*SAVED, "Take")]


def test_the_hook_waits_for_an_import_that_succeeds_and_is_gone_then(run):
    assert run("""
import builtins, importlib.util, sys
before = list(sys.meta_path)
import lth_keras
assert importlib.util.find_spec("tf_keras").loader.get_filename("tf_keras").endswith("tf_keras.py")
assert "tf_keras" not in sys.modules
builtins.failing = True
try:
    import tf_keras
except ImportError as error:
    print(error)
import tf_keras
assert len(tf_keras.known) > 1 and sys.meta_path == before
assert type(tf_keras.__loader__) is type(tf_keras.__spec__.loader) is type(lth_keras.__loader__)
""") == "as told"


def test_without_keras_nothing_is_in_the_way(run):
    run("import lth_keras, json, sys\n"
        "try: import tf_keras.nothing\n"
        "except ModuleNotFoundError: pass\n"
        "else: sys.exit('it is not there')")
