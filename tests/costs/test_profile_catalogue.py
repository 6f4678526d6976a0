"""`lth.profile` on every kind of model of the catalogues, wrapped too."""

import compat_keras3
import compat_models
import pytest

import lth_keras as lth
from lth_keras.errors import LotteryError

# A variable that its train_step alone uses is no weight of its network.
HELD = {"own_step": 2}


@pytest.mark.long
@pytest.mark.parametrize("name", compat_models.MODELS)
def test_a_wrapped_model_costs_what_it_does_without_wrappers(name):
    case = compat_models.MODELS[name]
    model = case.build()
    if name == "ragged":
        with pytest.raises(LotteryError, match="the same for all"):
            lth.profile(model)
        return
    before = lth.profile(model)
    assert before.parameters == model.count_params() - HELD.get(name, 0)
    assert before.macs > 0 and before.macs_kept == before.macs and before.density == 1
    wrapped = lth.profile(lth.prune_low_magnitude(model, include=case.include))
    columns = [column for column in before.layers if column != "density"]  # An Embedding may have.
    assert wrapped.layers[columns].equals(before.layers[columns])
    assert wrapped.notes == before.notes


@pytest.mark.long
@pytest.mark.parametrize("name", compat_keras3.MODELS)
def test_every_model_of_keras_3_is_counted(name):
    model = compat_keras3.MODELS[name].build()
    found = lth.profile(model)
    assert found.parameters == model.count_params() and found.macs_kept == found.macs > 0
    assert found.layers.layer.is_unique
