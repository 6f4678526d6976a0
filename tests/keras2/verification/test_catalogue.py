"""Every model of the catalogue, and every fit that it can make, passes `lth.verify`."""

import functools
import re

import compat_fits
import compat_models
import fits
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import X, Y
from tiers import short_and_long

import lth_keras as lth

pytestmark = pytest.mark.thorough

FAST = ["many", "dropout"]


def verified(case):
    """The report of a model of the catalogue, compiled as the catalogue trains it."""
    keras.utils.set_random_seed(0)
    x, y = compat_models.data(case.build(), case)

    def build():
        model = case.build()
        optimizer = keras.optimizers.Adam(1e-2, global_clipnorm=1.0)
        if case.policy == "mixed_float16":
            optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "mse")
        return model
    wrap = functools.partial(lth.prune_low_magnitude, include=case.include)
    return lth.verify(build, (x, y), steps=4, wrap=wrap)


@pytest.mark.parametrize("name", short_and_long(list(compat_models.MODELS), FAST))
def test_a_model_of_the_catalogue_passes(name):
    case = compat_models.MODELS[name]
    keras.mixed_precision.set_global_policy(case.policy)
    try:
        report = verified(case)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert report.ok, str(report)
    assert "wrapping" not in report.skipped and "pruning" not in report.skipped
    if not case.no_file:
        assert np.all([check == "rewinding" for check in report.skipped]), report.skipped


def built(optimizer="adam", loss="mse", **options):
    """A function that builds the catalogue's network, compiled with these options."""
    def build():
        model = keras.Sequential([
            keras.layers.Input((6,), name="rows"), keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(2)])
        model.compile(optimizer() if callable(optimizer) else optimizer, loss, **options)
        return model
    return build


LABELS = np.arange(len(X)) % 2
_logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
DATA = {
    "NumPy arrays": (X, Y), "tensors": (tf.constant(X), tf.constant(Y)),
    "dict of inputs": ({"rows": X}, Y), "tf.data": fits.dataset(),
    "tf.data of dicts": fits.dataset().map(lambda x, y: ({"rows": x}, y)),
    "tf.data of unknown length": fits.dataset().filter(lambda *_: True),
    "tf.data, repeated": fits.dataset().repeat(),
    "tf.data from a generator": tf.data.Dataset.from_generator(
        fits.batches, output_signature=(tf.TensorSpec((None, 6)), tf.TensorSpec((None, 2)))),
    "Python generator": fits.batches, "Sequence": fits.Batches(),
    "Sequence with workers": fits.Batches(), "DataFrame": (pd.DataFrame(X), pd.DataFrame(Y)),
    "weights of examples": (X, Y, np.ones(len(X), np.float32))}
# A fit of the catalogue -> how its model is built, and the data of it.
FITS = {
    **{f"optimizer.{name}": (built(make), (X, Y)) for name, make in fits.EVERY.items()},
    **{f"data.{name}": (built(), data) for name, data in DATA.items()},
    "class_weight": (built(loss=_logits), (X, LABELS, np.where(LABELS, 0.5, 2.0))),
    "eager": (built(run_eagerly=True), (X, Y)), "xla": (built(jit_compile=True), (X, Y)),
    "execution": (built(steps_per_execution=2), (X, Y)),
    "long_execution": (built(steps_per_execution=9), (X, Y)),
    "auto_execution": (built(steps_per_execution="auto"), (X, Y))}
# Fits that lth.verify cannot make: it calls `fit` itself, in this process, with batches alone.
NOT_VERIFIED = {
    "callbacks, files and arguments of fit": r"beside\..*|file\..*|validation_.*|initial_epoch|"
                                             r"early_stopping|interrupted|unknown_execution|diverged",
    "promises of a search, which `pruning` and `rewinding` check for every optimizer above":
        r"zero|alone\..*|rewound\..*",
    "loops of one's own": r"loop\..*",
    "a structure of masks, which the case itself searches, saves and makes smaller": r"filters\..*",
    "several devices": r"(mirrored|workers)\..*"}


@pytest.mark.parametrize("name", short_and_long(FITS, ["execution"]))
def test_a_fit_of_the_catalogue_passes(name):
    build, data = FITS[name]
    keras.utils.set_random_seed(0)
    report = lth.verify(build, data() if callable(data) else data, steps=4)
    assert report.ok, str(report)
    assert not report.skipped, report.skipped


def test_every_fit_of_the_catalogue_is_verified_or_has_its_reason():
    for name in compat_fits.CASES:
        reasons = [why for why, names in NOT_VERIFIED.items() if re.fullmatch(names, name)]
        assert (name in FITS) + len(reasons) == 1, name
