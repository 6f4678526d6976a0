"""The gradient that criteria may score by: which it is, and that taking it changes nothing."""

import sys

import keras
import networks3 as networks
import numpy as np
import pytest

import lth_keras as lth
from lth_keras.core.criteria import Criterion
from lth_keras.errors import LotteryError
from lth_keras.keras3.loss_gradient import LossGradient, scoring_batches
from lth_keras.keras3.weights import named_weights

layers = keras.layers
_DRAW = np.random.default_rng(0)
X = _DRAW.normal(size=(30, 6)).astype(np.float32)
Y = (X @ _DRAW.normal(size=(6, 2))).astype(np.float32)


def setup_function():
    keras.utils.set_random_seed(0)


def linear(loss="mse", kind=keras.Sequential, run_eagerly=False, **options):
    """One kernel, of whose mean squared error the gradient is known by hand."""
    model = kind([layers.Input((6,)), layers.Dense(2, use_bias=False, name="dense", **options)])
    model.compile("adam", loss, run_eagerly=run_eagerly)
    return model


def kernel_of(model):
    return keras.ops.convert_to_numpy(model.layers[-1].kernel.value)


def by_hand(kernel, x=X, y=Y):
    return x.T.astype(float) @ (x @ kernel - y) / len(x)  # 2/n over two outputs.


def mean(model, data=(X, Y)):
    weights = {name: variable for name, variable in named_weights(model).items()
               if variable.trainable}
    return LossGradient(model, weights).mean(scoring_batches(data))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 6

    def __getitem__(self, number):
        return X[5 * number:5 * number + 5], Y[5 * number:5 * number + 5]


def tf_data():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(7)


def data_loader():
    utils = pytest.importorskip("torch").utils.data
    pairs = [(x, y) for x, y in zip(X, Y, strict=True)]
    return utils.DataLoader(pairs, batch_size=7, shuffle=True)


DATA = {"arrays": lambda: (X, Y), "weights of 1": lambda: (X, Y, np.ones(len(X))),
        "float64": lambda: (X.astype(float), Y.astype(float)), "PyDataset": Batches,
        "tf.data": tf_data, "DataLoader": data_loader}


@pytest.mark.parametrize("kind", DATA)
def test_it_is_the_mean_over_all_examples_however_they_come(kind):
    model, data = linear(), DATA[kind]()
    for _ in range(2):
        found = mean(model, data)
        assert list(found) == ["dense/kernel"] and found["dense/kernel"].dtype == np.float64
        np.testing.assert_allclose(found["dense/kernel"], by_hand(kernel_of(model)), rtol=1e-5,
                                   atol=1e-6)


def test_weights_of_examples_and_regularisation_count():
    model = linear(kernel_regularizer=keras.regularizers.L2(0.25))
    kernel = kernel_of(model)
    weights = np.arange(len(X), dtype=np.float32)
    expected = X.T.astype(float) @ (weights[:, None] * (X @ kernel - Y)) / len(X) + 0.5 * kernel
    np.testing.assert_allclose(mean(model, (X, Y, weights))["dense/kernel"], expected, rtol=1e-5)


def test_it_is_that_of_the_models_own_loss():
    class Own(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return 3 * keras.ops.mean((y - self(x)) ** 2)
    for eagerly in (False, True):
        model = linear(None, kind=Own, run_eagerly=eagerly)
        np.testing.assert_allclose(mean(model)["dense/kernel"], 3 * by_hand(kernel_of(model)),
                                   rtol=1e-5, atol=1e-6)


def several_outputs():
    inputs = keras.Input((6,))
    hidden = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Dense(8)(inputs)))
    model = keras.Model(inputs, {"one": layers.Dense(2, name="one")(hidden),
                                 "sum": layers.Dense(1, name="sum")(hidden)})
    model.compile("adam", {"one": "mse", "sum": "mae"}, loss_weights={"one": 1.0, "sum": 0.5},
                  metrics={"one": ["mae"]})
    return model, (X, {"one": Y, "sum": Y.sum(1, keepdims=True)})


def test_several_outputs_have_the_gradient_of_their_sum():
    model, (x, y) = several_outputs()
    found = mean(model, (x, y))
    outputs = {name: keras.ops.convert_to_numpy(value) for name, value in model(x).items()}
    np.testing.assert_allclose(found["one/bias"], (outputs["one"] - Y).mean(0), rtol=1e-4,
                               atol=1e-6)
    np.testing.assert_allclose(found["sum/bias"],
                               0.5 * np.sign(outputs["sum"] - y["sum"]).mean(0), rtol=1e-4)


def test_it_changes_neither_the_model_nor_its_metrics_nor_random_numbers():
    model, data = several_outputs()
    model.fit(*data, verbose=0)
    torch = sys.modules.get("torch")

    def state():
        drawn = [] if torch is None else [torch.get_rng_state().numpy()]
        return [*(keras.ops.convert_to_numpy(variable.value) for variable in (
            *model.variables, *model.metrics_variables, *model.optimizer.variables)), *drawn]
    before = state()
    first, second = mean(model, data), mean(model, data)
    assert all(map(np.array_equal, before, state()))
    assert all((first[name] == second[name]).all() and first[name].any() for name in first)


@pytest.mark.parametrize("size", [1e-6, 1.0, 3e3])
def test_small_and_large_gradients_survive_half_precision(size):
    whole, half = linear(), linear(dtype="mixed_float16")
    half.set_weights(whole.get_weights())
    small = (X, (X @ kernel_of(whole)) - np.float32(size))
    found, expected = (mean(model, small)["dense/kernel"] for model in (half, whole))
    assert np.isfinite(found).all()
    if size >= 1:  # Below, the difference of two outputs of float16 is rounding.
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.005 * size)


def test_a_loss_far_below_what_half_precision_can_hold_has_a_gradient():
    model = linear(lambda y, output: 1e-6 * keras.ops.mean(output ** 2, -1), dtype="mixed_float16")
    assert np.count_nonzero(mean(model)["dense/kernel"]) == 12


class Endless(Batches):
    __len__ = None
    num_batches = None


@pytest.mark.parametrize(("data", "said"), [
    (X, "Received: ndarray"), ([X, Y], "Received: list"), ((X,), "Received: tuple"),
    (Endless(), "repeats forever. Limit it"), ((X, Y[:7]), r"same length. .*\(30, 6\), \(7, 2\)"),
    ((X[:0], Y[:0]), "must hold at least one example")])
def test_data_that_cannot_be_gone_through_are_refused(data, said):
    with pytest.raises(LotteryError, match=said):
        lth.Search(linear(), criterion="taylor", scoring_data=data)


@pytest.mark.parametrize("loss", [None, lambda y, output: keras.ops.mean(y)])
def test_a_loss_that_reaches_no_weight_is_refused_before_training(loss):
    with pytest.raises(LotteryError, match="does not depend on dense/kernel. .*loss="):
        lth.Search(linear(loss), criterion="taylor", scoring_data=(X, Y))


# In searches.

def test_a_gradient_at_the_trained_and_one_at_the_initial_weights_is_none_where_they_are_pruned():
    seen = {}

    def snip(initial, final, rng, *, initial_gradient, gradient, mask):
        seen.update(initial=initial_gradient, final=gradient, mask=mask)
        return np.abs(initial * initial_gradient)

    model = linear()
    theta = kernel_of(model)
    search = lth.Search(model, fraction=0.5, scoring_data=(X, Y), check=True, criterion=Criterion(
        "snip", snip, needs=("initial_gradient", "gradient", "mask")))
    for level in range(2):
        model.fit(X, Y, epochs=3, verbose=0)
        trained, mask = kernel_of(model), search.masks["dense/kernel"]
        search.prune_and_rewind()
        assert (seen["mask"] == mask).all() and (mask == 0).any() == bool(level)
        np.testing.assert_allclose(seen["initial"], by_hand(theta * mask) * mask, rtol=1e-5,
                                   atol=1e-6)
        np.testing.assert_allclose(seen["final"], by_hand(trained) * mask, rtol=1e-5, atol=1e-6)


def test_a_search_in_fit_prunes_what_costs_least_by_it():
    found = {}
    for criterion in ("taylor", "magnitude"):
        model, x, y = networks.compiled("convolutional")
        search = networks.lottery(rounds=1, criterion=criterion, scoring_data=(
            (x, y) if criterion == "taylor" else None))

        class Trained(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None, found=found, criterion=criterion):
                if epoch == 1:  # Listed before the search: it sees the end of the first round.
                    gradient = LossGradient(self.model, named(self.model)).mean(
                        scoring_batches((networks.IMAGES, networks.CLASSES)))
                    found["scores"] = {name: np.abs(
                        gradient[name] * keras.ops.convert_to_numpy(variable.value))
                        for name, variable in named(self.model).items()}
        model.fit(x, y, batch_size=networks.BATCH, epochs=search.epochs, verbose=0, shuffle=False,
                  callbacks=[Trained(), search])
        found[criterion] = search.ticket.masks
        assert search.ticket.provenance["settings"]["criterion"] == criterion
        if criterion == "taylor":
            for name, mask in search.ticket.masks.items():
                scores = found["scores"][name]
                assert scores[mask == 0].max() <= scores[mask == 1].min()
    assert any((mask != found["magnitude"][name]).any() for name, mask in found["taylor"].items())


def named(model):
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    return {name: variable for name, variable in named_weights(model).items()
            if len(variable.shape) > 1}
