"""Models of every kind are searched, stripped, saved and loaded."""

import compat_models
import pytest

FAST = ["many", "sparse", "applications.MobileNetV2"]


@pytest.mark.thorough
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.thorough) if name.startswith("applications.") else name
    for name in FAST])
def test_it_is_searched_stripped_saved_and_loaded(name):
    compat_models.CASES[name].ours()


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in compat_models.CASES if name not in FAST])
def test_every_model_of_the_catalogue_works_or_has_the_limit_that_is_stated(name):
    compat_models.CASES[name].ours()


def test_the_catalogue_has_every_network_of_keras_applications():
    found = [name for name in compat_models.CASES if name.startswith("applications.")]
    assert len(found) >= 70
    assert {"applications.ConvNeXtTiny", "applications.NASNetLarge"} <= set(found)


def test_a_limit_that_a_dense_model_does_not_have_is_found_out():
    model = compat_models.MODELS["sequential"]
    false = compat_models.Model(model.title, model.build, no_xla="a reason that is not so")
    with pytest.raises(AssertionError, match="does not have"):
        false.case.ours()
