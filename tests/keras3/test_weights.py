"""Where a Keras 3 model's weights lie, by which they are named and pruned."""

import keras
import numpy as np
import pytest

from lth_keras.keras3.weights import named_weights, prunable_weights

layers = keras.layers


class Block(layers.Layer):
    """Attributes of every kind: `_self_...` also is how TensorFlow calls what it tracks."""

    def __init__(self, **options):
        super().__init__(**options)
        self._self_attention_layer = layers.Dense(3)
        self.experts = {"one": [layers.Dense(3)]}

    def call(self, inputs):
        return self.experts["one"][0](self._self_attention_layer(inputs))


def test_layers_are_found_under_any_name_of_an_attribute():
    model = keras.Sequential([keras.Input((4,)), Block(), layers.Dense(2)])
    assert [name for name in named_weights(model) if name.endswith("kernel")] == [
        "block/self_attention_layer/kernel", "block/experts/one/0/kernel", "dense/kernel"] \
        == list(prunable_weights(model))


class Hidden(layers.Layer):
    """Holds a layer in a set, and a weight nowhere."""

    def __init__(self, **options):
        super().__init__(**options)
        self.layers_of_mine, self.dense = {layers.Dense(3)}, layers.Dense(2)

    def build(self, shape):
        self.add_weight(shape=(2, 2), name="lost")
        layer, = self.layers_of_mine
        layer.build(shape)
        self.dense.build((None, 3))

    def call(self, inputs):
        layer, = self.layers_of_mine
        return self.dense(layer(inputs))


def test_weights_that_no_attribute_leads_to_are_warned_of_before_they_stay_dense():
    model = keras.Sequential([keras.Input((4,)), Hidden(name="hidden")])
    with pytest.warns(UserWarning, match="stay dense.*Received: hidden/lost, hidden/kernel. Hold"):
        assert list(prunable_weights(model)) == ["hidden/dense/kernel"]
    assert np.prod(named_weights(model)["hidden/kernel"].shape) == 12
