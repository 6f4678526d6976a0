import contextlib
import itertools
import subprocess
import sys

import networks
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from networks import ARCHITECTURES, compiled, fit, lottery, OPTIMIZERS, X, Y
from tiers import short_and_long

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking import weight_names
from lth_keras.keras2.masking.masked_layer import MaskedLayer

layers = keras.layers
FORMATS = [".keras", ".h5", ""]


def setup_function():
    keras.utils.set_random_seed(0)


@contextlib.contextmanager
def masked_at_random(name):
    """An architecture and its wrapped twin under random masks, for the time of a test."""
    model, wrapped = networks.untouched(name)
    before = wrapped.get_weights()
    networks.draw_masks(wrapped, zero=False)
    try:
        yield model, wrapped
    finally:
        wrapped.set_weights(before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_output_is_that_of_the_plain_model_with_masked_weights(name):
    with masked_at_random(name) as (model, wrapped):
        inputs = networks.inputs_for(model)
        dense, sparse = model(inputs).numpy(), wrapped(inputs).numpy()
        for weight, mask in networks.pruning_vars(wrapped):
            weight.assign(weight.numpy() * mask.numpy())
        np.testing.assert_allclose(sparse, model(inputs), rtol=1e-5, atol=1e-6)
        assert not np.allclose(sparse, dense)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_gradient_of_a_pruned_weight_is_exactly_zero(name):
    with masked_at_random(name) as (_, wrapped):
        variables = networks.pruning_vars(wrapped)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(wrapped(networks.inputs_for(wrapped), training=True) ** 2)
        gradients = tape.gradient(loss, [weight for weight, _ in variables])
        assert sum(np.count_nonzero(gradient) for gradient in gradients)
        for gradient, (_, mask) in zip(gradients, variables, strict=True):
            assert not np.any(gradient.numpy()[mask.numpy() == 0])


def stray_model(jit=False):
    """A dense layer of known weights; the pruned ones are set to what they must not be."""
    dense = layers.Dense(3, use_bias=False)
    model = lth.prune_low_magnitude(keras.Sequential([layers.Input((2,)), dense]))
    mask = np.array([[1, 0, 1], [0, 1, 0]], np.float32)
    (weight, masked), = networks.pruning_vars(model)
    masked.assign(mask)
    weight.assign(np.arange(1, 7, dtype=np.float32).reshape(2, 3))
    compiled(model, keras.optimizers.SGD(0.5), jit)
    return model, weight, mask


def test_in_evaluation_a_pruned_weight_that_is_not_zero_takes_no_part():
    model, weight, mask = stray_model()
    inputs = np.array([[1, 1], [0.5, -1]], np.float32)
    expected = inputs @ (weight.numpy() * mask)
    for outputs in (model(inputs), model(inputs, training=False), model.predict(inputs, verbose=0)):
        np.testing.assert_array_equal(outputs, expected)
    assert model.evaluate(inputs, expected, verbose=0) == 0
    assert weight.numpy().all()


def test_what_a_pruned_weight_holds_does_not_matter_in_evaluation():
    model, weight, mask = stray_model()
    inputs = np.ones((1, 2), np.float32)
    before = model(inputs).numpy()
    for wild in (np.inf, np.nan, -np.inf):
        weight.assign(np.where(mask, weight, wild))
        np.testing.assert_array_equal(model(inputs), before)


def test_in_training_a_weight_is_lent_as_it_is():
    model, weight, _ = stray_model()
    inputs = np.array([[1, 1], [0.5, -1]], np.float32)
    np.testing.assert_array_equal(model(inputs, training=True), inputs @ weight.numpy())


@pytest.mark.parametrize("jit", [False, True])
def test_after_one_step_a_pruned_weight_that_was_not_zero_is_zero_again(jit):
    model, weight, mask = stray_model(jit)
    model.train_on_batch(np.ones((2, 2), np.float32), np.ones((2, 3), np.float32))
    assert not weight.numpy()[mask == 0].any()
    assert weight.numpy()[mask == 1].all()


@pytest.mark.parametrize("wild", [np.inf, -np.inf, np.nan, -1.0])
@pytest.mark.parametrize("jit", [False, True])
def test_the_gradient_of_a_pruned_weight_is_plus_zero_whatever_comes_in(wild, jit):
    model, weight, mask = stray_model()

    @tf.function(jit_compile=jit)
    def gradient_of(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs, training=True))
        return tape.gradient(loss, weight)
    gradient = gradient_of(tf.fill((1, 2), np.float32(wild))).numpy()
    np.testing.assert_array_equal(gradient[mask == 1], wild)
    assert (gradient[mask == 0] == 0).all() and not np.signbit(gradient[mask == 0]).any()


def train_masked(optimizer, jit=False, epochs=2, **options):
    model = networks.draw_masks(lth.prune_low_magnitude(networks.mlp(**options)))
    spy = networks.Spy()
    fit(compiled(model, optimizer, jit), spy, epochs=epochs)
    assert [state.strays for state in spy.after] == [0] * epochs * networks.STEPS
    first, last = spy.before[0].weights, spy.after[-1].weights
    for before, after in zip(first, last, strict=True):
        assert np.isfinite(after).all()
        assert (before != after).any()


@pytest.mark.parametrize("name", short_and_long(
    OPTIMIZERS, ["adamw", "nesterov", "rmsprop", "ftrl", "lion", "averaged", "legacy_adam"]))
def test_pruned_weights_are_zero_after_every_batch_of_any_optimizer(name):
    train_masked(OPTIMIZERS[name]())


@pytest.mark.parametrize("name", ["adamw", "legacy_adam"])
def test_pruned_weights_are_zero_after_every_batch_under_xla(name):
    train_masked(OPTIMIZERS[name](), jit=True, epochs=1)


@pytest.mark.parametrize("option", [
    {"kernel_regularizer": keras.regularizers.L1L2(0.01, 0.01)},
    {"kernel_regularizer": keras.regularizers.OrthogonalRegularizer(0.1)},
    {"kernel_constraint": keras.constraints.UnitNorm()},
    {"kernel_constraint": keras.constraints.MinMaxNorm(0.5, 1.0)},
    {"kernel_constraint": lambda kernel: kernel - tf.reduce_mean(kernel)},
    {"activity_regularizer": "l2"},
])
def test_regularizers_and_constraints_leave_pruned_weights_at_zero(option):
    train_masked("adam", **option)


@pytest.mark.parametrize("rewind_step", [0, 1])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_with_a_float32_head_is_searched_like_any_other(policy, rewind_step):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = keras.Sequential([layers.Input((6,)), layers.Dense(8, "relu"),
                                  layers.Dense(2, dtype="float32")])
        wrapped = lth.prune_low_magnitude(model)
        np.testing.assert_array_equal(wrapped(X), model(X))
        search = lottery(rewind_step=rewind_step)
        spy = networks.Spy(search)
        fit(compiled(wrapped), search, spy)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert {state.strays for state in spy.after} == {0}
    start, theta = spy.starts()[1], spy.before[rewind_step]
    assert start.iterations == rewind_step
    np.testing.assert_array_equal(start.weights[0], np.where(start.kept[0], theta.weights[0], 0))
    assert {value.dtype for value in search.ticket.weights.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("name", ["mlp", "recurrent", "attention", "custom", "shared"])
def test_a_layer_has_its_own_weights_back_after_the_call(name):
    with masked_at_random(name) as (model, wrapped):
        before = [(slot.owner, slot.attribute, getattr(slot.owner, slot.attribute))
                  for slot in weight_names.slots(model)]
        wrapped(networks.inputs_for(model))
        for owner, attribute, held in before:
            assert getattr(owner, attribute) is held


class Fragile(layers.Dense):
    broken = False

    def call(self, inputs):
        if self.broken:
            raise RuntimeError("broken")
        return super().call(inputs)


def test_a_layer_has_its_own_weights_back_after_a_call_that_raises():
    wrapped = lth.prune_low_magnitude(Fragile(3))
    wrapped(X)
    kernel = wrapped.layer.kernel
    wrapped.layer.broken = True
    with pytest.raises(RuntimeError, match="broken"):
        wrapped(X)
    assert wrapped.layer.kernel is kernel
    wrapped.layer.broken = False
    np.testing.assert_array_equal(wrapped(X), wrapped.layer(X))


@pytest.mark.parametrize("option", [{}, {"kernel_regularizer": "l2"}], ids=["plain", "l2"])
def test_the_original_model_still_trains_densely(option):
    model = networks.mlp(**option)
    dense = model.get_weights()
    fit(compiled(lth.prune_low_magnitude(model)), lottery(epochs_per_round=1, fraction=0.5))
    model.set_weights(dense)
    compiled(model).fit(X, Y, verbose=0)
    assert [np.count_nonzero(kernel) for kernel in model.get_weights()[::2]] == [48, 16]


def test_a_call_changes_no_weight():
    wrapped = networks.draw_masks(lth.prune_low_magnitude(networks.mlp()), zero=False)
    before = wrapped.get_weights()
    wrapped(X, training=True)
    for old, new in zip(before, wrapped.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class Noisy(layers.Layer):
    def __init__(self):
        super().__init__()
        self.dense, self.drop = layers.Dense(4), layers.Dropout(0.5)

    def call(self, inputs, training=None):
        return self.drop(self.dense(inputs), training=training)


def test_the_layer_inside_learns_whether_it_is_in_training():
    inputs = layers.Input((6,))
    noisy = Noisy()
    model = lth.prune_low_magnitude(keras.Model(inputs, [noisy(inputs), noisy(inputs,
                                                                              training=True)]))
    quiet, always = model(X, training=False)
    assert (quiet.numpy() != 0).all()
    assert (always.numpy() == 0).any()
    assert (model(X, training=True)[0].numpy() == 0).any()


def test_timestep_masks_pass_through_wrapped_layers():
    words = layers.Input((5,), dtype="int32")
    states = layers.Dense(4)(layers.Embedding(7, 4, mask_zero=True)(words))
    model = keras.Model(words, layers.SimpleRNN(3)(states))
    wrapped = lth.prune_low_magnitude(model, include="Embedding")
    assert len(weight_names.wrappers(wrapped)) == 3
    sentences = np.array([[1, 2, 0, 0, 0], [3, 0, 4, 0, 0]])
    np.testing.assert_array_equal(wrapped(sentences), model(sentences))
    np.testing.assert_array_equal(wrapped.layers[1].compute_mask(sentences), sentences != 0)


def test_losses_of_regularizers_are_the_same_and_not_twice():
    model = networks.mlp(kernel_regularizer="l2", bias_regularizer="l2", activity_regularizer="l1")
    wrapped = lth.prune_low_magnitude(model)
    model(X), wrapped(X)
    assert len(model.losses) == 3
    assert [float(loss) for loss in wrapped.losses] == [float(loss) for loss in model.losses]


def test_reset_states_reaches_a_wrapped_stateful_layer():
    inputs = layers.Input(batch_shape=(2, 3, 4))
    model = keras.Model(inputs, layers.SimpleRNN(3, stateful=True)(inputs))
    wrapped = lth.prune_low_magnitude(model)
    assert wrapped.stateful == model.stateful
    ones = np.ones((2, 3, 4), np.float32)
    wrapped.reset_states()
    first = wrapped(ones).numpy()
    assert (wrapped(ones).numpy() != first).any()
    wrapped.reset_states()
    np.testing.assert_array_equal(wrapped(ones), first)


def test_layer_arguments_beyond_the_first_reach_the_layer():
    queries, values = layers.Input((3, 4)), layers.Input((5, 4))
    seen, scores = layers.MultiHeadAttention(2, 3)(queries, values, return_attention_scores=True)
    model = keras.Model([queries, values], [seen, scores])
    inputs = networks.inputs_for(model)
    for plain, wrapped in zip(model(inputs), lth.prune_low_magnitude(model)(inputs), strict=True):
        np.testing.assert_array_equal(plain, wrapped)


def test_a_wrapper_prunes_the_paths_it_is_given_and_refuses_others():
    wrapped = MaskedLayer(layers.Dense(3), ["bias"])
    wrapped(X)
    assert [weight.shape.rank for weight, _, _ in wrapped.pruning_vars] == [1]
    with pytest.raises(LotteryError, match=r"'nope'.*it has \['bias', 'kernel'\]"):
        MaskedLayer(layers.Dense(3), ["nope"])(X)


def test_a_wrapper_comes_back_from_its_config():
    wrapped = MaskedLayer(networks.OwnDense(3, activation="relu"), ["kernel"])
    again = MaskedLayer.from_config(wrapped.get_config())
    assert again.get_config() == wrapped.get_config()
    assert type(again.layer) is networks.OwnDense
    assert again.name == wrapped.name


# Saving.


def pruned(name, include=()):
    """A wrapped model in which pruned weights are zero, as a search leaves it."""
    model = ARCHITECTURES[name][0]()
    return compiled(networks.draw_masks(lth.prune_low_magnitude(model, include=include)))


def assert_same(model, loaded):
    inputs = networks.inputs_for(model)
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    assert [type(layer) for layer in weight_names.wrappers(loaded)] \
        == [MaskedLayer] * len(weight_names.wrappers(model))
    assert list(weight_names.masked(loaded)) == list(weight_names.masked(model))
    for name, item in weight_names.masked(model).items():
        np.testing.assert_array_equal(weight_names.masked(loaded)[name].mask, item.mask)
    assert len(loaded.trainable_weights) == len(model.trainable_weights)


# The convolutional one is loaded from every format in a fresh process too, below.
@pytest.mark.thorough
@pytest.mark.parametrize(("name", "ending"), short_and_long(
    itertools.product(["convolutional", "attention", "nested", "custom"], FORMATS),
    [("attention", ".keras"), ("nested", ".keras"), ("custom", ".keras"), ("nested", ".h5"),
     ("custom", "")]))
def test_a_saved_model_loads_with_its_predictions_and_masks(name, ending, tmp_path):
    model = pruned(name)
    model.save(tmp_path / f"model{ending}")
    assert_same(model, keras.models.load_model(tmp_path / f"model{ending}"))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["functional", "shared", "shared_model", "recurrent",
                                  "translation"])
def test_every_architecture_is_saved_in_the_keras_format(name, tmp_path):
    model = pruned(name)
    model.save(tmp_path / "model.keras")
    assert_same(model, keras.models.load_model(tmp_path / "model.keras"))


def test_an_included_frozen_layer_is_saved_frozen_and_masked(tmp_path):
    model = pruned("frozen", include="still")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert list(weight_names.masked(loaded)) == ["still/kernel", "dense/kernel"]
    assert_same(model, loaded)


def test_a_loaded_model_trains_on_with_its_masks(tmp_path):
    pruned("mlp").save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    before = networks.masks(loaded)
    loaded.fit(X, Y, verbose=0)
    assert networks.strays(loaded) == 0
    np.testing.assert_array_equal(np.concatenate([m.ravel() for m in networks.masks(loaded)]),
                                  np.concatenate([m.ravel() for m in before]))


def test_weights_files_hold_the_masks(tmp_path):
    model = pruned("mlp")
    for name in ("w.weights.h5", "checkpoint"):
        model.save_weights(tmp_path / name)
        fresh = compiled()
        fresh.load_weights(tmp_path / name)
        assert_same(model, fresh)


@pytest.mark.thorough
def test_a_fresh_process_loads_every_format_after_import_lth_keras(tmp_path):
    model = pruned("convolutional")
    inputs = networks.inputs_for(model)
    np.savez(tmp_path / "expected.npz", inputs, model(inputs), *networks.masks(model))
    for ending in FORMATS:
        model.save(tmp_path / f"model{ending}")
    program = f"""
import lth_keras
import sys
import numpy as np
from tf_keras.models import load_model
inputs, outputs, *masks = np.load("expected.npz").values()
for ending in {FORMATS}:
    model = load_model("model" + ending)
    np.testing.assert_allclose(model(inputs), outputs, rtol=1e-5, atol=1e-6)
    found = [mask.numpy() for layer in model.layers for _, mask, _ in
             getattr(layer, "pruning_vars", ())]
    for one, other in zip(found, masks, strict=True):
        np.testing.assert_array_equal(one, other)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


# tfmot's own tools.


@pytest.mark.parametrize("name", ["mlp", "functional", "nested", "shared", "convolutional",
                                  "attention", "custom"])
def test_strip_pruning_gives_the_plain_model_with_the_same_predictions(name):
    model = networks.draw_masks(lth.prune_low_magnitude(ARCHITECTURES[name][0]()))
    stripped = tfmot.sparsity.keras.strip_pruning(model)
    assert weight_names.wrappers(stripped) == []
    inputs = networks.inputs_for(model)
    np.testing.assert_array_equal(stripped(inputs), model(inputs))


def test_pruning_summaries_log_the_sparsity_of_each_mask(tmp_path, monkeypatch):
    summaries = networks.record_summaries(monkeypatch)
    search = lottery(epochs_per_round=1, rounds=1, fraction=0.5)
    fit(compiled(), search, tfmot.sparsity.keras.UpdatePruningStep(),
        tfmot.sparsity.keras.PruningSummaries(str(tmp_path)))
    assert [values for tag, values in summaries.items() if tag.endswith("/sparsity")] \
        == [[0.0, 0.5], [0.0, 0.5]]


class Listed(layers.Layer):
    """Weights in a list and in a dict, one of them under an attribute of its own too."""

    def build(self, input_shape):
        self.first = self.add_weight("first", (input_shape[-1], 5))
        self.pair = [self.first, self.add_weight("second", (input_shape[-1], 5))]
        self.named = {"third": self.add_weight("third", (5, 5))}

    def call(self, inputs):
        return (inputs @ self.pair[0] + inputs @ self.pair[1]) @ self.named["third"]


def test_weights_in_lists_and_dicts_are_masked_where_they_lie():
    plain = keras.Sequential([layers.Input((6,)), Listed()])
    model = networks.draw_masks(lth.prune_low_magnitude(plain), zero=False)
    first, second, third = (weight * mask for weight, mask in networks.pruning_vars(model))
    np.testing.assert_allclose(model(X), (X @ first + X @ second) @ third, rtol=1e-5, atol=1e-5)
    held = plain.layers[-1]
    assert isinstance(held.pair[0], tf.Variable) and held.pair[0] is held.first


def test_what_is_read_from_a_wrapped_layer_is_set_on_it():
    layer = MaskedLayer(keras.layers.Dense(3, name="fc"))
    x = tf.ones((2, 4))
    layer(x)
    layer.activation = keras.activations.tanh
    np.testing.assert_array_equal(layer(x), tf.tanh(tf.matmul(x, layer.layer.kernel)))
    assert layer.layer.activation is layer.activation is keras.activations.tanh
    layer.note = "of the wrapper's own"
    assert not hasattr(layer.layer, "note")
    with pytest.raises(LotteryError, match="another 'kernel' for layer 'fc'.*kernel.assign"):
        layer.kernel = tf.Variable(tf.ones((4, 3)))
    loaded = MaskedLayer.from_config(layer.get_config())
    assert loaded.activation is keras.activations.tanh
