"""The presets of filters on their networks: what pruning, `lth.profile` and `lth.compact` come to.

Without training: the same numbers as counted by hand, and as Liu et al. 2019 give them.
"""

import math

import filter_counts
import keras
import pytest
import tf_keras

import lth_keras as lth
from lth_keras.core.fractions import count
from lth_keras.experiments.config import presets
from lth_keras.experiments.training.networks import get


def left(model, fraction):
    """Layer -> how many filters its share leaves."""
    return {layer: model.get_layer(layer).filters - count(share, model.get_layer(layer).filters)
            for layer, share in fraction.items() if layer != "default"}


@pytest.mark.parametrize(("name", "package"), [
    pytest.param(name, package, id=f"{name}-{package.__name__}", marks=pytest.mark.thorough
                 if (name, package) == ("resnet56_l1_b", keras) else pytest.mark.long)
    for name in ("vgg16_l1_a", "resnet56_l1_a", "resnet56_l1_b", "resnet110_l1_a", "resnet110_l1_b")
    for package in (tf_keras, keras)])
def test_a_configuration_is_pruned_and_made_smaller_as_counted_by_hand(name, package):
    config = presets.get(name)
    plain = get(config.network)((32, 32, 3), 10, keras=package)
    counts = filter_counts.counted(config.network, left(plain, config.fraction))
    options = {} if package is tf_keras else {"structure": "filters"}
    model = lth.prune_low_magnitude(plain, structure="filters") if package is tf_keras else plain
    model.compile("sgd", "mse")
    lth.Search(model, fraction=config.fraction, **options).prune_and_rewind()
    found = lth.profile(model)
    assert found.macs_kept == counts.macs < found.macs
    small = lth.compact(model).model
    assert lth.profile(small).macs == counts.macs
    assert sum(math.prod(weight.shape) for weight in small.trainable_weights) == counts.parameters
    for layer, filters in left(plain, config.fraction).items():
        assert small.get_layer(layer).filters == filters
