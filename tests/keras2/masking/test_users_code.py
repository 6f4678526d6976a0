"""Code of a user's own that looks at wrapped layers, calls them, or reads their weights."""

import faults
import networks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.masked_layer import MaskedLayer
from lth_keras.keras2.masking.weight_names import masked, wrappers

layers = keras.layers
X = faults.X


def setup_function():
    keras.utils.set_random_seed(0)


def output_of(model, x=X[:4]):
    return model(x, training=False).numpy()


@pytest.mark.parametrize("build", [faults.by_type, faults.by_name, faults.by_get_layer])
def test_a_model_that_looks_at_its_layers_in_its_call_computes_the_same_wrapped(build):
    model = build()
    before = output_of(model)
    wrapped = lth.prune_low_magnitude(model)
    assert wrappers(wrapped)
    np.testing.assert_array_equal(output_of(wrapped), before)
    np.testing.assert_array_equal(output_of(lth.strip_pruning(wrapped)), before)


def test_a_wrapped_layer_is_of_its_own_class_in_a_call_alone_and_keeps_its_name():
    model = lth.prune_low_magnitude(faults.by_get_layer())
    wrapper = model.get_layer("enc")
    assert isinstance(wrapper, MaskedLayer) and not isinstance(wrapper, layers.Dense)
    assert wrapper.name == wrapper.layer.name == "enc"
    seen = []

    class Asks(keras.Model):
        def __init__(self):
            super().__init__()
            self.one = layers.Dense(2)

        def call(self, x):
            seen.append((isinstance(self.one, layers.Dense), isinstance(self.one, layers.Conv2D)))
            return self.one(x)
    asking = lth.prune_low_magnitude(faults.built(Asks()))
    seen.clear()
    asking(X[:2])
    assert seen == [(True, False)] and isinstance(asking.one, MaskedLayer)


class ExactType(keras.Model):
    """Its call takes another way for a type that is exactly Dense."""

    def __init__(self):
        super().__init__()
        self.one, self.held = layers.Dense(8), [layers.Dense(2)]

    def call(self, x):
        y = self.one(x)
        return self.held[0](2 * y if type(self.one) is layers.Dense else y)


class Fails(ExactType):
    """Its call fails for another type."""

    def call(self, x):
        assert type(self.one) is layers.Dense
        return super().call(x)


@pytest.mark.parametrize(("kind", "says"), [(ExactType, "other outputs"),
                                            (Fails, "call that fail")])
def test_a_model_that_would_compute_something_else_is_refused_and_left_as_it_was(kind, says):
    model = faults.built(kind())
    before, dense = output_of(model), model.one
    with pytest.raises(LotteryError, match=f"{kind.__name__} with (a )?{says}"):
        lth.prune_low_magnitude(model)
    assert model.one is dense and type(model) is kind and not wrappers(model)
    assert dense.kernel.constraint is None
    np.testing.assert_array_equal(output_of(model), before)
    assert wrappers(lth.prune_low_magnitude(model, exclude="one"))


class ByKeywords(keras.Model):
    """Calls a layer whose first argument is not named inputs by keywords alone."""

    def __init__(self):
        super().__init__()
        self.attention, self.head = layers.MultiHeadAttention(2, 3), layers.Dense(2)

    def call(self, x):
        return self.head(self.attention(query=x, value=x))


def test_a_layer_is_called_by_keywords_alone():
    x = np.ones((2, 5, 4), np.float32)
    model = faults.built(ByKeywords(), x)
    before = output_of(model, x)
    np.testing.assert_array_equal(output_of(lth.prune_low_magnitude(model), x), before)


class Methods(layers.Layer):
    """Reads its weight by every method that a variable has."""

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], 3))

    def call(self, x):
        assert self.kernel.trainable and self.kernel.shape == (x.shape[-1], 3)
        assert isinstance(self.kernel, tf.Variable)
        rows = self.kernel.sparse_read([0, 1]) + self.kernel.gather_nd([[0], [1]])
        whole = self.kernel.value() + self.kernel.read_value() + tf.identity(self.kernel)
        return x @ whole + tf.reduce_sum(rows) + x @ self.weights[0] + x @ self.trainable_weights[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("compiled", [False, True])
def test_every_way_to_read_a_weight_is_masked_and_so_is_its_gradient(training, compiled):
    model = lth.prune_low_magnitude(keras.Sequential([layers.Input((4,)), Methods()]))
    (item,) = masked(model).values()
    item.mask.assign(np.arange(12).reshape(4, 3) % 2)
    item.weight.assign(item.weight * item.mask)
    plain = Methods()
    plain(X[:1, :4])
    plain.kernel.assign(item.weight)

    def step(call):
        with tf.GradientTape() as tape:
            out = tf.reduce_sum(call(tf.constant(X[:4, :4])) ** 2)
        return out, tape.gradient(out, item.weight if call is not plain else plain.kernel)
    run = tf.function(step) if compiled else step
    out, gradient = run(lambda x: model(x, training=training))
    expected, dense = step(plain)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, dense * item.mask, rtol=1e-4)
    assert not np.any(gradient.numpy()[item.mask.numpy() == 0])
    assert item.weight is plain.kernel or model.layers[0].layer.weights[0] is item.weight


class Assigns(layers.Layer):
    """Writes into its weight in its call."""

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], 3))

    def call(self, x):
        self.kernel.assign(self.kernel + 1.0)
        self.kernel.assign_add(tf.ones_like(self.kernel))
        return x @ self.kernel


class Scatters(Assigns):
    """Writes a part of its weight."""

    def call(self, x):
        self.kernel.scatter_add(tf.IndexedSlices(tf.ones((1, 3)), [0]))
        return x @ self.kernel


def test_what_a_call_assigns_to_a_pruned_weight_is_masked():
    model = lth.prune_low_magnitude(keras.Sequential([layers.Input((4,)), Assigns()]))
    (item,) = masked(model).values()
    item.mask.assign(np.arange(12).reshape(4, 3) % 2)
    item.weight.assign(item.weight * item.mask)
    before = item.weight.numpy()
    model(X[:2, :4])
    np.testing.assert_allclose(item.weight.numpy(), (before + 2) * item.mask.numpy())


def test_what_a_call_scatters_into_a_pruned_weight_is_refused():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(4)])
    scatters = Scatters()
    scatters.build((None, 4))
    wrapped = lth.prune_low_magnitude(scatters)
    with pytest.raises(LotteryError, match="must not scatter values into a weight that is pruned"):
        wrapped(model(X[:2, :4]))


@pytest.mark.parametrize("name", faults.NAMES)
def test_a_kernel_is_known_whatever_letters_are_in_its_name(name):
    model = lth.prune_low_magnitude(faults.named(name)())
    assert f"named/{name}" in masked(model)


@pytest.mark.parametrize("name", ["bias", "gamma", "beta", "alpha"])
def test_what_keras_never_calls_a_kernel_is_pruned_on_request_alone(name):
    assert f"named/{name}" not in masked(lth.prune_low_magnitude(faults.named(name)()))
    assert f"named/{name}" in masked(
        lth.prune_low_magnitude(faults.named(name)(), include=faults.Named))


def test_a_layer_that_is_included_and_has_nothing_to_prune_is_refused_by_name():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    with pytest.raises(LotteryError, match=r"'batch_normalization', which selects "
                                           r"batch_normalization: gamma is of rank 1"):
        lth.prune_low_magnitude(model, include="batch_normalization")
    lth.prune_low_magnitude(model, include=lambda layer: True)


def test_the_second_model_of_a_process_goes_by_the_same_names():
    for _ in range(2):
        wrapped = lth.prune_low_magnitude(networks.mlp(), exclude="dense")
        assert list(masked(wrapped)) == ["dense_1/kernel"]
        model = lth.prune_low_magnitude(networks.mlp())
        model.compile("adam", "mse")
        search = lth.Search(model, fraction={"dense": 0.5, "dense_1": 0.0})
        search.prune_and_rewind()
        assert search.masks["dense_1/kernel"].all() and not search.masks["dense/kernel"].all()
    with pytest.raises(LotteryError, match=r"Layers: dense \(Dense\), .*dense_1 \(Dense\)"):
        lth.prune_low_magnitude(networks.mlp(), exclude="dense_7")


def test_layers_of_a_rebuilt_model_of_any_class_go_by_the_same_names():
    def build():
        return keras.Sequential([layers.Input((None, 5, 5, 1)), layers.ConvLSTM2D(2, 2),
                                 layers.GlobalAveragePooling2D(), layers.Dense(2)])
    one, other = (lth.prune_low_magnitude(build()) for _ in range(2))
    assert list(masked(one)) == list(masked(other))
    one.compile("adam", "mse")
    lth.Search(one).tickets[0].apply(build())


@pytest.mark.parametrize("eagerly", [False, True])
def test_what_a_train_step_reads_of_a_wrapped_layer_is_masked(eagerly):
    model = faults.reads_in_step()
    model = lth.prune_low_magnitude(model)
    model.compile("adam", "mse", run_eagerly=eagerly)
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, fraction=0.5, verbose=0,
                                        check=True)
    model.fit(*faults.DATA, epochs=2, verbose=0, callbacks=[lottery])
    assert lottery.results.density.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(("build", "name", "eagerly"), [
    (faults.reads_list_in_step, "dense/kernel", False),
    (faults.half_custom_gradient, "doubled_twice/kernel", True)])
def test_a_gradient_past_a_mask_is_refused_at_the_first_step_of_a_sparse_round(build, name,
                                                                               eagerly):
    model = lth.prune_low_magnitude(build())
    model.compile("adam", "mse", run_eagerly=eagerly)
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, fraction=0.5, verbose=0)
    spy = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: seen.append(1))
    seen = []
    with pytest.raises(LotteryError, match=f"weights of '{name}'.*self.trainable_weights as"):
        model.fit(*faults.DATA, epochs=2, verbose=0, callbacks=[lottery, spy])
    assert len(seen) == 2  # Those of the dense level.


def test_a_kernel_read_under_a_tape_stands_for_the_weight_itself():
    model = lth.prune_low_magnitude(networks.mlp())
    networks.draw_masks(model, zero=False)
    layer, (item, _) = model.layers[0], masked(model).values()
    kept = item.mask.numpy()
    assert layer.kernel is item.weight and layer.units == 8
    optimizer = keras.optimizers.SGD(1.0)
    with tf.GradientTape() as tape:
        assert layer.units == 8 and isinstance(layer.kernel, tf.Variable)
        loss = tf.reduce_sum(layer.kernel * layer.kernel)
        gradient = tape.gradient(loss, layer.kernel)
        np.testing.assert_allclose(gradient, 2 * item.weight * kept)
        before = item.weight.numpy()
        optimizer.apply_gradients([(gradient, layer.kernel)])
    np.testing.assert_allclose(item.weight, -before * kept, rtol=1e-6)
