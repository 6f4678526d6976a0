"""A sparse training that stops, is restored by what Keras or TensorFlow kept, and goes on."""

import importlib

import numpy as np
import pytest

import lth_keras as lth

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
METHODS = {"static": {}, "gradual": {"every": 3, "until": 16}, "set": {"every": 3, "until": 16},
           "rigl": {"every": 3, "until": 16}, "edge_popup": {"kept": 0.5},
           "biprop": {"kept": 0.5}, "bernoulli": {}}


class Killed(Exception):
    """The end of a process, in its place."""


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    return importlib.import_module(request.param)


def training(keras, method):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.layers.Input((4,)), keras.layers.Dense(6, "tanh", name="a"),
        keras.layers.BatchNormalization(name="n"), keras.layers.Dense(3, "softmax", name="b")])
    if method in ("edge_popup", "biprop", "bernoulli"):
        optimizer = lth.Supermask(model, keras.optimizers.SGD(0.5, momentum=0.9), method=method,
                                  seed=3, **METHODS[method])
    else:
        optimizer = lth.SparseTraining(model, keras.optimizers.Adam(0.05), method, density=0.4,
                                       seed=3, **METHODS[method])
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model, optimizer


def fit(model, epochs, *callbacks):
    model.fit(X, Y, batch_size=8, shuffle=False, epochs=epochs, verbose=0,
              callbacks=[*callbacks])


def backup_and_restore(keras, method, path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise Killed
    model, _ = training(keras, method)
    with pytest.raises(Killed):
        fit(model, 6, keras.callbacks.BackupAndRestore(path / "backup"), Kill())
    model, optimizer = training(keras, method)
    fit(model, 6, keras.callbacks.BackupAndRestore(path / "backup"))
    return model, optimizer


def kept(save, restore):
    def go_on(keras, method, path):
        model, optimizer = training(keras, method)
        fit(model, 3)
        written = save(model, optimizer, path)
        model, optimizer = training(keras, method)
        restore(model, optimizer, path, written)
        fit(model, 3)
        return model, optimizer
    return go_on


def checkpoint(model, optimizer, path):
    tf = pytest.importorskip("tensorflow")
    return tf.train.Checkpoint(model=model, optimizer=optimizer).save(str(path / "point"))


def restore(model, optimizer, path, written):
    tf = pytest.importorskip("tensorflow")
    tf.train.Checkpoint(model=model, optimizer=optimizer).restore(written).assert_consumed()


def weights(name):
    return kept(lambda model, optimizer, path: model.save_weights(str(path / name)),
                lambda model, optimizer, path, written: model.load_weights(str(path / name)))


WAYS = {"BackupAndRestore": backup_and_restore, "Checkpoint": kept(checkpoint, restore),
        "h5": weights("w.weights.h5"), "tf": weights("w")}


@pytest.mark.parametrize(("method", "way"), [
    pytest.param(method, way, marks=() if method == "edge_popup" else pytest.mark.thorough)
    for method in METHODS for way in WAYS])
def test_restored_it_goes_on_as_if_it_had_not_stopped(keras, method, way, tmp_path):
    if keras.__name__ == "keras" and way in ("Checkpoint", "tf"):
        pytest.skip("Keras 3 raises an error as it is asked to save.")
    expected, whole = training(keras, method)
    fit(expected, 6)
    model, optimizer = WAYS[way](keras, method, tmp_path)
    assert int(optimizer.iterations) == 18
    for now, then in zip(model.get_weights(), expected.get_weights(), strict=True):
        assert (now == then).all()
    ticket, wanted = optimizer.ticket(), whole.ticket()
    assert all((ticket.masks[name] == mask).all() for name, mask in wanted.masks.items())
    assert all((ticket.weights[name] == value).all() for name, value in wanted.weights.items())
    for now, then in zip(optimizer.variables, whole.variables, strict=True):
        assert (optimizer.host.read(now) == whole.host.read(then)).all()
    optimizer.check()
