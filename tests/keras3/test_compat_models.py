"""Keras 3 models of every kind are searched, saved and loaded, on the backend of this process."""

import compat_filters
import compat_keras3
import pytest
from compat_keras3 import CASES, HUB, MODELS

FAST = ["many", "stateful", "counting", "lora_asked"]
SMALL = ["applications.MobileNetV3Small", "applications.EfficientNetB0"]


@pytest.mark.parametrize("name", FAST)
def test_it_is_searched_saved_and_loaded_or_refused(name):
    CASES[name].run()


@pytest.mark.thorough
@pytest.mark.parametrize("name", [
    name for name in (*MODELS, "bfloat16_weights", *SMALL) if name not in FAST])
def test_every_kind_of_model_is_searched_saved_and_loaded(name):
    CASES[name].run()


@pytest.mark.long
@pytest.mark.parametrize("name", compat_filters.TITLES)
def test_whole_filters_of_every_kind_are_searched_saved_made_smaller_and_exported(name):
    CASES[f"filters.{name}"].run()


@pytest.mark.thorough
@pytest.mark.parametrize("name", [*HUB, "lora"])
def test_models_of_keras_hub_are_searched_saved_and_loaded_or_refused(name):
    pytest.importorskip("keras_hub")
    CASES[f"hub.{name}"].run()


@pytest.mark.long
@pytest.mark.parametrize("name", [f"applications.{name}" for name in compat_keras3.APPLICATIONS
                                  if f"applications.{name}" not in SMALL])
def test_every_network_of_keras_applications_is_searched(name):
    CASES[name].run()


@pytest.mark.thorough
def test_both_catalogues_call_a_model_the_same():
    pytest.importorskip("tf_keras")
    import compat_models
    common = CASES.keys() & compat_models.CASES
    assert len(common) > 80
    assert {name: CASES[name].title for name in common if name != "arguments"} \
        == {name: compat_models.CASES[name].title for name in common if name != "arguments"}
