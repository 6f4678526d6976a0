"""What training changes and Keras does not track is rewound, and kept in a workdir."""

import keras
import networks3 as networks
import numpy as np
import pytest
from dying import Death, Dies
from networks3 import CLASSES, IMAGES

from lth_keras.keras3 import held

layers = keras.layers


class Box:
    """An object of the user's own class."""


def counter():
    """A variable of Keras: a model may hold it in any way."""
    return keras.Variable(0.0)


def raw_counter():
    """A variable of TensorFlow's own."""
    tf = pytest.importorskip("tensorflow")
    return tf.Variable(0.0)


class Counts(layers.Layer):
    """Adds one to a variable in every training step."""

    def __init__(self, variable):
        super().__init__()
        self.box = Box()
        self.box.inside = [variable]

    def call(self, inputs, training=False):
        if training:
            variable = self.box.inside[0]
            variable.assign(variable + 1.0)
        return inputs


def batch_norm_of_torch():
    torch = pytest.importorskip("torch")
    return torch.nn.BatchNorm1d(64, affine=False)


MAKERS = {
    "variable": ("tensorflow torch", lambda: Counts(counter())),
    "tf.Variable": ("tensorflow", lambda: Counts(raw_counter())),
    "buffer": ("torch", lambda: layers.TorchModuleWrapper(batch_norm_of_torch())),
}


@pytest.fixture(params=MAKERS)
def model(request):
    backends, make = MAKERS[request.param]
    if keras.backend.backend() not in backends.split():
        pytest.skip(f"made for {backends}")

    def build():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), make(),
                                  layers.Dense(10)])
        model.compile("adam", networks.LOGITS)
        return model
    return build


def found(model):
    return [np.array(keras.ops.convert_to_numpy(variable.value)).tolist()
            for variable in held.untracked(model)]


def searched(model, *others, **options):
    search = networks.lottery(**options)
    networks.fit(model, IMAGES, CLASSES, search, *others)
    return search


def test_it_is_rewound(model):
    dense = model()
    dense.fit(IMAGES, CLASSES, batch_size=networks.BATCH, epochs=2, shuffle=False, verbose=0)
    begun = model()
    assert found(begun) and found(begun) != found(dense)
    searched(begun, fraction=0.0)
    assert found(begun) == found(dense)  # The last level alone has moved it.


def test_it_is_kept_in_a_workdir(model, tmp_path):
    whole = model()
    searched(whole)
    with pytest.raises(Death):
        searched(model(), Dies("on_epoch_begin", 4), workdir=tmp_path)
    again = model()
    searched(again, workdir=tmp_path)
    assert found(again) == found(whole)


def test_what_keras_tracks_and_what_is_of_other_trainings_is_not_among_it():
    model, _, _ = networks.compiled("convolutional")
    assert held.untracked(model) == []
    other, _, _ = networks.compiled("recurrent")
    model.layers[0].notes = box = Box()
    box.other = other
    assert held.optimizers(model) == [model.optimizer]
