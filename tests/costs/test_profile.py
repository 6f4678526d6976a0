"""`lth.profile` against counts by hand, with both Kerases."""

import math

import filter_counts
import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.experiments.training.networks import get


@pytest.fixture(params=[tf_keras, keras3], ids=["tf_keras", "keras3"])
def keras(request):
    """The package that a test builds its models with."""
    return request.param


def counted(keras, shape, *layers):
    """The profile of layers one after another."""
    return lth.profile(keras.Sequential([keras.layers.Input(shape), *layers]))


# What makes a layer, the shape of an example, its multiply-adds, and the weights that it has.
LAYERS = {
    "dense": (lambda k: k.layers.Dense(5), (3,), 15, 20),
    "dense of rank 3": (lambda k: k.layers.Dense(5, use_bias=False), (7, 2, 3), 14 * 15, 15),
    "conv1d": (lambda k: k.layers.Conv1D(4, 3), (10, 2), 8 * 3 * 2 * 4, 28),
    "causal": (lambda k: k.layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (10, 2),
               10 * 3 * 2 * 4, 28),
    "conv2d": (lambda k: k.layers.Conv2D(4, (3, 2)), (6, 5, 2), 4 * 4 * 6 * 2 * 4, 52),
    "strides": (lambda k: k.layers.Conv2D(4, 3, 2, padding="same"), (7, 8, 2), 4 * 4 * 9 * 2 * 4,
                76),
    "dilation": (lambda k: k.layers.Conv2D(4, 3, dilation_rate=2), (9, 9, 2), 25 * 9 * 2 * 4, 76),
    "groups": (lambda k: k.layers.Conv2D(6, 3, groups=3), (5, 5, 6), 9 * 9 * 2 * 6, 114),
    "conv3d": (lambda k: k.layers.Conv3D(2, 2), (4, 4, 4, 3), 27 * 8 * 3 * 2, 50),
    "conv1d transposed": (lambda k: k.layers.Conv1DTranspose(4, 3, 2), (5, 2), 5 * 3 * 2 * 4, 28),
    "conv2d transposed": (lambda k: k.layers.Conv2DTranspose(4, 3, 2, padding="same"), (5, 6, 2),
                          30 * 9 * 2 * 4, 76),
    "conv3d transposed": (lambda k: k.layers.Conv3DTranspose(4, 2), (2, 2, 2, 3), 8 * 8 * 3 * 4,
                          100),
    "depthwise1d": (lambda k: k.layers.DepthwiseConv1D(3), (8, 4), 6 * 3 * 4, 16),
    "depthwise": (lambda k: k.layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 3),
                  16 * 9 * 6, 60),
    "separable1d": (lambda k: k.layers.SeparableConv1D(5, 3), (8, 4), 6 * (12 + 20), 37),
    "separable": (lambda k: k.layers.SeparableConv2D(5, 3, depth_multiplier=2), (6, 6, 4),
                  16 * (9 * 8 + 8 * 5), 72 + 40 + 5),
    "einsum": (lambda k: k.layers.EinsumDense("abc,cde->abde", (None, 3, 4), bias_axes="e"),
               (7, 5), 7 * 5 * 12, 64),
    "einsum of all": (lambda k: k.layers.EinsumDense("...x,xy->...y", 4), (2, 7, 5),
                      14 * 20, 20),
    "lstm": (lambda k: k.layers.LSTM(4), (6, 3), 6 * 4 * 4 * (3 + 4), 4 * 4 * (3 + 4 + 1)),
    "gru": (lambda k: k.layers.GRU(4, return_sequences=True), (6, 3), 6 * 3 * 4 * (3 + 4),
            3 * 4 * (3 + 4 + 2)),
    "simple rnn": (lambda k: k.layers.SimpleRNN(4), (6, 3), 6 * 4 * 7, 32),
    "stacked": (lambda k: k.layers.RNN([k.layers.LSTMCell(4), k.layers.GRUCell(2)]), (6, 3),
                6 * (16 * 7 + 6 * 6), 128 + 48),
    "bidirectional": (lambda k: k.layers.Bidirectional(k.layers.LSTM(4)), (6, 3), 2 * 6 * 16 * 7,
                      2 * 128),
    "conv lstm": (lambda k: k.layers.ConvLSTM2D(2, 3), (5, 6, 6, 3),
                  5 * 16 * 9 * (3 * 8 + 2 * 8), 9 * 8 * 5 + 8),
    "conv lstm of all steps": (lambda k: k.layers.ConvLSTM2D(2, 3, return_sequences=True),
                               (5, 6, 6, 3), 5 * 16 * 9 * 40, 368),
    "each step": (lambda k: k.layers.TimeDistributed(k.layers.Dense(4)), (9, 3), 9 * 12, 16),
    "a model each step": (lambda k: k.layers.TimeDistributed(k.Sequential([
        k.layers.Input((6, 6, 1)), k.layers.Conv2D(2, 3), k.layers.Flatten(),
        k.layers.Dense(5)])), (4, 6, 6, 1), 4 * (16 * 18 + 160), 20 + 165),
    "embedding": (lambda k: k.layers.Embedding(10, 4), (7,), 0, 40),
    "batch norm": (lambda k: k.layers.BatchNormalization(), (5, 4), 0, 16),
    "layer norm": (lambda k: k.layers.LayerNormalization(), (5, 4), 0, 8),
    "prelu": (lambda k: k.layers.PReLU(), (5, 4), 0, 20),
    "pooling": (lambda k: k.layers.MaxPooling2D(), (4, 4, 2), 0, 0),
    "relu": (lambda k: k.layers.ReLU(), (4,), 0, 0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_counted_as_by_hand(name, keras):
    make, shape, macs, parameters = LAYERS[name]
    found = counted(keras, shape, make(keras))
    assert (found.macs, found.parameters) == (macs, parameters), found
    assert (found.macs_kept, found.parameters_kept) == (macs, parameters)
    assert not found.notes


def test_kernels_of_positions_are_counted_each():
    layers = tf_keras.layers
    for implementation in (1, 2, 3):
        found = counted(tf_keras, (6, 6, 2), layers.LocallyConnected2D(
            4, 3, implementation=implementation))
        assert found.macs == 16 * 9 * 2 * 4


def attention(keras, kind, query, value, **options):
    """The profile of an attention of two inputs."""
    inputs = [keras.layers.Input(query), keras.layers.Input(value)]
    layer = kind(**options)
    called = layer(inputs) if kind.__name__.endswith("dditiveAttention") \
        or kind.__name__ == "Attention" else layer(*inputs)
    return lth.profile(keras.Model(inputs, called))


def test_attention_is_its_projections_and_its_two_products(keras):
    kind = keras.layers.MultiHeadAttention
    width = 4 if keras is tf_keras else 3  # Keras 3 on JAX has heads of one width alone.
    found = attention(keras, kind, (5, 8), (7, 6), num_heads=2, key_dim=3, value_dim=width)
    projections = 5 * 8 * 6 + 7 * 6 * 6 + 7 * 6 * 2 * width + 5 * 2 * width * 8
    assert found.macs == projections + 2 * 5 * 7 * (3 + width)
    row = found.layers[found.layers.type == "MultiHeadAttention"].iloc[0]
    assert len(found.layers) == 1 and row.macs == found.macs
    assert row.activation_bytes == 5 * 8 * 4


def test_attention_over_several_axes_is_over_all_their_places(keras):
    kind = keras.layers.MultiHeadAttention
    found = attention(keras, kind, (4, 5, 8), (4, 5, 8), num_heads=2, key_dim=3,
                      attention_axes=(2,))
    assert found.macs == 4 * 5 * 4 * 8 * 6 + 4 * 2 * 5 * 5 * 6
    found = attention(keras, kind, (4, 5, 8), (4, 5, 8), num_heads=2, key_dim=3,
                      attention_axes=(1, 2))
    assert found.macs == 20 * 4 * 8 * 6 + 2 * 20 * 20 * 6


def test_grouped_attention_shares_keys_and_values():
    found = attention(keras3, keras3.layers.GroupQueryAttention, (5, 8), (7, 8), head_dim=3,
                      num_query_heads=4, num_key_value_heads=2)
    assert found.macs == 5 * 8 * 12 + 2 * 7 * 8 * 6 + 5 * 12 * 8 + 2 * 4 * 5 * 7 * 3


@pytest.mark.parametrize("name", ["Attention", "AdditiveAttention"])
def test_attention_without_projections_has_two_products(name, keras):
    found = attention(keras, getattr(keras.layers, name), (5, 8), (7, 8))
    assert found.macs == 2 * 5 * 7 * 8


def test_products_in_a_graph_are_counted(keras):
    one, other = keras.layers.Input((5, 8)), keras.layers.Input((7, 8))
    dot = keras.layers.Dot((2, 2))([one, other])
    assert lth.profile(keras.Model([one, other], dot)).macs == 5 * 7 * 8
    if keras is tf_keras:
        product = tf.matmul(one, other, transpose_b=True)
        again = tf.einsum("bts,bsd->btd", product, other)
    else:
        product = keras.ops.matmul(one, keras.ops.transpose(other, (0, 2, 1)))
        again = keras.ops.einsum("bts,bsd->btd", product, other)
    found = lth.profile(keras.Model([one, other], again))
    assert found.macs == 2 * 5 * 7 * 8, found


def test_a_layer_that_is_called_twice_has_its_weights_once_and_its_products_twice(keras):
    layers = keras.layers
    inputs, twice = layers.Input((6,)), layers.Dense(6, name="twice")
    found = lth.profile(keras.Model(inputs, twice(twice(inputs))))
    assert found.layers[["layer", "parameters", "macs"]].values.tolist() == [["twice", 42, 72]]
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(6, name="fc")], name="inner")
    found = lth.profile(keras.Model(inputs, inner(inner(inputs))))
    assert found.layers[["layer", "parameters", "macs"]].values.tolist() == [["inner/fc", 42, 72]]


def test_rows_have_the_names_that_tickets_have(keras):
    layers = keras.layers
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(5), layers.Dense(4)], name="inner")
    model = keras.Sequential([layers.Input((6,)), layers.Dense(6), inner, layers.ReLU(),
                              layers.Dense(2)])
    found = lth.profile(model)
    assert found.layers.layer.tolist() == ["dense", "inner/dense", "inner/dense_1", "re_lu",
                                           "dense_1"]
    kept = lth.keep_sparse(model)  # Of tf_keras, wrapped.
    assert lth.profile(kept).layers.equals(found.layers)


def own_layers(keras, product):
    """A layer of a user's own whose code multiplies, and a model of it."""
    class Mixed(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(8)

        def build(self, shape):
            self.inner.build(shape)
            self.mix = self.add_weight(name="mix", shape=(8, 4), initializer="ones")
            super().build(shape)

        def call(self, x):
            return product(self, self.inner(x))
    return keras.Sequential([keras.layers.Input((5, 8)), Mixed()])


def multiply(keras):
    """How users multiply with a Keras."""
    def product(*factors, **options):
        return (tf if keras is tf_keras else keras.ops).matmul(*factors, **options)
    return product


def test_what_a_users_layer_multiplies_by_an_operator_is_seen(keras):
    found = lth.profile(own_layers(keras, lambda layer, x: x @ layer.mix))
    assert found.macs == 5 * 64 + 5 * 32 and not found.notes
    if keras is keras3:  # What stands for the variable in the backend.
        found = lth.profile(own_layers(keras, lambda layer, x: x @ layer.mix.value))
        assert found.macs == 5 * 64 + 5 * 32 and not found.notes
    matmul = tf.Tensor.__matmul__
    assert matmul.__module__.startswith("tensorflow") and "__matmul__" in vars(tf.Tensor)


def test_attention_of_keras_operations_is_seen():
    def attend(layer, x):
        heads = keras3.ops.reshape(x, (-1, 5, 2, 4))
        return keras3.ops.reshape(keras3.ops.dot_product_attention(heads, heads, heads),
                                  (-1, 5, 8)) @ layer.mix
    found = lth.profile(own_layers(keras3, attend))
    assert found.macs == 5 * 64 + 2 * 2 * 5 * 5 * 4 + 5 * 32 and not found.notes


def test_what_a_users_layer_multiplies_is_seen(keras):
    matmul = multiply(keras)
    model = own_layers(keras, lambda layer, x: matmul(x, layer.mix))
    found = lth.profile(model)
    assert found.macs == 5 * 64 + 5 * 32 and not found.notes
    assert found.layers.macs.tolist() == [320, 160] and found.layers.parameters.tolist() == [72, 32]
    if keras is tf_keras:
        transposed = {"transpose_b": True}
        model = own_layers(keras, lambda layer, x: matmul(x, x, **transposed))
    else:
        model = own_layers(keras, lambda layer, x: matmul(x, keras.ops.transpose(x, (0, 2, 1))))
    found = lth.profile(model)
    assert found.layers.macs.tolist()[0] == 320
    # The weight that is not multiplied with is counted, and named.
    assert found.macs == 320 + 5 * 5 * 8 + 5 * 32 and "Mixed" in found.notes[0]


def test_a_layer_that_is_not_known_is_named(keras):
    class Strange(keras.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(name="table", shape=(3, 4), initializer="ones")
            super().build(shape)

        def call(self, x):
            return x[..., :1] * self.table[0]
    found = counted(keras, (5, 3), Strange(name="odd"))
    assert found.macs == 5 * 12
    note, = found.notes
    assert note.startswith("odd: is a Strange, which is not known here") and "5 positions" in note


def test_a_subclass_of_a_known_layer_is_counted_as_it_and_named(keras):
    class Own(keras.layers.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2

    class Same(keras.layers.Dense):
        pass
    assert not counted(keras, (3,), Same(5)).notes
    found = counted(keras, (3,), Own(5, name="mine"))
    assert found.macs == 15 and found.notes == (
        "mine: is a Own with a call() of its own, counted as the Dense that it derives from",)


def subclassed(keras):
    """A subclassed model with an unused layer, an output tied to its embedding by hand."""
    matmul = multiply(keras)

    class Tied(keras.Model):
        def __init__(self):
            super().__init__(name="tied")
            self.table = keras.layers.Embedding(10, 4)
            self.blocks = [keras.layers.Dense(4), keras.layers.Dense(4)]

        def call(self, tokens):
            x = self.table(tokens)
            for block in self.blocks:
                x = block(x)
            table = self.table.embeddings
            if keras is tf_keras:
                return matmul(x, table, transpose_b=True)
            return matmul(x, keras.ops.transpose(table))
    return Tied()


def test_a_subclassed_model_is_called_on_the_shape_that_is_given(keras):
    model = subclassed(keras)
    with pytest.raises(LotteryError, match="Tied, of which it is not known what it takes"):
        lth.profile(model)
    found = lth.profile(model, input_shape=(6,))
    assert found.macs == 6 * (2 * 16 + 40)
    model(np.zeros((3, 9), np.int32))
    assert lth.profile(model, (6,) if keras is keras3 else None).macs in (432, 648)
    assert found.layers.layer.tolist()[:3] == ["table", "blocks/0", "blocks/1"]


def test_code_that_needs_values_is_called_on_zeros(keras):
    class Choosing(keras.Model):
        def __init__(self):
            super().__init__(name="choosing")
            self.usual, self.rare = keras.layers.Dense(3), keras.layers.Dense(7)

        def call(self, x):
            self.rare(x)
            return self.usual(x) if float(keras.ops.sum(x) if keras is keras3
                                          else tf.reduce_sum(x)) < 1 else self.rare(x)
    model = Choosing()
    model(np.zeros((2, 4), np.float32))
    assert lth.profile(model, input_shape=(4,)).macs == 4 * 3 + 4 * 7


def test_a_cell_of_ones_own_is_counted_by_its_weights_and_named(keras):
    class Cell(keras.layers.Layer):
        state_size = output_size = 4

        def build(self, shape):
            self.mix = self.add_weight(name="mix", shape=(shape[-1], 4), initializer="ones")

        def call(self, x, states):
            return states[0], states
    found = counted(keras, (6, 3), keras.layers.RNN(Cell(), name="rnn"))
    assert found.macs == 6 * 12
    assert found.notes == ("rnn: has a Cell in its cell, which is not known here: its weights are "
                           "counted once a step",)


def test_a_shape_that_is_open_must_be_given(keras):
    model = keras.Sequential([keras.layers.Input((None, None, 3)), keras.layers.Conv2D(4, 3),
                              keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    with pytest.raises(LotteryError, match=r"takes \(None, None, None, 3\). Give the shape"):
        lth.profile(model)
    assert lth.profile(model, input_shape=(10, 8, 3)).macs == 48 * 108 + 8
    for wrong in ((10, 8, 4), (10, 8), [(10, 8, 3), (3,)], (None, 8, 3)):
        with pytest.raises(LotteryError, match="input_shape must be"):
            lth.profile(model, input_shape=wrong)


def test_several_inputs_are_given_by_name_or_in_order(keras):
    layers = keras.layers
    left, right = layers.Input((None, 4), name="left"), layers.Input((3,), name="right")
    pooled = layers.GlobalAveragePooling1D()(layers.Dense(5)(left))
    model = keras.Model({"left": left, "right": right},
                        layers.Concatenate()([pooled, layers.Dense(2)(right)]))
    for given in ({"left": (7, 4), "right": (3,)}, [(7, 4), (3,)]):
        assert lth.profile(model, input_shape=given).macs == 7 * 20 + 6


def test_shapes_by_name_are_those_of_the_inputs_of_that_name(keras):
    layers = keras.layers
    first, second = (layers.Input((None, 1), name=name) for name in "ba")
    model = keras.Model([first, second], [layers.Conv1D(8, 3, padding="same")(first),
                                          layers.Conv1D(1, 1)(second)])
    for given in ({"a": (10, 1), "b": (100, 1)}, {"b": (100, 1), "a": (10, 1)},
                  [(100, 1), (10, 1)]):
        assert lth.profile(model, input_shape=given).macs == 100 * 24 + 10
    for wrong in ({"a": (10, 1), "c": (100, 1)}, {"a": (10, 1)}):
        with pytest.raises(LotteryError, match="names each input.* for b, a. Give"):
            lth.profile(model, input_shape=wrong)
    by_key = keras.Model({"y": first, "x": second}, model.outputs)
    assert lth.profile(by_key, input_shape={"x": (10, 1), "y": (100, 1)}).macs == 100 * 24 + 10


def test_a_product_with_a_number_is_no_error():
    class Doubled(keras3.layers.Layer):
        def call(self, x):
            return keras3.ops.dot(x, 2.0) + keras3.ops.dot(2.0, x)
    model = keras3.Sequential([keras3.Input((4,)), Doubled(), keras3.layers.Dense(3)])
    assert lth.profile(model).macs == 2 * 4 + 4 * 3


def test_costs_are_for_one_example_of_a_fixed_batch(keras):
    fixed = keras.Sequential([keras.layers.Input(batch_size=8, shape=(5, 3)),
                              keras.layers.LSTM(4, stateful=True), keras.layers.Dense(2)])
    found = lth.profile(fixed)
    assert found.macs == 5 * 16 * 7 + 8 and found.activation_bytes == 16 + 8


def test_activations_are_the_bytes_of_what_a_layer_returns(keras):
    layers = keras.layers
    found = counted(keras, (6, 6, 2), layers.Conv2D(4, 3), layers.MaxPooling2D(),
                    layers.Flatten(), layers.Dense(3, dtype="mixed_float16"))
    assert found.layers.activation_bytes.tolist() == [16 * 4 * 4, 4 * 4 * 4, 16 * 4, 3 * 2]
    assert found.activation_bytes == sum(found.layers.activation_bytes)


def test_the_model_is_left_as_it_was(keras):
    layers = keras.layers
    model = keras.Sequential([layers.Input(batch_size=2, shape=(5, 3)), layers.Dropout(0.5),
                              layers.LSTM(4, stateful=True), layers.BatchNormalization(),
                              layers.Dense(2)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    model.fit(x, np.zeros((2, 2)), verbose=0)
    before = [np.array(value) for value in model.get_weights()]
    states = [np.array(state) for state in model.layers[1].states]
    kept = [dict(vars(layer)) for layer in model.layers]
    lth.profile(model)
    assert all("call" not in vars(layer) for layer in model.layers)
    assert [dict(vars(layer)).keys() for layer in model.layers] == [held.keys() for held in kept]
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(states, model.layers[1].states, strict=True):
        np.testing.assert_array_equal(one, np.array(other))
    model.fit(x, np.zeros((2, 2)), verbose=0)


def test_what_is_no_model_is_refused(keras):
    with pytest.raises(LotteryError, match="A model of Keras 3 or of tf_keras is needed"):
        lth.profile([1])
    with pytest.raises(LotteryError, match="needed"):
        lth.profile(keras.layers.Dense(3))


def test_weights_that_no_call_uses_are_named(keras):
    class Half(keras.Model):
        def __init__(self):
            super().__init__(name="half")
            self.used, self.idle = keras.layers.Dense(3), keras.layers.Dense(2)
            self.idle.build((None, 3))

        def call(self, x):
            return self.used(x)
    model = Half()
    model(np.zeros((1, 4), np.float32))
    found = lth.profile(model)
    assert found.macs == 12 and found.parameters == 15 + 8
    assert found.notes == ("idle: is not called, so that it multiplies nothing",)


@pytest.mark.parametrize("name", ["vgg16_fc512", "resnet56_padded"])
def test_the_papers_networks_are_counted_as_by_hand(name, keras):
    model = get(name)((32, 32, 3), 10, keras=keras)
    found = lth.profile(model)
    assert found.macs == filter_counts.counted(name).macs
    assert found.parameters == model.count_params()
    assert found.macs == {"vgg16_fc512": 313_463_808, "resnet56_padded": 125_485_696}[name]


# Multiply-adds of keras.applications at their papers' sizes, and as the papers give them.  This
# ResNet-50 strides in its 1x1 convolutions, as in the paper; torchvision's, in its 3x3, has 4.09 G.
PUBLISHED = {"ResNet50": (224, 3_857_973_248, 3.8e9), "MobileNet": (224, 568_740_352, 569e6),
             "MobileNetV2": (224, 300_774_272, 300e6), "MobileNetV3Small": (224, 56_510_400, 56e6),
             "EfficientNetB0": (224, 385_814_752, 0.39e9), "VGG16": (224, 15_470_264_320, 15.5e9),
             "InceptionV3": (299, 5_713_216_096, 5.7e9), "NASNetMobile": (224, 563_638_816, 564e6),
             "Xception": (299, 8_357_403_496, 8.4e9), "ConvNeXtTiny": (224, 4_455_531_264, 4.5e9)}


@pytest.mark.thorough
@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_their_published_multiply_adds(name, keras):
    size, macs, published = PUBLISHED[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    found = lth.profile(model)
    assert found.macs == macs and found.parameters == model.count_params()
    assert macs == pytest.approx(published, rel=0.02) and not found.notes


def test_it_is_shown_as_a_table(keras):
    found = counted(keras, (28, 28, 1), keras.layers.Conv2D(8, 3, name="conv"),
                    keras.layers.Flatten(name="flat"), keras.layers.Dense(10, name="fc"))
    head, line, *rows, last, total = str(found).splitlines()
    assert head.split() == ["layer", "type", "parameters", "multiply-adds", "activations",
                            "(bytes)"]
    assert set(line) == {"-"} == set(last) and len({*map(len, (head, line, total, *rows))}) == 1
    assert [row.split() for row in rows] == [["conv", "Conv2D", "80", "48,672", "21,632"],
                                             ["flat", "Flatten", "0", "0", "21,632"],
                                             ["fc", "Dense", "54,090", "54,080", "40"]]
    assert total.split()[-3:] == ["54,170", "102,752", "43,304"]
    assert "54,170 parameters, 102,752 multiply-adds, 43,304 bytes" in repr(found)
    assert "<td>102,752</td>" in found._repr_html_() and math.isclose(found.density, 1)
