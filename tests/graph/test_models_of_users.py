"""Models as people build them: shared weights, models within models, calls with arguments."""

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.graph.kinds import kind_of

both = pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])
RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def search_of(keras, model, **options):
    if keras is tf_keras:
        model = lth.prune_low_magnitude(model, structure="filters")
    else:
        options["structure"] = "filters"
    model.compile("sgd", "mse")
    return lth.Search(model, fraction=0.5, criterion="l1", **options)


def check(model, x):
    """A compacted model predicts the same."""
    small = lth.compact(model)
    for one, other in zip(tf.nest.flatten([model(x)]), tf.nest.flatten([small.model(x)]),
                          strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-5)
    return small


def pruned(keras, model, x):
    """A search of a model, pruned once; it and the model without its filters predict the same."""
    search = search_of(keras, model)
    search.prune_and_rewind()
    check(search.model, x)
    return search


@both
@pytest.mark.parametrize("shared", [[1, 2, 3], [3], [1, 2], None])
def test_slopes_that_channels_share_or_do_not_share_stay(keras, shared):
    layers = keras.layers
    model = keras.Sequential([layers.Input((6, 6, 3)), layers.Conv2D(8, 3),
                              layers.PReLU("random_uniform", shared_axes=shared), layers.Flatten(),
                              layers.Dense(3)])
    model.layers[1].set_weights([draw(*model.layers[1].get_weights()[0].shape)])
    search = pruned(keras, model, draw(4, 6, 6, 3))
    name, = (name for name in search.network.weights() if name.endswith("/alpha"))
    small = lth.compact(search.model)
    assert small.ticket(search.tickets[1]).weights[name].size > 0
    once = layers.PReLU(shared_axes=[1, 2, 3])  # On tensors of eight channels and of one.
    inputs = layers.Input((6, 6, 3))
    check(keras.Model(inputs, once(layers.Conv2D(1, 3)(once(layers.Conv2D(8, 3)(inputs))))),
          draw(2, 6, 6, 3))


@both
def test_calls_within_a_sequential_model_keep_their_arguments(keras):
    layers = keras.layers

    class Scale(layers.Layer):
        def call(self, x, by=1.0):
            return x * by

    def within(call):
        inputs = layers.Input((6,))
        inner = keras.Model(inputs, call(layers.Dense(8)(inputs)))
        model = keras.Sequential([layers.Input((6,)), inner, layers.Dense(3)])
        check(model, draw(5, 6))
    within(lambda x: layers.BatchNormalization()(x, training=True))
    within(lambda x: Scale()(x, by=3.0))
    within(lambda x: 1 - 2.0 * x)
    if keras is tf_keras:
        within(lambda x: tf.nn.leaky_relu(x, alpha=0.6))
    else:
        within(lambda x: keras3.ops.relu(x * 2.0 + 1.0))


@both
def test_inputs_of_a_model_within_a_model_are_its_own(keras):
    layers = keras.layers

    def difference(**names):
        first, second = (layers.Input((6,), name=name) for name in ("z", "a"))
        return keras.Model([first, second], layers.Subtract()([
            layers.Dense(8)(first), layers.Dense(8)(second)]))
    one, other = layers.Input((6,)), layers.Input((6,))
    x = [draw(4, 6), draw(4, 6)]
    # By the names of its inputs, or one after the other: then it is opened.
    check(keras.Model([one, other], layers.Dense(3)(difference()({"z": one, "a": other}))), x)
    search = pruned(keras, keras.Model([one, other], layers.Dense(3)(
        difference()([one, other]))), x)
    assert "8 of 2 layers are pruned" in search.note
    whole = layers.Input((8, 8, 3), dtype="uint8")  # Keras casts it for the inner model.
    images = layers.Input((8, 8, 3))
    inner = keras.Model(images, layers.Conv2D(8, 3)(images))
    check(keras.Model(whole, layers.Dense(3)(layers.Flatten()(inner(whole)))),
          RNG.integers(0, 255, (2, 8, 8, 3)).astype(np.uint8))


def test_a_base_in_inference_mode_stays_in_it():
    layers = tf_keras.layers
    images = layers.Input((6, 6, 3))
    base = tf_keras.Model(images, layers.ReLU()(layers.BatchNormalization(name="norm")(
        layers.Conv2D(8, 3)(images))))
    inputs = layers.Input((6, 6, 3))
    x = layers.GlobalAveragePooling2D()(base(inputs, training=False))
    search = pruned(tf_keras, tf_keras.Model(inputs, layers.Dense(3)(x)), draw(2, 6, 6, 3))
    assert search.density < 0.6
    with search.smaller() as small:
        before = small.get_layer("norm").moving_mean.numpy()
        small.fit(draw(8, 6, 6, 3) + 3, draw(8, 3), verbose=0)
        np.testing.assert_array_equal(small.get_layer("norm").moving_mean, before)


@both
def test_what_another_layer_reads_in_its_own_way_keeps_its_filters(keras):
    layers = keras.layers

    class Use(layers.Layer):
        def __init__(self, inner):
            super().__init__(name="use")
            self.inner = inner

        def call(self, x):
            return self.inner(x)
    for wrap in (Use, layers.TimeDistributed):
        rank = (5, 6) if wrap is layers.TimeDistributed else (6,)
        shared = layers.Dense(8, name="shared")
        one, other = layers.Input((6,)), layers.Input(rank)
        model = keras.Model([one, other], [
            layers.Dense(3)(layers.Dense(4, name="free")(shared(one))),
            layers.Dense(3)(wrap(shared)(other))])
        search = pruned(keras, model, [draw(2, 6), draw(2, *rank)])
        assert "4 of 1 layer" in search.note and "of shared (it shares a weight with" in search.note
        small = lth.compact(search.model).model
        assert small.count_params() < model.count_params()


@both
def test_all_calls_of_a_layer_are_known_or_none(keras):
    layers = keras.layers
    one, other = layers.Input((6,)), layers.Input((6,))
    norm = layers.BatchNormalization(name="norm")
    model = keras.Model([one, other], [
        layers.Dense(3)(norm(layers.Dense(8, name="a")(one))),
        layers.Dense(3)(layers.Dense(4, name="free")(norm(layers.Dense(8)(other), training=True)))])
    search = search_of(keras, model)
    search.prune_and_rewind()
    assert lth.compact(search.model).removed == {"free": (4, 2)}
    assert "4 of 1 layer" in search.note
    assert "norm: it is called in another way too" in search.note


@both
@pytest.mark.parametrize("shape", [None, 8])
def test_attention_loses_heads_and_outputs(keras, shape):
    layers = keras.layers
    inputs = layers.Input((6, 10))
    x = layers.MultiHeadAttention(4, 6, output_shape=shape)(inputs, inputs)
    search = pruned(keras, keras.Model(inputs, layers.Dense(3)(x)), draw(2, 6, 10))
    with search.smaller() as small:
        small.fit(draw(4, 6, 10), draw(4, 6, 3), verbose=0)
    check(search.model, draw(2, 6, 10))
    x = layers.Conv1D(12, 3, padding="same")(inputs)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 6)(x, x)])
    pruned(keras, keras.Model(inputs, layers.Dense(3)(x)), draw(2, 6, 10))


@both
def test_a_first_state_is_read(keras):
    layers = keras.layers
    one, sequence = layers.Input((10,)), layers.Input((6, 5))
    state = layers.Dense(8, "tanh", name="state")(layers.Dense(4, name="free")(one))
    model = keras.Model([one, sequence], layers.Dense(3)(
        layers.GRU(8, name="memory")(sequence, initial_state=state)))
    search = pruned(keras, model, [draw(2, 10), draw(2, 6, 5)])
    assert "4 of 1 layer" in search.note and "of state, memory (it is called " in search.note


@both
def test_a_model_within_is_trained_without_its_filters_too(keras):
    layers = keras.layers
    inputs = layers.Input((6,))
    inner = keras.Model(inputs, [layers.Dense(8, "relu", name="hidden")(inputs),
                                 layers.Dense(5, name="unread")(inputs)], name="inner")
    outer = layers.Input((6,))
    search = search_of(keras, keras.Model(outer, layers.Dense(3, name="out")(inner(outer)[0])))
    search.model.fit(draw(8, 6), draw(8, 3), verbose=0)
    search.prune_and_rewind()
    assert "8 of 1 layer" in search.note
    with search.smaller() as small:
        small.fit(draw(8, 6), draw(8, 3), verbose=0)
        x = draw(4, 6)
        expected = small.predict(x, verbose=0)
    np.testing.assert_allclose(search.model.predict(x, verbose=0), expected, atol=1e-5)
    ticket = check(search.model, x).ticket(search.tickets[1])
    assert {*ticket.masks} <= {"hidden/kernel", "hidden/bias", "out/kernel"}
    assert not any("unread" in name for name in ticket.weights)


@both
def test_an_error_in_the_smaller_model_leaves_layers_that_it_shares_as_they_were(keras):
    layers = keras.layers
    inputs = layers.Input((6,))
    search = search_of(keras, keras.Model(inputs, layers.Dense(3)(layers.Dense(8)(
        layers.LayerNormalization()(inputs)))))
    search.prune_and_rewind()
    before = search.network.weights()
    with pytest.raises(KeyboardInterrupt), search.smaller() as small:
        small.fit(draw(8, 6), draw(8, 3), verbose=0)
        raise KeyboardInterrupt
    for name, value in search.network.weights().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_loss_beside_the_graph_is_not_left_out_in_silence():
    inputs = tf_keras.layers.Input((6,))
    hidden = tf_keras.layers.Dense(8)(inputs)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(3)(hidden))
    model.add_loss(tf.reduce_mean(tf.square(hidden)))
    search = search_of(tf_keras, model)
    search.prune_and_rewind()
    with pytest.raises(LotteryError, match="add_loss"), search.smaller():
        pass
    assert "add_loss: is not part of the smaller model" in " ".join(lth.compact(model).left)


def test_a_function_that_add_loss_gave_a_layer_is_not_left_out_in_silence():
    def made(added):
        layer = tf_keras.layers.Dense(8, kernel_regularizer="l2", name="fc")
        model = tf_keras.Sequential([tf_keras.layers.Input((6,)), layer, tf_keras.layers.Dense(3)])
        if added:
            layer.add_loss(lambda: tf.reduce_mean(layer.kernel ** 2))
        search = search_of(tf_keras, model)
        search.prune_and_rewind()
        return search, " ".join(lth.compact(lth.strip_pruning(model)).left)
    search, left = made(True)
    assert "fc: is trained without the functions that add_loss was given" in left
    with pytest.raises(LotteryError, match="add_loss .* fc"), search.smaller():
        pass
    search, left = made(False)
    assert "add_loss" not in left
    with search.smaller():
        pass


@both
@pytest.mark.parametrize("method", ["train_step", "compute_loss"])
def test_a_training_of_the_models_own_class_is_not_left_out_in_silence(keras, method):
    def own(self, *args, **options):
        return getattr(keras.Model, method)(self, *args, **options)

    def made(kind):
        inputs = keras.layers.Input((6,))
        outputs = keras.layers.Dense(3)(keras.layers.Dense(8)(inputs))
        search = search_of(keras, kind(inputs, outputs))
        search.prune_and_rewind()
        return search, " ".join(lth.compact(search.model).left)
    search, left = made(type("Distilled", (keras.Model,), {method: own}))
    assert f"is trained as Keras does, without {method} of Distilled" in left
    with pytest.raises(LotteryError, match=f"class Distilled .* {method}"), search.smaller():
        pass
    search, left = made(type("Named", (keras.Model,), {}))
    assert not left
    with search.smaller():
        pass


def trained(model):
    return {name.partition(":")[0].rpartition("base/")[2] for name in (
        getattr(weight, "path", weight.name) for weight in model.trainable_weights)}


@both
def test_initial_values_in_an_array_do_not_have_to_fit_what_is_left(keras):
    layers, constant = keras.layers, keras.initializers.Constant
    inputs = layers.Input((5,), dtype="int32")
    x = layers.Embedding(9, 6, embeddings_initializer=constant(draw(9, 6)))(inputs)
    x = layers.Dense(8, "tanh", bias_initializer=constant(list(range(8))))(layers.Flatten()(x))
    x = layers.BatchNormalization(gamma_initializer=constant(draw(8)))(x)
    model = keras.Model(inputs, layers.Dense(2, kernel_initializer=constant(draw(8, 2)))(x))
    search = pruned(keras, model, np.arange(10).reshape(2, 5) % 9)
    with search.smaller() as small:
        assert small.layers[3].units == 4


@both
def test_what_is_frozen_stays_frozen(keras):
    layers = keras.layers

    def made():
        given = layers.Input((6,))
        inner = layers.Dense(7, name="top")(layers.LayerNormalization()(layers.Dense(8)(given)))
        base = keras.Model(given, inner, name="base")
        inputs = layers.Input((6,))
        hidden = layers.Dense(6, name="hidden")(base(inputs))
        return keras.Model(inputs, layers.Dense(3, name="out")(hidden)), base
    model, base = made()
    base.trainable, base.get_layer("top").trainable = False, True  # Its top in Keras 3 alone.
    whole, _ = made()
    whole.trainable, whole.get_layer("out").trainable = False, True
    alone, _ = made()
    if keras is keras3:
        alone.get_layer("out").kernel.trainable = False
    for each in (model, whole, alone):
        assert trained(check(each, draw(4, 6)).model) == trained(each) != trained(made()[0])
        if each is not whole:
            search = search_of(keras, each)
            search.prune_and_rewind()
            with search.smaller() as small:
                assert trained(small) == trained(search.model) == trained(each)


@both
def test_a_penalty_of_what_a_layer_gives_stays(keras):
    layers, inputs = keras.layers, keras.layers.Input((6,))
    hidden = layers.Activation("relu", activity_regularizer="l2")(layers.Dense(8)(inputs))
    model, x = keras.Model(inputs, layers.Dense(3)(hidden)), draw(4, 6)
    model(x)
    whole, = model.losses
    small = check(model, x).model
    small(x)
    np.testing.assert_allclose(np.asarray(small.losses), [float(whole)], rtol=1e-5)
    search = search_of(keras, model)
    search.prune_and_rewind()
    search.model(x)
    with search.smaller() as small:
        small(x)
        np.testing.assert_allclose(np.asarray(small.losses), np.asarray(search.model.losses),
                                   rtol=1e-5)


def test_arithmetic_of_tensors_is_known_after_wrapping_too():
    layers = tf_keras.layers
    for combine in (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, tf.maximum):
        inputs = layers.Input((6,))
        x = combine(layers.Dense(8)(inputs), layers.Dense(8)(inputs))
        search = pruned(tf_keras, tf_keras.Model(inputs, layers.Dense(3)(x)), draw(4, 6))
        assert "8 of 2 layers" in search.note


def test_a_function_of_another_function_of_the_same_name_is_not_taken_for_it():
    inputs = keras3.Input((64,))
    gelu = keras3.layers.Dense(256, keras3.ops.gelu, name="gelu")(inputs)
    small = check(keras3.Model(inputs, keras3.layers.Dense(4)(gelu)), draw(64, 64))
    assert "gelu: it cannot be made from its get_config" in " ".join(small.left)


@both
def test_functions_of_tensors_are_read_as_they_compute(keras):
    x, kernel = draw(4, 6), draw(6, 8)
    kernel[:, ::2] = 0  # Units that are constant, with and without a bias.
    for function in kind_of(keras.layers.Layer()).elementwise:
        inputs = keras.layers.Input((6,))
        try:
            hidden = function(keras.layers.Dense(8)(inputs))
        except ValueError:  # Keras 3 computes some on arrays alone.
            continue
        model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
        model.layers[1].set_weights([kernel, np.arange(-4, 4) / 2])
        check(model, x)


@both
def test_what_divides_a_number_keeps_its_filters(keras):
    layers = keras.layers
    inputs = layers.Input((6,))
    x = 1.0 / layers.Dense(8, "sigmoid", name="a")(layers.Dense(4, name="free")(inputs))
    search = search_of(keras, keras.Model(inputs, layers.Dense(3)(x)))
    assert "4 of 1 layer" in search.note and "it divides by a tensor" in search.note


@both
@pytest.mark.parametrize("criterion", ["taylor", "activation"])
def test_data_of_several_inputs_are_a_list_as_in_fit(keras, criterion):
    layers = keras.layers
    one, other = layers.Input((6,)), layers.Input((4,))
    model = keras.Model([one, other], layers.Dense(3)(layers.Dense(8)(
        layers.Concatenate()([one, other]))))
    data = [draw(8, 6), draw(8, 4)], draw(8, 3)
    if keras is tf_keras:
        model = lth.prune_low_magnitude(model, structure="filters")
    model.compile("sgd", "mse")
    search = lth.Search(model, fraction=0.5, criterion=criterion, scoring_data=data,
                        **({} if keras is tf_keras else {"structure": "filters"}))
    search.prune_and_rewind()
    assert search.density == 0.5
