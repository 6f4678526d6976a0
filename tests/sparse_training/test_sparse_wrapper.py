"""What Keras' optimizers can do, of the optimizers that wrap one: no name does nothing silently."""

import importlib

import numpy as np
import pytest

import lth_keras as lth
from lth_keras.errors import LotteryError

# Why a name of Keras' own is right as it is, for what no class of this package has.
RIGHT = {
    "aggregate_gradients": "sums over devices, of which there is one",
    "apply_gradients": "in Keras 3 it calls apply, which takes the step",
    "compute_gradients": "is of the loss alone; clipping is the wrapped optimizer's, in its step",
    "minimize": "computes gradients, and takes the step by apply_gradients",
    "stateless_apply": "calls apply, with values for `variables`",
    "finalize_variable_values": "is for moving averages, which are refused",
    "scale_loss": "is for loss scaling, which is refused",
    "save_own_variables": "goes through `variables`",
    "load_own_variables": "goes through `variables`",
    "set_weights": "in Keras 3 goes through what `variables` gives",
    "variables": "in Keras 3 has what the host tracks, the wrapped optimizer's too",
    "iterations": "is the wrapped optimizer's variable; setting another one is an error",
    "add_variable": "in Keras 3 makes one of `variables`",
    "add_variable_from_reference": "in Keras 3 makes one of `variables`",
    "add_optimizer_variables": "makes some of `variables`",
    "assign": "is an operation of the backend", "assign_add": "the same",
    "assign_sub": "the same", "update_step": "raises NotImplementedError",
    "build": "in Keras 3 keeps the model's variables, for steps without their names",
}
# Attributes of an instance that may be set.
OWN = {"name", "built", "host", "state", "inner_optimizer"}


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    module = importlib.import_module(request.param)
    module.utils.set_random_seed(0)
    return module


def wrapped(keras, kind="SparseTraining", inner=None):
    model = keras.Sequential([
        keras.layers.Input((4,)), keras.layers.Dense(6, name="a"),
        keras.layers.BatchNormalization(name="n"), keras.layers.Dense(3, name="b")])
    inner = inner or keras.optimizers.Adam(0.1)
    options = {"density": 0.5, "method": "static"} if kind == "SparseTraining" else {"kept": 0.5}
    return model, getattr(lth, kind)(model, inner, **options)


@pytest.mark.parametrize("kind", ["SparseTraining", "Supermask"])
def test_every_name_of_an_optimizer_forwards_or_raises_or_is_right(keras, kind):
    _, optimizer = wrapped(keras, kind)
    public, ours = set(), set()
    for part in type(optimizer).__mro__:
        names = {name for name in vars(part) if not name.startswith("_")}
        if part.__module__.startswith("lth_keras"):
            ours |= names
        elif part.__module__.startswith(("keras", "tf_keras")):
            public |= names
    assert public - ours <= set(RIGHT), "forward it, or refuse it, or say why it is right"
    for name in ("learning_rate", "get_config", "from_config", "exclude_from_weight_decay"):
        assert name in ours
    for name in {name for name in vars(optimizer) if not name.startswith("_")} - OWN:
        with pytest.raises(LotteryError, match=f"Received: {name}=.*Give it to your own"):
            setattr(optimizer, name, 0.5)


def test_weight_decay_leaves_out_what_the_wrapped_optimizer_was_told(keras):
    _, optimizer = wrapped(keras)
    with pytest.raises(LotteryError, match="Call it on your own optimizer before you wrap it"):
        optimizer.exclude_from_weight_decay(var_names=["gamma"])
    inner = keras.optimizers.SGD(0.1, weight_decay=0.5)
    inner.exclude_from_weight_decay(var_names=["gamma"])
    model, optimizer = wrapped(keras, inner=inner)
    model.compile(optimizer, "mse")
    zeros = np.zeros((8, 4), np.float32)
    before = model.layers[0].get_weights()[0]
    model.fit(zeros, np.zeros((8, 3)), verbose=0)
    assert (model.layers[1].get_weights()[0] == 1).all()
    np.testing.assert_allclose(model.layers[0].get_weights()[0], 0.95 * before, rtol=1e-6)


@pytest.mark.parametrize("kind", ["SparseTraining", "Supermask"])
def test_set_weights_sets_all_variables(keras, kind):
    model, optimizer = wrapped(keras, kind)
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4)).astype(np.float32)
    model.fit(x, x[:, :3], verbose=0)
    kept = [optimizer.host.read(variable) for variable in optimizer.variables]
    model.fit(x, x[:, :3], verbose=0)
    optimizer.build(model.trainable_variables)  # Keras 3 asks for it.
    optimizer.set_weights(kept)
    for variable, value in zip(optimizer.variables, kept, strict=True):
        assert (optimizer.host.read(variable) == value).all()
    assert int(optimizer.iterations) == 1
    if keras.__name__ == "tf_keras":
        with pytest.raises(LotteryError, match=r"Received: 1 arrays\. Take those"):
            optimizer.set_weights(kept[:1])
        with pytest.raises(LotteryError, match="makes its variables itself"):
            optimizer.add_variable((2,))
        with pytest.raises(RuntimeError, match="Cannot set `iterations`"):
            optimizer.iterations = optimizer.host.new("other", np.int64(0))


def test_learning_rate_and_steps_are_the_wrapped_optimizers(keras):
    _, optimizer = wrapped(keras)
    optimizer.learning_rate = 0.25
    inner = optimizer.inner_optimizer
    assert float(np.asarray(optimizer.host.read(inner.learning_rate))) == 0.25
    assert optimizer.iterations is inner.iterations
    same = type(optimizer).from_config(optimizer.get_config())
    assert type(same) is type(inner)
    with pytest.raises(NotImplementedError):
        optimizer.update_step(None, None, *([0.1] * (keras.__name__ == "keras")))
