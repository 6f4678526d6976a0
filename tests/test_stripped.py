"""Stripped models in every format that Keras has, loaded without this package's classes."""

import networks
import numpy as np
import pytest
import subclassed
import tensorflow as tf
import tf_keras as keras
from fits import short_and_long
from networks import X

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
# What Keras does not save or load of a dense model either.
NOT_IN_H5 = (*IN_PLACE, "custom")


def cases():
    return [(name, kind) for name in MODELS for kind in FORMATS
            if kind != "h5" or name not in NOT_IN_H5]


SHORT = [("convolutional", "h5"), ("nested", "h5"), ("nested", "tf"), ("own_step", "tf")]


@pytest.mark.parametrize(("name", "kind"), short_and_long(cases(), SHORT))
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
    if kind == "tf":
        served = tf.saved_model.load(str(path))
        np.testing.assert_array_equal(served(inputs, training=False), predictions)


@pytest.mark.parametrize(("name", "error"), [("everywhere", NotImplementedError),
                                             ("custom", ValueError)])
def test_what_keras_does_not_keep_in_an_h5_file_it_does_not_of_a_dense_model_either(
        name, error, tmp_path):
    for model in (MODELS[name](), lth.strip_pruning(lth.prune_low_magnitude(MODELS[name]()))):
        with pytest.raises(error):
            model.save(tmp_path / "model.h5")
            keras.models.load_model(tmp_path / "model.h5")
