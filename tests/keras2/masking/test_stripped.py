"""Stripped models in every format that Keras has, loaded without this package's classes."""

import itertools

import networks
import numpy as np
import pytest
import subclassed
import tf_keras as keras
from networks import X
from tiers import short_and_long

import lth_keras as lth


def setup_function():
    keras.utils.set_random_seed(0)


def called(kind):
    model = kind()
    model(X)
    return model


MODELS = {**{name: make for name, (make, _) in networks.ARCHITECTURES.items()},
          "everywhere": lambda: called(subclassed.Everywhere),
          "own_step": lambda: called(subclassed.OwnStep)}
IN_PLACE = ("everywhere", "own_step")
FORMATS = {"h5": ".h5", "tf": "", "keras": ".keras"}
# What Keras does not save, or does not load, of a dense model either.
LIMITS = {**{(name, "h5"): NotImplementedError for name in IN_PLACE},
          ("shared_with_nested", "keras"): ValueError}
CASES = [case for case in itertools.product(MODELS, FORMATS) if case not in LIMITS]
SHORT = [("convolutional", "h5"), ("nested", "tf"), ("own_step", "tf")]


@pytest.mark.parametrize(("name", "kind"), short_and_long(CASES, SHORT))
def test_a_stripped_model_is_saved_and_loaded_with_the_same_predictions(name, kind, tmp_path):
    model = networks.draw_masks(lth.prune_low_magnitude(MODELS[name]()))
    inputs = X[:8] if name in IN_PLACE else networks.inputs_for(model)
    predictions = model(inputs).numpy()
    kernels = [weight.numpy() for weight, _ in networks.pruning_vars(model)]
    stripped = lth.strip_pruning(model)
    path = tmp_path / f"model{FORMATS[kind]}"
    stripped.save(path, save_format=kind)
    assert b"lth_keras" not in b"".join(
        file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(inputs), predictions)
    found = {weight.numpy().tobytes() for weight in loaded.weights}
    assert all(kernel.tobytes() in found for kernel in kernels)


@pytest.mark.parametrize(("name", "kind"), LIMITS)
def test_what_keras_does_not_keep_of_a_stripped_model_it_does_not_of_a_dense_one(
        name, kind, tmp_path):
    path = tmp_path / f"model{FORMATS[kind]}"
    for model in (MODELS[name](), lth.strip_pruning(lth.prune_low_magnitude(MODELS[name]()))):
        with pytest.raises(LIMITS[name, kind]):
            model.save(path, save_format=kind)
            keras.models.load_model(path)
