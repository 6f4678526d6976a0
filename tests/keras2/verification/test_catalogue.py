"""Every model of the catalogue passes `lth.verify`."""

import functools

import compat_models
import numpy as np
import pytest
import tf_keras as keras
from fits import short_and_long

import lth_keras as lth

FAST = ["many", "dropout", "batch_norm"]


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
