"""Calls that tfmot's function of the same name takes: they do the same, or say what to write."""

import copy
import pickle
import warnings

import keras as keras3
import networks
import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras as keras

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.masked_layer import MaskedLayer
from lth_keras.keras2.masking.weight_names import masked

layers = keras.layers
SCHEDULE = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 10)
prune = lth.prune_low_magnitude


def applied(model):
    """The model with a ticket of the same network, which wraps it."""
    return lth.Search(networks.compiled()).tickets[0].apply(model)


@pytest.mark.parametrize("call", [lambda: prune(layers.Dense(2), SCHEDULE),
                                  lambda: prune(layers.Dense(2), pruning_schedule=SCHEDULE),
                                  lambda: prune(keras.Sequential(), pruning_schedule=SCHEDULE)])
def test_a_schedule_for_the_wrapper_belongs_to_the_callback(call):
    with pytest.raises(LotteryError, match=r"LotteryTicketCallback\(rounds=.*PolynomialDecay"):
        call()


def test_tfmots_schedule_is_none_of_the_callbacks():
    with pytest.raises(LotteryError, match=r"rounds=10, .*Received: PolynomialDecay"):
        lth.LotteryTicketCallback(SCHEDULE)


@pytest.mark.parametrize("of_tfmot", [
    {"target_sparsity": 0.5}, {"final_sparsity": 0.9, "initial_sparsity": 0.0}, {"begin_step": 0},
    {"frequency": 100}, {"pruning_schedule": SCHEDULE}])
@pytest.mark.parametrize("call", [
    lambda options: prune(networks.mlp(), **options),
    lambda options: lth.LotteryTicketCallback(rounds=4, epochs_per_round=2, **options)])
def test_arguments_of_tfmots_schedules_are_answered_with_the_callbacks(call, of_tfmot):
    with pytest.raises(LotteryError, match=r"as\s+tfmot|tfmot.sparsity") as raised:
        call(of_tfmot)
    assert "LotteryTicketCallback(rounds=" in str(raised.value)


def test_a_sparsity_is_answered_with_the_fraction_that_reaches_it():
    with pytest.raises(LotteryError, match=r"fraction=0\.438\), which ends with 90%"):
        lth.LotteryTicketCallback(rounds=4, epochs_per_round=2, target_sparsity=0.9)
    assert round((1 - 0.438) ** 4, 2) == 0.1


def test_an_argument_of_nobody_is_a_type_error():
    with pytest.raises(TypeError, match="no argument 'round'"):
        lth.LotteryTicketCallback(rounds=4, epochs_per_round=2, round=1)


@pytest.mark.parametrize("wrap", [prune, applied])
@pytest.mark.parametrize("act", ["fit", "evaluate", "train_on_batch"])
def test_a_model_compiled_before_it_was_wrapped_says_that_there_is_a_new_one(wrap, act):
    given = networks.mlp()
    given.compile("sgd", "mse")
    wrapped = wrap(given)
    with pytest.raises(RuntimeError, match=r"must compile.*made a new model.*after wrapping\."):
        getattr(wrapped, act)(networks.X, networks.Y)
    wrapped.compile("sgd", "mse")
    getattr(wrapped, act)(networks.X, networks.Y)


def test_a_model_that_nobody_has_compiled_gets_keras_own_words(tmp_path):
    with pytest.raises(RuntimeError) as raised:
        prune(networks.mlp()).fit(networks.X, networks.Y)
    assert "new model" not in str(raised.value)
    given = networks.mlp()
    given.compile("sgd", "mse")
    wrapped = prune(given)
    for copied in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert [*masked(copied)] == [*masked(wrapped)]
    wrapped.save(tmp_path / "wrapped.keras")
    assert [*masked(keras.models.load_model(tmp_path / "wrapped.keras"))] == [*masked(wrapped)]


def test_a_list_of_layers_comes_back_with_those_wrapped_that_have_kernels():
    found = prune([layers.Dense(3, input_shape=(4,)), layers.ReLU(), layers.BatchNormalization(),
                   layers.Embedding(5, 2), layers.LSTM(2), layers.Dense(2)], exclude="LSTM")
    assert [isinstance(layer, MaskedLayer) for layer in found] == [True, *[False] * 4, True]
    assert keras.Sequential(prune([layers.Dense(3, input_shape=(4,)), layers.ReLU()])) \
        .output_shape == (None, 3)
    with pytest.raises(LotteryError, match="include and exclude must name"):
        prune([layers.Dense(3)], exclude="conv")
    with pytest.raises(LotteryError, match="must be of layers"):
        prune([keras.Sequential([layers.Dense(3)])])


def test_a_layer_with_nothing_to_prune_is_given_back():
    for layer in (layers.ReLU(), layers.Flatten(), layers.BatchNormalization()):
        assert prune(layer) is layer
    built = layers.BatchNormalization()
    built.build((None, 3))
    assert prune(built) is built


def test_a_layer_takes_keras_own_arguments_and_a_model_none():
    wrapped = prune(layers.Dense(3), input_shape=(4,), name="first")
    model = keras.Sequential([wrapped, layers.Dense(2)])
    assert wrapped.name == "first" and model.built and list(masked(model)) == ["dense/kernel"]
    with pytest.raises(LotteryError, match="for a single layer. Received: input_shape"):
        prune(model, input_shape=(4,))


def test_a_sequential_model_is_wrapped_before_it_is_built():
    model = prune(keras.Sequential([layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)]))
    model.build((None, 4))
    model.compile("adam", "mse")
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, fraction=0.5, verbose=0,
                                        check=True)
    model.fit(np.ones((8, 4)), np.ones((8, 2)), epochs=2, verbose=0, callbacks=[lottery])
    assert list(lottery.ticket.masks) == ["dense/kernel", "dense_1/kernel"]
    assert lottery.ticket.density == 0.5
    with pytest.raises(LotteryError, match="before it is built"):
        prune(keras.Sequential([layers.ReLU()]))


class Inside(layers.Layer):
    """A layer without a build of its own, whose weights are those of another."""

    def __init__(self):
        super().__init__(name="inside")
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def of_unknown_layers():
    return keras.Sequential([
        layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both"),
        layers.TimeDistributed(layers.Dense(4), name="each"),
        layers.Conv1DTranspose(2, 3, name="up"), layers.GroupNormalization(1), layers.PReLU(),
        layers.TimeDistributed(layers.Dense(4), name="frozen", trainable=False),
        layers.RandomFlip(), layers.UnitNormalization(), layers.Flatten(), Inside(),
        layers.Dense(2, name="o")])


def test_layers_that_stay_dense_in_a_model_that_is_not_built_are_named():
    with pytest.warns(UserWarning, match=r"stay dense.*Received: both \(Bidirectional\), each \("
                                         r"TimeDistributed\), up \(Conv1DTranspose\), inside "
                                         r"\(Inside\)\. Build the model first"):
        wrapped = prune(of_unknown_layers())
    assert [layer.name for layer in wrapped.layers if isinstance(layer, MaskedLayer)] == ["o"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prune(of_unknown_layers(), exclude=["both", "each", "Conv1DTranspose", Inside])
        prune(keras.Sequential([layers.Dense(3), layers.Dropout(0.5), layers.PReLU()]))
    with pytest.raises(LotteryError, match=r"Received: each \(TimeDistributed\). Build the model"):
        prune(of_unknown_layers(), include="each")


def test_a_layer_that_is_not_wrapped_takes_keras_own_arguments_too():
    first = prune(layers.Dropout(0.5), input_shape=(4,), name="first")
    model = keras.Sequential([first, layers.Dense(2)])
    assert isinstance(first, layers.Dropout) and first.name == "first" and model.built


def test_a_depthwise_kernel_is_pruned_whether_its_layer_is_built_or_not():
    model = keras.Sequential([prune(layers.DepthwiseConv2D(3), input_shape=(7, 7, 4))])
    assert list(masked(model)) == ["depthwise_conv2d/depthwise_kernel"]


def test_a_sequential_model_that_is_not_built_is_stripped():
    model = keras.Sequential([layers.Dense(3), layers.Dense(2)])
    stripped = lth.strip_pruning(prune(model))
    assert stripped.get_config() == model.get_config() and not stripped.built


def test_a_policy_that_needs_a_built_model_says_so():
    policy = tfmot.sparsity.keras.PruneForLatencyOnXNNPack()
    with pytest.raises(LotteryError, match="must suit its PruneForLatencyOnXNNPack.*Unbuilt"):
        prune(keras.Sequential([layers.Conv2D(4, 1)]), pruning_policy=policy)


class Two(layers.Layer, tfmot.sparsity.keras.PrunableLayer):
    """Two kernels, one of which it names."""

    def build(self, shape):
        self.one = self.add_weight("one", (shape[-1], 3))
        self.two = self.add_weight("two", (3, 3))

    def call(self, x):
        return x @ self.one @ self.two

    def get_prunable_weights(self):
        return [self.two]


def test_what_a_layer_names_is_pruned_and_nothing_else():
    model = prune(keras.Sequential([layers.Input((4,)), Two(), layers.Dense(2)]))
    assert list(masked(model)) == ["two/two", "dense/kernel"]
    unbuilt = prune(keras.Sequential([Two(), layers.Dense(2)]))
    unbuilt.build((None, 4))
    assert list(masked(unbuilt)) == ["two/two", "dense/kernel"]


def keras3_model():
    return keras3.Sequential([keras3.layers.Input((4,)), keras3.layers.Dense(2)])


@pytest.mark.parametrize("call", [
    prune, lth.strip_pruning], ids=["prune_low_magnitude", "strip_pruning"])
def test_a_keras_3_model_is_named_with_what_to_do(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LotteryError, match=r"of Keras 3. A search prunes that as it is"):
        call(keras3_model())
    assert not list(tmp_path.iterdir())


def test_callbacks_of_the_other_keras_are_named_with_what_to_do():
    model = networks.compiled(prune(networks.mlp()))
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1,
                                        round_callbacks=[keras3.callbacks.EarlyStopping()])
    with pytest.raises(LotteryError, match=r"must be callbacks of tf_keras.*EarlyStopping"):
        model.fit(networks.X, networks.Y, verbose=0, epochs=2, callbacks=[lottery])
