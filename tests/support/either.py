"""A small classifier of tf_keras or of Keras 3, and its data, for what must hold in both."""

import importlib

import numpy as np
import pytest

import lth_keras as lth

PACKAGES = pytest.mark.parametrize("package", ["tf_keras", "keras"])

_draw = np.random.default_rng(0)
X = _draw.normal(size=(64, 8)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


def keras_of(package):
    return importlib.import_module(package)


def built(package):
    """The model, not wrapped and not compiled."""
    keras = keras_of(package)
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu", name="hidden"),
                             keras.layers.Dense(2, "softmax", name="out")])


def prunable(package):
    """The model as a search takes it, not compiled."""
    model = built(package)
    return lth.prune_low_magnitude(model) if package == "tf_keras" else model


def compiled(package, metrics=("accuracy",), optimizer=None):
    model = prunable(package)
    model.compile(optimizer or keras_of(package).optimizers.Adam(0.01),
                  "sparse_categorical_crossentropy", metrics=list(metrics),
                  jit_compile=False)  # Compiling takes longer than these trainings.
    return model


def search(**options):
    return lth.LotteryTicketCallback(**{"rounds": 2, "epochs_per_round": 1, "fraction": 0.5,
                                        "verbose": 0, **options})


def fit(model, lottery, *others, **options):
    return model.fit(X, Y, **{"batch_size": 16, "validation_split": 0.25, "verbose": 0,
                              "epochs": lottery.epochs, "callbacks": [lottery, *others],
                              **options})
