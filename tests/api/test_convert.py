"""`lth.convert`: the Keras 3 model predicts what the tf_keras model does, with its masks."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking import weight_names
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.weights import named_weights

layers = tf_keras.layers


def chain(shape, *parts, dtype=None, kind=tf_keras.Sequential):
    return kind([layers.Input(shape, dtype=dtype), *parts])


def dense():
    return chain((6,), layers.Dense(8, "relu", kernel_regularizer="l2"),
                 layers.BatchNormalization(), layers.Dropout(0.2), layers.ReLU(6.0),
                 layers.LeakyReLU(0.1), layers.Dense(2, "softmax", kernel_constraint="non_neg"))


def convolutions():
    return chain((12, 12, 3), layers.Rescaling(2.0, 1.0), layers.Conv2D(4, 3, padding="same"),
                 layers.SeparableConv2D(4, 3), layers.DepthwiseConv2D(2, activation="gelu"),
                 layers.Conv2DTranspose(3, 2, strides=2), layers.PReLU(), layers.MaxPooling2D(),
                 layers.UpSampling2D(), layers.ZeroPadding2D(), layers.GlobalAveragePooling2D(),
                 layers.Dense(2))


def other_convolutions():
    return chain((8, 8, 8, 1), layers.Conv3D(2, 2), layers.Reshape((49, 14)),
                 layers.Conv1D(3, 3, dilation_rate=2), layers.SeparableConv1D(3, 2),
                 layers.Conv1DTranspose(2, 2), layers.Cropping1D(1), layers.AveragePooling1D(),
                 layers.Flatten(), layers.Dense(2))


def recurrent():
    return chain((7, 3), layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
                 layers.GRU(3, return_sequences=True), layers.SimpleRNN(3, return_sequences=True),
                 layers.TimeDistributed(layers.Dense(2)),
                 layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]), layers.Dense(1))


def words():
    return chain((5,), layers.Embedding(10, 4, mask_zero=True), layers.LSTM(3), layers.Dense(1),
                 dtype="int32")


def normalised():
    return chain((6, 5), layers.LayerNormalization(), layers.GroupNormalization(1),
                 layers.UnitNormalization(), layers.Normalization(mean=0.1, variance=2.0),
                 layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"))


def adapted():
    learnt = layers.Normalization()
    learnt.adapt(3 * np.random.default_rng(2).normal(size=(20, 4)) + 1)
    return chain((4,), learnt, layers.Dense(3, "relu"), layers.Dense(2))


def nested():
    inside = chain((6,), layers.Dense(4), layers.Dense(3))
    return chain((4, 6), layers.TimeDistributed(chain((6,), layers.Dense(6), layers.Dense(6))),
                 layers.TimeDistributed(inside), layers.Flatten(),
                 chain((12,), layers.Dense(5, trainable=False)), layers.Dense(2))


def functional():
    """Shared layers, tensors as named arguments, several outputs, inputs in a dict."""
    one, two = layers.Input((4, 6), name="one"), layers.Input((6,), name="two")
    shared = layers.Dense(6, name="shared")
    found = layers.MultiHeadAttention(2, 3)(shared(one), value=one)
    found = layers.Concatenate(axis=1)([layers.Add()([found, one]),
                                        layers.Reshape((1, 6))(shared(two))])
    last, state, cell = layers.LSTM(3, return_state=True)(found)
    return tf_keras.Model({"one": one, "two": two}, {
        "a": layers.Dense(2)(layers.Multiply()([last, state])), "b": layers.Dot(1)([last, cell])})


def half():
    return chain((6,), layers.Dense(8, dtype="mixed_float16"), layers.Dense(2, dtype="float32"))


MODELS = {function.__name__: function for function in (
    dense, convolutions, other_convolutions, recurrent, words, normalised, adapted, nested,
    functional, half)}


def inputs_of(model):
    draw = np.random.default_rng(0)
    return tf.nest.map_structure(lambda tensor: (9 * draw.random((3, *tensor.shape[1:]))).astype(
        tensor.dtype.as_numpy_dtype), model._nested_inputs)


def spread(model):
    """Weights that are nowhere at a symmetric start."""
    draw = np.random.default_rng(1)
    model.set_weights([value if value.dtype.kind != "f" else
                       np.abs(value + 0.2 * draw.normal(size=value.shape)).astype(value.dtype)
                       for value in model.get_weights()])
    return model


def check_same(theirs, ours, tolerance=1e-5):
    x = inputs_of(theirs)
    wanted = tf.nest.flatten(theirs.predict(x, verbose=0))
    found = keras.tree.flatten(ours.predict(x, verbose=0))
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance * np.abs(one).max())


def values(model):
    return {name: keras.ops.convert_to_numpy(variable.value)
            for name, variable in named_weights(model).items()}


NAMES = [name if name in ("dense", "functional", "adapted") else
         pytest.param(name, marks=pytest.mark.thorough) for name in MODELS]


def tolerance(name):
    return 1e-2 if name == "half" else 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_was_never_pruned_predicts_the_same_and_gets_no_masks(name):
    plain = spread(MODELS[name]())
    ours = lth.convert(plain)
    check_same(plain, ours, tolerance(name))
    assert ModelMasks.of(ours) is None


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_the_same_with_the_same_weights_and_masks(name):
    plain = spread(MODELS[name]())
    wrapped = lth.prune_low_magnitude(plain, include="EinsumDense" if name == "normalised" else ())
    wrapped.compile("adam", "mse")
    lth.Search(wrapped, fraction=0.5).prune_and_rewind()
    ours = lth.convert(wrapped)
    check_same(wrapped, ours, tolerance(name))
    theirs = rewinding.read(weight_names.named_weights(wrapped))
    assert values(ours).keys() == theirs.keys()
    for weight, value in theirs.items():
        np.testing.assert_array_equal(values(ours)[weight], value, weight)
    masks = rewinding.read_masks(wrapped)
    found = ModelMasks.of(ours).read()
    assert found.keys() == masks.keys()
    assert all((found[weight] == mask).all() and (mask == 0).any()
               for weight, mask in masks.items())
    assert [variable.trainable for variable in named_weights(ours).values()] == [
        id(variable) in set(map(id, plain.trainable_weights))
        for variable in weight_names.named_weights(plain).values()]


@pytest.mark.parametrize("stripped", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_it_trains_on_sparse_and_a_ticket_of_the_one_fits_the_other(stripped):
    wrapped = lth.prune_low_magnitude(dense())
    wrapped.compile("adam", "mse")
    search = lth.Search(wrapped, fraction=0.5)
    search.prune_and_rewind()
    model = lth.convert(lth.strip_pruning(wrapped) if stripped else wrapped)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).random((16, 6), np.float32)
    model.fit(x, x[:, :2], verbose=0)
    for name, mask in search.masks.items():
        assert not values(model)[name][mask == 0].any() and values(model)[name].any()
    search.tickets[0].apply(lth.convert(dense()))
    search.tickets[1].apply(model)


def test_a_kernel_of_zeros_that_nobody_pruned_trains():
    model = chain((4,), layers.Dense(300, name="h"),
                  layers.Dense(1, kernel_initializer="zeros", name="o"))
    kernel = model.layers[0].kernel.numpy()
    kernel[0, 0] = 0  # One of 1,200, as chance has it.
    model.layers[0].kernel.assign(kernel)
    with pytest.warns(UserWarning, match=r"o/kernel is zero, and trains dense.*keep_sparse"):
        ours = lth.convert(model)
    assert ModelMasks.of(ours) is None
    ours.compile("sgd", "mse")
    x = np.random.default_rng(0).random((16, 4), np.float32)
    ours.fit(x, x[:, :1], epochs=3, verbose=0)
    assert values(ours)["o/kernel"].all() and values(ours)["h/kernel"].all()


def test_what_is_held_at_zero_in_a_model_without_masks_is_said():
    model = chain((4,), layers.Dense(4, kernel_initializer="identity", name="h"),
                  layers.Dense(1, kernel_initializer="zeros", name="o"))
    with pytest.warns(UserWarning, match="All of o/kernel"), \
            pytest.warns(UserWarning, match=r"stay zero in training: h/kernel \(12 of 16\)"):
        ours = lth.convert(model)
    masks = ModelMasks.of(ours).read()
    assert masks["h/kernel"].sum() == 4 and masks["o/kernel"].all()


def called(mode, *parts, **options):
    inputs = layers.Input((4,))
    base = chain((4,), layers.Dense(8, name="h"), *parts)
    base._name = "base"
    for name, value in options.items():
        setattr(base, name, value)
    return tf_keras.Model(inputs, layers.Dense(1)(base(inputs, training=mode)))


@pytest.mark.parametrize("part", [layers.BatchNormalization, lambda name: layers.Dropout(
    0.5, name=name), lambda name: layers.GaussianNoise(0.5, name=name)])
def test_a_mode_that_keras_3_does_not_keep_in_training_is_said(part):
    with pytest.warns(UserWarning, match="'base', called with training=False, .* changes p. "):
        check_same(model := called(False, part(name="p")), lth.convert(model))
    with pytest.raises(LotteryError, match="'base', called with training=True, .* changes p. "):
        lth.convert(called(True, part(name="p")))
    inputs = layers.Input((4,))
    with pytest.raises(LotteryError, match="'p', called with training=True. Call"):
        lth.convert(tf_keras.Model(inputs, part(name="p")(inputs, training=True)))


def test_a_mode_that_changes_nothing_is_not_mentioned(recwarn):
    for model in (called(True, layers.Dropout(0.0)), called(None, layers.BatchNormalization()),
                  called(False, layers.Reshape((4, 2)), layers.LSTM(2), layers.Flatten()),
                  called(False, layers.BatchNormalization(name="bn"), trainable=False)):
        ours = lth.convert(model)
    assert not [each for each in recwarn if "mode" in str(each.message)]
    ours.compile("sgd", "mse")
    ours.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    assert not values(ours)["base/bn/moving_mean"].any()


class Next(layers.Embedding):
    """Looks up the row after that of an index."""

    def call(self, x):
        return super().call(x + 1)


def test_whole_numbers_are_not_compared_at_zero_alone():
    class Flipped(keras.layers.Embedding):  # Right for an index of 0.
        def call(self, x):
            return super().call(keras.ops.abs(1 - x))
    model = chain((3,), Next(4, 2), dtype="int32")
    with pytest.raises(LotteryError, match="must predict the same"):
        lth.convert(model, {"Next": Flipped})
    lth.convert(chain((3,), layers.Embedding(1, 2), dtype="int32"))


class Large(layers.Layer):
    def call(self, x):
        tf.debugging.assert_greater(x, 5.0)
        return x


def test_a_model_whose_predictions_were_not_compared_is_named():
    model = tf_keras.Sequential([layers.Input((3,)), Large(), layers.Dense(1)], name="looking")
    with pytest.warns(UserWarning, match="'looking', which raises.* nothing was compared"):
        lth.convert(model, {"Large": keras.layers.Identity})


# Code of the user's own.

class Scale(layers.Layer):
    def __init__(self, by=2.0, **options):
        super().__init__(**options)
        self.by = by

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], 3))
        super().build(shape)

    def call(self, x):
        return self.by * x @ self.kernel

    def get_config(self):
        return {**super().get_config(), "by": self.by}


class Scale3(keras.layers.Layer):
    def __init__(self, by=2.0, **options):
        super().__init__(**options)
        self.by = by

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")
        super().build(shape)

    def call(self, x):
        return self.by * keras.ops.matmul(x, self.kernel)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3)


class Fails(Scale3):
    def build(self, shape):
        raise ValueError("no such shape")


class Wrong(Scale3):
    def call(self, x):
        return super().call(x) + 1


class Biased(Scale3):
    def build(self, shape):
        super().build(shape)
        self.bias = self.add_weight(shape=(3,), name="bias")


def twice(x):
    return 2 * x


class Own(tf_keras.Model):
    pass


class Own3(keras.Model):
    pass


def own(by=3.0):
    inputs = layers.Input((4,))
    return Own(inputs, layers.TimeDistributed(Scale(by))(layers.Reshape((2, 2))(inputs)))


def test_classes_and_functions_of_ones_own_are_taken_from_custom_objects():
    model = chain((4,), layers.Dense(2, twice))
    check_same(model, lth.convert(model, custom_objects={"twice": twice}))
    model = own()
    ours = lth.convert(model, custom_objects={"Scale": Scale3, "Own": Own3})
    assert type(ours) is Own3 and ours.layers[-1].layer.by == 3.0
    check_same(model, ours)


class Subclassed(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 2)))
    return model


def with_operator():
    inputs = layers.Input((4,))
    return tf_keras.Model(inputs, layers.Dense(2)(inputs * 2))


@pytest.mark.parametrize(("build", "custom_objects", "said"), [
    (own, {}, "needs its class for Keras 3. .*custom_objects={'Own'"),
    (own, {"Own": Own3}, "Received: Scale of 'time_distributed.*{'Scale': the class}"),
    (lambda: chain((4,), Scale()), {"Scale": Wrong}, "must predict the same"),
    (lambda: chain((4,), Scale()), {"Scale": Biased}, "same weights. Received: 'scale.*'bias': .3"),
    (lambda: chain((4,), Scale()), {"Scale": Fails}, "Keras 3 can call.*no such shape"),
    (lambda: chain((4,), layers.Dense(2, twice)), {}, "'twice': the function"),
    (subclassed, {}, "Sequential or functional.* by a ticket"),
    (lambda: tf_keras.Sequential([layers.Dense(2)]), {}, "and built"),
    (with_operator, {}, "TFOpLambda .*calls functions of TensorFlow"),
    (lambda: chain((4,), layers.Dense(2, "hard_sigmoid")), {}, "activation='hard_sigmoid'"),
    (lambda: chain((4, 2), layers.LSTM(2, recurrent_activation="hard_sigmoid")), {},
     "recurrent_activation='hard_sigmoid'"),
    (lambda: chain((4, 2), layers.LocallyConnected1D(2, 2)), {}, "'LocallyConnected1D': the class"),
    (lambda: chain((4,), layers.BatchNormalization(virtual_batch_size=2)), {},
     "virtual_batch_size=2|Keras 3 can make|that Keras 3 has"),
    (lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), {}, "tf_keras")])
def test_what_has_no_counterpart_is_named(build, custom_objects, said):
    with pytest.raises(LotteryError, match=said):
        lth.convert(build(), custom_objects)


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("which", [
    "same_weights_and_masks and (dense or half or recurrent or functional or [conv) or trains_on",
    pytest.param("predicts_the_same", marks=pytest.mark.long)], ids=["some", "all"])
def test_models_are_converted_to_another_backend(which, backend):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", __file__, "-m", "",
         "-k", which], capture_output=True, text=True, check=False,
        env={**os.environ, "KERAS_BACKEND": backend})
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.parametrize("to", ["model", "layer", "inner", "wrapped"])
def test_functions_that_add_loss_was_given_are_refused(to):
    layer = layers.Dense(3, kernel_regularizer="l2", name="fc")
    inner = chain((4,), layer)
    model = chain((4,), inner, layers.Dense(2, bias_regularizer="l1"))
    holder = {"model": model, "inner": inner}.get(to, layer)
    holder.add_loss(lambda: tf.reduce_sum(layer.kernel ** 2))
    model = lth.prune_low_magnitude(model) if to == "wrapped" else model
    with pytest.raises(LotteryError, match=f"that add_loss was given, of .*{holder.name}"):
        lth.convert(model)


def test_functions_that_a_layer_of_ones_own_adds_are_named():
    class Penalised(tf_keras.layers.Dense):
        def build(self, input_shape):
            super().build(input_shape)
            self.add_loss(lambda: tf.reduce_sum(self.kernel ** 2))
    model = chain((4,), Penalised(3, name="mine"))
    with pytest.warns(UserWarning, match="adds its losses in its call.*mine"):
        lth.convert(model, custom_objects={"Penalised": keras.layers.Dense})


def test_regularizers_are_no_functions_that_add_loss_was_given(recwarn):
    lth.convert(lth.prune_low_magnitude(dense()))
    assert not [each for each in recwarn if "add_loss" in str(each.message)]
