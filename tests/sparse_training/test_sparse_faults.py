"""What a sparse training of a user's model refuses or warns of, in place of a wrong ticket."""

import importlib
import warnings

import numpy as np
import pytest

import lth_keras as lth
from lth_keras.errors import InvariantError, LotteryError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
A, B = "a/kernel", "b/kernel"
SUPERMASKS = ("edge_popup", "biprop", "bernoulli")
METHODS = pytest.mark.parametrize("method", [
    pytest.param(method, marks=() if method in ("gradual", "edge_popup")
                 else pytest.mark.thorough)
    for method in ("static", "gradual", "set", "rigl", *SUPERMASKS)])


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    module = importlib.import_module(request.param)
    module.utils.set_random_seed(0)
    return module


def mlp(keras, **frozen):
    return keras.Sequential([
        keras.layers.Input((4,)), keras.layers.Dense(6, "tanh", name="a", **frozen),
        keras.layers.BatchNormalization(name="n"), keras.layers.Dense(3, "softmax", name="b")])


def sparse(model, method, inner="sgd", **options):
    if method in SUPERMASKS:
        return lth.Supermask(model, inner, **{"kept": 0.5, "method": method, **options})
    schedule = {} if method == "static" else {"every": 2, "until": 6}
    return lth.SparseTraining(model, inner, method, **{"density": 0.5, **schedule, **options})


def compiled(model, optimizer, **options):
    model.compile(optimizer, "sparse_categorical_crossentropy", **options)
    return model


def fit(model, epochs=1):
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0)


@METHODS
def test_weights_that_are_loaded_late_are_refused(keras, method):
    model, other = mlp(keras), mlp(keras)
    optimizer = sparse(model, method)
    compiled(model, optimizer, jit_compile=True)
    model.evaluate(X, Y, verbose=0)
    first = model.get_weights()
    model.set_weights(other.get_weights())  # As load_weights does.
    for train in (fit, lambda model: model.train_on_batch(X, Y)):
        with pytest.raises(LotteryError, match="a/kernel.*Load weights before you make"):
            train(model)
    with pytest.raises(LotteryError):
        optimizer.ticket()
    with pytest.raises(InvariantError):
        optimizer.check()
    names = list(optimizer.host.weights)
    optimizer.begin(dict(zip(names, other.get_weights(), strict=True)))
    fit(model)
    assert (optimizer.ticket().weights[A] == other.get_weights()[0]).all()
    optimizer.begin({})
    model.set_weights(first)
    with pytest.raises(LotteryError, match="Load weights before"):
        fit(model)
    compiled(model, "sgd")
    fit(model)  # Is nothing to this optimizer.


@METHODS
def test_a_bias_that_is_loaded_late_is_found_by_the_ticket(keras, method):
    model = mlp(keras)
    optimizer = sparse(model, method)
    weights = model.get_weights()
    weights[1] += 1
    model.set_weights(weights)
    with pytest.raises(LotteryError, match=r"others in a/bias, as after model\.load_weights"):
        optimizer.ticket()
    with pytest.raises(InvariantError, match="a/bias"):
        optimizer.check()


def test_a_loop_of_the_users_own_is_told_in_its_first_step(keras):
    tf = pytest.importorskip("tensorflow")
    if keras.__name__ == "keras" and keras.backend.backend() != "tensorflow":
        pytest.skip("A loop of TensorFlow.")
    model = mlp(keras)
    optimizer = sparse(model, "rigl")

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(X, training=True) ** 2)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Statistics move before the step.
        step()
    for compile_step in (lambda step: step, tf.function):
        optimizer.begin({})
        weights = model.get_weights()
        weights[1] += 1
        model.set_weights(weights)
        with pytest.raises(Exception, match="Load weights before you make"):
            compile_step(step)()


def test_statistics_that_have_moved_are_told(keras):
    model = mlp(keras)
    optimizer = sparse(model, "static")
    compiled(model, optimizer)
    weights = model.get_weights()
    weights[4] += 1
    model.set_weights(weights)
    with pytest.warns(UserWarning, match="others in n/moving_mean"):
        fit(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model)
        optimizer.ticket()


def test_a_schedule_that_is_not_reached_is_told(keras):
    model = mlp(keras)
    optimizer = sparse(model, "gradual", density={A: 6, B: 5}, until=30)
    compiled(model, optimizer)
    fit(model)
    for read in (optimizer.ticket, optimizer.settle):
        with pytest.warns(UserWarning, match=r"of 'a/kernel' in place of 6, .*after step 3\. Tra"):
            read()
    fit(model, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert optimizer.ticket().provenance["kept"] == 11
        optimizer.settle()
        optimizer.check()


@METHODS
def test_no_method_warns_at_its_end(keras, method):
    model = mlp(keras)
    optimizer = sparse(model, method)
    compiled(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, 2)
        optimizer.settle()
        optimizer.ticket()


@METHODS
def test_a_frozen_layer_is_refused_or_told(keras, method):
    with pytest.raises(LotteryError, match="'a/kernel', which is frozen"):
        sparse(mlp(keras, trainable=False), method, include=["a"])
    model = mlp(keras, trainable=False)
    optimizer = sparse(model, method)  # Left out.
    fit(compiled(model, optimizer), 2)
    assert list(optimizer.ticket().masks) == [B]
    optimizer.check()
    model = mlp(keras)
    optimizer = sparse(model, method)
    model.layers[0].trainable = False
    with pytest.warns(UserWarning, match="a step without a/kernel, frozen since"):
        fit(compiled(model, optimizer), 2)
    if method == "gradual":
        with pytest.warns(UserWarning, match="24 of 'a/kernel' in place of"):
            optimizer.ticket()
        with pytest.raises(InvariantError, match="'a/kernel' must keep"):
            optimizer.check()
    else:
        optimizer.check()


@METHODS
def test_weights_that_it_does_not_train_are_refused(keras, method):
    backbone = mlp(keras)
    optimizer = sparse(backbone, method)
    inputs = keras.layers.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="head")(backbone(inputs)))
    # TensorFlow wraps what is raised in a step that it compiles.
    with pytest.raises(Exception, match="head/kernel.*of a model around it"):
        fit(compiled(model, optimizer))
    model.layers[-1].trainable = False
    fit(compiled(model, optimizer), 2)
    optimizer.check()
    model = mlp(keras, trainable=False)
    optimizer = sparse(model, method)
    model.layers[0].trainable = True
    with pytest.raises(Exception, match="a/kernel.*made trainable since"):
        fit(compiled(model, optimizer))


@pytest.mark.filterwarnings("ignore:At the end of a training")  # No step has been taken.
@METHODS
def test_begun_with_other_numbers_the_ticket_has_them_in_its_settings(keras, method):
    model, counts = mlp(keras), {B: np.int64(4), A: 7}
    optimizer = sparse(model, method)
    first = optimizer.ticket().provenance
    optimizer.begin({})
    assert optimizer.ticket().provenance == first
    optimizer.begin({}, counts=counts)
    found = optimizer.ticket().provenance
    given = sparse(mlp(keras), method, **{
        "kept" if method in SUPERMASKS else "density": counts}).ticket().provenance
    assert found["settings"] == given["settings"] != first["settings"]
    assert found["fingerprint"] == given["fingerprint"] != first["fingerprint"]
    assert "distribution" not in found["settings"]


def test_a_layer_that_keeps_nothing_is_told(keras):
    with pytest.warns(UserWarning, match=r"kept=0\.02, which keeps none of 'a/kernel' of 24 we"):
        sparse(mlp(keras), "edge_popup", kept=0.02)
    with pytest.warns(UserWarning, match=r"density=0\.02, .*'b/kernel' of 18 weights"):
        sparse(mlp(keras), "static", density=0.02, distribution="uniform")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sparse(mlp(keras), "static", density={A: 0, B: 3})
        sparse(mlp(keras), "static", density=0)
        sparse(mlp(keras), "static", density=0.5)
