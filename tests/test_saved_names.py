"""What Keras writes into files of models by class stays loadable, wherever its module lies."""

import doctest
import importlib
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tf_keras as keras

import lth_keras
from lth_keras.deployment.compaction.gather_layer import GatherFeatures
from lth_keras.experiments.training.optimizers import CoupledSGD, Rate

SAVED = lth_keras._SAVED


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
    assert vars(lth_keras)[name] is getattr(home, name)


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


def test_what_is_saved_loads_in_a_program_that_does_not_import_the_package():
    kept = keras.saving.serialize_keras_object(GatherFeatures([0, 2]))
    program = ("import tf_keras; print(type(tf_keras.saving.deserialize_keras_object("
               f"{kept!r})).__name__)")
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert ran.stdout == b"GatherFeatures\n"


def test_a_layer_of_an_earlier_name_is_known():
    kept = {"class_name": "Take", "registered_name": "lth_keras>Take",
            "module": "lth_keras.deployment.compaction.gather_layer",
            "config": {"positions": [0, 2]}}
    assert isinstance(keras.saving.deserialize_keras_object(kept), GatherFeatures)


@pytest.mark.parametrize("name", SAVED)
def test_its_example_runs(name):
    # pytest seeks examples of classes by their __module__.
    home = importlib.import_module(f"lth_keras.{SAVED[name]}")
    for test in doctest.DocTestFinder().find(getattr(home, name), name, globs=vars(home)):
        assert not doctest.DocTestRunner().run(test).failed
