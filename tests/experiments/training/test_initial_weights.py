"""The weights that a network is drawn with: those of its layers' own initializers."""

import numpy as np
import pytest

from lth_keras.experiments.config import presets
from lth_keras.experiments.training.networks import NETWORKS
from lth_keras.experiments.training_keras2.models import TF_KERAS
from lth_keras.experiments.training_keras3.models import KERAS

BOTH = pytest.mark.parametrize("package", [TF_KERAS, KERAS], ids=["tf_keras", "keras"])


def kernels(input_shape, classes, keras):
    """A network with every kind of kernel that images have."""
    layers = keras.layers
    return keras.Sequential([
        layers.Input(input_shape), layers.Reshape((*input_shape, 1)),
        layers.Conv2D(8, 3, name="full"), layers.DepthwiseConv2D(3, name="depthwise"),
        layers.SeparableConv2D(8, 3, name="separable"), layers.BatchNormalization(name="norm"),
        layers.Reshape((2, 16)), layers.LSTM(8, name="lstm"),
        layers.Dense(classes, name="out")])


def recurrent(keras):
    """Layers of Keras with biases, scales and statistics of all kinds."""
    layers = keras.layers
    return keras.Sequential([
        layers.Input((3, 8, 8, 2)), layers.ConvLSTM2D(3, 3, name="conv_lstm"),
        layers.GroupNormalization(3, name="groups"), layers.BatchNormalization(name="batch"),
        layers.PReLU(name="slopes"), layers.Reshape((6, 18)),
        layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both"),
        layers.RNN(layers.LSTMCell(3), return_sequences=True, name="cell"),
        layers.LSTM(3, unit_forget_bias=False, return_sequences=True, name="plain"),
        layers.LSTM(3, bias_initializer=keras.initializers.Constant(0.25), name="constant",
                    return_sequences=True),
        layers.GRU(3, name="gru"), layers.Dense(2, name="out")])


@BOTH
def test_what_a_layer_does_not_draw_begins_as_the_layer_makes_it(package):
    models = [recurrent(package.keras) for _ in range(2)]
    built, again = ({slot.path: package.to_numpy(slot.variable) for slot in package.slots(model)}
                    for model in models)
    drawn = package.initial_weights(models[0], np.random.default_rng(0))
    fixed = [name for name in built if np.array_equal(built[name], again[name])]
    assert [name for name in fixed if not np.array_equal(drawn[name], built[name])] == []
    assert len(fixed) == 15 and drawn["cell/cell/bias"].tolist() == [0] * 3 + [1] * 3 + [0] * 6


@BOTH
@pytest.mark.parametrize("word", ["normal_3", "own"])
def test_an_initializer_is_that_of_every_kernel_and_of_nothing_else(package, word, monkeypatch):
    monkeypatch.setitem(NETWORKS, "kernels", kernels)
    config = presets.get("digits").replace(network="kernels", initializer=word)
    drawn = package.initial_weights(package.build(config, (8, 8), 10), np.random.default_rng(0))
    wide = [name for name, value in drawn.items() if 2.4 < value.std() < 3.6]
    found = [name for name in drawn if name.endswith("kernel")] if word == "normal_3" else []
    assert wide == found and len(found) in (0, 7)
