"""Models that are wrapped in place, and those of a class of their own."""

import itertools

import networks
import numpy as np
import pytest
import subclassed
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from networks import compiled, fit, lottery, X, Y
from tiers import short_and_long

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking import weight_names
from lth_keras.keras2.masking.masked_layer import MaskedLayer

layers = keras.layers


def setup_function():
    keras.utils.set_random_seed(0)


def built(kind, inputs=X):
    model = kind()
    model(inputs)
    return model


def test_layers_in_attributes_and_containers_are_wrapped_in_place():
    model = built(subclassed.Everywhere)
    before, order = model(X), list(vars(model))
    layers_before = [layer.name for layer in model.layers]
    named = {name: id(weight) for name, weight in weight_names.named_weights(model).items()}
    trained = [id(weight) for weight in model.trainable_weights]
    wrapped = lth.prune_low_magnitude(model)
    assert wrapped is model
    np.testing.assert_array_equal(model(X), before)
    assert list(weight_names.masked(model)) == subclassed.EVERYWHERE
    assert {name: id(w) for name, w in weight_names.named_weights(model).items()} == named
    assert list(weight_names.named_weights(model)) == list(named)
    assert [id(weight) for weight in model.trainable_weights] == trained
    assert [name for name in vars(model) if name in order] == order
    assert [getattr(layer, "layer", layer).name for layer in model.layers] == layers_before
    assert isinstance(model.first, MaskedLayer) and model.also_last is model.last
    assert type(model.pair) is not list and model.pair.left is model.pair[0]


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "jit"), short_and_long(
    itertools.product([subclassed.Everywhere, subclassed.OwnStep], [False, True]),
    [(subclassed.Everywhere, True), (subclassed.OwnStep, False)]))
def test_a_subclassed_model_is_searched_stripped_and_reloaded(kind, jit, tmp_path):
    model = lth.prune_low_magnitude(built(kind))
    search = lottery(rounds=3, epochs_per_round=1)
    fit(compiled(model, jit=jit), search)
    assert search.ticket.density == pytest.approx(0.8 ** 3, abs=0.1)
    assert networks.strays(model) == 0
    predictions = model(X).numpy()
    assert lth.strip_pruning(model) is model
    assert not weight_names.wrappers(model)
    np.testing.assert_array_equal(model(X), predictions)
    assert [weight.shape for weight in model.weights] \
        == [weight.shape for weight in built(kind).weights]
    model.save_weights(tmp_path / "plain.weights.h5")
    fresh = built(kind)
    fresh.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(fresh(X), predictions)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(X),
                                  predictions)


@pytest.mark.thorough
def test_a_ticket_of_a_subclassed_model_applies_to_a_fresh_one(tmp_path):
    search = lottery(rounds=1, epochs_per_round=1)
    fit(compiled(lth.prune_low_magnitude(built(subclassed.Everywhere))), search)
    search.ticket.save(tmp_path / "a.ticket")
    fresh = built(subclassed.Everywhere)
    applied = lth.Ticket.load(tmp_path / "a.ticket").apply(fresh)
    assert applied is fresh
    masks = {name: item.mask.numpy() for name, item in weight_names.masked(fresh).items()}
    for name, mask in search.ticket.masks.items():
        np.testing.assert_array_equal(masks[name], mask)
    fit(compiled(applied), networks.Spy(), epochs=1)
    assert networks.strays(applied) == 0


@pytest.mark.parametrize("ending", [".weights.h5", ".h5", "_tf"])
def test_the_weights_file_of_a_wrapped_subclassed_model_has_its_masks(ending, tmp_path):
    model = networks.draw_masks(lth.prune_low_magnitude(built(subclassed.Everywhere)))
    model.save_weights(str(tmp_path / f"wrapped{ending}"))
    other = lth.prune_low_magnitude(built(subclassed.Everywhere))
    other(X)
    other.load_weights(str(tmp_path / f"wrapped{ending}"))
    for one, two in zip(networks.masks(model), networks.masks(other), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(other(X), model(X))


def test_the_output_of_a_subclassed_model_is_pruned_less_by_its_layers_name():
    model = compiled(lth.prune_low_magnitude(built(subclassed.OwnStep)))
    before = model(X).numpy()
    with pytest.raises(LotteryError, match=r"by \['output'\].*subclassed one, name the layer"):
        fit(model, lottery(fraction={"default": 0.5, "output": 0.1}), epochs=3)
    np.testing.assert_array_equal(model(X), before)
    search = lottery(rounds=1, fraction={"default": 0.5, "last": 0.25})
    fit(model, search)
    assert [mask.mean() for mask in search.ticket.masks.values()] == [0.5, 0.75]


def test_programs_traced_before_wrapping_are_traced_anew():
    model = compiled(built(subclassed.OwnStep))
    model.fit(X, Y, batch_size=4, verbose=0)
    networks.draw_masks(lth.prune_low_magnitude(model))
    model.fit(X, Y, batch_size=4, verbose=0)
    assert networks.strays(model) == 0


def test_weights_tied_by_hand_get_no_gradient_where_they_are_pruned():
    words = np.arange(12).reshape(4, 3) % 7
    model = lth.prune_low_magnitude(built(subclassed.TiedByHand, words), include="Embedding")
    networks.draw_masks(model, zero=False)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(words, training=True)))
    for weight, gradient in zip(model.trainable_weights,
                                tape.gradient(loss, model.trainable_weights), strict=True):
        mask = {id(w): m.numpy() for w, m in networks.pruning_vars(model)}.get(id(weight))
        if mask is not None:
            assert np.count_nonzero(tf.convert_to_tensor(gradient).numpy()[mask == 0]) == 0
            assert np.count_nonzero(tf.convert_to_tensor(gradient).numpy()[mask != 0])
    (table, mask), = [pair for pair in networks.pruning_vars(model) if pair[0].shape == (7, 4)]
    kernel, kept = next(pair for pair in networks.pruning_vars(model) if pair[0].shape == (4, 4))
    sparse, dense = table.numpy() * mask.numpy(), kernel.numpy() * kept.numpy()
    expected = (sparse[words] @ dense + model.mix.bias.numpy()).mean(axis=1) @ sparse.T
    np.testing.assert_allclose(model(words), expected, rtol=1e-5, atol=1e-6)


def test_outside_a_call_a_wrapped_layer_shows_its_layers_attributes():
    layer = lth.prune_low_magnitude(built(subclassed.OwnStep)).hidden
    assert layer.units == 6 and layer.kernel is layer.layer.kernel
    with pytest.raises(AttributeError, match="nonsense"):
        _ = layer.nonsense


class Methods(layers.Layer):
    """A method beside call that uses its kernel."""

    def build(self, input_shape):
        self.kernel = self.add_weight("kernel", (input_shape[-1], 3))

    def call(self, inputs):
        return inputs @ self.kernel

    def back(self, outputs):
        return outputs @ tf.transpose(self.kernel)


def test_a_wrapped_layers_own_methods_see_the_masked_weight_in_a_call():
    class Backwards(keras.Model):
        def __init__(self):
            super().__init__()
            self.both = Methods()

        def call(self, inputs):
            return self.both.back(self.both(inputs))

    model = networks.draw_masks(lth.prune_low_magnitude(built(Backwards)), zero=False)
    (weight, mask), = networks.pruning_vars(model)
    sparse = weight.numpy() * mask.numpy()
    np.testing.assert_allclose(model(X), X @ sparse @ sparse.T, rtol=1e-4, atol=1e-5)


class Below(keras.Model):
    """Reads, and calls, what lies below its layers."""

    def __init__(self):
        super().__init__()
        self.lstm, self.block = layers.LSTM(4), networks.Block()
        self.stack = layers.RNN([layers.SimpleRNNCell(4), layers.GRUCell(3)])

    def call(self, inputs):
        states = self.lstm(inputs)
        again, _ = self.lstm.cell(inputs[:, 0], [states, states])
        called = tf.reduce_sum(self.block(states)) + tf.reduce_sum(self.stack(inputs))
        read = [self.lstm.cell.recurrent_kernel, self.block.stack[0].kernel,
                self.block.heads["a"].kernel, self.stack.cell.cells[1].kernel]
        return (called + tf.reduce_sum(again)
                + tf.add_n([tf.reduce_sum(kernel) for kernel in read]))


@pytest.mark.parametrize(("training", "run"), [(True, tf.function), (False, lambda step: step)])
def test_what_is_read_below_a_wrapped_layer_is_masked_and_its_gradient_too(training, run):
    inputs = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    model = networks.draw_masks(lth.prune_low_magnitude(built(Below, inputs)), zero=False)
    pairs = networks.pruning_vars(model)

    @run
    def step():
        with tf.GradientTape() as tape:
            loss = model(inputs, training=training)
        return loss, tape.gradient(loss, [weight for weight, _ in pairs])
    loss, gradients = step()
    for gradient, (_, mask) in zip(gradients, pairs, strict=True):
        kept = mask.numpy() != 0
        assert np.count_nonzero(gradient.numpy()[~kept]) == 0
        assert np.count_nonzero(gradient.numpy()[kept])
    if not training:  # In training pruned weights are zero already.
        networks.draw_masks(model)
        np.testing.assert_allclose(step()[0], loss, rtol=1e-6)


def test_what_a_call_sets_below_a_wrapped_layer_is_set_there():
    class Sets(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = networks.Block()

        def call(self, inputs):
            self.block.stack[0].seen = True
            return self.block(inputs)

    model = lth.prune_low_magnitude(built(Sets))
    del model.block.layer.stack[0].seen
    model(X)
    assert model.block.layer.stack[0].seen


class Hidden:
    """A holder that Keras does not track."""

    def __init__(self):
        self.layer = layers.Dense(2)


class Untracked(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.hidden = layers.Dense(3), Hidden()

    def call(self, inputs):
        return self.hidden.layer(self.first(inputs))


class Holds(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(3)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.kept = self.first.kernel
        super().build(input_shape)

    def call(self, inputs):
        return self.first(inputs) @ tf.transpose(self.kept)


class Unused(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.never = layers.Dense(3), layers.Dense(3)

    def call(self, inputs):
        return self.first(inputs)


class Anew(keras.Model):
    """Makes a layer at every call."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(3)

    def call(self, inputs):
        return layers.Dense(2, name="head")(self.first(inputs))


class Overwrites(keras.Model):
    """Puts a new layer in place of the one that it holds, a layer's own call below."""

    def __init__(self):
        super().__init__()
        self.head = Overwritten()

    def call(self, inputs):
        return self.head(inputs)


class Overwritten(layers.Layer):
    def call(self, inputs):
        self.inside = layers.Dense(3, name="inside")
        return self.inside(inputs)


def by_shape(kind):
    model = kind()
    model.build((None, 6))
    return model


MADE_IN_CALL = r"before its call.*Received: {}, whose call makes the weights \['.*{}/kernel:0', "


@pytest.mark.parametrize(("make", "message"), [
    (subclassed.Everywhere, "Everywhere without weights yet"),
    (lambda: built(Anew), MADE_IN_CALL.format("Anew", "head")),
    (lambda: by_shape(Anew), MADE_IN_CALL.format("Anew", "head")),
    (lambda: built(Overwrites), MADE_IN_CALL.format("Overwrites", "inside")),
    (lambda: built(Untracked), r"Untracked.*no attribute leads to.*prune_low_magnitude\("),
    (lambda: built(Holds), r"through its layer. Received: Holds\.kept"),
    (lambda: built(Unused), "'never' without weights"),
])
def test_a_subclassed_model_that_cannot_be_wrapped_is_refused_and_left_alone(make, message):
    model = make()
    with pytest.raises(LotteryError, match=message):
        lth.prune_low_magnitude(model)
    assert not weight_names.wrappers(model)


def test_layers_made_in_the_first_call_alone_and_those_without_weights_are_let_be():
    class Lazy(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = None

        def call(self, inputs, other=None, training=None):
            if self.head is None:
                self.head = layers.Dense(2)
            return layers.ReLU()(self.head(inputs if other is None else inputs + other))

    model = Lazy()
    model(X, X)
    for one in (model, by_shape(Lazy)):
        assert len(weight_names.masked(lth.prune_low_magnitude(one))) == 1


def test_a_functional_model_of_a_class_of_its_own_keeps_class_and_attributes(tmp_path):
    model = subclassed.Arguments(5)
    wrapped = lth.prune_low_magnitude(model)
    assert isinstance(wrapped, subclassed.Arguments) and wrapped.rate == 0.5
    assert wrapped.hidden is wrapped.layers[1] and isinstance(wrapped.hidden, MaskedLayer)
    assert wrapped.stack[0] is wrapped.hidden and wrapped.stack[1]["last"] is wrapped.layers[2]
    assert not weight_names.wrappers(model)
    search = lottery()
    history = fit(compiled(wrapped), search)
    assert "halved" in history.history and search.ticket.density < 0.8
    assert networks.strays(wrapped) == 0
    stripped = lth.strip_pruning(wrapped)
    assert type(stripped) is subclassed.Arguments and type(stripped.hidden) is layers.Dense
    np.testing.assert_array_equal(stripped(X), wrapped(X))
    stripped.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded(X), wrapped(X))


def test_what_tfmot_wrapped_is_stripped_too():
    stock = tfmot.sparsity.keras.prune_low_magnitude(networks.nested())
    networks.draw_masks(stock, zero=False)
    stripped = lth.strip_pruning(stock)
    assert not weight_names.wrappers(stripped)
    np.testing.assert_array_equal(stripped(X), tfmot.sparsity.keras.strip_pruning(stock)(X))
    assert {np.count_nonzero(layer.kernel) < layer.kernel.shape.num_elements()
            for layer in stripped._flatten_layers() if type(layer) is layers.Dense} == {True}


def test_a_sequential_model_of_a_class_of_its_own_keeps_its_class():
    wrapped = lth.prune_low_magnitude(subclassed.OwnSequential(5))
    assert type(wrapped) is subclassed.OwnSequential and wrapped.width == 5
    np.testing.assert_array_equal(wrapped.twice(X), 2 * wrapped(X))
    assert len(networks.masks(wrapped)) == 2


@pytest.mark.parametrize(("name", "jit"), short_and_long(
    itertools.product(subclassed.TIED, [False, True]),
    [*((name, False) for name in subclassed.TIED), ("decoder_first", True)]))
def test_a_weight_of_two_layers_has_one_mask_that_holds_in_both(name, jit):
    make, expected = subclassed.TIED[name]
    plain = make()
    model = lth.prune_low_magnitude(plain)
    np.testing.assert_array_equal(model(X), plain(X))
    assert list(weight_names.masked(model)) == expected
    assert len(networks.pruning_vars(model)) == len(expected)
    networks.draw_masks(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(X, training=True)))
    pairs = networks.pruning_vars(model)
    for (_, mask), gradient in zip(pairs, tape.gradient(loss, [w for w, _ in pairs]), strict=True):
        assert np.count_nonzero(gradient.numpy()[mask.numpy() == 0]) == 0
    search = lottery(rounds=3, epochs_per_round=1)
    searched = compiled(lth.prune_low_magnitude(make()), jit=jit)
    fit(searched, search)
    assert search.ticket.density == pytest.approx(0.8 ** 3, abs=0.02)
    stripped = lth.strip_pruning(searched)
    np.testing.assert_array_equal(stripped(X), searched(X))
    assert not weight_names.wrappers(stripped)
    trained = weight_names.named_weights(stripped)
    assert list(search.ticket.masks) == expected
    for weight_name, mask in search.ticket.masks.items():
        np.testing.assert_array_equal(trained[weight_name].numpy() != 0, mask)


def test_a_tied_weight_is_left_dense_everywhere_where_one_layer_is_excluded():
    model = lth.prune_low_magnitude(subclassed.tied(), exclude="Decoder")
    assert list(weight_names.masked(model)) == ["dense_1/kernel"]


NO_KERNEL = (AttributeError, "'Dense' object has no attribute 'kernel'")
# What loading a tied model says: the dense one's file, then the wrapped one's.
TIED_FILES = {
    ("tied", ".keras"): (NO_KERNEL, NO_KERNEL),
    ("tied", ".h5"): (NO_KERNEL, NO_KERNEL),
    ("decoder_first", ".keras"): (NO_KERNEL, NO_KERNEL),
    ("decoder_first", ".h5"): (NO_KERNEL, NO_KERNEL),
    ("in_time_and_alone", ".keras"): ((ValueError, r"Shape mismatch.*\(6, 6\).*\(6, 2\)"),
                                      (ValueError, "expected 2 variables, but received 0")),
    # Keras loads it with the two layers untied, which is refused: they had one mask.
    ("in_time_and_alone", ".h5"): (None, (LotteryError, "must be shared with another layer")),
}


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", subclassed.TIED)
def test_no_file_of_a_tied_model_is_loaded_with_its_weights_untied(name, ending, tmp_path):
    plain = subclassed.TIED[name][0]()
    dense, wrapped = TIED_FILES[name, ending]
    plain.save(tmp_path / f"plain{ending}")
    if dense is None:
        loaded = keras.models.load_model(tmp_path / f"plain{ending}")
        assert len(loaded.weights) == len(plain.weights) + 2
    else:
        with pytest.raises(dense[0], match=dense[1]):
            keras.models.load_model(tmp_path / f"plain{ending}")
    model = networks.draw_masks(lth.prune_low_magnitude(plain))
    model.save(tmp_path / f"wrapped{ending}")
    with pytest.raises(wrapped[0], match=wrapped[1]):
        keras.models.load_model(tmp_path / f"wrapped{ending}")(X)


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
@pytest.mark.parametrize("name", subclassed.TIED)
def test_the_weights_of_a_tied_model_are_saved_and_loaded(name, ending, tmp_path):
    make, expected = subclassed.TIED[name]
    model = networks.draw_masks(lth.prune_low_magnitude(make()))
    model.save_weights(tmp_path / f"wrapped{ending}")
    again = lth.prune_low_magnitude(make())
    again.load_weights(tmp_path / f"wrapped{ending}")
    np.testing.assert_array_equal(again(X), model(X))
    assert networks.strays(again) == 0 and len(networks.masks(again)) == len(expected)
    for one, two in zip(networks.masks(model), networks.masks(again), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_stripped_in_place_inside_a_layer_is_stripped_too():
    inputs = layers.Input((6,))
    wrapped = lth.prune_low_magnitude(layers.Dense(6))
    hidden = layers.TimeDistributed(wrapped)(layers.Reshape((1, 6))(inputs))
    model = networks.draw_masks(keras.Model(inputs, layers.Flatten()(hidden)), zero=False)
    before = model(X).numpy()
    stripped = lth.strip_pruning(model)
    assert not weight_names.wrappers(stripped)
    np.testing.assert_array_equal(stripped(X), before)
